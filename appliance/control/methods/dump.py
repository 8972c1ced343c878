"""Dumps."""

from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.jobs import DEFAULT_BLOCKING_FACTOR, dump_job


@method("dump.start")
async def start(
    appliance: Appliance,
    *,
    path: Any,
    to: Any,
    level: Any = 0,
    snapshot: Any = None,
    blocking_factor: Any = DEFAULT_BLOCKING_FACTOR,
    exclude: Any = None,
    acls: Any = True,
    update: Any = True,
    label: Any = "",
    verify: Any = False,
    fds: list[int],
) -> dict[str, Any]:
    """Start a dump session of a volume, qtree or subtree; a target of - takes one descriptor.

    The values are checked after the session is recorded, so that a refused request can be
    looked up; the error then has the session's number.
    """
    asked = {
        "path": path,
        "to": to,
        "level": level,
        "snapshot": snapshot,
        "blocking_factor": blocking_factor,
        "exclude": exclude if exclude is not None else [],
        "acls": acls,
        "update": update,
        "label": label,
        "verify": verify,
    }
    session = await appliance.sessions.start("dump", asked, dump_job, fds)
    return session.to_json()
