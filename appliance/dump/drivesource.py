"""A dump stream on a cartridge: read from where the tape stands up to the next filemark."""

from appliance.dump.request import DrivePlace
from appliance.dump.source import PIECE
from appliance.errors import StreamError
from tape.drive import Drive
from tape.errors import BlankCheck, FilemarkReached, IncorrectLength
from tape.names import OnClose
from tape.opening import open_transport

READY_SECONDS = 120.0
"""How long a drive may take to get its cartridge ready."""

_ON_CLOSE = {
    "none": OnClose.NOTHING,
    "rewind": OnClose.REWIND,
    "unload": OnClose.UNLOAD,
}


class DriveSource:
    """Reads tape blocks of any size up to `PIECE`, so the blocking factor need not be known."""

    def __init__(self, drive: Drive, name: str, on_close: str = "none") -> None:
        """Take over `drive`. Raises TapeError."""
        self._drive = drive
        self._on_close = _ON_CLOSE[on_close]
        self._buffer = bytearray(PIECE)
        self._position = 0
        self._ended = False
        self.name = name
        drive.clear_attentions()
        drive.wait_ready(READY_SECONDS)
        drive.set_block_size(0)

    def read(self) -> bytes:
        """Give one tape block; none at a filemark or at the end of what is recorded.

        Raises StreamError where there is none at all, TapeError.
        """
        if self._ended:
            return b""
        try:
            size = self._drive.read_block(self._buffer)
        except (FilemarkReached, BlankCheck) as end:
            self._ended = True
            if not self._position:
                raise self._nothing(end) from None
            return b""
        except IncorrectLength:
            reason = f"a tape block is larger than {PIECE} bytes, the most that can be read"
            raise StreamError(self.name, self._position, reason) from None
        self._position += size
        return bytes(memoryview(self._buffer)[:size])

    def _nothing(self, end: FilemarkReached | BlankCheck) -> StreamError:
        """Make the error for a tape that does not stand at the beginning of a dump."""
        found = "there is a filemark" if isinstance(end, FilemarkReached) else "nothing is recorded"
        reason = f"not a dump stream: it is empty, {found} where the tape stands"
        advice = "see or change where with snapreel tape status, snapreel tape position"
        return StreamError(self.name, 0, f"{reason}; {advice}")

    def skip(self, size: int) -> int:  # noqa: ARG002 - a tape moves as fast as it is read
        """Pass over nothing."""
        return 0

    def wake(self) -> None:
        """Nothing has to be done: a read ends by itself."""

    def finish(self) -> None:
        """Move behind the filemark that ends the stream. Raises TapeError."""
        if not self._ended:
            self._ended = True
            try:
                self._drive.space_filemarks(1)
            except BlankCheck:  # the stream is the last on tape and was never closed
                return

    def close(self) -> None:
        """Rewind or unload as asked for, and let the drive go. Raises TapeError."""
        self._drive.finish(self._on_close)


def open_drive(place: DrivePlace) -> DriveSource:
    """Open the drive that a request names. Raises TapeError."""
    drive = Drive(open_transport(place.device))
    try:
        return DriveSource(drive, place.name, place.on_close)
    except BaseException:
        drive.close()
        raise
