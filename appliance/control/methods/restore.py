"""Restores."""

from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.jobs import restore_job


@method("restore.start")
async def start(
    appliance: Appliance,
    *,
    source: Any,
    path: Any = None,
    files: Any = None,
    to: Any = None,
    list: Any = False,  # noqa: A002 - the name that operators know
    incremental: Any = False,
    rename: Any = None,
    force: Any = False,
    acls: Any = True,
    fds: Any,
) -> dict[str, Any]:
    """Start a restore session; a source of - takes one descriptor, a list one more (last).

    With `list` nothing is restored: the names in the dump are written to the last descriptor,
    a JSON object a line. The values are checked after the session is recorded.
    """
    asked = {
        "source": source,
        "path": path,
        "files": files if files is not None else [],
        "to": to,
        "list": list,
        "incremental": incremental,
        "rename": rename if rename is not None else [],
        "force": force,
        "acls": acls,
    }
    session = await appliance.sessions.start("restore", asked, restore_job, fds)
    return session.to_json()
