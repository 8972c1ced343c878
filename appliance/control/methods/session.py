"""Sessions that run and that ran."""

from typing import Any

import trio

from appliance.appliance import Appliance
from appliance.control.method import Emit, method
from appliance.jobs import number
from appliance.sessions import log_lines

_MOST_LISTED = 100_000


@method("session.list")
async def list_(appliance: Appliance, *, limit: int = 100) -> list[dict[str, Any]]:
    """List the latest sessions, the latest first."""
    latest = appliance.sessions.latest(number(limit, "limit", 1, _MOST_LISTED))
    return [session.to_json() for session in latest]


@method("session.show")
async def show(appliance: Appliance, *, session: int) -> dict[str, Any]:
    """Show one session."""
    return appliance.sessions.show(session).to_json()


@method("session.log")
async def log(appliance: Appliance, *, session: int) -> list[str]:
    """Give the log of a session, line by line."""
    appliance.sessions.show(session)
    return await trio.to_thread.run_sync(log_lines, appliance.root, session)


@method("session.abort")
async def abort(appliance: Appliance, *, session: int) -> dict[str, Any]:
    """End a session and wait until its drive, snapshot and locks are free."""
    ended = await appliance.sessions.abort(session, "aborted by operator")
    return ended.to_json()


@method("session.watch")
async def watch(appliance: Appliance, *, session: int, emit: Emit) -> dict[str, Any]:
    """Follow a session from its first event to its end; the result is its record."""
    listener = appliance.sessions.listen(session)
    if listener is not None:
        try:
            while news := await listener.next():
                for event in news:
                    await emit(event)
        finally:
            appliance.sessions.leave(session, listener)
    return appliance.sessions.show(session).to_json()
