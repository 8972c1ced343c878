"""What a start does about a life that ended badly: kill -9, a crash, a power cut.

1. Processes of the previous life end by themselves (their lifeline was cut); those that have
   not after a moment are killed, each by its recorded identity, never by pid alone.
2. Dead mounts are detached. Aggregates are attached, which finds loop devices and mounts that
   are still there.
3. Sessions that ran are marked failed. Their snapshots are deleted and their locks freed.
4. Restriction marks stay: a half-restored LUN must not look healthy. They are reported, and an
   operator lifts them.
5. `torn` names the drives with a dump that has no end; their tapes get a filemark, so that
   what is appended next is a file of its own.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import trio

from appliance.aggregates import Aggregates
from appliance.errors import Interrupted, describe
from appliance.mounts import detach, mounted_below
from appliance.processes import ProcessIdentity
from appliance.root import Root
from appliance.state import State
from fuse.errors import StorageError

log = logging.getLogger(__name__)

INTERRUPTED = "interrupted: the control process ended while it ran"
_OWNER = "session:"
_GRACE_SECONDS = 5.0
_KILL_SECONDS = 10.0


@dataclass(slots=True)
class Recovered:
    """What a start found and did; shown by `snapreel status`."""

    killed: list[str] = field(default_factory=list)
    detached: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def report(self) -> None:
        """Log what was done, a line each."""
        for noun in ("killed", "detached", "sessions", "snapshots"):
            if found := getattr(self, noun):
                log.warning("recovery: %s: %s", noun, ", ".join(map(str, found)))
        for problem in self.problems:
            log.error("recovery: %s", problem)


async def recover(root: Root, state: State, aggregates: Aggregates) -> Recovered:
    """Bring a root into order before anything is served; attaches its aggregates."""
    done = Recovered()
    await trio.to_thread.run_sync(_end_processes, state, done)
    await trio.to_thread.run_sync(_detach_mounts, root, done)
    await aggregates.attach_all()
    done.problems += [f"aggregate {name}: {why}" for name, why in aggregates.failures.items()]
    _fail_sessions(state, done)
    await aggregates.run(_free_snapshots, aggregates, done)
    done.report()
    return done


def _end_processes(state: State, done: Recovered) -> None:
    deadline = time.monotonic() + _GRACE_SECONDS
    for role, process in state.processes().items():
        if process.alive and not process.wait(max(0.0, deadline - time.monotonic())):
            _kill(role, process, done)
        state.forget_process(role)


def _kill(role: str, process: ProcessIdentity, done: Recovered) -> None:
    if process.kill(_KILL_SECONDS):
        done.killed.append(f"{role} (process {process.pid})")


def _detach_mounts(root: Root, done: Recovered) -> None:
    for point in mounted_below(root.volumes):
        try:
            if detach(point):
                done.detached.append(str(point))
        except OSError as error:
            done.problems.append(f"{point}: {error.strerror}")
    for left in root.volumes.iterdir():
        with suppress(OSError):  # something that is not empty is not ours to remove
            left.rmdir()


def _fail_sessions(state: State, done: Recovered) -> None:
    for session in state.live_sessions():
        error = Interrupted(str(session.id), INTERRUPTED)
        document: dict[str, Any] = describe(error)
        ended = state.end_session(session, "failed", error.reason, document)
        if ended.torn and ended.drive:
            done.torn.append(ended.drive)
        done.sessions.append(session.id)


def _free_snapshots(aggregates: Aggregates, done: Recovered) -> None:
    for volume in aggregates.volumes_blocking():
        try:
            owners = {lock.owner for lock in volume.snapshots.all_locks()}
            for owner in sorted(owner for owner in owners if owner.startswith(_OWNER)):
                removed = volume.snapshots.expire_owner(owner)
                done.snapshots += [f"{volume.name}/{name}" for name in removed]
        except (StorageError, OSError) as error:
            done.problems.append(f"volume {volume.name}: {error}")
