"""Where the directories of a tape are in the target: restore stage 2.

A directory that is there already is not overwritten: what is on tape is put into it. The
directories that are made are for root alone until their attributes come, which is last. Qtree
information counts only for a top-level directory of the volume.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance.dump.catalog import Catalog, Directory, Name
from appliance.dump.private import MalformedPrivate, Tag, decode_xattr
from appliance.dump.record import ROOT_INODE
from appliance.dump.selection import HIDDEN, RESERVED, Selection
from appliance.dump.stream import Attributes, Warnings
from appliance.dump.tree import Tree
from appliance.errors import Refused
from fuse import metadata
from fuse.handle import ROOT_INODE as VOLUME_ROOT
from fuse.metadata import MalformedMetadata, QtreeMetadata


@dataclass(frozen=True, slots=True)
class Place:
    """A directory in the target.

    `depth` counts the levels below the root of the volume, `style` is the security style that
    holds in it, `fresh` tells that this restore made it: what is made in it inherits no ACL.
    """

    inode: int
    depth: int
    style: str
    qtree: bool = False
    fresh: bool = False

    @property
    def holds_luns(self) -> bool:
        """Whether a file here can be a LUN: at the root of a volume or of a qtree."""
        return self.depth == 0 or (self.depth == 1 and self.qtree)


def private_attribute(attributes: Attributes, name: str) -> bytes | None:
    """Give one of the attributes that travel in the private record."""
    wanted = name.encode()
    for item in attributes.items:
        if item.tag == Tag.XATTR:
            try:
                found, value = decode_xattr(item.value)
            except MalformedPrivate:
                continue
            if found == wanted:
                return value
    return attributes.xattrs.get(wanted)


class Placer:
    """Finds or makes directories in the target, qtrees among them."""

    def __init__(self, tree: Tree, warnings: Warnings) -> None:
        self._tree = tree
        self._warnings = warnings
        self._volume = tree.volume
        self._used_ids: set[int] | None = None

    def root(self) -> Place:
        """Give the root of the volume."""
        return Place(VOLUME_ROOT, 0, self._volume.metadata().security_style)

    def below(
        self, parent: Place, inode: int, attributes: Attributes | None, *, fresh: bool
    ) -> Place:
        """Describe directory `inode` in `parent`, which becomes a qtree if the tape says so."""
        place = Place(inode, parent.depth + 1, parent.style, fresh=fresh)
        told = None if attributes is None else self._told(attributes)
        if place.depth > 1:
            if told is not None:
                text = "qtree information is used at the root of a volume only; made a directory"
                self._warnings.add("qtree", text)
            return place
        return self._top_level(place, told)

    def _told(self, attributes: Attributes) -> QtreeMetadata | None:
        value = private_attribute(attributes, metadata.QTREE)
        if value is None:
            return None
        try:
            return QtreeMetadata.decode(value)
        except MalformedMetadata as problem:
            self._warnings.add("qtree metadata", f"qtree information is lost: {problem}")
            return None

    def _top_level(self, place: Place, told: QtreeMetadata | None) -> Place:
        """Find out whether a top-level directory is a qtree; make it one if it may become it."""
        fd = self._tree.directory(place.inode)
        value = metadata.get_attribute(fd, metadata.QTREE)
        if value is None and told is not None and (place.fresh or not self._filled(place.inode)):
            made = replace(told, id=self._take_id(told.id))
            metadata.set_attribute(fd, metadata.QTREE, made.encode())
            value = made.encode()
        if value is None:
            return place
        try:
            qtree = QtreeMetadata.decode(value)
        except MalformedMetadata:
            return replace(place, qtree=True)
        return replace(place, qtree=True, style=qtree.security_style or place.style)

    def _filled(self, inode: int) -> bool:
        return bool(self._tree.children(inode))

    def _take_id(self, wanted: int) -> int:
        """Give the id on tape if no qtree of the volume has it, else one that none ever had."""
        if self._used_ids is None:
            self._used_ids = {qtree.id for qtree in self._volume.qtrees.list()}
        number = wanted
        if wanted < 1 or wanted in self._used_ids:
            number = self._volume.allocate_qtree_id()
        else:
            self._volume.reserve_qtree_id(wanted)
        self._used_ids.add(number)
        return number

    def descend(self, parent: Place, name: bytes, attributes: Attributes | None = None) -> Place:
        """Find the directory `name` in `parent`, or make it. A file in its place is removed."""
        found = self._tree.lookup(parent.inode, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return self.below(parent, found.st_ino, attributes, fresh=False)
        if found is not None:
            self._tree.unlink(parent.inode, name, found.st_ino)
        mode = 0o700 if attributes is not None else 0o755
        inode = self._tree.make_directory(parent.inode, name, mode)
        if not parent.fresh:
            self._strip(inode)
        return self.below(parent, inode, attributes, fresh=True)

    def _strip(self, inode: int) -> None:
        """Take away what a directory that was made has inherited, so that nothing below does."""
        fd = self._tree.directory(inode)
        for name in os.listxattr(fd):
            os.removexattr(fd, name)

    def target(self, relative: bytes, attributes: Attributes) -> Place:
        """Find or make the directory that the root of the dump is restored to.

        `relative` is its path in the volume. Raises Refused when a file is in the way.
        """
        place = self.root()
        parts = [part for part in relative.split(b"/") if part]
        for number, part in enumerate(parts):
            found = self._tree.lookup(place.inode, part)
            if found is not None and not stat.S_ISDIR(found.st_mode):
                path = os.fsdecode(b"/".join(parts[: number + 1]))
                raise Refused(path, "is no directory; a dump is restored into one")
            last = number == len(parts) - 1
            place = self.descend(place, part, attributes if last else None)
        return place


class Places:
    """The place of every directory on tape that is restored."""

    def __init__(self, catalog: Catalog, selection: Selection, placer: Placer, root: Place) -> None:
        self._catalog = catalog
        self._selection = selection
        self._placer = placer
        self._root = root
        self._of: dict[int, Place] = {ROOT_INODE: root}
        self.made = 0

    def get(self, directory: int) -> Place | None:
        """Give the place of a directory on tape, None when it is not restored."""
        return self._of.get(directory)

    def put(self, directory: int, place: Place) -> None:
        """Say where a directory on tape is."""
        self._of[directory] = place
        self.made += place.fresh

    def make_all(self, tick: Callable[[int], None]) -> None:
        """Make the chosen directories, from the root down; `tick` may raise to end it."""
        for entry in self._catalog.walk():
            tick(0)
            if entry.number != ROOT_INODE and self._selection.needed(entry.number):
                self._make(entry)

    def _make(self, entry: Directory) -> None:
        name = Name(entry.parent, entry.name)
        if entry.parent == ROOT_INODE and entry.name in RESERVED:
            return
        parent, base = self.locate(name)
        if parent is not None:
            self.put(entry.number, self._placer.descend(parent, base, entry.attributes))

    def locate(self, name: Name) -> tuple[Place | None, bytes]:
        """Give directory and name in the target for a name on tape, renames applied.

        No directory where it has no place: below what is not restored, or where clients could
        not reach it.
        """
        parts = self._selection.renames.get(name)
        if parts is None and name.name == HIDDEN:
            return None, name.name
        if parts is None:
            return self._of.get(name.parent), name.name
        place = self._root
        for part in parts[:-1]:
            place = self._placer.descend(place, part)
        return place, parts[-1]
