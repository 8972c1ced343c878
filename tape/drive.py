"""A tape drive: SSC commands in Python's terms, over a transport.

Blocks are of variable length unless `set_block_size` says otherwise; `read_block` and
`write_block` move one block, `read_blocks` and `write_blocks` fixed ones. Buffers belong
to the caller and are not copied.
"""

import struct
from dataclasses import dataclass

from typing_extensions import Buffer

from tape import cdb, pages, sense, timeouts
from tape.completion import error_for, raise_for, sense_of
from tape.device import Device
from tape.errors import BlankCheck, FilemarkReached, InvalidRequest, TransportFailed
from tape.names import OnClose
from tape.pages import BlockDescriptor, ModeParameters
from tape.transport import Category, Completion

MAX_TRANSFER = (1 << 24) - 1
"""The greatest length that READ(6) and WRITE(6) can name."""

_UNKNOWN = 0x0C
"""READ POSITION's MPU and LONU: file or object number unknown."""


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """Sizes of blocks that the drive can write, in bytes."""

    least: int
    greatest: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where the tape stands: `object` counts blocks and filemarks, `file` filemarks before.

    `beginning`: at the beginning of the tape; `end`: behind early warning.
    """

    object: int
    file: int
    beginning: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class FixedRead:
    """What reading fixed blocks gave: `size` bytes; `filemark`: one was passed after them."""

    size: int
    filemark: bool = False


@dataclass(frozen=True, slots=True)
class DriveSettings:
    """How the drive records: `block_size` 0 is variable blocks."""

    block_size: int
    density: int
    write_protected: bool
    compression: bool | None


class Drive(Device):
    """A tape drive. A context manager: leaving it closes the transport."""

    timeouts = timeouts.DRIVE

    # Loading

    def load(self) -> None:
        """Thread the cartridge and rewind; raises NoCartridge."""
        self.do(cdb.LOAD_UNLOAD, load=1)

    def unload(self) -> None:
        """Rewind and unthread the cartridge; raises NoCartridge, RemovalPrevented."""
        self.do(cdb.LOAD_UNLOAD)

    def finish(self, on_close: OnClose) -> None:
        """Do what a device name says of closing: rewind, nothing, or unload; then close."""
        try:
            if on_close is OnClose.REWIND:
                self.rewind()
            elif on_close is OnClose.UNLOAD:
                self.unload()
        finally:
            self.close()

    # Data

    def write_block(self, block: Buffer) -> bool:
        """Write one block of the buffer's length.

        Returns True when the tape is behind early warning: the block IS on tape, and there
        is room for a little more (trailers and filemarks). Raises EndOfMedium when the tape
        is full and the block was not written, WriteProtected, MediumError and others.
        """
        data = memoryview(block).cast("B")
        return self._write(cdb.WRITE_6, data, len(data), fixed=0)

    def write_blocks(self, blocks: Buffer, size: int) -> bool:
        """Write blocks of `size` bytes, which must be the drive's block size; as `write_block`.

        EndOfMedium's `information` then tells how many blocks were not written.
        """
        data = memoryview(blocks).cast("B")
        self._check_fixed(data, size)
        return self._write(cdb.WRITE_6, data, len(data) // size, fixed=1)

    def _check_fixed(self, data: memoryview, size: int) -> None:
        if size <= 0 or not data or len(data) % size:
            raise InvalidRequest(self.name, f"{len(data)} bytes are no blocks of {size}")

    def _write(self, command: cdb.Command, data: memoryview, length: int, *, fixed: int) -> bool:
        if not 0 < length <= MAX_TRANSFER:
            raise InvalidRequest(self.name, f"a block of {len(data)} bytes cannot be written")
        done = self.execute(command, data_out=data, fixed=fixed, length=length)
        return self._early_warning(done, command.name)

    def _early_warning(self, done: Completion, command: str) -> bool:
        if done.category is Category.GOOD:
            return False
        found = sense_of(done)
        near = (
            found is not None
            and found.eom
            and found.key in {sense.NO_SENSE, sense.RECOVERED}
            and not found.deferred
        )
        if found is None or not near:
            raise_for(done, self.name, command)
            return False
        if found.valid and found.information:  # recovered or not: so much is not on tape
            raise error_for(found, self.name, command)
        return True

    def write_filemarks(self, count: int = 1, *, immediate: bool = False) -> bool:
        """Write filemarks; everything before is on tape when this returns, unless `immediate`.

        `count` 0 only puts what is buffered on tape. Returns and raises as `write_block`.
        """
        done = self.execute(cdb.WRITE_FILEMARKS, count=count, immed=immediate)
        return self._early_warning(done, cdb.WRITE_FILEMARKS.name)

    def flush(self) -> None:
        """Put everything written on tape."""
        self.write_filemarks(0)

    def read_block(self, buffer: Buffer) -> int:
        """Read the block at the position; gives its length.

        Raises FilemarkReached (the tape stands behind the filemark), BlankCheck at the end
        of data, IncorrectLength when the block is longer than the buffer (the tape stands
        behind it, and the buffer holds its beginning), MediumError and others.
        """
        into = memoryview(buffer).cast("B")
        if not 0 < len(into) <= MAX_TRANSFER:
            raise InvalidRequest(self.name, f"no block can be read into {len(into)} bytes")
        done = self.execute(cdb.READ_6, data_in=into, length=len(into))
        if done.category is Category.GOOD:
            return len(into) - done.residual
        found = sense_of(done)
        if found is not None and found.ili and found.valid and _no_more(found):
            if found.information > 0:
                return len(into) - found.information
            raise error_for(found, self.name, cdb.READ_6.name)
        raise_for(done, self.name, cdb.READ_6.name)
        return len(into) - done.residual

    def read_blocks(self, buffer: Buffer, size: int) -> FixedRead:
        """Read blocks of `size` bytes, which must be the drive's block size.

        Gives fewer than the buffer holds when a filemark or the end of data comes after
        some; when it comes first, it is raised, as are the errors of `read_block`.
        """
        into = memoryview(buffer).cast("B")
        self._check_fixed(into, size)
        count = len(into) // size
        done = self.execute(cdb.READ_6, data_in=into, fixed=1, length=count)
        found = sense_of(done)
        recovered = found is not None and found.key == sense.RECOVERED and not found.information
        if found is None or recovered or not found.valid or found.information >= count:
            raise_for(done, self.name, cdb.READ_6.name)
            return FixedRead(count * size)
        if found.key == sense.BLANK_CHECK or (found.key == sense.NO_SENSE and found.filemark):
            return FixedRead((count - found.information) * size, found.filemark)
        raise error_for(found, self.name, cdb.READ_6.name)

    def erase(self) -> None:
        """Erase from the position to the end of the tape (short erase)."""
        self.do(cdb.ERASE_6)

    # Motion

    def rewind(self) -> None:
        """Go to the beginning of the tape."""
        self.do(cdb.REWIND)

    def space_blocks(self, count: int) -> None:
        """Pass blocks, backward when negative.

        Raises FilemarkReached (behind it, or before it when going backward), BlankCheck,
        BeginningOfMedium; `information` is what was left of the count.
        """
        self.do(cdb.SPACE_6, code=cdb.SPACE_BLOCKS, count=count)

    def space_filemarks(self, count: int) -> None:
        """Pass filemarks, backward when negative (then the tape stands before the last).

        Raises BlankCheck, BeginningOfMedium; `information` is what was left of the count.
        """
        self.do(cdb.SPACE_6, code=cdb.SPACE_FILEMARKS, count=count)

    def space_end_of_data(self) -> None:
        """Go behind everything recorded."""
        self.do(cdb.SPACE_6, code=cdb.SPACE_END_OF_DATA)

    def locate(self, number: int) -> None:
        """Go to a logical object, as `position().object` gives it; raises BlankCheck."""
        if number <= 0xFFFFFFFF:
            self.do(cdb.LOCATE_10, object=number)
        else:
            self.do(cdb.LOCATE_16, object=number)

    def locate_file(self, number: int) -> None:
        """Go to the beginning of a file, from 0; raises BlankCheck when there are fewer."""
        self.do(cdb.LOCATE_16, dest_type=cdb.LOCATE_FILE, object=number)

    def position(self) -> Position:
        """Ask where the tape stands; raises TransportFailed when the drive does not know."""
        buffer = bytearray(32)
        self.do(cdb.READ_POSITION, data_in=buffer, service_action=cdb.POSITION_LONG)
        flags, _, number, file = struct.unpack_from(">B3xIQQ", buffer)
        if flags & _UNKNOWN:
            reason = "the drive does not know where the tape stands"
            raise TransportFailed(self.name, cdb.READ_POSITION.name, reason)
        return Position(number, file, bool(flags & 0x80), bool(flags & 0x40))

    def close_off(self) -> bool:
        """Write the filemark that a killed writer left out; False when none was missing.

        Only behind the last block of the tape, where it can destroy nothing: what the next
        writer appends would else be of one file with what was torn.
        """
        here = self.position()
        if here.beginning:
            return False
        try:
            self.space_blocks(1)
        except BlankCheck:
            if not self._behind_filemark():
                self.space_end_of_data()
                self.write_filemarks()
                return True
        except FilemarkReached:
            pass
        self.locate(here.object)
        return False

    def _behind_filemark(self) -> bool:
        try:
            self.space_blocks(-1)
        except FilemarkReached:
            return True
        return False

    # Parameters

    def block_limits(self) -> BlockLimits:
        """Ask which block sizes the drive can write."""
        buffer = bytearray(6)
        self.do(cdb.READ_BLOCK_LIMITS, data_in=buffer)
        greatest, least = struct.unpack(">IH", buffer)
        return BlockLimits(least, greatest & 0xFFFFFF)

    def settings(self) -> DriveSettings:
        """Ask how the drive records, and whether the cartridge is write protected."""
        found = self._mode(pages.COMPRESSION)
        block = found.block or BlockDescriptor(0, 0)
        page = found.page(pages.COMPRESSION)
        try:
            compression = pages.Compression.decode(page).enabled if page else None
        except pages.MalformedPage as error:
            raise TransportFailed(self.name, cdb.MODE_SENSE_6.name, str(error)) from error
        return DriveSettings(block.length, block.density, found.write_protected, compression)

    def set_block_size(self, size: int) -> None:
        """Use fixed blocks of `size` bytes, or variable ones when 0."""
        if not 0 <= size <= MAX_TRANSFER:
            raise InvalidRequest(self.name, f"blocks of {size} bytes cannot be written")
        self._select(ModeParameters(block=BlockDescriptor(0, size)))

    def set_compression(self, *, enabled: bool) -> None:
        """Turn data compression on or off."""
        size = self.settings().block_size
        page = pages.Compression(enabled).encode()
        self._select(ModeParameters(block=BlockDescriptor(0, size), pages=(page,)))

    def _mode(self, page: int) -> ModeParameters:
        data = self.fetch(cdb.MODE_SENSE_6, 255, page=page)
        try:
            return pages.decode_mode(data)
        except pages.MalformedPage as error:
            raise TransportFailed(self.name, cdb.MODE_SENSE_6.name, str(error)) from error

    def _select(self, parameters: ModeParameters) -> None:
        data = pages.encode_mode(parameters, select=True)
        self.do(cdb.MODE_SELECT_6, data_out=data, pf=1, length=len(data))

    def log_page(self, page: int) -> pages.LogPage:
        """Fetch a log page; raises IllegalRequest when the drive does not have it."""
        data = self.fetch(cdb.LOG_SENSE, 16384, page=page, pc=1)
        try:
            return pages.decode_log(data)
        except pages.MalformedPage as error:
            raise TransportFailed(self.name, cdb.LOG_SENSE.name, str(error)) from error

    def tape_alerts(self) -> frozenset[int]:
        """Ask which TapeAlert flags are set, without clearing them."""
        return pages.TapeAlerts.decode(self.log_page(pages.LOG_TAPE_ALERT_RESPONSE)).flags

    def capacity(self) -> pages.TapeCapacity:
        """Ask for the cartridge's size and what is left of it behind the end of data, in MiB.

        Both are native, without compression. Where the tape stands does not matter: what is
        going to be overwritten counts as used until it has been.
        """
        try:
            return pages.TapeCapacity.decode(self.log_page(pages.LOG_TAPE_CAPACITY))
        except pages.MalformedPage as error:
            raise TransportFailed(self.name, cdb.LOG_SENSE.name, str(error)) from error


def _no_more(found: sense.Sense) -> bool:
    return found.key == sense.NO_SENSE and not found.filemark and not found.eom
