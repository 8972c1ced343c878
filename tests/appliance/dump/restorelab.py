"""What the restore tests share: ext4 trees dumped by Debian's dump, and trees compared."""

# ruff: noqa: PTH102, PTH104, PTH112, PTH113, PTH114, PTH115, PTH118, PTH123

import os
import random
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from appliance.dump.request import FilePlace, Place
from appliance.dump.restorerequest import RestoreRequest
from appliance.dump.restoring import RestoreResult, run_restore
from fuse.volume import Volume

_KEPT = re.compile(rb"lost\+found|restore_symboltable")
OWN_FILES = {b"restore_symboltable"}


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Ext4:
    """An ext4 image on a loop device, changed while mounted and dumped while not."""

    def __init__(self, directory: Path, size: str = "64M", options: str = "") -> None:
        image = directory / "ext4.img"
        self._mount = directory / "ext4"
        self._mount.mkdir()
        self._dumpdates = directory / "dumpdates"
        run("truncate", "-s", size, image)
        extra = options.split() if options else []
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", *extra, image)
        self._device = run("losetup", "--find", "--show", image).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        run("losetup", "-d", self._device)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        run("mount", "-o", "user_xattr,acl", self._device, self._mount)
        try:
            yield self._mount
        finally:
            run("umount", self._mount)

    def dump(self, level: int, target: Path, *options: str) -> Path:
        """Dump with Debian's dump, which reads the device beneath the file system."""
        common = ("dump", f"-{level}", "-u", "-D", self._dumpdates, "-b", "64")
        run(*common, *options, "-f", target, self._device)
        return target


@dataclass
class Told:
    """The events of one restore."""

    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [e["text"] for e in self.events if e["event"] == "log"]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def request(volume: Volume | None, source: Path | Place, **changes: Any) -> RestoreRequest:
    place = FilePlace(source) if isinstance(source, Path) else source
    made = RestoreRequest(session=7, source=place)
    if volume is not None:
        made = replace(
            made, aggregate=volume.aggregate.path, volume=volume.name, path=f"/vol/{volume.name}"
        )
    return replace(made, **changes)


def restore(
    volume: Volume | None,
    source: Path | Place,
    told: Told | None = None,
    aborted: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> RestoreResult:
    report = (told or Told()).events.append
    return run_restore(request(volume, source, **changes), report, aborted)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "read-ahead"]


# -- comparing --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """All that is compared of one object. `group` numbers sets of hard links by first name."""

    kind: int
    mode: int
    owner: tuple[int, int]
    size: int
    mtime: int
    device: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    group: bytes


def _content(path: bytes, status: os.stat_result) -> bytes:
    if stat.S_ISREG(status.st_mode):
        if status.st_size > 1 << 26:  # huge and sparse: its data only
            return _data_only(path)
        with open(path, "rb") as file:
            return file.read()
    return os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""


def _data_only(path: bytes) -> bytes:
    parts = []
    fd = os.open(path, os.O_RDONLY)
    try:
        position = 0
        while True:
            try:
                start = os.lseek(fd, position, os.SEEK_DATA)
            except OSError:
                return b"".join(parts)
            position = os.lseek(fd, start, os.SEEK_HOLE)
            data = os.pread(fd, position - start, start)
            kept = data.rstrip(b"\0")
            parts.append(
                b"%d:" % (start + len(data) - len(data.lstrip(b"\0"))) + kept.lstrip(b"\0")
            )
    finally:
        os.close(fd)


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    names = os.listxattr(path, follow_symlinks=False)
    kept = [n for n in names if not n.startswith("trusted.snapreel.")]
    return tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in sorted(kept))


def look(
    root: Path, *, seconds: bool = False, skip: frozenset[bytes] = frozenset()
) -> dict[bytes, Seen]:
    """Describe a tree by relative path; times in ns, or whole `seconds`."""
    top = os.fsencode(root)
    found: dict[bytes, Seen] = {}
    first: dict[int, bytes] = {}
    for path in sorted(_walk(top)):
        name = os.path.relpath(path, top)
        if name.split(b"/")[0] in OWN_FILES | skip:
            continue
        status = os.lstat(path)
        directory = stat.S_ISDIR(status.st_mode)
        unit = 1_000_000_000 if seconds else 1
        found[name] = Seen(
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            0 if directory else status.st_size,
            status.st_mtime_ns // unit,
            status.st_rdev,
            _content(path, status),
            _xattrs(path),
            b"" if directory else first.setdefault(status.st_ino, name),
        )
    return found


def _walk(top: bytes) -> Iterator[bytes]:
    yield top
    for directory, names, files in os.walk(top):
        for name in names + files:
            yield os.path.join(directory, name)


def differences(left: dict[bytes, Seen], right: dict[bytes, Seen]) -> list[str]:
    lines = [f"only left: {name!r}" for name in left.keys() - right.keys()]
    lines += [f"only right: {name!r}" for name in right.keys() - left.keys()]
    for name in left.keys() & right.keys():
        a, b = left[name], right[name]
        for key in Seen.__dataclass_fields__:
            one, two = getattr(a, key), getattr(b, key)
            if one != two:
                lines.append(f"{name!r}: {key}: {str(one)[:100]} != {str(two)[:100]}")
    return sorted(lines)


# -- trees ------------------------------------------------------------------------------------


def fill(root: Path) -> None:
    """Make a tree with every kind of object that ext4 and dump know."""
    top = os.fsencode(root)
    for number in range(40):
        directory = root / f"d{number % 7}" / f"sub{number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file{number}").write_bytes(os.urandom(number * 331))
    (root / "empty").touch()
    (root / "big").write_bytes(os.urandom(3 << 20) + b"tail")
    os.link(root / "big", root / "d1" / "big-again")
    os.link(root / "big", root / "d2" / "big-once-more")
    sparse = root / "sparse"
    with sparse.open("wb") as file:
        for position in (0, 700_000, 5 << 20, (1 << 30) + 5000):
            file.seek(position)
            file.write(b"data at %d" % position)
        file.truncate((1 << 30) + 3_000_000)
    (root / "short").symlink_to("d1/file1")
    (root / "long").symlink_to("x" * 800)
    (root / "dangling").symlink_to("../../../../etc/passwd")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for name in (b"n" * 250, b"\xff\xfe undecodable", b"new\nline", "ümläut €".encode(), b"-rf"):
        with open(os.path.join(top, name), "wb") as named:
            named.write(name)
    (root / "setuid").write_bytes(b"#!/bin/sh\n")
    os.chown(root / "setuid", 1000, 1001)
    (root / "setuid").chmod(0o6755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    os.chown(root / "sticky", 33, 44)
    os.setxattr(root / "empty", "user.note", b"some value")
    os.setxattr(root / "d3", "user.dir", b"\0binary\xff")
    os.setxattr(root / "d3", "trusted.t", b"1")
    run("setfacl", "-m", "u:1234:rw,g:55:r", root / "d1" / "sub1" / "file1")
    run("setfacl", "-d", "-m", "u:1234:rwx", root / "d4")
    os.utime(root / "d5", ns=(1_000_000_000_000_000_000, 1_111_111_111_000_000_000))
    os.utime(
        root / "short",
        ns=(1_000_000_000_000_000_000, 1_222_222_222_000_000_000),
        follow_symlinks=False,
    )


def change(root: Path) -> None:
    """Delete, rename, swap, relink, change types, and add, as a day of work would."""
    run("rm", "-r", root / "d0")
    (root / "d1" / "sub1" / "file1").unlink()
    (root / "d2").rename(root / "renamed")
    (root / "d3").rename(root / "swap")  # d3 and d4 change places
    (root / "d4").rename(root / "d3")
    (root / "swap").rename(root / "d4")
    (root / "renamed" / "sub0").rename(root / "moved-up")  # out of a renamed directory
    (root / "d5").rename(root / "moved-up" / "d5")  # into a moved one
    (root / "d6" / "sub0").rename(root / "parent")  # child becomes parent
    (root / "d6").rename(root / "parent" / "d6")
    (root / "d1" / "big-again").unlink()
    os.link(root / "big", root / "parent" / "big-linked")
    (root / "big").rename(root / "big-renamed")
    with (root / "sparse").open("r+b") as file:
        file.truncate(6_000_000)
        file.seek(2_000_000)
        file.write(b"more")
    (root / "short").unlink()
    (root / "short").mkdir()  # a link becomes a directory
    (root / "short" / "inside").write_bytes(b"inside")
    (root / "empty").write_bytes(b"no longer")
    os.removexattr(root / "empty", "user.note")
    os.setxattr(root / "empty", "user.other", b"2")
    (root / "sticky").rmdir()
    (root / "sticky").write_bytes(b"a directory becomes a file")
    (root / "fifo").unlink()
    (root / "fifo").symlink_to("a fifo becomes a link")
    (root / "setuid").chmod(0o600)
    run("setfacl", "-b", root / "d4")
    (root / "added" / "deep" / "deeper").mkdir(parents=True)
    (root / "added" / "deep" / "deeper" / "file").write_bytes(b"added" * 1000)
    os.link(root / "added" / "deep" / "deeper" / "file", root / "added-link")


def evolve(root: Path, seed: int, steps: int = 60) -> None:
    """Change a tree at random, the same way for the same seed and tree."""
    chance = random.Random(seed)
    top = os.fsencode(root)
    for step in range(steps):
        paths = sorted(p for p in _walk(top) if p != top and not _KEPT.search(p))
        directories = [top] + [p for p in paths if os.path.isdir(p) and not os.path.islink(p)]
        files = [p for p in paths if os.path.isfile(p) and not os.path.islink(p)]
        place = os.path.join(chance.choice(directories), b"n%d" % (seed * 1000 + step))
        victim = chance.choice(paths) if paths else None
        action = chance.choice(("file", "file", "mkdir", "link", "write", "move", "move", "remove"))
        if action == "file" or victim is None:
            with open(place, "wb") as file:
                file.write(chance.randbytes(chance.choice((0, 5, 1500, 40_000))))
        elif action == "mkdir":
            os.mkdir(place)
        elif action == "link" and files:
            os.link(chance.choice(files), place)
        elif action == "write" and files:
            with open(chance.choice(files), "r+b") as file:
                file.seek(chance.randrange(100_000))
                file.write(b"w" * chance.randrange(5000))
        elif action == "move" and not place.startswith(victim + b"/"):
            os.rename(victim, place if chance.random() < 0.7 else _onto(chance, victim, files))
        elif action == "remove":
            run("rm", "-r", os.fsdecode(victim))


def _onto(chance: random.Random, victim: bytes, files: list[bytes]) -> bytes:
    """Give a file to replace, or the path itself where that cannot be."""
    if not files or (os.path.isdir(victim) and not os.path.islink(victim)):
        return victim
    return chance.choice(files)
