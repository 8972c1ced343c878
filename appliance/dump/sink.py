"""Where a dump goes: a sink takes buffers of whole records and writes them in the background.

A record is blocking factor x 1 KiB, on a drive one block. A sink lends out a few buffers, so
that one is filled while others are written; what fails in the background is raised by the next
call. Files come into being whole or not at all.
"""

import errno
import fcntl
import os
import queue
import select
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from crc32c import crc32c
from typing_extensions import Buffer

from appliance.dump.record import BLOCK
from appliance.errors import Refused, TargetFailed, UsageError

BUFFERS = 4
BUFFER_SIZE = 1 << 20
_PATIENCE = 10.0
_TICK = 0.25
_PIPE_PIECE = 4096  # a pipe that poll(2) calls writable takes this much without blocking

SMALLEST_FACTOR, LARGEST_FACTOR = 4, 256


class RecordSink(Protocol):
    """A target of one dump stream."""

    @property
    def name(self) -> str:
        """What to call the target in messages."""
        ...

    @property
    def blocking_factor(self) -> int:
        """Blocks of 1 KiB in a record."""
        ...

    @property
    def written(self) -> int:
        """Bytes that the target has taken so far."""
        ...

    def remaining(self) -> int | None:
        """Give the bytes that still fit into this volume, None where nobody knows."""
        ...

    def buffer(self, check: Callable[[], None] = ...) -> memoryview:
        """Give an empty buffer of whole records; `check` is called while there is none."""
        ...

    def submit(self, buffer: memoryview, used: int) -> None:
        """Have the first `used` bytes written, a multiple of the record."""
        ...

    def finish(self, check: Callable[[], None] = ...) -> None:
        """Wait until all is written and safe, and close; the target is complete then.

        `check` is called meanwhile, and may raise.
        """
        ...

    def abandon(self) -> None:
        """Close, leaving nothing that looks like a whole dump; a finished target stays."""
        ...


class BackgroundSink(ABC):
    """A sink with a thread that writes; `blocking_factor` 4 to 256.

    With `verify` all is read back before it counts as complete, and its CRC-32C compared.
    """

    def __init__(self, name: str, blocking_factor: int, verify: bool = False) -> None:
        if not SMALLEST_FACTOR <= blocking_factor <= LARGEST_FACTOR:
            reason = f"it must be from {SMALLEST_FACTOR} to {LARGEST_FACTOR}"
            raise UsageError(f"blocking factor {blocking_factor}", reason)
        self.name = name
        self.blocking_factor = blocking_factor
        self.record_size = blocking_factor * BLOCK
        self.written = 0
        self._verify = verify
        self._sum = 0
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._given_up = threading.Event()
        self._finished = False
        size = max(BUFFER_SIZE // self.record_size, 1) * self.record_size
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(size)))
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            buffer, used = item
            if self._error is None and not self._given_up.is_set():
                try:
                    self._write(buffer[:used])
                    if self._verify:
                        self._sum = crc32c(buffer[:used], self._sum)
                except BaseException as error:
                    self._error = error
            self._free.put(buffer)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def remaining(self) -> int | None:
        """Give the bytes that still fit into this volume, None where nobody knows."""
        return None

    def buffer(self, check: Callable[[], None] = lambda: None) -> memoryview:
        """Give an empty buffer of whole records; `check` is called while there is none."""
        while True:
            try:
                buffer = self._free.get(timeout=_TICK)
            except queue.Empty:
                check()
            else:
                self._check()
                return buffer

    def submit(self, buffer: memoryview, used: int) -> None:
        """Have the first `used` bytes written, a multiple of the record."""
        self._check()
        self._full.put((buffer, used))

    def finish(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait until all is written and safe, and close; the target is complete then.

        `check` is called meanwhile, and may raise.
        """
        self._full.put(None)
        while self._thread.is_alive():
            self._thread.join(_TICK)
            check()
        self._check()
        self._complete(check)
        self._finished = True

    def abandon(self) -> None:
        """Close, leaving nothing that looks like a whole dump; a finished target stays."""
        if self._finished:
            return
        self._given_up.set()
        self._full.put(None)
        self._thread.join(_PATIENCE)  # a reader may have stopped reading: do not wait for ever
        self._discard()

    def _compare(self, pieces: Iterable[Buffer], check: Callable[[], None]) -> None:
        """Compare what was read back. Raises TargetFailed."""
        total, size = 0, 0
        for piece in pieces:
            check()
            total = crc32c(piece, total)
            size += memoryview(piece).nbytes
        if (total, size) != (self._sum, self.written):
            raise TargetFailed(self.name, "what was read back is not what was written")

    @abstractmethod
    def _write(self, data: memoryview) -> None:
        """Write whole records and add to `written`; called in the thread."""

    @abstractmethod
    def _complete(self, check: Callable[[], None]) -> None:
        """Make what is written permanent, and close; `check` as in `finish`."""

    @abstractmethod
    def _discard(self) -> None:
        """Close without completing."""


class FdSink(BackgroundSink):
    """Writes to a descriptor of a pipe, socket or file, which it closes at the end."""

    def __init__(self, fd: int, name: str, blocking_factor: int, verify: bool = False) -> None:
        super().__init__(name, blocking_factor, verify)
        self._fd = fd
        self._poll: select.poll | None = None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def _write(self, data: memoryview) -> None:
        while data and not self._given_up.is_set():
            piece = data
            if self._poll:
                if not self._poll.poll(_TICK * 1000):
                    continue
                piece = data[:_PIPE_PIECE]
            try:
                done = os.write(self._fd, piece)
            except OSError as error:
                raise TargetFailed(self.name, _reason(error)) from error
            self.written += done
            data = data[done:]

    def _complete(self, check: Callable[[], None]) -> None:
        check()
        try:
            if not self._poll:
                os.fsync(self._fd)
            self._close()
        except OSError as error:
            raise TargetFailed(self.name, _reason(error)) from error

    def _close(self) -> None:
        """Close the descriptor once: close(2) lets go of it even when it fails."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _discard(self) -> None:
        if not self._thread.is_alive():
            self._close()


class FileSink(FdSink):
    """Writes a file: beside it as `NAME.partial`, which takes its place when it is complete.

    Devices such as /dev/null are written as they are.
    """

    def __init__(self, path: Path, blocking_factor: int, verify: bool = False) -> None:
        self._path = path
        self._partial: Path | None = None
        try:
            if _is_replaceable(path):
                self._partial = path.with_name(path.name + ".partial")
            fd = _open_partial(self._partial) if self._partial else _open_special(path)
        except OSError as error:
            raise TargetFailed(str(path), _reason(error)) from error
        try:
            if verify and not self._partial:
                raise UsageError(str(path), "it cannot be read back; dump without verification")
            super().__init__(fd, str(path), blocking_factor, verify)
        except BaseException:
            self._remove_partial()
            os.close(fd)
            raise

    def _remove_partial(self) -> None:
        if self._partial:
            self._partial.unlink(missing_ok=True)

    def _complete(self, check: Callable[[], None]) -> None:
        try:
            if self._partial:
                os.fsync(self._fd)
                if self._verify:
                    self._compare(_pieces(self._fd), check)
                self._partial.replace(self._path)
                self._partial = None  # from here on that name is another dump's
                _sync_directory(self._path.parent)
            self._close()
        except OSError as error:
            raise TargetFailed(self.name, _reason(error)) from error

    def _discard(self) -> None:
        self._remove_partial()
        super()._discard()


def _is_replaceable(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    return stat.S_ISREG(mode)


def _open_special(path: Path) -> int:
    """Open a device or a named pipe; one that nobody reads is an error, not a wait."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    return fd


def _open_partial(path: Path) -> int:
    """Open and lock the file that becomes the dump; a torn one of an earlier run is reused."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                os.ftruncate(fd, 0)
                return fd
        except BlockingIOError as error:
            os.close(fd)
            raise Refused(str(path), "another dump is writing it") from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its writer finished in between: it is a whole dump by now


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _pieces(fd: int) -> Iterator[bytes]:
    """Read a file from the disk, not from memory, as far as the system lets us."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    position = 0
    while piece := os.pread(fd, BUFFER_SIZE, position):
        yield piece
        position += len(piece)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
