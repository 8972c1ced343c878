"""A small encoder of dump streams for tests: any byte order and directory format, any lie."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from appliance.dump import record
from appliance.dump.inodemap import InodeMap
from appliance.dump.record import BLOCK, Flag, Header, RecordType
from appliance.dump.stream import DumpReader, Warnings

DATE = 1_700_000_000


@dataclass
class Tape:
    """Collects the blocks of a stream; `order` and `new_format` as on tapes of other systems."""

    order: str = "<"
    new_format: bool = True
    level: int = 0
    base_date: int = 0
    date: int = DATE
    used: tuple[int, ...] = ()
    dumped: tuple[int, ...] = ()
    map_by_address: bool = False
    blocks: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.header(RecordType.TAPE, count=1, addresses=b"\0")
        for kind, numbers in ((RecordType.CLRI, self.used), (RecordType.BITS, self.dumped)):
            self._map(kind, InodeMap(numbers).to_bytes(40_000 if self.map_by_address else None))

    def _map(self, kind: RecordType, content: bytes) -> None:
        count = len(content) // BLOCK
        if not self.map_by_address:
            self.header(kind, count=count)
            self.raw(content)
            return
        self.header(kind, count=1)
        self.raw(content[:BLOCK])
        self.header(RecordType.ADDR, count=count - 1, addresses=b"\1" * (count - 1))
        self.raw(content[BLOCK:])

    def raw(self, content: bytes) -> None:
        """Add data, padded to blocks."""
        for at in range(0, len(content), BLOCK):
            self.blocks.append(content[at : at + BLOCK].ljust(BLOCK, b"\0"))

    def header(
        self,
        kind: RecordType,
        number: int = 0,
        *,
        mode: int = 0,
        size: int = 0,
        count: int = 0,
        addresses: bytes = b"",
        flags: int = 0,
        extended: int = 0,
        links: int = 1,
        device: int = 0,
        **wrong: int,
    ) -> None:
        """Add a header, foreign: without this project's extension."""
        values = dict.fromkeys((name for _, _, name in record.LAYOUT), 0)
        values |= {
            "type": kind, "date": self.date, "ddate": self.base_date, "volume": 1,
            "tapea": len(self.blocks), "inumber": number, "magic": record.MAGIC, "mode": mode,
            "nlink": links, "size": size, "mtime": DATE - 500, "atime": DATE - 400,
            "uid": 1000 if self.new_format else 0, "ouid": 1000, "gid": 100, "ogid": 100,
            "count": count, "addr": addresses, "label": b"none", "level": self.level,
            "filesys": b"/vol/vol0", "dev": b"hourly.0", "host": b"filer", "spare": b"",
            "flags": Flag.NEW_HEADER | (Flag.NEW_INODE_FORMAT if self.new_format else 0) | flags,
            "ntrec": 63, "extattr": extended, "rdev": record.encode_device(device),
        }  # fmt: skip
        values |= wrong
        layout, position = self.order, 0
        for offset, code, _ in record.LAYOUT:
            layout += f"{offset - position}x{code}"
            position = offset + struct.calcsize("<" + code)
        block = bytearray(struct.pack(layout, *values.values()))
        total = record.CHECKSUM - sum(struct.unpack(self.order + "256I", block))
        if "checksum" not in wrong:
            struct.pack_into(self.order + "I", block, 28, total & 0xFFFFFFFF)
        self.blocks.append(bytes(block))

    def inode(self, number: int, mode: int, content: bytes = b"", **more: int) -> None:
        """Add an inode with all its data, over as many headers as that takes."""
        size = more.pop("size", len(content))
        parts = [content[at : at + 512 * BLOCK] for at in range(0, len(content), 512 * BLOCK)]
        kind = RecordType.INODE
        for part in parts or [b""]:
            count = -(-len(part) // BLOCK)
            self.header(
                kind, number, mode=mode, size=size, count=count, addresses=b"\1" * count, **more
            )
            self.raw(part)
            kind = RecordType.ADDR

    def directory(self, number: int, entries: Iterable[tuple[int, bytes]], up: int = 2) -> None:
        """Add a directory with `.`, `..` and `entries`."""
        content = self.entries([(number, b"."), (up, b".."), *entries])
        self.inode(number, 0o040755, content, links=2)

    def entries(self, entries: Iterable[tuple[int, bytes]]) -> bytes:
        parts = []
        for inode, name in entries:
            length = 8 + (len(name) + 4 & ~3)
            if self.new_format:
                head = struct.pack(self.order + "IHBB", inode, length, 0, len(name))
            else:
                head = struct.pack(self.order + "IHH", inode, length, len(name))
            parts.append((head + name).ljust(length, b"\0"))
        used = sum(map(len, parts))
        last = bytearray(parts[-1])
        rest = -used % 512
        struct.pack_into(self.order + "H", last, 4, len(last) + rest)
        return b"".join(parts[:-1]) + bytes(last) + bytes(rest)

    def end(self) -> bytes:
        """Close the stream and give it."""
        self.header(RecordType.END)
        return self.bytes()

    def bytes(self) -> bytes:
        return b"".join(self.blocks)


class Memory:
    """A stream in memory, given in pieces of a size."""

    def __init__(self, content: bytes, piece: int = 10_240) -> None:
        self._content = content
        self._piece = piece
        self._at = 0
        self.name = "memory"

    def read(self) -> bytes:
        piece = self._content[self._at : self._at + self._piece]
        self._at += len(piece)
        return piece

    def skip(self, size: int) -> int:
        return 0

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def reader(content: bytes, piece: int = 10_240) -> tuple[DumpReader, list[str]]:
    lines: list[str] = []
    return DumpReader(Memory(content, piece), Warnings(lines.append)), lines


def small(order: str = "<", *, new_format: bool = True) -> bytes:
    """A tape with two directories, a file with a hole, a link and a hard link."""
    numbers = (2, 3, 4, 5, 6)
    tape = Tape(order, new_format, used=numbers, dumped=numbers)
    tape.directory(2, [(3, b"dir"), (4, b"file"), (5, b"link")])
    tape.directory(3, [(4, b"again"), (6, b"sparse")])
    tape.inode(4, 0o100644, b"content" * 300, links=2)
    tape.inode(5, 0o120777, b"dir/sparse")
    tape.header(RecordType.INODE, 6, mode=0o100600, size=5000, count=5, addresses=b"\1\0\0\1\0")
    tape.raw(b"a" * 1024)
    tape.raw(b"b" * 1024)
    return tape.end()


__all__ = ["DATE", "Header", "Memory", "Tape", "reader", "replace", "small"]
