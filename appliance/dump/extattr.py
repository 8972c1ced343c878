"""Extended attributes as restore(8) understands them: the in-inode form of ext2 attributes.

    u32 0xEA020001 | entries | u32 0 | values
    entry: u8 name length | u8 index | u16 value offset | u32 0 | u32 value size | u32 hash | name

Value offsets count from byte 4, after the magic number; names and values are padded to 4.
A record holds at most 4,096 bytes, an inode may have several. The block form (magic
0xEA020000, 32 header bytes, offsets from the start) is read too. POSIX ACLs travel in
ext2's form (version 1, short entries), as indices 2 and 3 without a name.

Sources: `restore/xattr.c` of dump 0.4b, `fs/ext4/xattr.h`, `fs/ext4/acl.h` of Linux.
"""

import struct
from collections.abc import Iterable, Mapping

MAX_RECORD = 4096
INODE_MAGIC = 0xEA020001
BLOCK_MAGIC = 0xEA020000

ACL_ACCESS = b"system.posix_acl_access"
ACL_DEFAULT = b"system.posix_acl_default"
_PREFIXES = {1: b"user.", 4: b"trusted.", 6: b"security."}
_SYSTEM = {7: b"system."}  # ext4 keeps inline data there; restore(8) knows no such index
_ACLS = {2: ACL_ACCESS, 3: ACL_DEFAULT}
_SHORT_TAGS = (0x01, 0x04, 0x10, 0x20)
_LONG_TAGS = (0x02, 0x08)
_NOBODY = 0xFFFFFFFF
_ENTRY = struct.Struct("<BBHIII")


class MalformedAttributes(ValueError):
    """The record is no list of extended attributes, or one of an unknown kind."""


def _pad(size: int) -> int:
    return (size + 3) & ~3


def acl_to_ext2(value: bytes) -> bytes:
    """Turn the value of system.posix_acl_* (version 2) into ext2's form.

    Raises MalformedAttributes for any other version, a broken length, or an entry that ext2's
    form cannot say.
    """
    if len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != 2:
        raise MalformedAttributes("a POSIX ACL of another version than 2")
    out = [struct.pack("<I", 1)]
    for tag, permission, identity in struct.iter_unpack("<HHI", value[4:]):
        short = struct.pack("<HH", tag, permission)
        if tag in _LONG_TAGS:
            out.append(short + struct.pack("<I", identity))
        elif tag in _SHORT_TAGS and identity == _NOBODY:
            out.append(short)
        else:
            raise MalformedAttributes(f"a POSIX ACL with an odd entry of tag {tag:#x}")
    return b"".join(out)


def acl_from_ext2(value: bytes) -> bytes:
    """Undo `acl_to_ext2`; raises MalformedAttributes for what cannot be an ACL."""
    if len(value) < 4 or struct.unpack_from("<I", value)[0] != 1:
        raise MalformedAttributes("a POSIX ACL of another version than 1")
    out, position = [struct.pack("<I", 2)], 4
    while position + 4 <= len(value):
        tag, permission = struct.unpack_from("<HH", value, position)
        position += 4
        identity = _NOBODY
        if tag in _LONG_TAGS:
            if position + 4 > len(value):
                raise MalformedAttributes("a POSIX ACL ends within an entry")
            (identity,) = struct.unpack_from("<I", value, position)
            position += 4
        elif tag not in _SHORT_TAGS:
            raise MalformedAttributes(f"a POSIX ACL with the unknown tag {tag:#x}")
        out.append(struct.pack("<HHI", tag, permission, identity))
    if position != len(value):
        raise MalformedAttributes("a POSIX ACL ends within an entry")
    return b"".join(out)


def _to_entry(name: bytes, value: bytes) -> tuple[int, bytes, bytes] | None:
    """Give index, short name and stored value; None where restore(8) knows no such kind."""
    for index, acl in _ACLS.items():
        if name == acl:
            try:
                return index, b"", acl_to_ext2(value)
            except MalformedAttributes:
                return None
    for index, prefix in _PREFIXES.items():
        if name.startswith(prefix) and 0 < len(name) - len(prefix) <= 255:
            return index, name[len(prefix) :], value
    return None


def _size(short: bytes, value: bytes) -> int:
    return _ENTRY.size + _pad(len(short)) + _pad(len(value))


def encode(attributes: Mapping[bytes, bytes]) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Give the records for `attributes`, and those attributes that fit into none.

    Names are full (`user.x`), records have at most 4,096 bytes each.
    """
    records: list[bytes] = []
    left: dict[bytes, bytes] = {}
    group: list[tuple[int, bytes, bytes]] = []
    used = 8
    for name, value in attributes.items():
        entry = _to_entry(name, value)
        if entry is None or 8 + _size(entry[1], entry[2]) > MAX_RECORD:
            left[name] = value
            continue
        size = _size(entry[1], entry[2])
        if used + size > MAX_RECORD:
            records.append(_pack(group))
            group, used = [], 8
        group.append(entry)
        used += size
    if group:
        records.append(_pack(group))
    return records, left


def _pack(group: Iterable[tuple[int, bytes, bytes]]) -> bytes:
    group = list(group)
    heads_size = sum(_ENTRY.size + _pad(len(short)) for _, short, _ in group)
    offset = heads_size + 4
    heads, values = [], []
    for index, short, value in group:
        heads.append(_ENTRY.pack(len(short), index, offset, 0, len(value), 0))
        heads.append(short.ljust(_pad(len(short)), b"\0"))
        values.append(value.ljust(_pad(len(value)), b"\0"))
        offset += _pad(len(value))
    return struct.pack("<I", INODE_MAGIC) + b"".join(heads) + bytes(4) + b"".join(values)


def decode(record: bytes, order: str = "<") -> dict[bytes, bytes]:
    """Read a record in either form into full names and values.

    Raises MalformedAttributes for an unknown magic number or index, or a broken chain.
    """
    if len(record) < 8:
        raise MalformedAttributes(f"{len(record)} bytes are no attribute record")
    (magic,) = struct.unpack_from(order + "I", record)
    if magic not in (INODE_MAGIC, BLOCK_MAGIC):
        raise MalformedAttributes(f"unknown magic number {magic:#x}")
    position, base = (4, 4) if magic == INODE_MAGIC else (32, 0)
    out: dict[bytes, bytes] = {}
    entry = struct.Struct(order + "BBHIII")
    while position + 4 <= len(record) and record[position : position + 4] != bytes(4):
        if position + entry.size > len(record):
            raise MalformedAttributes("the record ends within an entry")
        size, index, offset, _, length, _ = entry.unpack_from(record, position)
        position += entry.size
        short = record[position : position + size]
        position += _pad(size)
        if base + offset + length > len(record) or len(short) != size:
            raise MalformedAttributes(f"attribute {short!r} reaches beyond the record")
        name, value = _from_entry(index, short, record[base + offset : base + offset + length])
        out[name] = value
    return out


def _from_entry(index: int, short: bytes, value: bytes) -> tuple[bytes, bytes]:
    if index in _ACLS:
        return _ACLS[index], acl_from_ext2(value)
    prefix = _PREFIXES.get(index) or _SYSTEM.get(index)
    if prefix is None:
        raise MalformedAttributes(f"unknown attribute index {index}")
    return prefix + short, value
