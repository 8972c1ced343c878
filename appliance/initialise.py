"""`snapreel init`: a root from nothing, whole or not at all."""

import shutil
from contextlib import ExitStack, suppress
from typing import Any

from appliance.aggregates import image_source
from appliance.errors import Refused
from appliance.root import Root
from appliance.state import State
from fuse.aggregate import Aggregate
from fuse.errors import NotFound
from tape.virtual.library import VirtualLibrary

AGGREGATE = "aggr0"
LIBRARY = "lib0"
CARTRIDGES = (*(f"SR000{number}L8" for number in range(1, 9)), "CLN001L1")


def initialise(root: Root, size: int) -> dict[str, Any]:
    """Make the root: an aggregate of `size` bytes, a virtual library, the state database.

    The database is made last and in one step: a root that has it is complete. When anything
    fails, what was made is removed again; what a killed `init` has left is removed by the
    next. Raises Refused when the root is initialised or holds something else.
    """
    root.require_superuser()
    root.path.mkdir(mode=0o755, parents=True, exist_ok=True)
    with root.lock("init"), ExitStack() as undo:
        if root.initialised:
            raise Refused(str(root.path), "it is initialised already; choose another --root")
        if root.unfinished.exists():
            _remove(root)
        _require_empty(root)
        root.unfinished.touch()
        undo.callback(_remove, root)
        made = _make(root, size)
        undo.pop_all()
        root.unfinished.unlink()
    return made


def _require_empty(root: Root) -> None:
    for directory in (root.aggregates, root.images, root.libraries, root.volumes):
        if directory.is_dir() and any(directory.iterdir()):
            raise Refused(
                str(directory), "it is not empty, and was not left by an interrupted init"
            )


def _make(root: Root, size: int) -> dict[str, Any]:
    root.make_directories()
    aggregate = Aggregate.create(root.path, AGGREGATE, image_source(root, AGGREGATE, size))
    aggregate.detach()
    library = VirtualLibrary.create(root.library(LIBRARY), name=LIBRARY, cartridges=CARTRIDGES)
    State.create(root.database)
    return {
        "root": str(root.path),
        "aggregate": AGGREGATE,
        "size": size,
        "library": LIBRARY,
        "drives": [f"rst{number}" for number in range(library.config.drives)],
        "changer": "mc0",
        "cartridges": list(CARTRIDGES),
    }


def _remove(root: Root) -> None:
    """Remove what an unfinished init has made; an aggregate with volumes is refused, not lost."""
    with suppress(NotFound):
        Aggregate.find(root.path, AGGREGATE).destroy()
    for directory in (root.aggregates, root.images, root.libraries, root.sessions, root.volumes):
        shutil.rmtree(directory, ignore_errors=True)
    root.unfinished.unlink(missing_ok=True)
