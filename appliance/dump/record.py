"""The 1 KiB header of a dump stream: BSD `struct u_spcl` in its Linux layout.

Every structure in a dump stream starts with one header, which says how many 1 KiB blocks
of data follow it. Little- and big-endian headers are read, little-endian ones written.
The 120 spare bytes at offset 904, which other readers skip, carry an `Extension`: 64-bit
record numbers and times in ns. The whole format is in docs/stream-format.md.

Sources: `protocols/dumprestore.h` of BSD and of dump 0.4b; dump(8).
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Literal

BLOCK = 1024
"""A tape block in bytes; the unit of record numbers, counts and the blocking factor."""

MAGIC = 60012
OLD_MAGIC = 60011
CHECKSUM = 84446
MAX_SEGMENT = 512
"""Blocks that one header can announce."""

ROOT_INODE = 2
"""The tape inode number of the root of a dump; 1 is reserved."""


class RecordType(IntEnum):
    """`c_type`: what a header introduces."""

    TAPE = 1
    INODE = 2
    BITS = 3
    ADDR = 4
    END = 5
    CLRI = 6


class Flag(IntFlag):
    """`c_flags`."""

    NEW_HEADER = 0x1
    NEW_INODE_FORMAT = 0x2
    COMPRESSED = 0x80
    METADATA_ONLY = 0x100
    EXTENDED_ATTRIBUTES = 0x8000


class Extent(IntEnum):
    """`c_extattributes`: what an inode record flagged EXTENDED_ATTRIBUTES carries."""

    REGULAR = 0
    XATTR = 3
    PRIVATE = 0x5350


class Part(IntFlag):
    """Extension flags: unnamed inodes that carry the stream's own data, and LUNs.

    LUN is on the regular file itself, so that a reader can restrict it before its data comes.
    """

    ACL_FILE = 0x1
    OFFSET_MAP = 0x2
    LUN = 0x4
    DIRECTORIES = 0x8


class MalformedRecord(ValueError):
    """A block is not a header of a dump stream."""


@dataclass(frozen=True, slots=True)
class Times:
    """Four times in ns since 1970; `created` None where unknown."""

    accessed: int
    modified: int
    changed: int
    created: int | None = None


@dataclass(frozen=True, slots=True)
class Inode:
    """The inode fields of an INODE, ADDR or continuing TAPE header.

    `device` is major << 32 | minor. `source` is the inode number in the file system
    that was dumped, 0 where unknown.
    """

    mode: int
    links: int = 1
    size: int = 0
    uid: int = 0
    gid: int = 0
    times: Times = Times(0, 0, 0)
    device: int = 0
    flags: int = 0
    blocks: int = 0
    generation: int = 0
    source: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a stream comes from: the extension of TAPE, CLRI, BITS and END headers.

    Times in ns since 1970, `data_bytes` and `inodes` as estimated by phases I and II.
    """

    dump_uuid: bytes = bytes(16)
    volume_uuid: bytes = bytes(16)
    snapshot_time: int = 0
    base_time: int = 0
    generation: int = 0
    base_generation: int = 0
    inodes: int = 0
    data_bytes: int = 0
    vm_align_sector: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """One header. `addresses` holds one byte a block (1 = on tape, 0 = hole).

    `tapea` counts blocks from the start of the stream over all volumes. Dates are
    seconds since 1970. `own` tells that the extension of this project was there.
    """

    type: RecordType
    date: int = 0
    base_date: int = 0
    volume: int = 1
    tapea: int = 0
    inumber: int = 0
    inode: Inode | None = None
    count: int = 0
    addresses: bytes = b""
    label: bytes = b"none"
    level: int = 0
    filesystem: bytes = b""
    device: bytes = b""
    host: bytes = b""
    flags: Flag = Flag.NEW_HEADER | Flag.NEW_INODE_FORMAT
    first_record: int = 0
    blocking_factor: int = 0
    extended: int = Extent.REGULAR
    part: Part = field(default=Part(0))
    origin: Origin | None = None
    own: bool = False
    byte_order: Literal["<", ">"] = "<"

    @property
    def data_blocks(self) -> int:
        """Blocks of data that follow this header."""
        if self.type in (RecordType.INODE, RecordType.ADDR):
            return present_blocks(self.addresses)
        if self.type in (RecordType.CLRI, RecordType.BITS):
            return self.count
        if self.type is RecordType.TAPE and self.inumber:
            return present_blocks(self.addresses)
        return 0


# offset, format, name; offsets in bytes. Gaps are zero.
LAYOUT = (
    (0, "i", "type"), (4, "I", "date"), (8, "I", "ddate"), (12, "i", "volume"),
    (16, "I", "tapea"), (20, "I", "inumber"), (24, "i", "magic"), (28, "I", "checksum"),
    (32, "H", "mode"), (34, "H", "nlink"), (36, "H", "ouid"), (38, "H", "ogid"),
    (40, "Q", "size"), (48, "I", "atime"), (52, "I", "atime_us"), (56, "I", "mtime"),
    (60, "I", "mtime_us"), (64, "I", "ctime"), (68, "I", "ctime_us"), (72, "I", "rdev"),
    (132, "I", "iflags"), (136, "I", "blocks"), (140, "I", "gen"), (144, "I", "uid"),
    (148, "I", "gid"), (160, "I", "count"), (164, "512s", "addr"), (676, "16s", "label"),
    (692, "I", "level"), (696, "64s", "filesys"), (760, "64s", "dev"), (824, "64s", "host"),
    (888, "I", "flags"), (892, "I", "firstrec"), (896, "I", "ntrec"), (900, "I", "extattr"),
    (904, "120s", "spare"),
)  # fmt: skip

EXTENSION_MAGIC = b"SNPR"
EXTENSION_VERSION = 1
UNKNOWN_TIME = -(1 << 63)
# Operators of enumerations cost more than all the rest of a header; so decoding does without.
_TYPES = {int(kind): kind for kind in RecordType}
_WITHOUT_ADDRESSES = frozenset({RecordType.CLRI, RecordType.BITS, RecordType.END})
_NEW_INODE_FORMAT = int(Flag.NEW_INODE_FORMAT)
_PLAIN = b"\0\1"
_PREFIX = "4sHHQ"
_INODE_EXTENSION = "qqqqQ"
_ORIGIN_EXTENSION = "16s16sqqQQQQI"


def _format(table: tuple[tuple[int, str, str], ...]) -> str:
    parts, position = [], 0
    for offset, code, _ in table:
        parts.append(f"{offset - position}x{code}")
        position = offset + struct.calcsize("<" + code)
    return "".join(parts)


_NAMES = tuple(name for _, _, name in LAYOUT)
_STRUCTS = {order: struct.Struct(order + _format(LAYOUT)) for order in "<>"}
_EVEN_WORDS = int.from_bytes((b"\xff" * 4 + bytes(4)) * (BLOCK // 8), "little")
_LITTLE_MAGIC, _BIG_MAGIC = struct.pack("<I", MAGIC), struct.pack(">I", MAGIC)
_FOREIGN = {
    OLD_MAGIC: "a dump from before 4.2BSD",
    60013: "a Solaris dump with larger tape blocks",
    0x19540119: "a UFS2 dump",
}


def present_blocks(addresses: bytes) -> int:
    """Count the blocks that `addresses` says are on tape."""
    return len(addresses) - addresses.count(0)


def checksum(block: bytes, order: str = "<") -> int:
    """Sum the 256 words of a header; a sound one gives `CHECKSUM`.

    The words are added pairwise into lanes of 64 bits; the remainder by 2**64 - 1 is the sum
    of the lanes, which cannot reach that. About three times as fast as adding 256 integers.
    """
    number = int.from_bytes(block, "little" if order == "<" else "big")
    lanes = (number & _EVEN_WORDS) + (number >> 32 & _EVEN_WORDS)
    return lanes % 0xFFFFFFFFFFFFFFFF & 0xFFFFFFFF


def encode_device(device: int) -> int:
    """Squeeze major << 32 | minor into the 32 bits that restore(8) reads."""
    major, minor = device >> 32, device & 0xFFFFFFFF
    return ((minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)) & 0xFFFFFFFF


def decode_device(value: int) -> int:
    """Undo `encode_device`."""
    major, minor = (value >> 8) & 0xFFF, (value & 0xFF) | ((value >> 12) & 0xFFF00)
    return major << 32 | minor


def _time_words(ns: int) -> tuple[int, int]:
    seconds, rest = divmod(ns, 1_000_000_000)
    return seconds & 0xFFFFFFFF, rest // 1000


def _size(header: Header) -> int:
    """Give di_size; restore(8) wants the size of a map there too."""
    if header.type in (RecordType.CLRI, RecordType.BITS):
        return header.count * BLOCK
    return header.inode.size if header.inode else 0


def _encode_extension(header: Header) -> bytes:
    prefix = struct.pack(
        "<" + _PREFIX, EXTENSION_MAGIC, EXTENSION_VERSION, header.part, header.tapea
    )
    if header.inode is not None:
        times = header.inode.times
        created = UNKNOWN_TIME if times.created is None else times.created
        body = struct.pack(
            "<" + _INODE_EXTENSION,
            times.accessed, times.modified, times.changed, created, header.inode.source,
        )  # fmt: skip
        return prefix + body
    o = header.origin or Origin()
    body = struct.pack(
        "<" + _ORIGIN_EXTENSION,
        o.dump_uuid, o.volume_uuid, o.snapshot_time, o.base_time, o.generation,
        o.base_generation, o.inodes, o.data_bytes, o.vm_align_sector,
    )  # fmt: skip
    return prefix + body


def encode(header: Header) -> bytes:
    """Give the 1,024 bytes of a header, little-endian, with checksum and extension."""
    inode = header.inode or Inode(mode=0, links=0)
    times = inode.times
    stamps = (
        *_time_words(times.accessed),
        *_time_words(times.modified),
        *_time_words(times.changed),
    )
    block = bytearray(
        _STRUCTS["<"].pack(
            header.type,
            header.date & 0xFFFFFFFF,
            header.base_date & 0xFFFFFFFF,
            header.volume,
            header.tapea & 0xFFFFFFFF,
            header.inumber,
            MAGIC,
            0,
            inode.mode,
            min(inode.links, 0xFFFF),
            inode.uid & 0xFFFF,
            inode.gid & 0xFFFF,
            _size(header),
            *stamps,
            encode_device(inode.device),
            inode.flags,
            inode.blocks & 0xFFFFFFFF,
            inode.generation & 0xFFFFFFFF,
            inode.uid,
            inode.gid,
            header.count,
            header.addresses,
            header.label[:15],
            header.level,
            header.filesystem[:63],
            header.device[:63],
            header.host[:63],
            header.flags,
            header.first_record & 0xFFFFFFFF,
            header.blocking_factor,
            header.extended,
            _encode_extension(header),
        )
    )
    struct.pack_into("<I", block, 28, (CHECKSUM - checksum(bytes(block))) & 0xFFFFFFFF)
    return bytes(block)


def _byte_order(block: bytes) -> Literal["<", ">"]:
    if block[24:28] == _LITTLE_MAGIC:
        return "<"
    if block[24:28] == _BIG_MAGIC:
        return ">"
    for order in ("<", ">"):
        foreign = _FOREIGN.get(struct.unpack_from(order + "I", block, 24)[0])
        if foreign is not None:
            raise MalformedRecord(f"{foreign}, which is not read")
    raise MalformedRecord("no dump header: its magic number is not there")


def _seconds_to_ns(seconds: int, microseconds: int) -> int:
    return seconds * 1_000_000_000 + microseconds * 1000


def _decode_times(raw: dict[str, int]) -> Times:
    return Times(
        _seconds_to_ns(raw["atime"], raw["atime_us"]),
        _seconds_to_ns(raw["mtime"], raw["mtime_us"]),
        _seconds_to_ns(raw["ctime"], raw["ctime_us"]),
    )


def _decode_inode(raw: dict[str, int], spare: bytes, own: bool) -> Inode:
    new = bool(raw["flags"] & _NEW_INODE_FORMAT)
    times, source = _decode_times(raw), 0
    if own:
        a, m, c, created, source = struct.unpack_from("<" + _INODE_EXTENSION, spare, 16)
        times = Times(a, m, c, None if created == UNKNOWN_TIME else created)
    return Inode(
        mode=raw["mode"], links=raw["nlink"], size=raw["size"],
        uid=raw["uid"] if new else raw["ouid"], gid=raw["gid"] if new else raw["ogid"],
        times=times, device=decode_device(raw["rdev"]), flags=raw["iflags"],
        blocks=raw["blocks"], generation=raw["gen"], source=source,
    )  # fmt: skip


def _unpack_addresses(packed: bytes, count: int) -> bytes:
    """Expand the run-length form of dump 0.4b49 and later; plain bytes come out as they are.

    A byte 0nnnnnnd stands for n + 1 blocks; 1nnnnnnd followed by N for N * 64 + n + 65.
    """
    if not packed[:count].strip(_PLAIN):
        return packed[:count]
    out, i = bytearray(), 0
    while i < count:
        byte = packed[i]
        length = ((byte >> 1) & 0x3F) + 1
        if byte & 0x80:
            i += 1
            length += 64 * (packed[i] + 1) if i < len(packed) else 0
        out += bytes([byte & 1]) * length
        i += 1
    return bytes(out)


def _decode_addresses(kind: RecordType, raw: dict[str, int], addr: bytes) -> bytes:
    if kind in _WITHOUT_ADDRESSES:
        return b""
    count = raw["count"]
    if not 0 <= count <= MAX_SEGMENT:
        raise MalformedRecord(f"header announces {count} blocks, at most {MAX_SEGMENT} can be")
    return _unpack_addresses(addr, count)


def _text(value: bytes) -> bytes:
    return value.split(b"\0", 1)[0]


def _decode_origin(spare: bytes, own: bool, inode: Inode | None) -> Origin | None:
    if not own or inode is not None:
        return None
    return Origin(*struct.unpack_from("<" + _ORIGIN_EXTENSION, spare, 16))


def _has_inode(kind: RecordType, raw: dict[str, int]) -> bool:
    if kind is RecordType.TAPE or kind is RecordType.ADDR:  # ADDR may continue a map
        return raw["mode"] != 0
    return kind is RecordType.INODE


def _has_extension(spare: bytes, order: str) -> bool:
    if order != "<" or spare[:4] != EXTENSION_MAGIC:
        return False
    (version,) = struct.unpack_from("<H", spare, 4)
    if version != EXTENSION_VERSION:
        raise MalformedRecord(f"written by a later release: header extension version {version}")
    return True


def decode(block: bytes) -> Header:
    """Read a header in either byte order.

    Raises MalformedRecord when the magic number, the checksum, the type or a count is wrong.
    """
    if len(block) != BLOCK:
        raise MalformedRecord(f"a header has {BLOCK} bytes, not {len(block)}")
    order = _byte_order(block)
    if checksum(block, order) != CHECKSUM:
        raise MalformedRecord("the header's checksum is wrong")
    raw = dict(zip(_NAMES, _STRUCTS[order].unpack(block), strict=True))
    kind = _TYPES.get(raw["type"])
    if kind is None:
        raise MalformedRecord(f"unknown record type {raw['type']}")
    spare = raw["spare"]
    own = _has_extension(spare, order)
    part, tapea = struct.unpack_from("<HQ", spare, 6) if own else (0, raw["tapea"])
    inode = _decode_inode(raw, spare, own) if _has_inode(kind, raw) else None
    return Header(
        type=kind, date=raw["date"], base_date=raw["ddate"], volume=raw["volume"], tapea=tapea,
        inumber=raw["inumber"], inode=inode, count=raw["count"],
        addresses=_decode_addresses(kind, raw, raw["addr"]),
        label=_text(raw["label"]), level=raw["level"], filesystem=_text(raw["filesys"]),
        device=_text(raw["dev"]), host=_text(raw["host"]), flags=Flag(raw["flags"]),
        first_record=raw["firstrec"], blocking_factor=raw["ntrec"], extended=raw["extattr"],
        part=Part(part), origin=_decode_origin(spare, own, inode), own=own, byte_order=order,
    )  # fmt: skip
