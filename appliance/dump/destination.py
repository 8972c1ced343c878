"""The place a restore writes to: a directory of a volume, with all that is needed to fill it."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from appliance.dump.catalog import Catalog, Directory, Name
from appliance.dump.chain import Chain
from appliance.dump.files import FileRestorer
from appliance.dump.lunkeeper import LunKeeper
from appliance.dump.objectattributes import AttributeWriter
from appliance.dump.placing import Place, Placer, Places
from appliance.dump.policy import AttributePolicy
from appliance.dump.restorerequest import RestoreRequest
from appliance.dump.selection import HIDDEN, Selection
from appliance.dump.stream import TapeObject, Warnings
from appliance.dump.tree import Tree
from appliance.errors import ApplianceError, Refused, RestoreStopped
from fuse.channel import VolumeChannel
from fuse.errors import StorageError, StorageFailed
from fuse.volume import Volume

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Destination:
    """Where one restore writes. `begin` makes its parts; nothing is changed before."""

    def __init__(self, volume: Volume, request: RestoreRequest) -> None:
        self.volume = volume
        self._request = request
        self._channel = None if request.channel is None else VolumeChannel(request.channel)
        self.tree = Tree(volume, self._channel)
        self.selection: Selection
        self.placer: Placer
        self.places: Places
        self.files: FileRestorer
        self.luns: LunKeeper
        self.policy: AttributePolicy
        self.known: dict[int, int] = {}
        self._catalog: Catalog
        self._tick: Callable[[int], None]
        self._writer: AttributeWriter

    # -- before anything is changed ---------------------------------------------------------

    def check(self) -> None:
        """Refuse volumes that cannot be written. Raises Refused."""
        data = self.volume.metadata()
        name = f"volume {self.volume.name}"
        if data.type != "rw":
            raise Refused(name, "it is the destination of a mirror, which only the mirror writes")
        if data.state != "online":
            raise Refused(name, f"it is {data.state}; bring it online first")
        self.find()

    def find(self) -> int | None:
        """Give the inode of the directory to restore to, None when it has to be made.

        Raises Refused when something else is in the way.
        """
        place = Placer(self.tree, Warnings(lambda _: None)).root().inode
        parts = [part for part in self._request.relative.split(b"/") if part]
        for number, part in enumerate(parts):
            if part == HIDDEN:
                raise Refused(self._request.path, "the name .snapshot is kept for snapshots")
            found = self.tree.lookup(place, part)
            if found is None:
                return None
            if not stat.S_ISDIR(found.st_mode):
                path = os.fsdecode(b"/".join(parts[: number + 1]))
                raise Refused(path, "is no directory; a dump is restored into one")
            place = found.st_ino
        return place

    def require_space(self, catalog: Catalog, selection: Selection, chain: Chain) -> None:
        """Refuse what cannot fit: bytes where the tape tells them, inodes always.

        Raises OutOfSpace.
        """
        summary = catalog.summary
        size = 0
        files = sum(1 for number in summary.dumped if number not in chain.known)
        if not selection.everything:
            chosen = sum(1 for entry in catalog.walk() if selection.needed(entry.number))
            named = sum(1 for n in summary.dumped if selection.names_of(n))
            files = chosen + named
        elif summary.header.origin is not None:
            size = summary.header.origin.data_bytes
        self.volume.require(size, files)

    # -- the work ---------------------------------------------------------------------------

    def begin(
        self,
        catalog: Catalog,
        selection: Selection,
        warnings: Warnings,
        chain: Chain,
        tick: Callable[[int], None],
    ) -> None:
        """Find or make the directory to restore to, and get everything ready."""
        self._catalog, self.selection, self._tick = catalog, selection, tick
        self.known = chain.known
        self.placer = Placer(self.tree, warnings)
        root = self.placer.target(self._request.relative, catalog.root.attributes)
        self.places = Places(catalog, selection, self.placer, root)
        align = self.volume.metadata().vm_align_sector
        self.policy = AttributePolicy(warnings, align, acls=self._request.acls)
        self.luns = LunKeeper(self.tree, self._channel, str(self._request.session), chain.log)
        self.files = FileRestorer(
            catalog, self.places, self.tree, self.policy, self.luns, warnings,
            self.known, tick,
        )  # fmt: skip
        self._writer = AttributeWriter(self.files.lose)

    def make_directories(self, chain: Chain) -> None:
        """Bring all directories to their places."""
        chain.begin(self.places)
        if chain.incremental:
            chain.reconcile(self.places, self.files.lose, self._tick)
        else:
            self.places.make_all(self._tick)
        for entry in self._catalog.directories.values():
            place = self.places.get(entry.number)
            if place is not None:
                self.known[entry.number] = place.inode

    def restore(self, item: TapeObject, names: list[Name]) -> bool:
        """Restore one inode that is no directory; False when none of its `names` is chosen."""
        return self.files.restore(item, self.selection.choose(names))

    def set_directories(self, *, best_effort: bool = False) -> None:
        """Give all directories that were restored their attributes, the deepest first.

        With `best_effort` errors of one do not keep the others from theirs.
        """
        passed = (OSError,) if best_effort else ()
        entries = list(self._catalog.walk())
        for start in self._catalog.nameless():
            entries.extend(self._catalog.walk(start.number))
        for entry in reversed(entries):
            place = self.places.get(entry.number)
            if place is not None and (place.fresh or self.selection.whole(entry.number)):
                with suppress(*passed):
                    self._set_directory(entry, place)

    def _set_directory(self, entry: Directory, place: Place) -> None:
        try:
            self._apply(entry, place)
        except OSError as error:
            if error.errno in _FULL:
                raise
            shown = os.fsdecode(self._catalog.path_of(entry.number))
            text = f"directory {shown} does not get its attributes: {error.strerror or error}"
            self.files.lose("directory attributes", text)

    def _apply(self, entry: Directory, place: Place) -> None:
        xattrs, lost = self.policy.collect(entry.inode, entry.attributes, place)
        self.files.counts.damaged += lost
        fd = self.tree.directory(place.inode)
        path = self._catalog.path_of(entry.number)
        self._writer.apply(fd, os.fstat(fd), entry.inode, xattrs, path)
        self.tree.invalidation.inode(place.inode)

    def commit(self) -> None:
        """See to it that all that was written survives a power failure."""
        self.volume.aggregate.engine.commit()

    def close(self) -> None:
        """Let go of everything; restriction marks that were not lifted stay."""
        if hasattr(self, "luns"):
            self.luns.close()
        self.tree.close()
        if self._channel is not None:
            self._channel.close()


def as_storage_error(target: Destination, error: OSError) -> ApplianceError | StorageError:
    """Turn an error of the file system into one that tells an operator what to do."""
    name = target.volume.name
    if error.errno in _FULL:
        counts = target.files.counts if hasattr(target, "files") else None
        reason = f"volume {name} has no more space or inodes"
        if counts is None:
            return RestoreStopped(reason, 0, 0, "")
        return RestoreStopped(reason, counts.files, counts.size, os.fsdecode(counts.last))
    reason = error.strerror or str(error)
    return StorageFailed("restore to volume", name, reason, error.errno or 0)
