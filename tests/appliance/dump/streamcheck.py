"""A strict reader of dump streams that shares no code with the engine: it checks every rule.

Little-endian headers in Linux layout only, as the engine writes them.
"""

import stat
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

TAPE, INODE, BITS, ADDR, END, CLRI = 1, 2, 3, 4, 5, 6
XATTR, PRIVATE = 3, 0x5350
ACL_FILE, LUN, DIRECTORIES = 1, 4, 8


@dataclass
class Member:
    """An inode of the stream: its fields, its data with holes filled by zeroes, what follows."""

    number: int
    mode: int
    links: int
    uid: int
    gid: int
    size: int
    times: tuple[float, float, float]
    rdev: int
    created_ns: int
    mtime_ns: int
    source: int
    part: int
    data: bytes = b""
    holes: list[int] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    private: bytes | None = None

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass
class Stream:
    """A whole stream, checked."""

    level: int
    date: int
    base_date: int
    filesystem: bytes
    label: bytes
    used: set[int]
    on_tape: set[int]
    members: list[Member]

    def member(self, number: int) -> Member:
        return next(m for m in self.members if m.number == number and not m.part & 9)

    def part(self, part: int) -> Member | None:
        return next((m for m in self.members if m.part & part), None)

    def entries(self, number: int) -> dict[bytes, tuple[int, int]]:
        """Give name -> (inode, type) of a directory on tape, checking its blocks."""
        data, out, position = self.member(number).data, {}, 0
        assert len(data) % 1024 == 0
        while position < len(data):
            inode, length, kind, size = struct.unpack_from("<IHBB", data, position)
            assert length >= 8 + ((size + 4) & ~3)
            assert position // 1024 == (position + length - 1) // 1024
            assert inode
            out[data[position + 8 : position + 8 + size]] = (inode, kind)
            position += length
        return out

    def find(self, path: bytes) -> int:
        """Give the tape inode at a path, by the directories on tape."""
        number = 2
        for part in path.split(b"/"):
            number = self.entries(number)[part][0]
        return number

    def items(self, part: int) -> list[tuple[int, bytes]]:
        """Give (tag, value) of the private records in an unnamed file."""
        member = self.part(part)
        return private_items(member.data) if member else []


def private_items(payload: bytes) -> list[tuple[int, bytes]]:
    """Split a chain of private records, checking heads and checksums."""
    out, position = [], 0
    while position < len(payload):
        magic, version, _, length, crc = struct.unpack_from("<4sHHII", payload, position)
        assert (magic, version) == (b"SPTL", 1)
        body = payload[position + 16 : position + 16 + length]
        assert len(body) == length
        assert crc == crc32c(body)
        at = 0
        while at < length:
            tag, _, size = struct.unpack_from("<HHI", body, at)
            out.append((tag, body[at + 8 : at + 8 + size]))
            at += 8 + (size + 3 & ~3)
        assert at == length
        position += 16 + length
    return out


_CRC_TABLE = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = _value >> 1 ^ (0x82F63B78 if _value & 1 else 0)
    _CRC_TABLE.append(_value)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def xattrs(record: bytes) -> dict[tuple[int, bytes], bytes]:
    """Read an EXT_XATTR record into (index, name) -> value."""
    assert struct.unpack_from("<I", record)[0] == 0xEA020001
    assert len(record) <= 4096
    out, position = {}, 4
    while record[position : position + 4] != bytes(4):
        size, index, offset, zero, length, _ = struct.unpack_from("<BBHIII", record, position)
        assert not zero
        name = record[position + 16 : position + 16 + size]
        out[index, name] = record[4 + offset : 4 + offset + length]
        assert len(out[index, name]) == length
        position += 16 + (size + 3 & ~3)
    return out


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.date: tuple[int, int] | None = None

    @property
    def block(self) -> bytes:
        return self.data[self.position * 1024 : self.position * 1024 + 1024]

    def header(self) -> bytes:
        block = self.block
        assert len(block) == 1024, "the stream ends without END"
        assert sum(struct.unpack("<256I", block)) & 0xFFFFFFFF == 84446, self.position
        kind, date, ddate, volume, tapea, _, magic = struct.unpack_from("<iIIiIIi", block)
        assert magic == 60012
        assert 1 <= kind <= 6
        assert volume == 1
        assert tapea == self.position
        assert self.date in (None, (date, ddate))
        self.date = date, ddate
        assert struct.unpack_from("<4sHHQ", block, 904)[::3] == (b"SNPR", self.position)
        self.position += 1
        return block

    def take(self, blocks: int) -> bytes:
        out = self.data[self.position * 1024 : (self.position + blocks) * 1024]
        assert len(out) == blocks * 1024
        self.position += blocks
        return out


def _number(block: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", block, offset)[0])


def _map(reader: _Reader, kind: int) -> set[int]:
    block = reader.header()
    assert _number(block, 0) == kind
    count = _number(block, 160)
    assert struct.unpack_from("<Q", block, 40)[0] == count * 1024
    data = reader.take(count)
    return {i * 8 + bit + 1 for i, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}


def _member(block: bytes) -> Member:
    mode, links = struct.unpack_from("<HH", block, 32)
    (size,) = struct.unpack_from("<Q", block, 40)
    stamps = struct.unpack_from("<6I", block, 48)
    uid, gid = struct.unpack_from("<II", block, 144)
    part, _, _, mtime_ns, _, created_ns, source = struct.unpack_from("<HQqqqqQ", block, 910)
    return Member(
        _number(block, 20), mode, links, uid, gid, size,
        tuple(stamps[i] + stamps[i + 1] / 1e6 for i in (0, 2, 4)),  # type: ignore[arg-type]
        _number(block, 72), created_ns, mtime_ns, source, part,
    )  # fmt: skip


def _payload(reader: _Reader, block: bytes, member: Member, size: int) -> bytes:
    """Read the data of an inode over all its headers; holes are noted in the member."""
    out = bytearray()
    while True:
        count = _number(block, 160)
        assert 0 <= count <= 512
        addresses = block[164:676]
        assert set(addresses) <= {0, 1}
        assert not any(addresses[count:])
        if len(out) + count * 1024 < size:
            assert count == 512, "only the last header of an inode may be short"
        for address in addresses[:count]:
            if address:
                piece = reader.take(1)
                rest = size - len(out)
                assert not any(piece[max(rest, 0) :]), "padding is not zero"
                out += piece
            else:
                member.holes.append(len(out) // 1024)
                out += bytes(1024)
        if len(out) >= size:
            assert -(-size // 1024) * 1024 == len(out)
            return bytes(out[:size])
        following = reader.header()
        assert _number(following, 0) == ADDR
        for field_range in (slice(20, 24), slice(32, 152), slice(888, 904), slice(924, 964)):
            assert following[field_range] == block[field_range]
        block = following


def check_stream(path: Path, factor: int) -> Stream:
    """Read the stream in a file and check all rules of its order."""
    data = path.read_bytes()
    assert len(data) % (factor * 1024) == 0
    reader = _Reader(data)
    tape = reader.header()
    assert (_number(tape, 0), _number(tape, 888), _number(tape, 896)) == (TAPE, 3, factor)
    used, on_tape = _map(reader, CLRI), _map(reader, BITS)
    assert on_tape <= used
    assert 2 in on_tape
    members: list[Member] = []
    while True:
        block = reader.header()
        kind = _number(block, 0)
        if kind == END:
            break
        assert kind == INODE, kind
        flags, extended = _number(block, 888), _number(block, 900)
        if flags & 0x8000:
            _extended(reader, block, members[-1], extended)
            continue
        assert (flags, extended) == (3, 0)
        member = _member(block)
        member.data = _payload(reader, block, member, member.size)
        members.append(member)
    while reader.position * 1024 < len(data):
        assert _number(reader.header(), 0) == END
    assert reader.date is not None
    stream = Stream(
        _number(tape, 692), reader.date[0], reader.date[1],
        tape[696:760].rstrip(b"\0"), tape[676:692].rstrip(b"\0"), used, on_tape, members,
    )  # fmt: skip
    _check_order(stream)
    return stream


def _extended(reader: _Reader, block: bytes, member: Member, extended: int) -> None:
    assert _number(block, 20) == member.number
    (size,) = struct.unpack_from("<Q", block, 40)
    scratch = _member(block)
    payload = _payload(reader, block, scratch, size)
    assert not scratch.holes
    if extended == XATTR:
        assert member.private is None, "private record before an attribute record"
        assert 0 < size <= 4096
        member.records.append(payload)
    else:
        assert extended == PRIVATE
        assert not member.is_directory, "restore(8) loops on these"
        assert member.private is None
        member.private = payload


def _check_order(stream: Stream) -> None:
    named = [m for m in stream.members if not m.part & (ACL_FILE | DIRECTORIES)]
    assert {m.number for m in named} == stream.on_tape, "BITS is not what came"
    assert len(named) == len(stream.on_tape), "an inode came twice"
    directories = [m.number for m in named if m.is_directory]
    files = [m.number for m in named if not m.is_directory]
    assert directories == sorted(directories)
    assert directories[0] == 2
    assert files == sorted(files)
    kinds = [
        1 if m.part & DIRECTORIES else 3 if m.part & ACL_FILE else 0 if m.is_directory else 2
        for m in stream.members
    ]
    assert kinds == sorted(kinds), "directories, directory file, files, ACL file"
    assert kinds.count(1) == 1
    assert kinds.count(3) <= 1
    if stream.members[-1].part & ACL_FILE:
        assert stream.members[-1].number > max(stream.used)
    for number in directories:
        for name, (inode, kind) in stream.entries(number).items():
            assert inode in stream.used, name
            assert kind


def digest(path: Path) -> int:
    return zlib.crc32(path.read_bytes())
