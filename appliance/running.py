"""A session while its worker runs: what the worker says, and how it ends."""

import json
import logging
import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import trio

from appliance.children import Child, describe_end
from appliance.errors import Interrupted, SessionAborted, StateFailed, describe
from appliance.feed import Feed
from appliance.session import Session
from appliance.state import State

log = logging.getLogger(__name__)

_SAVE_SECONDS = 2.0
_ABORT_SECONDS = 15.0
_LAST_WORDS_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Running:
    """A live session. `abort` asks the worker to stop, and kills it when it does not."""

    session: Session
    child: Child
    state: State
    log_fd: int
    feed: Feed = field(default_factory=Feed)
    ended: trio.Event = field(default_factory=trio.Event)
    abort_reason: str = ""
    _outcome: dict[str, Any] = field(default_factory=dict)
    _saved: float = 0.0
    _abort: trio.Event = field(default_factory=trio.Event)
    _heard: trio.Event = field(default_factory=trio.Event)

    def abort(self, reason: str) -> None:
        """Ask the session to end; the first reason given is the one recorded."""
        if not self._abort.is_set():
            self.abort_reason = reason
            self._abort.set()
            self.update(replace(self.session, state="aborting", reason=reason))

    async def run(self, request: dict[str, Any]) -> Session:
        """Hand the worker its request, listen until it ends, and record how."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_out_abort)
            await self.child.send(json.dumps(request).encode() + b"\n")
            nursery.start_soon(self._listen)
            status = await self.child.process.wait()
            # What it wrote before it ended is still in the pipe; something that it started
            # could hold the pipe open for longer.
            with trio.move_on_after(_LAST_WORDS_SECONDS):
                await self._heard.wait()
            nursery.cancel_scope.cancel()
        await self.child.ended()
        return self._record_end(status)

    async def _carry_out_abort(self) -> None:
        await self._abort.wait()
        await self.child.send(b"abort\n")
        await trio.sleep(_ABORT_SECONDS)
        self.child.kill()

    async def _listen(self) -> None:
        while (line := await self.child.line()) is not None:
            try:
                event = json.loads(line)
                self._take(event)
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                self.write_log(f"worker said something unexpected ({error}): {line[:200]!r}")
        self._heard.set()

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind in ("result", "error"):
            self._outcome = event
            return
        if kind == "progress":
            self._progress(event)
        elif kind == "snapshot":
            self.update(replace(self.session, snapshot=str(event["name"])))
        elif kind == "log":
            self.write_log(str(event["text"]))
        self.feed.put(event)

    def _progress(self, event: dict[str, Any]) -> None:
        phases = len(self.session.phases)
        self.session = self.session.progressed(event, time.time())
        reached = len(self.session.phases) > phases
        if reached or time.monotonic() - self._saved > _SAVE_SECONDS:
            self.update(self.session)

    def update(self, session: Session) -> None:
        """Change the record; one that cannot be kept is logged, and stops nothing."""
        self.session = session
        self._saved = time.monotonic()
        try:
            self.state.save(session)
        except StateFailed as error:  # such as a disk that is full: the next one may succeed
            log.error("record of session %d: %s", session.id, error)

    def write_log(self, text: str) -> None:
        """Add a line to the session's log, with the time; a disk that is full stops nothing."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            os.write(self.log_fd, f"{stamp} {text}\n".encode(errors="backslashreplace"))
        except OSError as error:
            log.error("log of session %d: %s: %s", self.session.id, error.strerror, text)

    def require_end(self) -> None:
        """See to it that the record says how the session ended, although `run` did not."""
        if not self.session.ended_already:
            error = Interrupted(str(self.session.id), "the control process could not go on with it")
            self._end(self.session, "failed", error.reason, describe(error))

    def _record_end(self, status: int) -> Session:
        outcome = {key: value for key, value in self._outcome.items() if key != "event"}
        if self._outcome.get("event") == "result" and status == 0:
            return self._end(self.session.finished(outcome), "done")
        number = str(self.session.id)
        if self.abort_reason or outcome.get("code") == SessionAborted.code:
            aborted = SessionAborted(number, self.abort_reason or "the worker was told to stop")
            return self._end(self.session, "aborted", aborted.reason, describe(aborted))
        if self._outcome.get("event") == "error":
            return self._end(self.session, "failed", str(outcome.get("message", "")), outcome)
        interrupted = Interrupted(number, f"worker {describe_end(status)}")
        return self._end(self.session, "failed", interrupted.reason, describe(interrupted))

    def _end(
        self, session: Session, state: str, reason: str = "", error: dict[str, Any] | None = None
    ) -> Session:
        self.write_log(f"session {session.id} {state}{': ' + reason if reason else ''}")
        self.session = self.state.end_session(session, state, reason, error)
        return self.session
