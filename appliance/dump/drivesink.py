"""A dump on a cartridge: every record one tape block, a filemark behind the last."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from appliance.dump.request import DrivePlace
from appliance.dump.sink import BackgroundSink
from appliance.errors import NeedsOperator, Refused
from tape.drive import Drive, Position
from tape.errors import EndOfMedium, FilemarkReached, IllegalRequest, TapeError
from tape.names import OnClose
from tape.opening import open_transport

READY_SECONDS = 120.0
"""How long a drive may take to get its cartridge ready."""

_ON_CLOSE = {"none": OnClose.NOTHING, "rewind": OnClose.REWIND, "unload": OnClose.UNLOAD}


class DriveSink(BackgroundSink):
    """Writes to a drive from where its tape stands; `on_close` as in DrivePlace."""

    def __init__(
        self, drive: Drive, name: str, blocking_factor: int, on_close: str, verify: bool = False
    ) -> None:
        """Take over `drive`. Raises TapeError, Refused for a protected cartridge."""
        drive.clear_attentions()
        drive.wait_ready(READY_SECONDS)
        if drive.settings().write_protected:
            raise Refused(name, "its cartridge is write protected")
        drive.set_block_size(0)
        self._drive = drive
        self._on_close = _ON_CLOSE[on_close]
        self._marked = False
        position = drive.position()
        self._room = _room(drive, position)
        self._beginning = position.object
        super().__init__(name, blocking_factor, verify)

    @classmethod
    def open(cls, place: DrivePlace, blocking_factor: int, verify: bool = False) -> "DriveSink":
        """Open the drive that a request names. Raises TapeError, Refused."""
        drive = Drive(open_transport(place.device))
        try:
            return cls(drive, place.name, blocking_factor, place.on_close, verify)
        except BaseException:
            drive.close()
            raise

    def remaining(self) -> int | None:
        """Give the bytes that the cartridge had room for when it was opened, less those written.

        Native bytes, without compression; at least so many when the tape is written over from
        somewhere in its middle. None when the drive does not tell.
        """
        return None if self._room is None else max(self._room - self.written, 0)

    def _write(self, data: memoryview) -> None:
        """Write record by record; early warning is no end, the medium's end is."""
        for start in range(0, len(data), self.record_size):
            if self._given_up.is_set():
                return
            try:
                self._drive.write_block(data[start : start + self.record_size])
            except EndOfMedium as error:
                raise self._full_cartridge() from error
            self.written += self.record_size

    def _full_cartridge(self) -> NeedsOperator:
        size = self.written >> 20
        return NeedsOperator(
            self.name, f"the cartridge is full after {size} MiB of this dump; load an emptier one"
        )

    def _complete(self, check: Callable[[], None]) -> None:
        try:
            self._drive.write_filemarks(1)
        except EndOfMedium as error:
            raise self._full_cartridge() from error
        self._marked = True
        if self._verify:
            self._drive.locate(self._beginning)
            self._compare(self._blocks(), check)
        self._drive.finish(self._on_close)

    def _blocks(self) -> Iterator[memoryview]:
        """Read up to the filemark, which the tape stands behind then."""
        buffer = memoryview(bytearray(self.record_size))
        while True:
            try:
                size = self._drive.read_block(buffer)
            except FilemarkReached:
                return
            yield buffer[:size]

    def _discard(self) -> None:
        """Close off what was written with a filemark, so that the next dump is not part of it."""
        if self._thread.is_alive():  # stuck in a command: the drive is not ours to use
            return
        with suppress(TapeError):
            if self.written and not self._marked:
                self._drive.write_filemarks(1)
        with suppress(TapeError):
            self._drive.finish(self._on_close)


def _room(drive: Drive, position: Position) -> int | None:
    """Give the bytes that fit behind a position; drives count what is left from end of data."""
    try:
        capacity = drive.capacity()
    except IllegalRequest:  # log page 31h is the vendor's own: not every drive has it
        return None
    return (capacity.maximum if position.beginning else capacity.remaining) << 20
