"""What the dump tests share: dumps, Debian's restore, and trees compared field by field."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.dump.dumping import DumpResult, run_dump
from appliance.dump.request import DumpRequest, FilePlace, Place
from fuse.volume import Volume


@dataclass
class Heard:
    """The events of one dump."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [e["text"] for e in self.events if e["event"] == "log"]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def request(volume: Volume, target: Path | Place, relative: str = "", **more: Any) -> DumpRequest:
    path = f"/vol/{volume.name}/{relative}".rstrip("/")
    place = FilePlace(target) if isinstance(target, Path) else target
    more.setdefault("blocking_factor", 64)
    return DumpRequest(
        session=5, owner="session:5", aggregate=volume.aggregate.path, volume=volume.name,
        subvolid=volume.subvolid, path=path, relative=relative, target=place, **more,
    )  # fmt: skip


def dump(
    volume: Volume,
    target: Path | Place,
    relative: str = "",
    heard: Heard | None = None,
    aborted: Callable[[], bool] = lambda: False,
    **more: Any,
) -> DumpResult:
    return run_dump(request(volume, target, relative, **more), heard or Heard(), aborted)


def restore(stream: Path, into: Path, *options: str) -> str:
    """Run Debian's restore without a terminal; give what it said. It must succeed."""
    into.mkdir(exist_ok=True)
    done = subprocess.run(
        ["restore", *options, "-f", str(stream)], cwd=into, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60, env={**os.environ, "TMPDIR": str(into.parent)},
        check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode(errors="backslashreplace")
    assert done.returncode == 0, said
    return said


def replay(streams: list[Path], into: Path) -> list[str]:
    """Have Debian's `restore -r` replay level after level; give what it said of each."""
    said = [restore(stream, into, "-r") for stream in streams]
    (into / "restoresymtable").unlink()
    return said


def names(top: Path) -> list[Path]:
    """List all paths below `top`, relative."""
    return sorted(path.relative_to(top) for path in top.rglob("*"))


HIDDEN = ("trusted.snapreel.", "security.NTACL")


def facts(path: Path, xattr_limit: int = 3900) -> dict[str, Any]:
    """Describe an object as far as restore(8) can bring it back; times in microseconds."""
    found = path.lstat()
    mode = found.st_mode
    described: dict[str, Any] = {"mode": oct(mode), "uid": found.st_uid, "gid": found.st_gid}
    if not stat.S_ISLNK(mode):  # restore(8) does not set times of symbolic links
        described["mtime"] = found.st_mtime_ns // 1000
    if stat.S_ISREG(mode):
        described["size"] = found.st_size
        described["links"] = found.st_nlink
        described["data"] = hash(path.read_bytes())
    elif stat.S_ISLNK(mode):
        described["target"] = str(path.readlink())
    elif stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        described["device"] = found.st_rdev
    described["xattrs"] = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(HIDDEN)
        and len(os.getxattr(path, name, follow_symlinks=False)) < xattr_limit
    }
    return described


def compare(source: Path, restored: Path) -> int:
    """Compare two trees, their hard links among it; give how many objects there were."""
    expected = names(source)
    assert names(restored) == expected
    groups: dict[int, set[Path]] = {}
    for name in expected:
        ours, theirs = facts(source / name), facts(restored / name)
        assert theirs == ours, name
        groups.setdefault((source / name).lstat().st_ino, set()).add(name)
    for group in groups.values():
        assert len({(restored / name).lstat().st_ino for name in group}) == 1, group
    return len(expected)


def special_tree(top: Path) -> None:
    """Make one of everything that a file system can hold."""
    (top / "empty").touch()
    (top / "inline").write_bytes(b"x" * 700)
    (top / "exact").write_bytes(os.urandom(4096))
    (top / "odd").write_bytes(os.urandom(1_234_567))
    (top / "headers").write_bytes(os.urandom(512 * 1024 * 2 + 1))
    with (top / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        for offset in (0, 3 << 20, (5 << 20) + 4096, 40 << 20):
            file.seek(offset)
            file.write(os.urandom(5000))
    (top / "tail").write_bytes(b"y" * 5000)
    os.truncate(top / "tail", 3 << 20)
    (top / "inline-hole").write_bytes(b"z" * 100)
    os.truncate(top / "inline-hole", 2_000_000)
    with (top / "preallocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        file.write(b"p" * 100)
    (top / "hole").touch()
    os.truncate(top / "hole", 1 << 20)
    os.symlink("inline", top / "short-link")
    os.symlink("t/" * 1000 + "x", top / "long-link")
    os.mkfifo(top / "fifo")
    os.mknod(top / "block", 0o60640, os.makedev(259, 70000))
    os.mknod(top / "char", 0o20600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(top, os.O_RDONLY)
        try:
            sock.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    deep = top / "deep"
    for _ in range(12):
        deep = deep / ("d" * 60)
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("leaf")
    many = top / "many"
    many.mkdir()
    for number in range(700):
        (many / f"name-{number:04}-{'n' * (number % 80)}").write_bytes(b"m" * (number % 50))
    (top / os.fsdecode(b"\xff\xfe not utf-8\n")).write_text("odd name")
    (top / ("l" * 254)).write_text("long name")
    os.link(top / "odd", many / "hard link")
    os.link(top / "odd", top / "hard link")
    owned = top / "owned"
    owned.write_text("owned")
    os.chown(owned, 70_000, 80_000)
    owned.chmod(0o6751)
    os.utime(owned, ns=(1_000_000_000_123_456_789, 1_234_567_890_987_654_321))
    os.setxattr(owned, "user.one", b"1")
    os.setxattr(owned, "user.empty", b"")
    os.setxattr(owned, "trusted.two", b"2" * 1500)
    os.setxattr(owned, "user.three", b"3" * 1500)
    acl = ["setfacl", "-m", "u:1000:rwx,g:2000:r--,m::rwx"]
    subprocess.run([*acl, owned], check=True)
    defaults = top / "defaults"  # nothing changes here: restore(8) would hand them down
    defaults.mkdir()
    subprocess.run([*acl, "-m", "d:u:1001:r-x", defaults], check=True)
    os.setxattr(many, "user.directory", b"d")
    os.utime(many, ns=(5, 1_111_111_111_000_001_000))
