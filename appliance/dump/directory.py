"""The data of a directory in a dump stream: BSD `struct direct` in blocks of 1 KiB.

    u32 inode | u16 entry length | u8 type | u8 name length | name | NUL | padding to 4

Without Flag.NEW_INODE_FORMAT type and name length are one u16 name length (4.3BSD).
The last entry of a block reaches to its end; an entry with inode 0 is a gap. Sources:
dir(5) of BSD, `struct direct` in dump 0.4b.
"""

import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BLOCK = 1024
_HEAD = struct.Struct("<IHBB")
MAX_NAME = 255
_CHUNK = 512

_TYPES = {
    stat.S_IFIFO: 1, stat.S_IFCHR: 2, stat.S_IFDIR: 4, stat.S_IFBLK: 6,
    stat.S_IFREG: 8, stat.S_IFLNK: 10, stat.S_IFSOCK: 12,
}  # fmt: skip
DIRECTORY = 4
SYMLINK = 10


class MalformedDirectory(ValueError):
    """The data of a directory is not a chain of entries."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory; `type` is a DT_ code, 0 where the tape does not tell."""

    inode: int
    name: bytes
    type: int = 0


def type_of_mode(mode: int) -> int:
    """Give the DT_ code of a file mode."""
    return _TYPES.get(stat.S_IFMT(mode), 0)


def entry_length(name: bytes) -> int:
    """Give the bytes an entry takes: header, name, one NUL, padded to 4."""
    return 8 + ((len(name) + 4) & ~3)


def encode(entries: Iterable[tuple[int, bytes, int]]) -> bytes:
    """Give the directory data, a multiple of 1 KiB, of (inode, name, type) in their order.

    `.` and `..` come first by custom. Raises ValueError for an empty name or one over 255 bytes.
    """
    parts: list[bytes] = []
    last: tuple[int, bytes, int] = (0, b"", 0)
    used = 0
    for entry in entries:
        inode, name, kind = entry
        size = len(name)
        if not 0 < size <= MAX_NAME:
            raise ValueError(f"a name has 1 to {MAX_NAME} bytes: {name!r}")
        length = 8 + ((size + 4) & ~3)
        if used + length > BLOCK:
            parts[-1] = _stretch(last, BLOCK - used)
            used = 0
        parts.append((_HEAD.pack(inode, length, kind, size) + name).ljust(length, b"\0"))
        used += length
        last = entry
    if parts:
        parts[-1] = _stretch(last, BLOCK - used)
    return b"".join(parts)


def _stretch(entry: tuple[int, bytes, int], rest: int) -> bytes:
    """Pack the last entry of a block so that it takes the `rest` of it too."""
    inode, name, kind = entry
    length = entry_length(name) + rest
    return (_HEAD.pack(inode, length, kind, len(name)) + name).ljust(length, b"\0")


def decode(data: bytes, *, order: str = "<", new_format: bool = True) -> Iterator[Entry]:
    """Yield the entries of directory data, gaps left out.

    Raises MalformedDirectory when the chain of entry lengths breaks or a name is impossible.
    """
    for position, inode in scan(data, order=order):
        yield entry_at(data, position, inode, order=order, new_format=new_format)


def scan(data: bytes, *, order: str = "<") -> Iterator[tuple[int, int]]:
    """Yield (position, inode) of the entries without their names, gaps left out.

    Zeroes up to the next 512 bytes are a gap, as restore(8) has it. Raises MalformedDirectory
    when the chain of entry lengths breaks.
    """
    head = struct.Struct(order + "IH")
    position, end = 0, len(data)
    while position + 8 <= end:
        inode, length = head.unpack_from(data, position)
        if length < 8 or length % 4 or position + length > end:
            position = _skip_gap(data, position, length)
            continue
        if inode:
            yield position, inode
        position += length


def _skip_gap(data: bytes, position: int, length: int) -> int:
    end = min((position // _CHUNK + 1) * _CHUNK, len(data))
    if any(data[position:end]):
        raise MalformedDirectory(f"entry of {length} bytes at byte {position} of {len(data)}")
    return end


def entry_at(
    data: bytes, position: int, inode: int, *, order: str = "<", new_format: bool = True
) -> Entry:
    """Read the entry of `inode` that `scan` found at `position`.

    Raises MalformedDirectory when its name is impossible.
    """
    if new_format:
        kind, size = data[position + 6], data[position + 7]
    else:
        kind, size = 0, struct.unpack_from(order + "H", data, position + 6)[0]
    (length,) = struct.unpack_from(order + "H", data, position + 4)
    name = data[position + 8 : position + 8 + size]
    if not 0 < size <= MAX_NAME or size > length - 8 or b"/" in name or b"\0" in name:
        raise MalformedDirectory(f"impossible name {name!r} at byte {position}")
    return Entry(inode, name, kind)
