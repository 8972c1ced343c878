"""The way into a virtual device: one opener at a time, faults on purpose, then the target."""

import fcntl
import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from typing_extensions import Buffer

from tape.errors import DeviceBusy, TapeError
from tape.transport import Category, Completion
from tape.virtual.faults import Faults
from tape.virtual.target import Target, process_name


class OpenerLock:
    """Held by the one process that has a device open; says who to the others."""

    def __init__(self, path: Path, kind: str, name: str) -> None:
        """Take the lock; raises DeviceBusy when it is held."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, since = _holder(self._fd)
            os.close(self._fd)
            raise DeviceBusy(kind, name, holder, since) from None
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps({"holder": process_name(), "since": since}).encode(), 0)

    def release(self) -> None:
        """Let the next one open the device."""
        os.close(self._fd)


def _holder(fd: int) -> tuple[str, str]:
    try:
        data = json.loads(os.pread(fd, 4096, 0))
        return str(data["holder"]), str(data["since"])
    except (ValueError, KeyError, TypeError):
        return "another process", "just now"


class VirtualTransport:
    """An open virtual device; see `tape.transport.Transport`."""

    def __init__(self, name: str, target: Target, faults: Faults, lock: OpenerLock) -> None:
        self._name = name
        self._target = target
        self.faults = faults
        self._lock = lock
        self._one = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """What to call the device in messages."""
        return self._name

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: Buffer | None = None,
        data_in: Buffer | None = None,
        timeout: float = 60.0,
    ) -> Completion:
        """Carry out one command; a hang ends after `timeout` seconds."""
        start = time.perf_counter()
        with self._one:
            if self._closed:
                return Completion(Category.OS, reason="the device is closed")
            try:
                done = self.faults.execute(
                    cdb, timeout, lambda: self._target.execute(cdb, data_out, data_in)
                )
            except (TapeError, OSError) as error:
                done = Completion(Category.OS, reason=str(error))
        return Completion(
            done.category,
            done.status,
            done.sense,
            done.residual,
            time.perf_counter() - start,
            done.reason,
        )

    def abort(self) -> None:
        """End a delay or hang that was set on purpose; nothing else takes long."""
        self.faults.abort()

    def close(self) -> None:
        """Let go of the device; its state stays. A command that hangs ends first."""
        self.faults.release()
        with self._one:
            if self._closed:
                return
            self._closed = True
            self._target.close()
            self._lock.release()
