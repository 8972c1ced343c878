"""The increment chain that a restore begins or goes on with.

A complete level-0 restore begins a chain: it leaves a symbol table. An incremental restore is
refused unless its tape is based on exactly what the table says was restored last; the same
tape again is nothing to do, and after a crash it is the way to go on.
"""

import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.dump import symboltable
from appliance.dump.catalog import Catalog
from appliance.dump.objectattributes import AttributeWriter
from appliance.dump.placing import Places
from appliance.dump.reconciling import STAGING, Reconciliation
from appliance.dump.record import ROOT_INODE
from appliance.dump.restorerequest import RestoreRequest
from appliance.dump.selection import RESERVED
from appliance.dump.symboltable import ChainState, MalformedTable
from appliance.errors import Refused
from fuse.removal import remove_tree

if TYPE_CHECKING:
    from appliance.dump.destination import Destination

_MAX_PATH = 63
"""Bytes of a path that fit into a header."""


class Chain:
    """What one restore has to do with an increment chain.

    `known` maps tape inodes to target inodes: those of the table, and whatever the restore
    adds to it. Raises Refused before anything is changed.
    """

    def __init__(
        self,
        catalog: Catalog,
        request: RestoreRequest,
        target: "Destination",
        log: Callable[[str], None],
    ) -> None:
        self._catalog = catalog
        self._target = target
        self._path = request.path or request.volume
        self._header = catalog.summary.header
        self.log = log
        self.incremental = request.incremental
        self.applied = False
        self.known: dict[int, int] = {}
        whole = not request.files and not request.renames
        self._begins = whole and self._header.base_date == 0 and not self.incremental
        self._reconciliation: Reconciliation | None = None
        self._root = 0
        if self._begins or self.incremental:
            self._require_names()
        if self.incremental:
            self._load()
        elif self._header.base_date and whole:
            log(f"A level {self._header.level} tape alone: only what has changed is on it")

    def _refuse(self, reason: str) -> Refused:
        return Refused(f"incremental restore to {self._path}", reason)

    # -- checks -----------------------------------------------------------------------------

    def _require_names(self) -> None:
        """Refuse where a client has put something of another type under a restore's own names."""
        root = self._target.find()
        for name in RESERVED if root is not None else ():
            found = self._target.tree.lookup(root or 0, name)
            if found is not None and stat.S_ISDIR(found.st_mode) != (name == STAGING):
                reason = f"{name.decode()}, a name of its own, is in the way; remove it"
                raise Refused(f"restore to {self._path}", reason)

    def _load(self) -> None:
        root = self._target.find()
        if root is None:
            raise self._refuse("the directory does not exist; restore the level-0 tape first")
        try:
            found = symboltable.load(self._target.tree.directory(root))
        except MalformedTable as problem:
            name = symboltable.FILE_NAME.decode()
            raise self._refuse(f"{name} cannot be used: {problem}") from None
        if found is None:
            raise self._refuse("it has no symbol table; restore the level-0 tape first")
        state, self.known = found
        self._root = root
        if state.tree != self._tree() or state.root != root:
            reason = "its symbol table was made elsewhere; restore the level-0 tape first"
            raise self._refuse(reason)
        self._check_base(state)

    def _tree(self) -> str:
        volume = self._target.volume
        return volume.aggregate.engine.info(volume.path).uuid

    def _check_base(self, state: ChainState) -> None:
        header = self._header
        if self._identity(state) == self._identity(self._state(0)):
            self.log("This tape has been restored here already")
            self.applied = True
            return
        if header.base_date == 0:
            raise self._refuse("this is a level-0 tape; restore it without --incremental")
        origin = header.origin
        if header.own and origin is not None and state.snapshot_time:
            if origin.volume_uuid.hex() != state.volume_uuid:
                raise self._refuse("the tape is of another volume than the tapes before it")
            if not _same_place(os.fsdecode(header.filesystem), state.dump_path):
                where = os.fsdecode(header.filesystem)
                raise self._refuse(f"the tape is of {where}, what is restored of {state.dump_path}")
            matches = origin.base_time == state.snapshot_time
        else:
            matches = header.base_date == state.date
        if not matches:
            raise self._refuse(
                f"the tape is for another base: it goes on from {_date(header.base_date)},"
                f" what is restored is of {_date(state.date)}"
            )

    @staticmethod
    def _identity(state: ChainState) -> tuple[int, int, int, str]:
        return state.date, state.base_date, state.level, state.dump_uuid

    def _state(self, root: int) -> ChainState:
        """Give the state of the chain once this tape has been restored."""
        header, origin = self._header, self._header.origin
        return ChainState(
            date=header.date,
            base_date=header.base_date,
            level=header.level,
            snapshot_time=origin.snapshot_time if origin is not None else 0,
            dump_uuid=origin.dump_uuid.hex() if origin is not None else "",
            volume_uuid=origin.volume_uuid.hex() if origin is not None else "",
            dump_path=os.fsdecode(header.filesystem),
            tree=self._tree() if root else "",
            root=root,
        )

    # -- work -------------------------------------------------------------------------------

    def begin(self, places: Places) -> None:
        """Say in the target what is under way, before its first change."""
        place = places.get(ROOT_INODE)
        assert place is not None
        self._root = place.inode
        directory = self._target.tree.directory(self._root)
        if self._begins:
            symboltable.remove(directory)
            if self._target.tree.lookup(self._root, STAGING) is not None:
                self.log("Removing what an interrupted incremental restore has left")
                remove_tree(directory, STAGING.decode())

    def reconcile(
        self, places: Places, lose: Callable[[str, str], None], tick: Callable[[int], None]
    ) -> None:
        """Bring directories and names to the state of the tape; see reconciling."""
        header = self._header
        mark = repr(self._identity(self._state(0))).encode()
        what = f"level {header.level} of {_date(header.date)}"
        self._reconciliation = Reconciliation(
            self._catalog, self._target.tree, places, self._target.placer, self.known, lose, tick
        )
        self._reconciliation.open_staging(mark, what, self._refuse)
        self._reconciliation.run()

    def finish(self) -> None:
        """Remove what the tape says is gone."""
        if self._reconciliation is not None:
            self._reconciliation.finish(self.log)

    def prepare(self) -> None:
        """Write the symbol table beside the present one."""
        if self._begins or self.incremental:
            directory = self._target.tree.directory(self._root)
            symboltable.prepare(directory, self._state(self._root), self.known)

    def settle_root(self) -> None:
        """Set the times of the directory restored to, which the table's coming has changed."""
        if self._begins or self.incremental:
            directory = self._target.tree.directory(self._root)
            AttributeWriter.set_times(directory, self._catalog.root.inode)

    def publish(self) -> None:
        """Make the symbol table the present one: from here on the tape has been restored."""
        if self._begins or self.incremental:
            symboltable.publish(self._target.tree.directory(self._root))
            name = symboltable.FILE_NAME
            self._target.tree.invalidation.entry(self._root, name)


def _same_place(one: str, two: str) -> bool:
    """Whether two dumped paths, as headers have them, are the same within their volume.

    The volume may have been renamed. Headers cut paths off, of which as much is compared as both
    have.
    """
    cut = _MAX_PATH in (len(os.fsencode(one)), len(os.fsencode(two)))
    left, right = (path.split("/", 3)[3:] for path in (one, two))
    if not cut or not left or not right:
        return left == right
    return left[0].startswith(right[0]) or right[0].startswith(left[0])


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
