"""Processes that the control process starts and must never leave behind.

Each has its own process session (a terminal's Ctrl-C does not reach it), a lifeline (its
standard input, which ends when the control process does), and a row in the state database, so
that the next life finds it if this one is killed and the lifeline is not heeded.
"""

import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from appliance.control.protocol import LineSplitter
from appliance.errors import StateFailed
from appliance.processes import ProcessIdentity
from appliance.state import State

logger = logging.getLogger(__name__)

_CHUNK = 1 << 16
_MAX_LINE = 16 << 20


@dataclass(slots=True, eq=False)
class Child:
    """A running process; `role` is its key in the state database."""

    role: str
    process: trio.Process
    identity: ProcessIdentity
    state: State
    _splitter: LineSplitter = field(default_factory=lambda: LineSplitter(limit=_MAX_LINE))
    _lines: deque[bytes] = field(default_factory=deque)

    async def send(self, line: bytes) -> None:
        """Write to its standard input; a process that no longer reads is no error here."""
        if self.process.stdin is None:
            return
        try:
            await self.process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def cut_lifeline(self) -> None:
        """Close its standard input: it stops by itself."""
        if self.process.stdin is not None:
            await self.process.stdin.aclose()

    def kill(self) -> None:
        """SIGKILL to it and to whatever it started, at once; nothing when it has ended."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def line(self) -> bytes | None:
        """Give the next line of its standard output, None when that has ended."""
        while not self._lines:
            data = await self.process.stdout.receive_some(_CHUNK) if self.process.stdout else b""
            if not data:
                return None
            self._lines += self._splitter.feed(bytes(data))
        return self._lines.popleft()

    async def stop(self, grace: float) -> int:
        """Cut the lifeline, wait up to `grace` seconds, kill; give its exit status."""
        await self.cut_lifeline()
        with trio.move_on_after(grace):
            return await self.ended()
        self.kill()
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end and give its exit status (negative: the signal)."""
        status = await self.process.wait()
        try:
            self.state.forget_process(self.role)
        except StateFailed as error:  # the next start sees that it is gone
            logger.error("process %s: %s", self.role, error)
        return status


async def spawn(
    state: State,
    role: str,
    module: str,
    arguments: Sequence[str],
    *,
    log: int,
    inherit: Sequence[int] = (),
) -> Child:
    """Start `python -m module arguments`; `log` is a descriptor for its standard error.

    The process reads a pipe on standard input and writes a pipe on standard output.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        pass_fds=tuple(inherit),
        start_new_session=True,
        cwd="/",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    identity = ProcessIdentity.of(process.pid)
    if identity is None:  # a zombie still has one, and only we reap it
        raise RuntimeError(f"process {process.pid} has no entry in /proc")
    child = Child(role, process, identity, state)
    try:
        state.record_process(role, identity)
    except StateFailed as error:  # its lifeline ends it all the same
        logger.error("process %s: %s", role, error)
    return child


def describe_end(status: int) -> str:
    """Say how a process ended: `ended with signal 9 (SIGKILL)`, `ended with status 1`."""
    if status < 0:
        try:
            return f"ended with signal {-status} ({signal.Signals(-status).name})"
        except ValueError:
            return f"ended with signal {-status}"
    return f"ended with status {status}"
