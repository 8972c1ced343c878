"""Private records: what BSD's format cannot say, as tag, length, value.

    "SPTL" | u16 version | u16 0 | u32 body length | u32 crc32c of the body | body
    body: items of  u16 tag | u16 flags | u32 length | value | padding to 4

They follow the data of an inode that is no directory, as INODE records flagged
EXTENDED_ATTRIBUTES with Extent.PRIVATE, which restore(8) skips with a line. Chains of them are
the data of two unnamed files: the directory file, with what belongs to directories (behind
which restore(8) cannot skip a record that it does not know), and the ACL file of phase V.
Flag 1 on an item says that a reader which does not know the tag loses data by skipping it.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from crc32c import crc32c

MAGIC = b"SPTL"
VERSION = 1
_HEAD = struct.Struct("<4sHHII")
_ITEM = struct.Struct("<HHI")


class Tag(IntEnum):
    """What an item holds.

    | tag     | value                                                          |
    |---------|----------------------------------------------------------------|
    | XATTR   | u16 name length, name, value                                   |
    | DUMP    | JSON about the dump; first in the directory file               |
    | INODE   | u32 tape inode that the items after it belong to               |
    | ACL     | u32 count, count x u32 tape inode, the value of security.NTACL |
    """

    XATTR = 1
    DUMP = 2
    INODE = 3
    ACL = 16


class MalformedPrivate(ValueError):
    """A private record is torn, of a later version, or fails its checksum."""


@dataclass(frozen=True, slots=True)
class Item:
    """One tagged value; `tag` may be one that this version does not know."""

    tag: int
    value: bytes
    required: bool = False


def _pad(size: int) -> int:
    return (size + 3) & ~3


def encode(items: Iterable[Item]) -> bytes:
    """Give a private record's payload."""
    parts = []
    for item in items:
        parts.append(_ITEM.pack(item.tag, int(item.required), len(item.value)))
        parts.append(item.value.ljust(_pad(len(item.value)), b"\0"))
    body = b"".join(parts)
    return _HEAD.pack(MAGIC, VERSION, 0, len(body), crc32c(body)) + body


def encoded_size(values: Iterable[int]) -> int:
    """Give the bytes of a record with one item for each of `values`, lengths in bytes."""
    return _HEAD.size + sum(_ITEM.size + _pad(value) for value in values)


def decode(payload: bytes) -> list[Item]:
    """Read a private record's payload, whatever its tags; what follows it is not looked at.

    Raises MalformedPrivate when it is torn, of a later version, or damaged.
    """
    return _decode(payload, 0)[0]


def decode_chain(payload: bytes) -> Iterator[Item]:
    """Yield the items of private records that stand one after the other to the end of `payload`.

    Raises MalformedPrivate as `decode` does.
    """
    position = 0
    while position < len(payload):
        items, position = _decode(payload, position)
        yield from items


def _decode(payload: bytes, start: int) -> tuple[list[Item], int]:
    if len(payload) < start + _HEAD.size:
        raise MalformedPrivate(f"{len(payload) - start} bytes are no private record")
    magic, version, _, length, total = _HEAD.unpack_from(payload, start)
    body = payload[start + _HEAD.size : start + _HEAD.size + length]
    if magic != MAGIC or version != VERSION:
        raise MalformedPrivate(f"unknown private record {magic!r} version {version}")
    if len(body) != length or crc32c(body) != total:
        raise MalformedPrivate("the private record's checksum is wrong")
    items, position = [], 0
    while position < length:
        if position + _ITEM.size > length:
            raise MalformedPrivate("the private record ends within an item")
        tag, flags, size = _ITEM.unpack_from(body, position)
        position += _ITEM.size
        if position + size > length:
            raise MalformedPrivate(f"item with tag {tag} reaches beyond the record")
        items.append(Item(tag, body[position : position + size], bool(flags & 1)))
        position += _pad(size)
    return items, start + _HEAD.size + length


def encode_xattr(name: bytes, value: bytes) -> Item:
    """Give the item of an extended attribute; full name."""
    return Item(Tag.XATTR, struct.pack("<H", len(name)) + name + value, required=True)


def decode_xattr(value: bytes) -> tuple[bytes, bytes]:
    """Read an XATTR item's value into full name and value; raises MalformedPrivate."""
    if len(value) < 2:
        raise MalformedPrivate("an attribute item without a name")
    (size,) = struct.unpack_from("<H", value)
    if len(value) < 2 + size:
        raise MalformedPrivate("an attribute item shorter than its name")
    return value[2 : 2 + size], value[2 + size :]


def encode_inode(inode: int) -> Item:
    """Give the item that says which (tape) inode the items after it belong to."""
    return Item(Tag.INODE, struct.pack("<I", inode), required=True)


def decode_inode(value: bytes) -> int:
    """Read an INODE item's value; raises MalformedPrivate."""
    if len(value) != 4:
        raise MalformedPrivate("an inode item of another length than 4")
    return int.from_bytes(value, "little")


def encode_acl(inodes: Iterable[int], descriptor: bytes) -> Item:
    """Give the item that says that all `inodes` (tape numbers) have this ACL."""
    numbers = list(inodes)
    head = struct.pack(f"<I{len(numbers)}I", len(numbers), *numbers)
    return Item(Tag.ACL, head + descriptor, required=True)


def decode_acl(value: bytes) -> tuple[tuple[int, ...], bytes]:
    """Read an ACL item's value into tape inodes and descriptor; raises MalformedPrivate."""
    count = struct.unpack_from("<I", value)[0] if len(value) >= 4 else -1
    if count < 0 or len(value) < 4 + 4 * count:
        raise MalformedPrivate("an ACL item shorter than its list of inodes")
    return struct.unpack_from(f"<{count}I", value, 4), value[4 + 4 * count :]
