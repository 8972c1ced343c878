"""What a dump or restore tells while it runs: log lines, and how far it is, a few times a second.

Events are the JSON objects that a worker writes; see `appliance.dump.worker`.
"""

import time
from collections.abc import Callable
from typing import Any

from appliance.errors import SessionAborted

Report = Callable[[dict[str, Any]], None]
"""Takes one event; must be quick."""

INTERVAL = 0.25
"""Seconds between two progress events."""


class Progress:
    """Counts what a session has done; `aborted` tells whether an operator wants it to end."""

    def __init__(self, report: Report, aborted: Callable[[], bool], session: int = 0) -> None:
        self._report = report
        self._aborted = aborted
        self._session = session
        self._phase, self._text, self._origin = 0, "", 0
        self._started = self._next = 0.0
        self.files = self.total_files = 0
        self.bytes = self.total_bytes = 0
        self.warnings: list[str] = []

    def event(self, kind: str, /, **values: Any) -> None:
        """Send an event of any kind."""
        self._report({"event": kind, **values})

    def log(self, text: str) -> None:
        """Send a line to the operator and the session's log."""
        self.event("log", text=text)

    def warn(self, text: str) -> None:
        """Send a warning, which the result repeats."""
        self.warnings.append(text)
        self.log(f"DUMP: WARNING: {text}")

    def phase(
        self,
        number: int,
        text: str,
        total_files: int = 0,
        total_bytes: int = 0,
        position: int = 0,
    ) -> None:
        """Begin a phase at byte `position` of the stream: `text` is logged, counters restart."""
        self._phase, self._text, self._origin = number, text, position
        self.files = self.bytes = 0
        self.total_files, self.total_bytes = total_files, total_bytes
        self._started = time.monotonic()
        self.log(text)
        self.show()

    def step(self, files: int, position: int) -> None:
        """Set the files done in this phase and where the stream is; as `moved`."""
        self.files = files
        self.moved(position)

    def moved(self, position: int) -> None:
        """Say that the stream is at byte `position`; shows it when it is time, and checks."""
        self.bytes = position - self._origin
        self.check()
        if time.monotonic() >= self._next:
            self.show()

    def check(self) -> None:
        """Raise SessionAborted when the session has to end."""
        if self._aborted():
            raise SessionAborted(str(self._session))

    def show(self) -> None:
        """Send how far the phase is."""
        now = time.monotonic()
        self._next = now + INTERVAL
        elapsed = now - self._started
        self.event(
            "progress", phase=self._phase, text=self._text, files=self.files, bytes=self.bytes,
            total_files=self.total_files, total_bytes=self.total_bytes,
            rate=int(self.bytes / elapsed) if elapsed > 0.01 else 0,
        )  # fmt: skip
