"""Private records: what BSD's format cannot say, as tag, length, value.

    "SPTL" | u16 version | u16 0 | u32 body length | u32 crc32c of the body | body
    body: items of  u16 tag | u16 flags | u32 length | value | padding to 4

They follow an inode's data as INODE records flagged EXTENDED_ATTRIBUTES with
Extent.PRIVATE, which restore(8) skips with a line; phase V's ACL file has the same form.
Flag 1 on an item says that a reader which does not know the tag loses data by skipping it.
"""

import struct
from collections.abc import Iterable
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
    | DUMP    | JSON about the dump, on the root's inode only                  |
    | ACL     | u32 count, count x u32 tape inode, the value of security.NTACL |
    """

    XATTR = 1
    DUMP = 2
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


def decode(payload: bytes) -> list[Item]:
    """Read a payload, which may be followed by padding.

    Raises MalformedPrivate when it is torn, fails its checksum or has a later version.
    """
    if len(payload) < _HEAD.size:
        raise MalformedPrivate(f"{len(payload)} bytes are no private record")
    magic, version, _, length, total = _HEAD.unpack_from(payload)
    body = payload[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or version != VERSION:
        raise MalformedPrivate(f"unknown private record {magic!r} version {version}")
    if len(body) != length or crc32c(body) != total:
        raise MalformedPrivate("the private record's checksum is wrong")
    items, position = [], 0
    while position + _ITEM.size <= length:
        tag, flags, size = _ITEM.unpack_from(body, position)
        position += _ITEM.size
        if position + size > length:
            raise MalformedPrivate(f"item with tag {tag} reaches beyond the record")
        items.append(Item(tag, body[position : position + size], bool(flags & 1)))
        position += _pad(size)
    return items


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
