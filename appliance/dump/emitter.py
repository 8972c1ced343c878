"""The stream as it leaves: blocks of 1 KiB put into the sink's records, counted as they go."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from appliance.dump.inodemap import InodeMap
from appliance.dump.packing import FULL, HeaderPacker
from appliance.dump.record import (
    BLOCK,
    MAX_SEGMENT,
    Extent,
    Header,
    Origin,
    Part,
    RecordType,
    encode,
)
from appliance.dump.scan import ScannedInode
from appliance.dump.sink import RecordSink

_SALVAGE = 4096
_PADDING = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class StreamStart:
    """What the headers of one stream have in common; dates in seconds since 1970."""

    date: int
    base_date: int
    level: int
    label: bytes
    filesystem: bytes
    device: bytes
    host: bytes
    origin: Origin


class Emitter:
    """Writes headers and data of one stream into a sink; `tapea` counts the blocks.

    `moved` is called with the bytes of the stream so far whenever a buffer of records is handed
    over, and `check` while there is no free one; either may raise to end the dump.
    Errors of the sink come out of whichever call meets them.
    """

    def __init__(
        self,
        sink: RecordSink,
        start: StreamStart,
        moved: Callable[[int], None],
        check: Callable[[], None],
    ) -> None:
        self._sink = sink
        self._moved = moved
        self._check = check
        self._template = Header(
            type=RecordType.TAPE, date=start.date, base_date=start.base_date, level=start.level,
            label=start.label, filesystem=start.filesystem, device=start.device, host=start.host,
            blocking_factor=sink.blocking_factor, origin=start.origin,
        )  # fmt: skip
        self._packer = HeaderPacker(self._template)
        self._buffer = sink.buffer()
        self._size = len(self._buffer)
        self._used = 0
        self.tapea = 0

    @property
    def far_times(self) -> int:
        """Inodes so far with a time that the stream cannot say."""
        return len(self._packer.far_times)

    def _hand_over(self) -> None:
        self._moved(self.tapea * BLOCK)
        self._sink.submit(self._buffer, self._used)
        self._buffer = self._sink.buffer(self._check)
        self._used = 0

    def _block(self, block: bytes) -> None:
        end = self._used + BLOCK
        self._buffer[self._used : end] = block
        self._used = end
        self.tapea += 1
        if end == self._size:
            self._hand_over()

    def _plain(
        self, kind: RecordType, inumber: int = 0, count: int = 0, addresses: bytes = b""
    ) -> None:
        t = self._template
        self._block(
            encode(
                Header(
                    type=kind, date=t.date, base_date=t.base_date, tapea=self.tapea,
                    inumber=inumber, count=count, addresses=addresses, label=t.label,
                    level=t.level, filesystem=t.filesystem, device=t.device, host=t.host,
                    blocking_factor=t.blocking_factor, origin=t.origin,
                )
            )
        )  # fmt: skip

    def tape(self) -> None:
        """Write the volume header."""
        self._plain(RecordType.TAPE, count=1)

    def map(self, kind: RecordType, inodes: InodeMap, highest: int, inumber: int) -> None:
        """Write CLRI or BITS, wide enough for inode `highest`.

        One header announces all of it, as Linux's dump does: c_count may pass 512 here.
        """
        data = inodes.to_bytes(highest)
        count = len(data) // BLOCK
        self._plain(kind, inumber, count)
        self.put(data)

    def end(self, inumber: int) -> None:
        """Write END until the last record is full, and hand it over."""
        record = self._sink.blocking_factor
        self._plain(RecordType.END, inumber)
        while self.tapea % record:
            self._plain(RecordType.END, inumber)
        if self._used:
            self._moved(self.tapea * BLOCK)
            self._sink.submit(self._buffer, self._used)

    def header(
        self,
        kind: RecordType,
        number: int,
        inode: ScannedInode,
        count: int,
        addresses: bytes,
        *,
        size: int | None = None,
        extent: Extent = Extent.REGULAR,
        part: Part | int = 0,
        created: int | None = None,
    ) -> None:
        """Write an INODE or ADDR header; see HeaderPacker.pack."""
        block = self._packer.pack(
            kind, self.tapea, number, inode, count, addresses,
            size=size, extent=extent, part=part, created=created,
        )  # fmt: skip
        self._block(block)

    def put(self, data: bytes | memoryview) -> None:
        """Write `data`, padded to whole blocks."""
        position, size = 0, len(data)
        while position < size:
            part = min(size - position, self._size - self._used)
            self._buffer[self._used : self._used + part] = data[position : position + part]
            position += part
            self._advance(part)

    def _advance(self, size: int) -> None:
        """Count `size` bytes put at the current place, padding the last block."""
        blocks = -(-size // BLOCK)
        end = self._used + blocks * BLOCK
        if size % BLOCK:
            self._buffer[self._used + size : end] = _PADDING[: end - self._used - size]
        self._used = end
        self.tapea += blocks
        if end == self._size:
            self._hand_over()

    def copy(self, fd: int, start: int, size: int) -> str:
        """Write `size` bytes of `fd` from `start` on, padded to whole blocks.

        What cannot be read is replaced by zeroes. Gives the reason then, else an empty string.
        """
        reason = ""
        while size:
            part = min(size, self._size - self._used)
            place = self._buffer[self._used : self._used + part]
            got = _read(fd, place, start)
            if got != part:
                why = _salvage(fd, place, start)
                reason = reason or why
            self._advance(part)
            start += part
            size -= part
        return reason

    def with_payload(
        self,
        number: int,
        inode: ScannedInode,
        payload: bytes | Iterable[bytes],
        *,
        size: int | None = None,
        extent: Extent = Extent.REGULAR,
        part: Part | int = 0,
        created: int | None = None,
    ) -> None:
        """Write `payload` as the data of an inode: INODE header, then ADDR as need be.

        `size` is the length of a payload that comes in pieces.
        """
        pieces = [payload] if isinstance(payload, bytes) else payload
        total = len(payload) if isinstance(payload, bytes) else size
        assert total is not None
        kind = RecordType.INODE
        for segment in _segments(pieces):
            count = -(-len(segment) // BLOCK)
            self.header(
                kind, number, inode, count, FULL[count],
                size=total, extent=extent, part=part, created=created,
            )  # fmt: skip
            self.put(segment)
            kind = RecordType.ADDR


def _segments(pieces: Iterable[bytes]) -> Iterator[memoryview]:
    """Cut a payload into what one header can announce; one empty segment for an empty one."""
    limit, pending, first = MAX_SEGMENT * BLOCK, bytearray(), True
    for piece in pieces:
        pending += piece
        while len(pending) > limit:
            yield memoryview(bytes(pending[:limit]))
            del pending[:limit]
            first = False
    if pending or first:
        yield memoryview(bytes(pending))


def _read(fd: int, place: memoryview, start: int) -> int:
    """Read into `place`; give how much came before the end of the file or an error."""
    done, size = 0, len(place)
    try:
        while done < size:
            got = os.preadv(fd, [place[done:]], start + done)
            if not got:
                break
            done += got
    except OSError:
        return done
    return done


def _salvage(fd: int, place: memoryview, start: int) -> str:
    """Read `place` anew in small pieces, zeroes where that fails; give the first reason."""
    reason = ""
    for position in range(0, len(place), _SALVAGE):
        piece = place[position : position + _SALVAGE]
        try:
            got = os.preadv(fd, [piece], start + position)
        except OSError as error:
            got, why = 0, os.strerror(error.errno or errno.EIO)
        else:
            why = "ends before its size"
        if got != len(piece):
            piece[got:] = bytes(len(piece) - got)
            reason = reason or f"{why} at byte {start + position + got}"
    return reason
