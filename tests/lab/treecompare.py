"""A manifest of a tree, and what differs between two of them.

    before = Manifest.of(mount)
    ...
    for difference in differences(before, Manifest.of(mount)):
        print(difference)

Contents are compared by a digest that does not depend on how a file is stored: chunks of
zeros are skipped, so holes and written zeros are equal, and sparse files are quick to read
where the file system tells where their data is.
"""

import errno
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

CHUNK = 64 * 1024
READ = 1024 * 1024
_ZEROS = bytes(READ)
HOLE_SLACK = 1024 * 1024
"""Bytes that a file may take up beyond what is expected before its holes count as lost."""

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a tree.

    `mode` are the permission bits (12), times in nanoseconds, `device` the number of a device
    node, `first` the first path of an inode with several, `links` its link count (files only),
    `target` of a symlink, `content` a digest of a file's data, `allocated` bytes on disk,
    `xattrs` name to value in hex (a digest with its length for values above 64 bytes).
    """

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    links: int = 1
    first: str = ""
    device: int = 0
    target: str = ""
    content: str = ""
    allocated: int = 0
    xattrs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All entries of a tree by path relative to its top (`.`), undecodable bytes escaped."""

    entries: dict[str, Entry]

    @classmethod
    def of(cls, top: Path | str, *, without: frozenset[str] = frozenset()) -> "Manifest":
        """Read the tree at `top`; `without` are relative paths to leave out with all below.

        Raises OSError for what cannot be read.
        """
        return _Reader(str(top), without).read()

    @property
    def files(self) -> int:
        """How many names there are besides directories."""
        return sum(entry.kind != "directory" for entry in self.entries.values())

    @property
    def bytes(self) -> int:
        """Apparent bytes of all files, hard links counted once."""
        return sum(
            e.size for p, e in self.entries.items() if e.kind == "file" and e.first in ("", p)
        )

    def to_json(self) -> str:
        """Give the manifest as JSON text."""
        return json.dumps({path: asdict(entry) for path, entry in self.entries.items()})

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read what `to_json` gave."""
        return cls({path: Entry(**entry) for path, entry in json.loads(text).items()})


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as expected at `path`; `what` is a field of Entry, `missing` or `extra`."""

    path: str
    what: str
    expected: object = None
    actual: object = None

    def __str__(self) -> str:
        if self.what in ("missing", "extra"):
            return f"{self.path!a}: {self.what}"
        return f"{self.path!a}: {self.what} is {self.actual!a}, expected {self.expected!a}"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a foreign tool cannot keep, and what therefore is not compared.

    `time_ns`         times may differ by less than this
    `time_range`      times outside this range of seconds are not compared
    `name_max`        longer names (bytes) may be missing, with another name in their place
    `xattr_max`       longer values (bytes) may be missing
    `xattr_prefixes`  attributes that are not compared
    `kinds`           kinds of objects that may be missing
    `fields`          fields of Entry that are not compared
    `extra`           paths that may be there in addition
    """

    time_ns: int = 0
    time_range: tuple[int, int] | None = None
    name_max: int = 255
    xattr_max: int | None = None
    xattr_prefixes: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()


EXACT = Tolerance()


def differences(
    expected: Manifest, actual: Manifest, *, ignore: Tolerance = EXACT
) -> list[Difference]:
    """Give everything in which `actual` is not `expected`, ordered by path."""
    found = []
    renamed = _lost_names(expected, actual, ignore)
    for path in sorted(expected.entries.keys() | actual.entries.keys()):
        want, have = expected.entries.get(path), actual.entries.get(path)
        if want is None:
            found += [] if _may_be_extra(path, renamed, ignore) else [Difference(path, "extra")]
        elif have is None:
            found += [] if _may_miss(path, want, ignore) else [Difference(path, "missing")]
        else:
            found += _compare(path, want, have, ignore)
    return found


def _lost_names(expected: Manifest, actual: Manifest, ignore: Tolerance) -> Counter[str]:
    """Count the names by directory that are gone for being long: others may stand for them."""
    gone = [path for path in expected.entries if path not in actual.entries]
    return Counter(path.rpartition("/")[0] for path in gone if _is_long(path, ignore))


def _may_be_extra(path: str, renamed: Counter[str], ignore: Tolerance) -> bool:
    """Tell whether a name is allowed, or stands for one of the `renamed`, which it uses up."""
    directory = path.rpartition("/")[0]
    if path in ignore.extra:
        return True
    renamed[directory] -= 1
    return renamed[directory] >= 0


def _may_miss(path: str, entry: Entry, ignore: Tolerance) -> bool:
    return _is_long(path, ignore) or entry.kind in ignore.kinds


def _is_long(path: str, ignore: Tolerance) -> bool:
    return len(os.fsencode(path.rpartition("/")[2])) > ignore.name_max


_PLAIN = ("mode", "uid", "gid", "size", "links", "first", "device", "target", "content")


def _compare(path: str, want: Entry, have: Entry, ignore: Tolerance) -> Iterator[Difference]:
    if want.kind != have.kind:
        yield Difference(path, "kind", want.kind, have.kind)
        return
    for name in _PLAIN:
        if name not in ignore.fields and getattr(want, name) != getattr(have, name):
            yield Difference(path, name, getattr(want, name), getattr(have, name))
    if "mtime_ns" not in ignore.fields and not _same_time(want.mtime_ns, have.mtime_ns, ignore):
        yield Difference(path, "mtime_ns", want.mtime_ns, have.mtime_ns)
    if "allocated" not in ignore.fields and have.allocated > want.allocated * 1.1 + HOLE_SLACK:
        yield Difference(path, "allocated", want.allocated, have.allocated)
    if "xattrs" not in ignore.fields:
        yield from _compare_xattrs(path, want.xattrs, have.xattrs, ignore)


def _same_time(want: int, have: int, ignore: Tolerance) -> bool:
    if ignore.time_range is not None:
        low, high = ignore.time_range
        if not low <= want // 10**9 < high:
            return True
    return want == have or abs(want - have) < ignore.time_ns


def _compare_xattrs(
    path: str, want: dict[str, str], have: dict[str, str], ignore: Tolerance
) -> Iterator[Difference]:
    for name in sorted(want.keys() | have.keys()):
        if name.startswith(ignore.xattr_prefixes) or want.get(name) == have.get(name):
            continue
        if name not in have and _too_large(want[name], ignore.xattr_max):
            continue
        yield Difference(path, f"xattrs[{name}]", want.get(name), have.get(name))


_SHORT = 64


def _value(value: bytes) -> str:
    if len(value) <= _SHORT:
        return value.hex()
    return f"{len(value)}:{hashlib.sha256(value).hexdigest()}"


def _too_large(text: str, limit: int | None) -> bool:
    head, colon, _ = text.partition(":")
    return limit is not None and (int(head) if colon else len(text) // 2) > limit


class _Reader:
    """Walks one tree; remembers inodes with several names."""

    def __init__(self, top: str, without: frozenset[str]) -> None:
        self._top = top
        self._without = without
        self._entries: dict[str, Entry] = {}
        self._linked: dict[tuple[int, int], Entry] = {}

    def read(self) -> Manifest:
        self._add(".", self._top, os.lstat(self._top))
        self._walk("", self._top)
        return Manifest(self._entries)

    def _walk(self, prefix: str, directory: str) -> None:
        with os.scandir(directory) as scan:
            found = sorted(scan, key=lambda item: item.name)
        for item in found:
            path = prefix + item.name
            if path in self._without:
                continue
            status = item.stat(follow_symlinks=False)
            self._add(path, item.path, status)
            if stat.S_ISDIR(status.st_mode):
                self._walk(f"{path}/", item.path)

    def _add(self, path: str, real: str, status: os.stat_result) -> None:
        several = status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
        key = (status.st_dev, status.st_ino)
        if several and key in self._linked:
            self._entries[path] = self._linked[key]
            return
        entry = self._entry(path, real, status, several)
        self._entries[path] = entry
        if several:
            self._linked[key] = entry

    def _entry(self, path: str, real: str, status: os.stat_result, several: bool) -> Entry:
        kind = KINDS[stat.S_IFMT(status.st_mode)]
        regular, directory = kind == "file", kind == "directory"
        return Entry(
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if regular else 0,
            links=1 if directory else status.st_nlink,
            first=path if several else "",
            device=status.st_rdev if kind.endswith("device") else 0,
            target=_target(real) if kind == "symlink" else "",
            content=self._digest(real, status.st_size) if regular else "",
            allocated=status.st_blocks * 512 if regular else 0,
            xattrs=_xattrs(real),
        )

    def _digest(self, path: str, size: int) -> str:
        """Digest offset and data of every chunk that is not all zeros."""
        digest = hashlib.sha256()
        fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
        try:
            for offset in _data_offsets(fd, size):
                _update(digest, os.pread(fd, min(READ, size - offset), offset), offset)
        finally:
            os.close(fd)
        return digest.hexdigest()


def _update(digest: "hashlib._Hash", data: bytes, offset: int) -> None:
    if data == _ZEROS[: len(data)]:
        return
    for start in range(0, len(data), CHUNK):
        chunk = data[start : start + CHUNK]
        if chunk != _ZEROS[: len(chunk)]:
            digest.update((offset + start).to_bytes(8, "little"))
            digest.update(chunk)


def _data_offsets(fd: int, size: int) -> Iterator[int]:
    """Give the offsets, multiples of READ, at which a file has data."""
    offset = 0
    while offset < size:
        if size > READ:
            offset = _next_data(fd, offset, size)
        if offset < size:
            yield offset
        offset += READ


def _next_data(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) // READ * READ
    except OSError as error:
        if error.errno == errno.ENXIO:  # only a hole is left
            return size
        raise


def _target(path: str) -> str:
    return os.readlink(path)  # noqa: PTH115 - Path would change "./a" to "a"


def _xattrs(path: str) -> dict[str, str]:
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        found[name] = _value(os.getxattr(path, name, follow_symlinks=False))
    return found
