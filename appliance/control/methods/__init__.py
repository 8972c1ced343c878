"""The methods of the control API, one module a noun; importing this fills the method table."""

from appliance.control.methods import (
    aggregate,
    api,
    dump,
    dumpdates,
    library,
    lun,
    media,
    qtree,
    restore,
    session,
    snapshot,
    status,
    tape,
    volume,
)

__all__ = [
    "aggregate",
    "api",
    "dump",
    "dumpdates",
    "library",
    "lun",
    "media",
    "qtree",
    "restore",
    "session",
    "snapshot",
    "status",
    "tape",
    "volume",
]
