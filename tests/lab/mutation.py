"""Changes to a sample tree, the way users make them between two dumps; the same on every run."""

import ctypes
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.lab import oddities

Changes = Counter[str]
"""How many of each kind of change were made."""


def mutate(top: Path, *, share: int = 40, spare: Path | None = None) -> Changes:
    """Change about one file in `share` at `top`, which `copy_real` filled, in every way listed.

    `spare` is a file to leave alone. Needs some hundred files below `top`; raises ValueError
    when there are too few.
    """
    work = _Work(top, share, spare)
    for step in _STEPS:
        step(work)
    return work.changes


def mutate_oddities(top: Path) -> Changes:
    """Change what `oddities.make` built at `top`."""
    changes: Changes = Counter()
    for step in (_relink, _reattribute, _retype, _resparse):
        changes[step.__name__.strip("_")] += step(top)
    return changes


class _Work:
    """The files of a tree in path order, handed out to the steps without ever repeating one."""

    def __init__(self, top: Path, share: int, spare: Path | None) -> None:
        self.top = top
        self.changes: Changes = Counter()
        files = [path for path in sorted(_regular(top)) if path != spare]
        self._files = [path for path in files if path.stat().st_size > 64]
        self.each = max(len(self._files) // share // len(_STEPS), 1)
        self._cursor = 0
        if len(self._files) < 10 * len(_STEPS):
            raise ValueError(f"{top} has only {len(self._files)} files to change")

    def take(self, kind: str, count: int | None = None) -> list[Path]:
        """Give the next files for a kind of change, spread over the tree, and count them."""
        wanted = count or self.each
        stride = len(self._files) // (self.each * (len(_STEPS) + 4))
        chosen: list[Path] = []
        while len(chosen) < wanted and self._cursor < len(self._files):
            path = self._files[self._cursor]
            self._cursor += max(stride, 1)
            if path.exists():  # a directory above it may have been moved or removed
                chosen.append(path)
        self.changes[kind] += len(chosen)
        return chosen

    def new_directory(self, name: str) -> Path:
        """Make a directory at the top."""
        directory = self.top / name
        directory.mkdir()
        return directory


def _regular(top: Path) -> list[Path]:
    found = []
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory) / name
            if stat.S_ISREG(path.lstat().st_mode):
                found.append(path)
    return found


def _overwrite(work: _Work) -> None:
    for path in work.take("content changed"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"CHANGED IN PLACE")


def _append(work: _Work) -> None:
    for path in work.take("appended"):
        with path.open("ab") as file:
            file.write(b"appended line\n" * 100)


def _truncate(work: _Work) -> None:
    for path in work.take("truncated"):
        os.truncate(path, path.stat().st_size // 3)


def _replace(work: _Work) -> None:
    """Save as editors do: write a new file and rename it over the old one."""
    for path in work.take("replaced"):
        fresh = path.with_name("." + path.name[:200] + ".swp")
        fresh.write_bytes(path.read_bytes()[::-1])
        fresh.rename(path)


def _delete(work: _Work) -> None:
    for path in work.take("deleted"):
        path.unlink()


def _chmod(work: _Work) -> None:
    for path in work.take("mode changed"):
        path.chmod(stat.S_IMODE(path.stat().st_mode) ^ 0o024)


def _chown(work: _Work) -> None:
    for path in work.take("owner changed"):
        os.chown(path, 1234, 4321)


def _set_xattr(work: _Work) -> None:
    for path in work.take("attribute set"):
        os.setxattr(path, "user.note", path.name[:50].encode(errors="surrogateescape"))


def _touch(work: _Work) -> None:
    for path in work.take("touched"):
        os.utime(path, ns=(1_000_000_001, 1_234_567_890_123_456_789))


def _rename(work: _Work) -> None:
    for path in work.take("renamed"):
        path.rename(path.with_name(f"renamed-{path.name[:200]}"))


def _move(work: _Work) -> None:
    directory = work.new_directory("moved here")
    for number, path in enumerate(work.take("moved")):
        path.rename(directory / f"{number:04}-{path.name[:200]}")


def _swap(work: _Work) -> None:
    """Let two files change places; names stay, inodes and contents change."""
    paths = work.take("swapped", 2 * work.each)
    for a, b in zip(paths[::2], paths[1::2], strict=False):
        aside = work.top / "aside"
        a.rename(aside)
        b.rename(a)
        aside.rename(b)


def _link(work: _Work) -> None:
    directory = work.new_directory("linked here")
    for number, path in enumerate(work.take("hard link added")):
        os.link(path, directory / f"{number:04}")


def _create(work: _Work) -> None:
    directory = work.new_directory("created")
    for number, path in enumerate(work.take("created")):
        shutil.copyfile(path, directory / f"copy-{number:04}")
    (directory / "empty").mkdir()
    work.changes["created"] += 1


def _file_to_directory(work: _Work) -> None:
    """Put a directory in a file's place, with the same name."""
    for path in work.take("file became directory", 3):
        data = path.read_bytes()
        path.unlink()
        path.mkdir()
        (path / "inside").write_bytes(data)


def _file_to_symlink(work: _Work) -> None:
    for path in work.take("file became symlink", 3):
        path.unlink()
        path.symlink_to("now a symlink")


def _rename_directory(work: _Work) -> None:
    """Rename a directory that has files, and a directory above another."""
    for directory in _some_directories(work.top, 2):
        directory.rename(directory.with_name(f"renamed-{directory.name[:200]}"))
        work.changes["directory renamed"] += 1


def _move_directory(work: _Work) -> None:
    """Move one directory into another and let two directories change places."""
    first, second, third = _some_directories(work.top, 3)
    first.rename(second / f"moved-{first.name[:200]}")
    aside = work.top / "aside"
    second.rename(aside)
    third.rename(second)
    aside.rename(third)
    work.changes["directory moved"] += 3


def _directory_to_file(work: _Work) -> None:
    """Put a file in a directory's place, with the same name."""
    (directory,) = _some_directories(work.top, 1)
    shutil.rmtree(directory)
    directory.write_bytes(b"a directory was here\n")
    work.changes["directory became file"] += 1


def _delete_directory(work: _Work) -> None:
    (directory,) = _some_directories(work.top, 1)
    shutil.rmtree(directory)
    work.changes["directory deleted"] += 1


_STEPS: tuple[Callable[[_Work], None], ...] = (
    _overwrite,
    _append,
    _truncate,
    _replace,
    _delete,
    _chmod,
    _chown,
    _set_xattr,
    _touch,
    _rename,
    _move,
    _swap,
    _link,
    _create,
    _file_to_directory,
    _file_to_symlink,
    _rename_directory,
    _move_directory,
    _directory_to_file,
    _delete_directory,
)


def _some_directories(top: Path, count: int) -> list[Path]:
    """Give directories that hold a few files and no directories, spread over the tree."""
    found = []
    for directory, names, files in os.walk(top):
        if not names and 1 <= len(files) <= 40 and Path(directory) != top:
            found.append(Path(directory))
    found = [path for path in sorted(found) if not path.name.startswith(("moved", "renamed-"))]
    if len(found) < 2 * count:
        raise ValueError(f"{top} has too few directories to change")
    return [found[(2 * index + 1) * len(found) // (2 * count)] for index in range(count)]


def _relink(top: Path) -> int:
    """Add a name to a linked file, take one away, and break a link by copying."""
    links = top / "links"
    os.link(links / "a" / "second", links / "b" / "added")
    (links / "fourth").unlink()
    data = (links / "b" / "third").read_bytes()
    (links / "b" / "third").unlink()
    (links / "b" / "third").write_bytes(data)
    return 3


def _reattribute(top: Path) -> int:
    """Change, remove and add attributes and ACLs, nothing else."""
    file = top / "attributes" / "file"
    os.removexattr(file, "user.text")
    os.setxattr(file, "user.thirty-kib", b"small now")
    os.setxattr(file, "user.added", b"x" * 6000)
    os.setxattr(top / "attributes" / "directory", "user.colour", b"green")
    os.removexattr(top / "acls" / "large", "system.posix_acl_access")
    entries = oddities.acl([(1, 7)])
    os.setxattr(top / "acls" / "access", "system.posix_acl_access", entries)
    os.setxattr(top / "empty" / "directory", "system.posix_acl_default", entries)
    return 7


def _retype(top: Path) -> int:
    """Remove a fifo, point a symlink elsewhere, rename the undecodable, empty a directory."""
    (top / "special" / "fifo").unlink()
    (top / "special" / "fifo").write_bytes(b"a file now")
    (top / "symlinks" / "dangling").unlink()
    (top / "symlinks" / "dangling").symlink_to("elsewhere")
    name = os.fsdecode(oddities.NAMES[0])
    (top / "names" / name).rename(top / "names" / (name + "-renamed"))
    longest = os.fsdecode(oddities.LONG_NAMES[0])
    (top / "names" / longest).rename(top / "names" / ("m" * 255))
    shutil.rmtree(top / "empty" / "nested")
    return 5


def _resparse(top: Path) -> int:
    """Write into a hole, and make a hole where data was where the file system can."""
    path = top / "sparse"
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        os.pwrite(fd, b"data in a hole" * 1000, size // 5)
        os.ftruncate(fd, size * 2 // 3)  # drops the data behind ...
        os.ftruncate(fd, size)  # ... and leaves a hole there
        _punch(fd, size // 9, 4096)
    finally:
        os.close(fd)
    return 3


_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def _punch(fd: int, offset: int, length: int) -> None:
    """Punch a hole; where that is not possible, write zeros."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
        os.pwrite(fd, bytes(length), offset)
