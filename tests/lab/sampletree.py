"""A large tree of real files for tests and the demo, the same on every run.

`copy_real` copies real trees of the machine; where they have fewer files than asked for, it
derives the rest from their contents. `oddities.make` adds what real trees rarely have, and
`mutation.mutate` changes all of it the way users do. Everything goes through ordinary system
calls at the place given, so that a mount under test sees a client's work.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("/usr/share", *sorted(map(str, Path("/usr/lib").glob("python3*"))))
"""Real trees that every Debian machine has."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was made: counts, and apparent bytes of the files."""

    files: int
    directories: int
    symlinks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Item:
    source: str
    path: str
    status: os.stat_result

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


def copy_real(target: Path, *, files: int, budget: int, sources: Sequence[str] = SOURCES) -> Copied:
    """Make exactly `files` regular files below `target`, of about `budget` bytes at the most.

    Chosen evenly from `sources` in path order, with their directories and symlinks, modes,
    owners and times. Raises ValueError when the sources hold no file at all.
    """
    items = list(_survey(sources))
    chosen = _within([item for item in items if item.is_file], files, budget)
    if not chosen:
        raise ValueError(f"no files in {', '.join(sources)}")
    links = [item for item in items if not item.is_file]
    maker = _Maker(target)
    for item in chosen:
        maker.copy(item)
    for item in _spread(links, files // 10):
        maker.link(item)
    maker.derive(chosen, files - len(chosen))
    maker.finish()
    return maker.copied()


def _survey(sources: Sequence[str]) -> Iterator[_Item]:
    """Give the files and symlinks of `sources` in path order."""
    for source in sources:
        top = str(Path(source).parent)
        for directory, names, files in os.walk(source):
            names.sort()
            for name in sorted(files + [n for n in names if _is_link(directory, n)]):
                path = f"{directory}/{name}"
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield _Item(path, os.path.relpath(path, top), status)


def _is_link(directory: str, name: str) -> bool:
    return stat.S_ISLNK(os.lstat(f"{directory}/{name}").st_mode)


def _within(items: list[_Item], count: int, budget: int) -> list[_Item]:
    """Choose up to `count` items; without the largest, so that `count` like them fit `budget`."""
    cap = 16 * 1024 * 1024
    while cap > 1024:
        chosen = _spread([item for item in items if item.status.st_size <= cap], count)
        average = sum(item.status.st_size for item in chosen) / max(len(chosen), 1)
        if average * count <= budget:
            return chosen
        cap = cap * 3 // 4
    return chosen


def _spread(items: list[_Item], count: int) -> list[_Item]:
    """Choose `count` items evenly, or all when there are fewer."""
    if len(items) <= count:
        return items
    return [items[index * len(items) // count] for index in range(count)]


class _Maker:
    """Writes below one directory; directories get their attributes at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._directories: dict[Path, os.stat_result | None] = {}
        self._files = self._symlinks = self._bytes = 0

    def copy(self, item: _Item) -> None:
        """Copy one regular file with its attributes."""
        source = Path(item.source)
        place = self._target / item.path
        self._directory(place.parent, source.parent)
        self._write(place, source.read_bytes(), item.status)

    def link(self, item: _Item) -> None:
        """Copy one symlink."""
        place = self._target / item.path
        self._directory(place.parent, Path(item.source).parent)
        os.symlink(os.readlink(item.source), place)  # noqa: PTH115 - a Path changes "./a"
        os.utime(place, ns=_times(item.status), follow_symlinks=False)
        self._symlinks += 1

    def derive(self, items: list[_Item], count: int) -> None:
        """Make `count` more files whose contents are rotations of real ones."""
        for number in range(count):
            turn, index = divmod(number, len(items))
            data = Path(items[index].source).read_bytes()
            at = (turn + 1) * 997 % (len(data) or 1)
            place = self._target / "derived" / str(turn) / items[index].path
            self._directory(place.parent, None)
            self._write(place, data[at:] + data[:at], items[index].status)

    def finish(self) -> None:
        """Give the directories their modes, owners and times, the deepest first."""
        for path, status in sorted(self._directories.items(), reverse=True):
            if status is not None:
                os.chown(path, status.st_uid, status.st_gid)
                path.chmod(stat.S_IMODE(status.st_mode))
                os.utime(path, ns=_times(status))

    def copied(self) -> Copied:
        """Give the counts."""
        return Copied(self._files, len(self._directories), self._symlinks, self._bytes)

    def _write(self, place: Path, data: bytes, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o755)
        try:
            os.write(fd, data)
            if status.st_uid or status.st_gid:
                os.fchown(fd, status.st_uid, status.st_gid)
            if mode & ~0o755:
                os.fchmod(fd, mode)
            os.utime(fd, ns=_times(status))
        finally:
            os.close(fd)
        self._files += 1
        self._bytes += len(data)

    def _directory(self, path: Path, origin: Path | None) -> None:
        """Make a directory and those above it; `origin` is what it is a copy of."""
        if path == self._target or path in self._directories:
            return
        self._directory(path.parent, origin.parent if origin is not None else None)
        path.mkdir()
        self._directories[path] = origin.lstat() if origin is not None else None


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns
