"""Bringing a target to the names of an incremental tape: deletions, renames, links, types.

Objects are known by inode, not by name: the symbol table says which object of the target a
tape inode is, whatever it is called by now. Three steps, each of which can be repeated:

take out   names of known objects that the tape does not have where they are: directories and
           one link of each file that survives go into a staging directory, the rest is unlinked
place      from the root down, what the tape has and the target lacks: from staging, by another
           link, or new
finish     what is left in staging is gone from the tape and is removed

Objects that clients have made since are left alone unless their name is needed. A crash
leaves the old symbol table, so the same tape does the same steps again on what is there;
docs/restore.md has the states.
"""

import os
import stat
from collections.abc import Callable

from appliance.dump.catalog import Catalog, Directory, Name
from appliance.dump.placing import Place, Placer, Places
from appliance.dump.record import ROOT_INODE
from appliance.dump.selection import HIDDEN, RESERVED
from appliance.dump.tree import Child, Tree
from appliance.errors import Refused
from fuse.removal import remove_tree

STAGING = b".restore_staging"
_MARK = b"tape"
_LOST = b"restore_lost.%d"


class Reconciliation:
    """One incremental restore's work on directories and names.

    `known` maps tape inodes to target inodes. On return from `run` it holds what survives, and
    the directories that were made. `tick` is called at each directory and may raise to end it.
    """

    def __init__(
        self,
        catalog: Catalog,
        tree: Tree,
        places: Places,
        placer: Placer,
        known: dict[int, int],
        lose: Callable[[str, str], None],
        tick: Callable[[int], None],
    ) -> None:
        self._catalog = catalog
        self._tree = tree
        self._places = places
        self._placer = placer
        self._known = known
        self._lose = lose
        self._tick = tick
        self._inverse = {target: number for number, target in known.items()}
        self._gone: list[int] = []
        self._unused: dict[int, int] = {}
        self._staging = 0
        root = places.get(ROOT_INODE)
        assert root is not None
        self._root = root

    # -- staging ----------------------------------------------------------------------------

    def open_staging(self, mark: bytes, what: str, refuse: Callable[[str], Refused]) -> None:
        """Find or make the staging directory, which says which tape is under way.

        Raises Refused when an interrupted restore of another tape has to be ended first.
        """
        found = self._tree.lookup(self._root.inode, STAGING)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise refuse(f"{STAGING.decode()} is in the way; remove it")
        if found is not None:
            self._staging = found.st_ino
            present = self._read_mark()
            if present not in (None, mark + b" " + what.encode()):
                other = present.split(b") ", 1)[-1].decode(errors="replace")
                raise refuse(f"an interrupted restore ({other}) has to be run again first")
        else:
            self._staging = self._tree.make_directory(self._root.inode, STAGING)
        self._write_mark(mark + b" " + what.encode())

    def _read_mark(self) -> bytes | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(_MARK, flags, dir_fd=self._tree.directory(self._staging))
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read(4096) or None

    def _write_mark(self, mark: bytes) -> None:
        directory = self._tree.directory(self._staging)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_MARK, flags, 0o600, dir_fd=directory)
        with os.fdopen(fd, "wb") as file:
            file.write(mark)
            file.flush()
            os.fsync(fd)

    # -- step 1 -----------------------------------------------------------------------------

    def run(self) -> None:
        """Carry out the first two steps. Raises OSError."""
        self._sort()
        for number, entry in self._catalog.directories.items():
            if number in self._known:
                expected = {e.name: e.inode for e in self._catalog.entries(entry.number)}
                self._take_out(self._known[number], expected, everything=True)
        for inode in self._gone:
            self._take_out(inode, {}, everything=False)
        self._place_all()

    def _sort(self) -> None:
        """Drop from `known` what the tape says is gone, or has become something else."""
        self._known[ROOT_INODE] = self._root.inode
        for number in list(self._known):
            directory = number in self._catalog.directories
            if number not in self._catalog.summary.used:
                self._unused[number] = self._known[number]
                self._forget(number)
            elif directory or number in self._catalog.summary.dumped:
                status = self._tree.status(self._known[number])
                if status is None or stat.S_ISDIR(status.st_mode) != directory:
                    self._forget(number)

    def _forget(self, number: int) -> None:
        inode = self._known.pop(number)
        status = self._tree.status(inode)
        if status is not None and stat.S_ISDIR(status.st_mode):
            self._gone.append(inode)

    def _survives(self, child: Child) -> int | None:
        """Give the tape inode of a known object that the tape still has."""
        number = self._inverse.get(child.inode)
        if number is None or self._known.get(number) != child.inode:
            return None
        return number

    def _take_out(self, inode: int, expected: dict[bytes, int], *, everything: bool) -> None:
        """Take known children out of a directory that are not `expected` there.

        Of a directory that is gone only those that survive: the rest goes with it.
        """
        self._tick(0)
        for child in self._tree.children(inode):
            number = self._survives(child)
            if number is not None and expected.get(child.name) != number:
                self._stage(inode, child)
            elif number is None and child.inode in self._inverse and everything:
                self._drop(inode, child)

    def _stage(self, parent: int, child: Child) -> None:
        """Move a name into staging; a second link of a file is just removed."""
        name = b"%d" % child.inode
        if not child.directory and self._tree.lookup(self._staging, name) is not None:
            self._tree.unlink(parent, child.name, child.inode)
            return
        self._tree.rename(parent, child.name, self._staging, name)

    def _drop(self, parent: int, child: Child) -> None:
        """Remove a known object that is gone from the tape; directories wait in staging."""
        if child.directory:
            self._tree.rename(parent, child.name, self._staging, b"%d" % child.inode)
        else:
            self._tree.unlink(parent, child.name, child.inode)

    # -- step 2 -----------------------------------------------------------------------------

    def _place_all(self) -> None:
        for entry in self._catalog.walk():
            self._place_children(entry)
        for start in self._catalog.nameless():
            if start.number in self._known:
                self._place_nameless(start)
                for entry in self._catalog.walk(start.number):
                    self._place_children(entry)
            else:
                text = f"directory {start.number} has no name on the tape, skipped"
                self._lose("unnamed directory", text)

    def _place_nameless(self, entry: Directory) -> None:
        """Describe a directory that stays where it is, since no directory on tape names it."""
        inode = self._known[entry.number]
        path: list[int] = []
        while inode != self._root.inode and len(path) < 4096:
            path.append(inode)
            inode = self._tree.parent(inode)
            if inode == path[-1]:
                break
        place = self._root
        for inode in reversed(path):
            place = self._placer.below(place, inode, None, fresh=False)
        self._places.put(entry.number, place)

    def _place_children(self, entry: Directory) -> None:
        self._tick(0)
        place = self._places.get(entry.number)
        if place is None:
            return
        present = {child.name: child for child in self._tree.children(place.inode)}
        for item in self._catalog.entries(entry.number):
            if item.name == HIDDEN or (entry.number == ROOT_INODE and item.name in RESERVED):
                continue
            child = present.get(item.name)
            if item.inode in self._catalog.directories:
                self._place_directory(place, item.inode, item.name, child)
            elif item.inode in self._known:
                self._place_known(place, item.inode, Name(entry.number, item.name), child)
            elif item.inode not in self._catalog.summary.dumped and child is None:
                path = self._shown(Name(entry.number, item.name))
                self._lose("on no tape", f"{path} is on no tape of the chain")

    def _place_directory(
        self, parent: Place, number: int, name: bytes, child: Child | None
    ) -> None:
        """Bring a directory on tape to its name."""
        entry = self._catalog.directories[number]
        inode = self._known.get(number)
        if inode is None:
            if child is not None and child.inode in self._inverse:
                self._clear_known(parent.inode, child)
            place = self._placer.descend(parent, name, entry.attributes)
            self._known[number] = place.inode
            self._places.put(number, place)
            return
        if child is None or child.inode != inode:
            self._move_directory(parent.inode, inode, name, child)
        place = self._placer.below(parent, inode, entry.attributes, fresh=False)
        self._places.put(number, place)

    def _move_directory(self, parent: int, inode: int, name: bytes, child: Child | None) -> None:
        """Move a known directory to its name; what clients have put there is kept."""
        if child is not None and child.inode in self._inverse:
            self._clear_known(parent, child)
            child = None
        if child is not None and not child.directory:
            self._tree.unlink(parent, name, child.inode)
        elif child is not None:
            self._tree.rename(parent, name, self._staging, b"%d" % child.inode)
        self._tree.rename(*self._whereabouts(inode), parent, name)
        if child is not None and child.directory:
            self._merge(child.inode, inode)

    def _clear_known(self, parent: int, child: Child) -> None:
        if self._survives(child) is not None:
            self._stage(parent, child)
        else:
            self._drop(parent, child)

    def _whereabouts(self, inode: int) -> tuple[int, bytes]:
        """Find a known directory: in staging, or wherever clients have moved it."""
        staged = b"%d" % inode
        if self._tree.lookup(self._staging, staged) is not None:
            return self._staging, staged
        parent = self._tree.parent(inode)
        for child in self._tree.children(parent):
            if child.inode == inode:
                return parent, child.name
        raise FileNotFoundError(2, os.strerror(2), f"inode {inode}")

    def _merge(self, source: int, target: int) -> None:
        """Move what clients have put into `source` to `target`, where its name is free."""
        work = [(source, target)]
        while work:
            source, target = work.pop()
            taken = {child.name: child for child in self._tree.children(target)}
            for child in self._tree.children(source):
                there = taken.get(child.name)
                if there is None:
                    self._tree.rename(source, child.name, target, child.name)
                elif there.directory and child.directory:
                    work.append((child.inode, there.inode))

    def _shown(self, name: Name) -> str:
        return os.fsdecode(self._catalog.join(name))

    def _place_known(self, parent: Place, number: int, name: Name, child: Child | None) -> None:
        """Give an object that is there, and is not a directory on tape, this name too."""
        inode = self._known[number]
        if child is not None and child.inode == inode:
            return
        status = self._tree.status(inode)
        if status is None:
            del self._known[number]
            if number not in self._catalog.summary.dumped:
                text = f"{self._shown(name)} was removed here, and is not on this tape"
                self._lose("missing", text)
            return
        if stat.S_ISDIR(status.st_mode):
            self._move_directory(parent.inode, inode, name.name, child)
            return
        if child is not None and child.inode in self._inverse:
            self._clear_known(parent.inode, child)
        elif child is not None and child.directory:
            text = f"{self._shown(name)} is not restored: a directory is in its place"
            self._lose("directory in place", text)
            return
        elif child is not None:
            self._tree.unlink(parent.inode, name.name, child.inode)
        self._tree.link(inode, parent.inode, name.name)

    # -- step 3 -----------------------------------------------------------------------------

    def finish(self, log: Callable[[str], None]) -> None:
        """Remove staging with all that the tape no longer has. Raises OSError.

        What survives and has found no place is kept in the root of the target.
        """
        made = self._rescue()
        if made:
            log(f"{made} objects that were made since went with the directories they were in")
        remove_tree(self._tree.directory(self._root.inode), STAGING.decode())
        self._tree.invalidation.entry(self._root.inode, STAGING)
        self._keep_unreached()

    def _keep_unreached(self) -> None:
        """Go on knowing what is gone from the dump, but lies in a directory not on this tape.

        A level leaves out directories of excluded names; the next one that has them tells.
        """
        for number, inode in self._unused.items():
            if self._tree.status(inode) is not None:
                self._known[number] = inode

    def _single(self, child: Child) -> bool:
        status = self._tree.status(child.inode)
        return status is not None and status.st_nlink == 1

    def _rescue(self) -> int:
        """Take what survives out of staging; give how many objects there came from no tape.

        However deep it is: clients may have moved it into what is gone.
        """
        count = 0
        work = [self._staging]
        while work:
            parent = work.pop()
            for child in self._tree.children(parent):
                number = self._survives(child)
                if number is not None and (child.directory or self._single(child)):
                    self._keep(parent, child, number)
                    continue
                count += parent != self._staging and child.inode not in self._inverse
                if child.directory:
                    work.append(child.inode)
                else:
                    self._tree.invalidation.inode(child.inode)  # it is about to lose a link
        return count

    def _keep(self, parent: int, child: Child, number: int) -> None:
        lost = _LOST % number
        self._tree.rename(parent, child.name, self._root.inode, lost)
        text = f"inode {number} has no name on the tape; it is kept as {lost.decode()}"
        self._lose("no place", text)
