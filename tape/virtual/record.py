"""What is on a virtual cartridge: file header, record headers, index entries.

    file header, at 0 of `data`     record header, before every block and filemark
    0   magic "SNAPREEL TAPE 1\\n"   0   magic "SRec"
    16  uuid, 16 bytes              4   kind: 1 block, 2 filemark
    32  barcode, 32 bytes, NUL      5   -, 3 bytes
    64  created, seconds, 64 bits   8   length of the payload that follows, 32 bits
    72  CRC-32C of 0..71            12  CRC-32C of the payload
    76  zeros up to 4096            16  logical object number, 64 bits
                                    24  -, 4 bytes
                                    28  CRC-32C of 0..27

    index entry, 32 bytes
    0   kind: 1 block, 2 filemark, 3 synced, 4 boot
    1   -, 3 bytes
    4   CRC-32C of the entry with these four bytes zero
    8   logical object number       16  offset of its record in `data`
    24  boot: hash of the boot id; otherwise 0

All numbers are little-endian.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

import crc32c

FILE_HEADER = 4096
MAGIC = b"SNAPREEL TAPE 1\n"
RECORD_MAGIC = b"SRec"

_FILE = struct.Struct("<16s16s32sQI")
_RECORD = struct.Struct("<4sB3xIIQ4xI")
_RECORD_BODY = struct.Struct("<4sB3xIIQ4x")
_ENTRY = struct.Struct("<B3xIQQQ")

RECORD_SIZE = _RECORD.size
ENTRY_SIZE = _ENTRY.size


class MalformedRecord(ValueError):
    """Bytes that are no header or entry, or whose checksum is wrong."""


class RecordKind(IntEnum):
    """What follows a record header."""

    BLOCK = 1
    FILEMARK = 2


class EntryKind(IntEnum):
    """What an index entry says of (object, offset).

    BLOCK and FILEMARK: this record lies there. SYNCED: everything before is on stable
    storage. BOOT: what follows was written while the machine ran under this boot id.
    """

    BLOCK = 1
    FILEMARK = 2
    SYNCED = 3
    BOOT = 4


@dataclass(frozen=True, slots=True)
class FileHeader:
    """Which cartridge a data file is; `created` in seconds since 1970."""

    uuid: bytes
    barcode: str
    created: int

    def encode(self) -> bytes:
        """Give the first 4096 bytes of the data file."""
        barcode = self.barcode.encode("ascii")
        if len(barcode) > 32:
            raise MalformedRecord(f"barcode {self.barcode!r} is longer than 32")
        body = _FILE.pack(MAGIC, self.uuid, barcode, self.created, 0)[:-4]
        return (body + struct.pack("<I", crc32c.crc32c(body))).ljust(FILE_HEADER, b"\0")

    @classmethod
    def decode(cls, data: bytes) -> "FileHeader":
        """Read the header; raises MalformedRecord."""
        if len(data) < _FILE.size:
            raise MalformedRecord("the file header is cut short")
        magic, uuid, barcode, created, check = _FILE.unpack_from(data)
        if magic != MAGIC or check != crc32c.crc32c(data[: _FILE.size - 4]):
            raise MalformedRecord("no cartridge file header")
        return cls(uuid, barcode.rstrip(b"\0").decode("ascii"), created)


@dataclass(frozen=True, slots=True)
class Record:
    """A block or filemark: payload `length` in bytes and its CRC-32C, logical object number."""

    kind: RecordKind
    object: int
    length: int = 0
    crc: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes in the data file."""
        return RECORD_SIZE + self.length

    def encode(self) -> bytes:
        """Give the record header."""
        return encode_record(self.kind, self.object, self.length, self.crc)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> "Record":
        """Read a record header; raises MalformedRecord."""
        if len(data) < RECORD_SIZE:
            raise MalformedRecord("a record header is cut short")
        magic, kind, length, crc, number, check = _RECORD.unpack_from(data)
        if magic != RECORD_MAGIC or check != crc32c.crc32c(data[: RECORD_SIZE - 4]):
            raise MalformedRecord("no record header")
        if kind not in _RECORD_KINDS:
            raise MalformedRecord(f"record of kind {kind}")
        return cls(_RECORD_KINDS[kind], number, length, crc)


_RECORD_KINDS = {kind.value: kind for kind in RecordKind}


def encode_record(kind: int, number: int, length: int, crc: int) -> bytes:
    """Give a record header without the detour over a Record."""
    body = _RECORD_BODY.pack(RECORD_MAGIC, kind, length, crc, number)
    return body + crc32c.crc32c(body).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Entry:
    """One index entry."""

    kind: EntryKind
    object: int
    offset: int
    extra: int = 0

    def encode(self) -> bytes:
        """Give the 32 bytes."""
        check = crc32c.crc32c(_ENTRY.pack(self.kind, 0, self.object, self.offset, self.extra))
        return _ENTRY.pack(self.kind, check, self.object, self.offset, self.extra)

    @classmethod
    def decode(cls, data: bytes) -> "Entry":
        """Read an entry; raises MalformedRecord."""
        if len(data) != ENTRY_SIZE:
            raise MalformedRecord("an index entry is cut short")
        kind, check, number, offset, extra = _ENTRY.unpack(data)
        if check != crc32c.crc32c(_ENTRY.pack(kind, 0, number, offset, extra)):
            raise MalformedRecord("an index entry's checksum is wrong")
        if kind not in _ENTRY_KINDS:
            raise MalformedRecord(f"index entry of kind {kind}")
        return cls(_ENTRY_KINDS[kind], number, offset, extra)


_ENTRY_KINDS = {kind.value: kind for kind in EntryKind}
