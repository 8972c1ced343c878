"""Reading a dump stream: the order of its records, their numbers and their checksums.

    TAPE  CLRI+map  BITS+map  { INODE data {ADDR data} {extension records} }*  END

`DumpReader` reads one-volume streams of any BSD-style dump in either byte order. It hands out
one `TapeObject` an inode; their order and meaning are the catalog's concern. Everything that is
read is checked before it is believed; docs/stream-format.md has the rules.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from appliance.dump import extattr, private, record
from appliance.dump.inodemap import InodeMap
from appliance.dump.record import BLOCK, Extent, Flag, Header, Inode, RecordType
from appliance.dump.source import Blocks, RecordSource
from appliance.errors import StreamError

MAX_EXTENSION = 256 << 20
"""Bytes of the largest extension record that is read into memory."""

MAX_XATTR_RECORD = 1 << 20
"""Bytes of the largest record of extended attributes; restore(8) takes 4,096."""

_MAX_MAP_BLOCKS = 1 << 19


class Warnings:
    """What went wrong without ending the restore, counted by kind."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.counts: dict[str, int] = {}

    def add(self, kind: str, text: str, told: int = 1) -> None:
        """Count one of `kind`, and tell `text` when it is among the first `told`."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= told:
            self._tell(text)

    @property
    def total(self) -> int:
        """All warnings."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Summary:
    """What a stream says about itself before its first inode.

    `used` are the inodes that existed, `dumped` those on this tape; `header` is the first
    record and has the dates, the level and the origin.
    """

    header: Header
    used: InodeMap
    dumped: InodeMap

    @property
    def new_format(self) -> bool:
        """Whether directory entries carry types."""
        return bool(self.header.flags & Flag.NEW_INODE_FORMAT)


@dataclass(slots=True)
class Attributes:
    """What follows an inode's data: extended attributes and private items.

    `lost` says that some of it could not be read.
    """

    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    items: list[private.Item] = field(default_factory=list)
    lost: bool = False


class TapeObject:
    """One inode of a stream; its data, then its attributes, can be read once, in this order."""

    def __init__(self, reader: "DumpReader", header: Header, inode: Inode) -> None:
        self._reader = reader
        self._header = header
        self._attributes: Attributes | None = None
        self._data: Iterator[tuple[int, memoryview]] | None = None
        self.number = header.inumber
        self.inode = inode
        self.part = header.part
        self.missing = 0
        """Bytes at the end that the stream does not account for; known once data is read."""

    def data(self) -> Iterator[tuple[int, memoryview]]:
        """Yield (offset, bytes) of all that is not a hole, ascending, up to the size.

        Raises StreamError. What is not taken is passed over when the attributes are asked for.
        """
        self._data = self._segments()
        return self._data

    def _segments(self) -> Iterator[tuple[int, memoryview]]:
        covered = 0
        header: Header | None = self._header
        while header is not None:
            yield from self._reader.segment(header, covered, self.inode.size)
            covered += len(header.addresses) * BLOCK
            header = self._reader.next_address(self.number)
        self.missing = max(self.inode.size - covered, 0)

    def read(self, limit: int) -> bytes:
        """Give all the data, holes as zeros. Raises StreamError beyond `limit` bytes."""
        if self.inode.size > limit:
            reason = f"inode {self.number} claims {self.inode.size} bytes, at most {limit} can be"
            raise self._reader.error(reason)
        content = bytearray()
        for offset, piece in self.data():
            content.extend(bytes(offset - len(content)))
            content += piece
        content.extend(bytes(self.inode.size - len(content)))
        return bytes(content)

    def read_packed(self, noun: str = "directory") -> bytes:
        """Give data that can have no holes, of a directory or such; `noun` for messages.

        It takes no more memory than the stream has bytes. Raises StreamError where it has holes.
        """
        content = bytearray()
        for offset, piece in self.data():
            if offset != len(content):
                break
            content += piece
        if len(content) != self.inode.size:
            reason = f"{noun} {self.number} lacks {self.inode.size - len(content)} bytes"
            raise self._reader.error(reason)
        return bytes(content)

    def pass_over(self) -> None:
        """Leave the data unread. Raises StreamError."""
        header: Header | None = self._header
        while header is not None:
            self._reader.pass_over(header)
            header = self._reader.next_address(self.number)

    def attributes(self) -> Attributes:
        """Give what follows the data, which is passed over unless it was read."""
        if self._attributes is None:
            if self._data is None:
                self.pass_over()
            else:
                for _ in self._data:  # a file that could not be written was left in the middle
                    pass
            self._attributes = self._reader.read_extensions(self.number)
        return self._attributes


class DumpReader:
    """Reads one dump stream from its first record to END.

    Every method raises StreamError for what is torn, foreign or out of order.
    """

    def __init__(self, source: RecordSource, warnings: Warnings) -> None:
        self._source = source
        self._blocks = Blocks(source)
        self._warnings = warnings
        self._ahead: Header | None = None
        self._first_tapea = 0
        self._base_offset = 0
        self.summary = self._open()

    # -- errors and position ----------------------------------------------------------------

    @property
    def offset(self) -> int:
        """Bytes of the stream that have been taken."""
        return self._blocks.offset

    def error(self, reason: str) -> StreamError:
        """Make the error for what has just been read."""
        return StreamError(self._source.name, self._blocks.offset, reason)

    # -- headers ----------------------------------------------------------------------------

    def _read_header(self) -> Header:
        block = self._blocks.take(BLOCK)
        try:
            return record.decode(block)
        except record.MalformedRecord as problem:
            at = self._blocks.offset - BLOCK
            reason = str(problem) if at else f"not a dump stream: {problem}"
            raise StreamError(self._source.name, at, reason) from None

    def _check(self, header: Header) -> None:
        """Refuse a header that is sound, but not the next one of this dump."""
        if header.type is RecordType.TAPE:
            raise self._at_header(f"volume {header.volume} begins here, which is not read")
        expected = self._first_tapea + (self._blocks.offset - self._base_offset) // BLOCK - 1
        if not header.own:
            expected &= 0xFFFFFFFF
        if header.tapea != expected:
            reason = f"record {header.tapea} is here where {expected} was expected"
            raise self._at_header(reason)
        if header.date != self.summary.header.date:
            raise self._at_header("a record of another dump is here")

    def _at_header(self, reason: str) -> StreamError:
        return StreamError(self._source.name, self._blocks.offset - BLOCK, reason)

    def _next(self) -> Header:
        """Take the next header, which may have been looked at before."""
        header = self._ahead
        self._ahead = None
        if header is None:
            header = self._read_header()
            self._check(header)
        return header

    def _peek(self) -> Header:
        if self._ahead is None:
            self._ahead = self._next()
        return self._ahead

    # -- the start --------------------------------------------------------------------------

    def _read_first(self) -> Header:
        try:
            self._blocks.take_some(0)
        except StreamError as problem:
            reason = "not a dump stream: it is empty" if "ends here" in problem.reason else ""
            raise (self.error(reason) if reason else problem) from None
        return self._read_header()

    def _open(self) -> Summary:
        first = self._read_first()
        if first.type is not RecordType.TAPE:
            raise self._at_header(f"not the start of a dump: it begins with {first.type.name}")
        if first.volume != 1:
            raise self._at_header(f"this is volume {first.volume} of a dump; begin with volume 1")
        if first.flags & Flag.COMPRESSED:
            reason = "the dump is compressed (dump -z or -j), which is not read"
            raise self._at_header(reason)
        self._first_tapea, self._base_offset = first.tapea, 0
        self.summary = Summary(first, InodeMap(), InodeMap())
        used = self._read_map(RecordType.CLRI)
        dumped = self._read_map(RecordType.BITS)
        return Summary(first, used, dumped)

    def _read_map(self, kind: RecordType) -> InodeMap:
        header = self._next()
        if header.type is not kind:
            raise self._at_header(f"a {header.type.name} record is here instead of {kind.name}")
        parts = []
        total = 0
        while True:
            total += header.count
            if header.count < 0 or total > _MAX_MAP_BLOCKS:
                raise self._at_header(f"an inode map of {total} blocks cannot be")
            parts.append(self._blocks.take(header.count * BLOCK))
            if self._peek().type is not RecordType.ADDR:
                return InodeMap.from_bytes(b"".join(parts))
            header = self._next()

    # -- inodes -----------------------------------------------------------------------------

    def objects(self) -> Iterator[TapeObject]:
        """Yield the inodes in stream order; ends at END. What is left unread is passed over."""
        while True:
            header = self._next()
            if header.type is RecordType.END:
                return
            if header.type is not RecordType.INODE or header.inode is None:
                raise self._at_header(f"a {header.type.name} record is here instead of an inode")
            if header.extended and header.flags & Flag.EXTENDED_ATTRIBUTES:
                self._warnings.add("late", f"attributes of inode {header.inumber} come too late")
                self.pass_over(header)
                continue
            item = TapeObject(self, header, header.inode)
            yield item
            item.attributes()

    def segment(self, header: Header, base: int, size: int) -> Iterator[tuple[int, memoryview]]:
        """Yield (offset, bytes) of what `header` announces; `base` is where it begins."""
        addresses = header.addresses
        total = len(addresses)
        start = addresses.find(1)
        while start >= 0:
            end = addresses.find(0, start)
            end = total if end < 0 else end
            yield from self._run(base + start * BLOCK, (end - start) * BLOCK, size)
            start = addresses.find(1, end)

    def _run(self, offset: int, length: int, size: int) -> Iterator[tuple[int, memoryview]]:
        """Yield the `length` bytes at file `offset` as they come, cut off at `size`."""
        wanted = max(min(length, size - offset), 0)
        rest = length - wanted
        while wanted:
            piece = self._blocks.take_some(wanted)
            yield offset, piece
            offset += len(piece)
            wanted -= len(piece)
        if rest:
            self._blocks.skip(rest)

    def pass_over(self, header: Header) -> None:
        """Skip the data that `header` announces."""
        self._blocks.skip(header.data_blocks * BLOCK)

    def next_address(self, number: int) -> Header | None:
        """Take the record that continues inode `number`, None when it has ended."""
        header = self._peek()
        if header.type is not RecordType.ADDR:
            return None
        if header.inumber != number:
            raise self._at_header(f"inode {header.inumber} goes on within inode {number}")
        return self._next()

    # -- what follows an inode --------------------------------------------------------------

    def read_extensions(self, number: int) -> Attributes:
        """Read the records with attributes of inode `number`, which has just been read."""
        found = Attributes()
        while True:
            header = self._peek()
            if not header.extended or header.inumber != number:
                return found
            if header.type is not RecordType.INODE or not self._is_extension(header):
                return found
            self._next()
            assert header.inode is not None
            item = TapeObject(self, header, header.inode)
            self._read_extension(header.extended, item, found)

    @staticmethod
    def _is_extension(header: Header) -> bool:
        return bool(header.flags & Flag.EXTENDED_ATTRIBUTES)

    def _read_extension(self, kind: int, item: TapeObject, found: Attributes) -> None:
        if kind == Extent.XATTR:
            content = self._read_bounded(item, MAX_XATTR_RECORD)
            try:
                found.xattrs |= extattr.decode(content, self.summary.header.byte_order)
            except extattr.MalformedAttributes as problem:
                self._lose(found, item.number, str(problem))
        elif kind == Extent.PRIVATE:
            content = self._read_bounded(item, MAX_EXTENSION)
            try:
                found.items += private.decode(content)
            except private.MalformedPrivate as problem:
                self._lose(found, item.number, str(problem))
        else:
            text = f"inode {item.number} has an extension of unknown kind {kind}, skipped"
            self._warnings.add(f"extension {kind}", text)
            item.pass_over()

    def _read_bounded(self, item: TapeObject, limit: int) -> bytes:
        if item.inode.size > limit:
            reason = f"attributes of inode {item.number} claim {item.inode.size} bytes"
            raise self.error(f"{reason}, at most {limit} can be")
        return item.read_packed("an attribute record of inode")

    def _lose(self, found: Attributes, number: int, reason: str) -> None:
        found.lost = True
        self._warnings.add("attributes", f"attributes of inode {number} are lost: {reason}")

    def finish(self) -> None:
        """Move the source behind the stream."""
        self._source.finish()
