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
MAX_NAME = 255

_TYPES = {
    stat.S_IFIFO: 1, stat.S_IFCHR: 2, stat.S_IFDIR: 4, stat.S_IFBLK: 6,
    stat.S_IFREG: 8, stat.S_IFLNK: 10, stat.S_IFSOCK: 12,
}  # fmt: skip
DIRECTORY = 4


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


def _pack(entry: Entry, length: int) -> bytes:
    head = struct.pack("<IHBB", entry.inode, length, entry.type, len(entry.name))
    return (head + entry.name).ljust(length, b"\0")


def encode(entries: Iterable[Entry]) -> bytes:
    """Give the directory data, a multiple of 1 KiB; `.` and `..` come first by custom.

    Raises ValueError for an empty name or one over 255 bytes.
    """
    blocks: list[bytes] = []
    pending: list[Entry] = []
    used = 0
    for entry in entries:
        if not 0 < len(entry.name) <= MAX_NAME:
            raise ValueError(f"a name has 1 to {MAX_NAME} bytes: {entry.name!r}")
        length = entry_length(entry.name)
        if used + length > BLOCK:
            blocks.append(_block(pending, used))
            pending, used = [], 0
        pending.append(entry)
        used += length
    if pending:
        blocks.append(_block(pending, used))
    return b"".join(blocks)


def _block(entries: list[Entry], used: int) -> bytes:
    body = [_pack(e, entry_length(e.name)) for e in entries[:-1]]
    last = entries[-1]
    return b"".join(body) + _pack(last, entry_length(last.name) + BLOCK - used)


def decode(data: bytes, *, order: str = "<", new_format: bool = True) -> Iterator[Entry]:
    """Yield the entries of directory data, gaps left out.

    Raises MalformedDirectory when the chain of entry lengths breaks or a name is impossible.
    """
    position, end = 0, len(data)
    while position + 8 <= end:
        inode, length, kind, size = struct.unpack_from(order + "IHBB", data, position)
        if not new_format:
            kind, size = 0, struct.unpack_from(order + "H", data, position + 6)[0]
        if length < 8 or length % 4 or position + length > end:
            raise MalformedDirectory(f"entry of {length} bytes at byte {position} of {end}")
        if inode:
            yield Entry(inode, _name(data, position, length, size), kind)
        position += length


def _name(data: bytes, position: int, length: int, size: int) -> bytes:
    name = data[position + 8 : position + 8 + size]
    if not 0 < size <= MAX_NAME or size > length - 8 or b"/" in name or b"\0" in name:
        raise MalformedDirectory(f"impossible name {name!r} at byte {position}")
    return name
