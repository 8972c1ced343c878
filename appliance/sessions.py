"""Dump and restore sessions: asked for, started, watched, aborted, and cleaned up after.

Whatever is asked gets a record first, so that a request that is refused can be looked up too.
A session that ends, however it ends, leaves no snapshot, no lock and no drive behind.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import Any

import trio

from appliance.aggregates import Aggregates
from appliance.assignment import Assignment, Place
from appliance.children import spawn
from appliance.errors import ErrorDocument, NoSuchSession, Refused, describe
from appliance.feed import Listener
from appliance.jobs import Job
from appliance.root import Root
from appliance.running import Running
from appliance.session import Session
from appliance.state import State
from appliance.tapes import Tapes
from appliance.targets import DeviceTarget
from fuse.errors import Busy
from fuse.volume import Volume

log = logging.getLogger(__name__)

_WORKER = "appliance.dump.worker"


class Sessions:
    """The sessions of a root; at most `limit` at once."""

    def __init__(
        self,
        root: Root,
        state: State,
        aggregates: Aggregates,
        tapes: Tapes,
        nursery: trio.Nursery,
        limit: int,
    ) -> None:
        self._root = root
        self._state = state
        self._aggregates = aggregates
        self._tapes = tapes
        self._nursery = nursery
        self.limit = limit
        self.stopping = ""
        self._running: dict[int, Running] = {}
        # From admission to end: session number to volume (empty for none). A session counts
        # from here on, so that two that start at once cannot both take the last place.
        self._claims: dict[int, str] = {}
        # Volumes on which no session may begin, with what is done to them.
        self._closed: dict[str, str] = {}

    def latest(self, limit: int) -> list[Session]:
        """Give the latest sessions, with those that run as they are at this moment."""
        return [self._current(session) for session in self._state.sessions(limit)]

    def show(self, number: int) -> Session:
        """Give one session; NoSuchSession when there is none."""
        return self._current(self._state.session(number))

    def _current(self, session: Session) -> Session:
        running = self._running.get(session.id)
        return running.session if running and not session.ended_already else session

    def on_volume(self, volume: str) -> list[Session]:
        """Give the sessions that work on a volume, or are about to."""
        return [self.show(number) for number, name in self._claims.items() if name == volume]

    def require_idle(self, volume: str) -> None:
        """Raise Busy when a session works on the volume."""
        for session in self.on_volume(volume):
            raise Busy("volume", volume, f"{session.kind} session {session.id}")

    @contextmanager
    def kept_off(self, volume: str, what: str) -> Iterator[None]:
        """Let no session begin on the volume while `what` is done to it; Busy when one runs."""
        self.require_idle(volume)
        self._closed[volume] = what
        try:
            yield
        finally:
            del self._closed[volume]

    async def start(
        self,
        kind: str,
        asked: dict[str, Any],
        check: Callable[[dict[str, Any]], Job],
        fds: list[int],
    ) -> Session:
        """Record what was asked, check it, and start a worker on it.

        Raises ErrorDocument with the fault's own words and the session's number.
        """
        target = asked["to"] if kind == "dump" else asked["source"]
        level = str(asked.get("level", ""))
        session = self._state.create_session(kind, str(asked["path"] or ""), str(target), level)
        try:
            return await self._admit(session, check(asked), fds)
        except Exception as error:
            self._claims.pop(session.id, None)
            raise self._failed(session, error) from error

    def record_failure(self, kind: str, path: str, target: str, error: Exception) -> ErrorDocument:
        """Give what was asked of a library and could not be done a record, as a dump has one.

        Gives the error to raise: the fault's own words with the session's number.
        """
        return self._failed(self._state.create_session(kind, path, target, ""), error)

    def _failed(self, session: Session, error: Exception) -> ErrorDocument:
        if not hasattr(error, "code"):
            log.error("session %d could not be started", session.id, exc_info=error)
        document = describe(error)
        self._state.end_session(session, "failed", document["message"], document)
        return ErrorDocument(document | {"session": session.id})

    async def _admit(self, session: Session, job: Job, fds: list[int]) -> Session:
        if self.stopping:
            raise Refused("session", self.stopping)
        if len(self._claims) >= self.limit:
            raise Refused(
                "session",
                f"{self.limit} run already, which is the limit with this machine's memory",
            )
        if len(fds) != job.descriptors:
            raise Refused("session", f"{job.descriptors} file descriptors needed, {len(fds)} came")
        volume = job.volume.volume if job.volume else ""
        if volume in self._closed:
            raise Busy("volume", volume, self._closed[volume])
        self._claims[session.id] = volume
        place = Place()
        if job.volume is not None:
            place = await self._aggregates.on_volume(job.volume.volume, self._place)
        assignment = Assignment(session, job, place, tuple(fds))
        started: Session = await self._nursery.start(self._run, assignment)
        return started

    def _place(self, volume: Volume) -> Place:
        state = volume.metadata().state
        if state == "offline":
            raise Refused(f"volume {volume.name}", "it is offline; bring it online first")
        return Place(
            str(volume.aggregate.path),
            volume.name,
            str(volume.path),
            volume.subvolid,
            str(self._root.channel(volume.name)),
        )

    async def _run(self, assignment: Assignment, *, task_status: trio.TaskStatus[Session]) -> None:
        """One session from its lease to its end; only what comes before `started` is raised."""
        async with AsyncExitStack() as stack:
            device = await self._lease(assignment, stack)
            running = await self._spawn(assignment, stack)
            self._running[assignment.session.id] = running
            task_status.started(running.session)
            try:
                await running.run(assignment.request(self._root, device))
            except Exception:
                log.exception("session %d failed unexpectedly", running.session.id)
            finally:
                with trio.CancelScope(shield=True):
                    await self._clean_up(running, assignment.place)
        self._running.pop(running.session.id, None)
        self._claims.pop(running.session.id, None)
        running.feed.end()
        running.ended.set()

    async def _lease(self, assignment: Assignment, stack: AsyncExitStack) -> dict[str, Any] | None:
        if not isinstance(assignment.job.target, DeviceTarget):
            return None
        holder = f"session {assignment.session.id}"
        lease = self._tapes.lease(
            assignment.job.target.name, holder, lambda: self._torn(assignment.session.id)
        )
        return await stack.enter_async_context(lease)

    def _torn(self, number: int) -> bool:
        """Tell whether a session may have left a dump without its end on the tape."""
        running = self._running.get(number)
        return running is not None and running.session.torn

    async def _spawn(self, assignment: Assignment, stack: AsyncExitStack) -> Running:
        session = assignment.session
        path = self._root.session_log(session.id)
        log_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, log_fd)
        child = await spawn(
            self._state, session.owner, _WORKER, (), log=log_fd, inherit=assignment.fds
        )
        begun = replace(assignment.begun(), worker=child.identity, log=str(path))
        running = Running(begun, child, self._state, log_fd)
        running.update(begun)
        return running

    async def _clean_up(self, running: Running, place: Place) -> None:
        """Leave nothing behind; what cannot be cleaned is logged and tried at the next start."""
        running.child.kill()
        await running.child.ended()
        try:
            running.require_end()
        except Exception:
            log.exception("the end of session %d could not be recorded", running.session.id)
        try:
            if place.volume is not None:
                await self._expire(running, place.volume)
        except Exception:
            log.exception("session %d could not be cleaned up", running.session.id)

    async def _expire(self, running: Running, volume: str) -> None:
        removed = await self._aggregates.on_volume(
            volume, lambda found: found.snapshots.expire_owner(running.session.owner)
        )
        if removed:
            running.write_log(f"left-over snapshots deleted: {', '.join(removed)}")

    async def abort(self, number: int, reason: str) -> Session:
        """End a session, and wait until it has ended; Refused when it has already."""
        session = self._state.session(number)
        running = self._running.get(number)
        if running is None:
            what = "has ended already" if session.ended_already else "has not begun yet"
            raise Refused(f"session {number}", f"it {what}: {session.state}")
        running.abort(reason)
        await running.ended.wait()
        return self._state.session(number)

    async def abort_all(self, reason: str) -> None:
        """End every session and take no more: the control process is about to stop."""
        self.stopping = reason
        running = list(self._running.values())
        for session in running:
            session.abort(reason)
        for session in running:
            await session.ended.wait()

    def listen(self, number: int) -> Listener | None:
        """Give a listener to a session that runs, None when it has ended."""
        running = self._running.get(number)
        if running is None:
            self._state.session(number)
            return None
        return running.feed.listen()

    def leave(self, number: int, listener: Listener) -> None:
        """End listening."""
        if running := self._running.get(number):
            running.feed.leave(listener)


def log_lines(root: Root, number: int) -> list[str]:
    """Give the log of a session, line by line; NoSuchSession when it has none."""
    try:
        return root.session_log(number).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        raise NoSuchSession(str(number)) from None
