"""Restore stages 2 and 3 for everything that is no directory: made, filled, given its names.

An existing regular file with one name is written in place; anything else of the same name is
replaced. A file that cannot be completed is removed, unless it is a LUN, which stays marked.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.dump.catalog import Catalog, Name
from appliance.dump.lunkeeper import LunKeeper
from appliance.dump.objectattributes import AttributeWriter
from appliance.dump.placing import Place, Places
from appliance.dump.policy import AttributePolicy
from appliance.dump.record import Inode, Part
from appliance.dump.selection import HIDDEN
from appliance.dump.stream import TapeObject, Warnings
from appliance.dump.tree import Tree
from appliance.errors import RestoreStopped
from fuse import metadata

_TOLD = 100
MAX_SYMLINK = 4095
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNREACHABLE = "the name .snapshot is kept for snapshots; restore it with --rename"
_SPECIAL = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)


@dataclass(slots=True)
class Counts:
    """What a restore has done so far; `size` is bytes of file data, holes left out."""

    files: int = 0
    size: int = 0
    damaged: int = 0
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in the target: directory, name, and its path in the dump for messages."""

    place: Place
    name: bytes
    path: bytes


Made = tuple[int, list[Spot]]
"""The inode that was restored, and the names that it may not have yet."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file to write: how it was, whether it is a LUN, and the names it may not have yet.

    A `bare` one has no extended attributes.
    """

    fd: int
    status: os.stat_result
    lun: bool
    bare: bool
    others: list[Spot]


def _nowhere() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "it is gone here, and the tape tells no place for it")


class FileRestorer:
    """Restores one inode after the other as they come from the tape.

    `known` maps tape inodes to target inodes: what was there from earlier tapes of the chain,
    and what this restore adds. `tick` is called with the bytes of each piece written and may
    raise to end the restore.
    """

    def __init__(
        self,
        catalog: Catalog,
        places: Places,
        tree: Tree,
        policy: AttributePolicy,
        luns: LunKeeper,
        warnings: Warnings,
        known: dict[int, int],
        tick: Callable[[int], None],
    ) -> None:
        self._catalog = catalog
        self._places = places
        self._tree = tree
        self._policy = policy
        self._luns = luns
        self._warnings = warnings
        self._known = known
        self._tick = tick
        self._writer = AttributeWriter(self.lose)
        self.counts = Counts()
        self.current = b""
        """Path of the file that is being written."""

    def lose(self, kind: str, text: str) -> None:
        """Count an object that is not all that it was, and warn."""
        self.counts.damaged += 1
        self._warnings.add(kind, text, _TOLD)

    # -- names ------------------------------------------------------------------------------

    def _spots(self, names: list[Name]) -> list[Spot]:
        found = []
        for name in names:
            place, base = self._places.locate(name)
            if place is not None:
                found.append(Spot(place, base, self._catalog.join(name)))
        return found

    def restore(self, item: TapeObject, names: list[Name]) -> bool:
        """Restore an inode under `names`, those that are chosen; False when there are none.

        Raises StreamError for a tape that cannot be, RestoreStopped when the target is full.
        What cannot be restored alone is a warning, and counted as damaged.
        """
        if not names and item.number not in self._known:
            return False
        spots = self._spots(names)
        path = spots[0].path if spots else self._catalog.path_of(item.number)
        if not spots and item.number not in self._known:
            path = self._catalog.join(names[0])
            self._fail(path, _UNREACHABLE if HIDDEN in path.split(b"/") else "it has no place here")
            return True
        self.current = path
        try:
            self._restore(item, spots, path)
            self.current = b""
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(path) from error
            self._fail(path, error.strerror or str(error))
        except OverflowError:  # a size or a time that no file can have
            self._fail(path, os.strerror(errno.EOVERFLOW))
        return True

    def _fail(self, path: bytes, reason: str) -> None:
        self.lose(f"not restored: {reason}", f"{os.fsdecode(path)} is not restored: {reason}")
        self.current = b""

    def _full(self, path: bytes) -> RestoreStopped:
        done = self.counts
        name = self._tree.volume.name
        reason = f"volume {name} has no more space or inodes at {os.fsdecode(path)}"
        return RestoreStopped(reason, done.files, done.size, os.fsdecode(done.last))

    def _restore(self, item: TapeObject, spots: list[Spot], path: bytes) -> None:
        kind = stat.S_IFMT(item.inode.mode)
        if kind == stat.S_IFREG:
            made = self._regular(item, spots, path)
        elif kind == stat.S_IFLNK:
            made = self._symlink(item, spots, path)
        elif kind in _SPECIAL:
            made = self._special(item, spots, path)
        else:
            raise self._catalog.error(f"{os.fsdecode(path)} has the impossible mode {kind:#o}")
        if made is None:
            return
        inode, others = made
        self._known[item.number] = inode
        for spot in others:
            self._link(inode, spot)
        self.counts.files += 1
        self.counts.last = path

    def _link(self, inode: int, spot: Spot) -> None:
        """Make a name stand for `inode`."""
        found = self._tree.lookup(spot.place.inode, spot.name)
        if found is not None and found.st_ino == inode:
            return
        if self._clear(spot, found):
            self._tree.link(inode, spot.place.inode, spot.name)

    def _clear(self, spot: Spot, found: os.stat_result | None) -> bool:
        """Make room for a name; False where a directory has it, which is not overwritten."""
        if found is None:
            return True
        if stat.S_ISDIR(found.st_mode):
            text = f"{os.fsdecode(spot.path)} is not restored: a directory is in its place"
            self.lose("directory in place", text)
            return False
        self._tree.unlink(spot.place.inode, spot.name, found.st_ino)
        return True

    def _known_object(self, item: TapeObject) -> os.stat_result | None:
        """Give the object of an earlier tape of the chain, if it has the same type."""
        known = self._known.get(item.number)
        if known is None:
            return None
        status = self._tree.status(known)
        if status is None or stat.S_IFMT(status.st_mode) != stat.S_IFMT(item.inode.mode):
            del self._known[item.number]
            return None
        return status

    # -- regular files ----------------------------------------------------------------------

    def _regular(self, item: TapeObject, spots: list[Spot], path: bytes) -> Made | None:
        opened = self._open_target(item, spots)
        if opened is None:
            return None
        try:
            try:
                self._write_file(opened, item, spots, path)
            except BaseException:
                if opened.lun:
                    self._luns.spoil(opened.status.st_ino)
                else:
                    self._discard(opened, spots)
                raise
        finally:
            os.close(opened.fd)
        self._tree.invalidation.inode(opened.status.st_ino)
        return opened.status.st_ino, opened.others

    def _write_file(
        self, opened: _Opened, item: TapeObject, spots: list[Spot], path: bytes
    ) -> None:
        if opened.lun:
            self._luns.restrict(opened.status.st_ino, os.fsdecode(path))
        if opened.status.st_size:
            os.ftruncate(opened.fd, 0)
        if opened.lun:  # whatever becomes of the restore, it is never shorter than it says
            os.ftruncate(opened.fd, item.inode.size)
        self._fill(opened.fd, item)
        self._finish(opened, item, spots, path)

    def _open_target(self, item: TapeObject, spots: list[Spot]) -> _Opened | None:
        """Find or make the file to write; None where a directory is in its place."""
        to_be_lun = bool(item.part) and bool(item.part & Part.LUN)
        if spots:
            to_be_lun = to_be_lun and spots[0].place.holds_luns
        known, others = self._known_object(item), spots
        if known is None and not spots:
            raise _nowhere()
        if known is None:
            others = spots[1:]
            fd = self._create(spots[0])
            if fd is None:
                found = self._tree.lookup(spots[0].place.inode, spots[0].name)
                known = None if found is None else self._reusable(found, to_be_lun)
                if known is None and not self._clear(spots[0], found):
                    return None
                fd = self._create(spots[0]) if known is None else None
            if fd is not None:
                return _Opened(fd, os.fstat(fd), to_be_lun, spots[0].place.fresh, others)
        if known is None:
            raise FileExistsError(errno.EEXIST, "clients make it again and again")
        fd = self._tree.open(known.st_ino, os.O_WRONLY | os.O_NOFOLLOW)
        lun = to_be_lun or metadata.get_attribute(fd, metadata.LUN) is not None
        return _Opened(fd, known, lun, False, others)

    def _create(self, spot: Spot) -> int | None:
        """Make a file; None when the name is taken."""
        try:
            return self._tree.create_file(spot.place.inode, spot.name)
        except FileExistsError:
            return None

    def _reusable(self, found: os.stat_result, to_be_lun: bool) -> os.stat_result | None:
        """Say whether an existing file of the same name is written in place.

        One with other names is not, since they would change too; a LUN not by a plain file.
        """
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return None
        if to_be_lun:
            return found
        fd = self._tree.open(found.st_ino, os.O_PATH | os.O_NOFOLLOW)
        try:
            return None if metadata.get_attribute(fd, metadata.LUN) else found
        finally:
            os.close(fd)

    def _fill(self, fd: int, item: TapeObject) -> None:
        """Write the data into an empty file; holes stay holes."""
        written = end = 0
        for offset, piece in item.data():
            self._write(fd, piece, offset)
            end = offset + len(piece)
            written += len(piece)
            self._tick(len(piece))
        if end != item.inode.size:
            os.ftruncate(fd, item.inode.size)
        self.counts.size += written

    @staticmethod
    def _write(fd: int, piece: memoryview, offset: int) -> None:
        while piece:
            count = os.pwrite(fd, piece, offset)
            piece, offset = piece[count:], offset + count

    def _finish(self, opened: _Opened, item: TapeObject, spots: list[Spot], path: bytes) -> None:
        """Give a file whose data is complete its attributes."""
        shown = os.fsdecode(path)
        attributes = item.attributes()
        if item.missing:
            text = f"{shown}: missing blocks at its end, assuming a hole"
            self.lose("missing blocks", text)
            self._luns.spoil(opened.status.st_ino)
        place = spots[0].place if spots else self._place_of(item.number)
        xattrs, lost = self._policy.collect(item.inode, attributes, place)
        if xattrs.pop(b"system.data", None) is not None:
            lost = True
            text = f"{shown}: its data lies in its inode (ext4 inline_data), dump has not saved it"
            self._warnings.add("inline data", text)
        self.counts.damaged += lost
        self._luns.describe(opened.fd, place, attributes, shown)
        self._writer.apply(opened.fd, opened.status, item.inode, xattrs, path, bare=opened.bare)

    def _place_of(self, number: int) -> Place | None:
        names = self._catalog.names_of(number)
        return self._places.get(names[0].parent) if names else None

    def _discard(self, opened: _Opened, spots: list[Spot]) -> None:
        """Remove a file that cannot be completed; one with names elsewhere is left empty."""
        try:
            self._unlink_all(opened.status.st_ino, spots)
            if os.fstat(opened.fd).st_nlink:  # a full volume may refuse this, not the other
                os.ftruncate(opened.fd, 0)
                self._tree.invalidation.inode(opened.status.st_ino)
        except OSError as error:
            self._warnings.add("discard", f"an incomplete file stays: {error.strerror or error}")

    def _unlink_all(self, inode: int, spots: list[Spot]) -> None:
        for spot in spots:
            found = self._tree.lookup(spot.place.inode, spot.name)
            if found is not None and found.st_ino == inode:
                self._tree.unlink(spot.place.inode, spot.name, inode)

    # -- symbolic links and special files ---------------------------------------------------

    def _symlink(self, item: TapeObject, spots: list[Spot], path: bytes) -> Made | None:
        target = item.read(MAX_SYMLINK)
        if not target or b"\0" in target:
            text = f"{os.fsdecode(path)} is not restored: a symbolic link to {target!r} cannot be"
            self.lose("symlink", text)
            return None

        def same(fd: int) -> bool:
            return os.readlink(b"", dir_fd=fd) == target

        def make(place: Place, name: bytes) -> None:
            self._tree.make_symlink(place.inode, name, target)

        return self._object(item, spots, path, same, make)

    def _special(self, item: TapeObject, spots: list[Spot], path: bytes) -> Made | None:
        inode = item.inode
        device = inode.device if stat.S_IFMT(inode.mode) in (stat.S_IFCHR, stat.S_IFBLK) else 0

        def same(fd: int) -> bool:
            return os.fstat(fd).st_rdev == os.makedev(device >> 32, device & 0xFFFFFFFF)

        def make(place: Place, name: bytes) -> None:
            self._tree.make_node(place.inode, name, inode.mode, device)

        return self._object(item, spots, path, same, make)

    def _object(
        self,
        item: TapeObject,
        spots: list[Spot],
        path: bytes,
        same: Callable[[int], bool],
        make: Callable[[Place, bytes], None],
    ) -> Made | None:
        """Make an object without data, or find it as it should be; then its attributes."""
        attributes = item.attributes()
        place = spots[0].place if spots else self._place_of(item.number)
        xattrs, lost = self._policy.collect(item.inode, attributes, place)
        self.counts.damaged += lost
        known = self._known_object(item)
        if known is not None:
            fd = self._tree.open(known.st_ino, os.O_PATH | os.O_NOFOLLOW)
            if same(fd):
                return self._dress(fd, item.inode, xattrs, path), spots
            os.close(fd)
        if not spots:
            raise _nowhere()
        spot = spots[0]
        if not self._clear(spot, self._tree.lookup(spot.place.inode, spot.name)):
            return None
        make(spot.place, spot.name)
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(spot.name, flags, dir_fd=self._tree.directory(spot.place.inode))
        return self._dress(fd, item.inode, xattrs, path), spots[1:]

    def _dress(self, fd: int, inode: Inode, xattrs: Mapping[bytes, bytes], path: bytes) -> int:
        try:
            status = os.fstat(fd)
            self._writer.apply(fd, status, inode, xattrs, path)
        finally:
            os.close(fd)
        self._tree.invalidation.inode(status.st_ino)
        return status.st_ino
