"""The process of one dump or restore session: `python -m appliance.dump.worker`.

    stdin   first line: the request, a JSON object (kind `dump` or `restore`); then either the
            line `abort`, to end politely, or the end of input when the control process is gone
    stdout  events, one JSON object a line: `progress`, `log`, `snapshot`; last `result` or `error`
    stderr  for debugging only

A session that ends for want of its control process cleans up as an aborted one does, as far as
that takes no longer than PATIENCE; what is left then is found when the control process starts.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

from appliance.dump.dumping import run_dump
from appliance.dump.progress import Report
from appliance.dump.request import VERSION, DumpRequest, take
from appliance.dump.restorerequest import RestoreRequest
from appliance.dump.restoring import run_restore
from appliance.errors import ApplianceError, SessionAborted, UsageError, describe
from fuse.errors import StorageError
from tape.errors import TapeError

PATIENCE = 10.0
"""Seconds that a session has to end once its control process is gone."""

_MAX_REQUEST = 16 << 20
_KNOWN = (ApplianceError, StorageError, TapeError)


class Control:
    """The worker's end of the lines to the control process."""

    def __init__(self, source: IO[bytes], events: IO[bytes]) -> None:
        self._source = source
        self._events = events
        self._lock = threading.Lock()
        self._aborted = threading.Event()

    def request(self) -> dict[str, Any]:
        """Read the request. Raises UsageError when it is none."""
        line = self._source.readline(_MAX_REQUEST)
        try:
            data = json.loads(line)
        except ValueError as error:
            raise UsageError("worker request", f"it is no JSON: {error}") from error
        if not isinstance(data, dict):
            raise UsageError("worker request", "it is no JSON object")
        if take(data, "version", int) != VERSION:
            raise UsageError("worker request", f"its version is not {VERSION}")
        return data

    def watch(self) -> None:
        """Begin to listen for `abort` and for the end of the control process."""
        threading.Thread(target=self._listen, name="control", daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            if line.strip() == b"abort":
                self._aborted.set()
        self._aborted.set()
        threading.Timer(PATIENCE, os._exit, (1,)).start()

    def abort(self) -> None:
        """End the session politely."""
        self._aborted.set()

    def aborted(self) -> bool:
        """Tell whether the session has to end."""
        return self._aborted.is_set()

    def report(self, event: dict[str, Any]) -> None:
        """Send an event; without a reader the session ends."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        try:
            with self._lock:
                self._events.write(line)
                self._events.flush()
        except (BrokenPipeError, ValueError):
            self._aborted.set()


def _dump(request: Mapping[str, Any], report: Report, aborted: Callable[[], bool]) -> Any:
    return run_dump(DumpRequest.from_json(request), report, aborted).to_json()


def _restore(request: Mapping[str, Any], report: Report, aborted: Callable[[], bool]) -> Any:
    return run_restore(RestoreRequest.from_json(request), report, aborted).to_json()


_KINDS: dict[str, Callable[[Mapping[str, Any], Report, Callable[[], bool]], Any]] = {
    "dump": _dump,
    "restore": _restore,
}


def serve(control: Control) -> int:
    """Carry out the request of `control`; give the exit code."""
    session = "?"
    try:
        request = control.request()
        session = str(request.get("session", "?"))
        kind = take(request, "kind", str)
        if kind not in _KINDS:
            raise UsageError(f"worker request: kind {kind!r}", "choose dump or restore")
        control.watch()
        result = _KINDS[kind](request, control.report, control.aborted)
    except _KNOWN as error:
        if control.aborted() and not isinstance(error, SessionAborted):
            error = SessionAborted(session)  # what broke on the way out is no news
        control.report({"event": "error", **describe(error)})
        return 1
    except Exception as error:
        traceback.print_exc()
        control.report({"event": "error", **describe(error)})
        return 1
    control.report({"event": "result", **result})
    return 0


def main() -> int:
    """Run one session over the standard streams."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else may write among events
    control = Control(sys.stdin.buffer, events)
    signal.signal(signal.SIGTERM, lambda *_: control.abort())
    return serve(control)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a thread may be stuck in a read or a write
