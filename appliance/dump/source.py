"""Where a restore reads its stream from: a file, a descriptor or a tape drive.

A `RecordSource` gives the stream piece by piece, in the sizes that suit it; `Blocks` cuts
the pieces into what the reader asks for and counts the bytes. Pipes and drives are read by a
thread of their own (`ReadAhead`), so that reading and writing to disk overlap.
"""

import errno
import os
import queue
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import Protocol

from appliance.dump.request import DrivePlace, FdPlace, Place
from appliance.errors import StreamError, UsageError

PIECE = 1 << 20
"""Bytes read at once from a file; also the largest tape block that can be read."""

READ_AHEAD = 32 << 20
"""Bytes that a thread reads ahead of the restore, at most."""

_DRAIN = 4 << 20
_DRAIN_SECONDS = 2.0
_DRAIN_ALL_SECONDS = 10.0
_ASK_SECONDS = 0.25


class RecordSource(Protocol):
    """A stream of bytes that can be read once."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    def read(self) -> bytes:
        """Give the next bytes, any number; none at the end. Raises TapeError or OSError."""
        ...

    def skip(self, size: int) -> int:
        """Pass over at most `size` bytes without reading them; gives how many it passed."""
        ...

    def finish(self) -> None:
        """Move behind the stream, whose end has been seen or is of no more interest."""
        ...

    def close(self) -> None:
        """Let go of it; called once, also after a failure."""
        ...


class FileSource:
    """A stream in a regular file, given as an open descriptor which it closes."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def read(self) -> bytes:
        """Give up to `PIECE` bytes."""
        return os.read(self._fd, PIECE)

    def skip(self, size: int) -> int:
        """Seek, but not beyond the end of the file."""
        position = os.lseek(self._fd, 0, os.SEEK_CUR)
        left = max(os.fstat(self._fd).st_size - position, 0)
        step = min(size, left)
        os.lseek(self._fd, step, os.SEEK_CUR)
        return step

    def finish(self) -> None:
        """Nothing has to be done."""

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


class PipeSource:
    """A stream from a pipe, socket or device, given as an open descriptor which it closes."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self.name = name

    def read(self) -> bytes:
        """Wait for bytes; gives none also when `wake` was called."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        return b"" if self._wake in ready else os.read(self._fd, PIECE)

    def wake(self) -> None:
        """Make a `read` that waits in another thread return."""
        os.eventfd_write(self._wake, 1)

    def skip(self, size: int) -> int:  # noqa: ARG002 - a pipe cannot seek
        """Pass over nothing."""
        return 0

    def finish(self) -> None:
        """Take what the writer still has to say, so that it does not die of a broken pipe."""
        left, end = _DRAIN, time.monotonic() + _DRAIN_ALL_SECONDS
        while left > 0 and time.monotonic() < end:
            if not select.select([self._fd], [], [], _DRAIN_SECONDS)[0]:
                return
            piece = os.read(self._fd, PIECE)
            left = left - len(piece) if piece else 0

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._fd)
        os.close(self._wake)


class WakeableSource(RecordSource, Protocol):
    """A source whose `read` may wait for long, and can be made to return."""

    def wake(self) -> None:
        """Make a `read` that waits in another thread return, if it does not do so by itself."""
        ...


class ReadAhead:
    """Reads a pipe or a drive in a thread, at most `READ_AHEAD` bytes ahead.

    Once closed, or once the source has ended or failed, the thread is gone. While a `read` waits
    for bytes it calls `check` a few times a second, which may raise to end it.
    """

    def __init__(self, source: WakeableSource, check: Callable[[], None] = lambda: None) -> None:
        self._source = source
        self._check = check
        self._pieces: queue.Queue[bytes | Exception] = queue.Queue()
        self._room = threading.Condition()
        self._ahead = 0
        self._stopped = False
        self._ended = False
        self.name = source.name
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._wait_for_room():
            try:
                piece = self._source.read()
            except Exception as error:
                self._pieces.put(error)
                return
            with self._room:  # counted by both threads: an update lost would end in a standstill
                self._ahead += len(piece)
            self._pieces.put(piece)
            if not piece:
                return

    def _wait_for_room(self) -> bool:
        with self._room:
            self._room.wait_for(lambda: self._stopped or self._ahead < READ_AHEAD)
            return not self._stopped

    def read(self) -> bytes:
        """Give the next piece; raises what the source raised, or what `check` raises."""
        if self._ended:
            return b""
        piece = self._wait_for_piece()
        if isinstance(piece, Exception):
            self._ended = True
            raise piece
        with self._room:
            self._ahead -= len(piece)
            self._room.notify()
        self._ended = not piece
        return piece

    def _wait_for_piece(self) -> bytes | Exception:
        while True:
            try:
                return self._pieces.get(timeout=_ASK_SECONDS)
            except queue.Empty:
                self._check()

    def skip(self, size: int) -> int:  # noqa: ARG002 - what is read ahead has to be taken
        """Pass over nothing."""
        return 0

    def _stop(self) -> None:
        with self._room:
            self._stopped = True
            self._room.notify()
        self._source.wake()
        self._thread.join()

    def finish(self) -> None:
        """Take what was read ahead, then move the source behind the stream."""
        self._stop()
        self._source.finish()

    def close(self) -> None:
        """End the thread and close the source."""
        self._stop()
        self._source.close()


class Blocks:
    """A stream cut to measure; `offset` counts the bytes taken from its start."""

    def __init__(self, source: RecordSource) -> None:
        self._source = source
        self._piece = memoryview(b"")
        self._at = 0
        self.offset = 0

    @property
    def name(self) -> str:
        """What to call the source in messages."""
        return self._source.name

    def _refill(self) -> None:
        """Get another piece; raises StreamError at the end of the stream."""
        try:
            piece = self._source.read()
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            raise StreamError(self.name, self.offset, reason) from error
        if not piece:
            raise StreamError(self.name, self.offset, "ends here, before the end of the dump")
        self._piece, self._at = memoryview(piece), 0

    def take(self, size: int) -> bytes:
        """Give exactly `size` bytes; raises StreamError when the stream ends before."""
        end = self._at + size
        if end <= len(self._piece):
            data = bytes(self._piece[self._at : end])
            self._at = end
            self.offset += size
            return data
        parts = bytearray()
        while len(parts) < size:
            parts += self.take_some(size - len(parts))
        return bytes(parts)

    def take_some(self, size: int) -> memoryview:
        """Give 1 to `size` bytes, as many as there are without copying."""
        if self._at == len(self._piece):
            self._refill()
        view = self._piece[self._at : self._at + size]
        self._at += len(view)
        self.offset += len(view)
        return view

    def skip(self, size: int) -> None:
        """Pass over `size` bytes; raises StreamError when the stream ends before."""
        step = min(size, len(self._piece) - self._at)
        self._at += step
        self.offset += step
        size -= step
        passed = self._source.skip(size) if size else 0
        self.offset += passed
        size -= passed
        while size:
            size -= len(self.take_some(size))


def open_source(place: Place, check: Callable[[], None] = lambda: None) -> RecordSource:
    """Open what a request names. Raises UsageError for a file, TapeError for a drive.

    Reads that wait for bytes call `check`, which may raise to end them.
    """
    if isinstance(place, DrivePlace):
        from appliance.dump.drivesource import open_drive

        return ReadAhead(open_drive(place), check)
    if isinstance(place, FdPlace):
        return _open_descriptor(place.fd, place.name, check)
    try:
        fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"file:{place.path}", error.strerror or str(error)) from None
    return _open_descriptor(fd, place.name, check)


def _open_descriptor(fd: int, name: str, check: Callable[[], None]) -> RecordSource:
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        raise UsageError(name, error.strerror or os.strerror(errno.EBADF)) from None
    if stat.S_ISDIR(mode):
        os.close(fd)
        raise UsageError(name, "is a directory, not a dump stream")
    if stat.S_ISREG(mode):
        return FileSource(fd, name)
    return ReadAhead(PipeSource(fd, name), check)
