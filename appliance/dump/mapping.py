"""Phases I and II: what is in the dumped tree, and what of it goes on tape.

One scan brings every inode of the snapshot into a few flat arrays (some 40 bytes an inode);
a walk from the root of the dump over the directories' entries finds what is part of it.

What a level n dump leaves out on purpose (an excluded name, an object under restriction) stays
in the map of used inodes and in its directory if the base had it, so that replaying the level
deletes nothing; such an inode is *missing* and goes on tape with the next level that can.
So is a directory with an excluded name of an inode that is dumped under another one: only the
directory can bring that name back.
"""

import stat
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from appliance.dump.attributes import JUNCTION, LUN, RESTRICTED, read_lun
from appliance.dump.excludes import Excludes
from appliance.dump.inodemap import InodeMap
from appliance.dump.progress import Progress
from appliance.dump.record import MAX_SEGMENT
from appliance.dump.scan import Numbering, Scan, ScannedInode, Want
from appliance.errors import UsageError

_DIRECTORY, _CHANGED, _WITHHELD = 1, 2, 4
_REACHED, _HELD, _ON_TAPE, _LINKED, _PARTIAL = 1, 2, 4, 8, 16
_STEP = 1 << 10


@dataclass(frozen=True, slots=True)
class Base:
    """The dump that an incremental builds on: its maps of tape inodes and its generation.

    `missing` are those of `used` whose present state is not on any tape of the chain.
    """

    used: InodeMap
    missing: frozenset[int]
    generation: int

    def current(self, tape: int) -> bool:
        """Tell whether the inode's state as of the base is on the tapes of the chain."""
        return tape in self.used and tape not in self.missing


@dataclass(slots=True)
class DumpMap:
    """What phases I and II found. Inode numbers are the file system's but in the maps.

    `directories` and `files` are on tape, ascending, the root first; `blocks` estimates the
    stream in KiB. `skipped` holds inodes left out, with the reason.
    """

    numbering: Numbering
    root: int
    excludes: Excludes
    used: InodeMap = field(default_factory=InodeMap)
    on_tape: InodeMap = field(default_factory=InodeMap)
    missing: set[int] = field(default_factory=set)
    directories: "array[int]" = field(default_factory=lambda: array("Q"))
    files: "array[int]" = field(default_factory=lambda: array("Q"))
    blocks: int = 0
    directory_blocks: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)
    highest: int = 2
    junctions: set[int] = field(default_factory=set)

    def keeps(self, child: int, name: bytes) -> bool:
        """Tell whether a directory on tape shows `child` under `name`."""
        tape = self.numbering.tape(child)
        if tape not in self.used:
            return False
        return not (self.excludes and self.excludes.match(name)) or tape in self.missing


class _Tree:
    """The snapshot's inodes in flat arrays, addressed by index; ascending by number."""

    def __init__(self) -> None:
        self.numbers = array("Q")
        self.flags = bytearray()
        self.blocks = array("Q")
        self.starts = array("Q", [0])
        self.children = array("Q")
        self.excluded = bytearray()
        self.state = bytearray()
        self.parents = array("Q")

    def index(self, number: int) -> int:
        """Give the index of an inode, -1 when there is none."""
        index = bisect_left(self.numbers, number)
        if index < len(self.numbers) and self.numbers[index] == number:
            return index
        return -1

    def directory(self, position: int) -> int:
        """Give the index of the directory with the entry at `position` of `children`."""
        return bisect_right(self.starts, position) - 1

    def entries(self, index: int) -> range:
        """Give the positions of a directory's entries in `children`."""
        return range(self.starts[index], self.starts[index + 1])

    def close(self) -> None:
        """Make room for what the walk finds, once all inodes are in."""
        self.state = bytearray(len(self.numbers))
        self.parents = array("Q", bytes(8 * len(self.numbers)))


class Mapper:
    """Does phases I and II for one dump.

    `backing_exists` tells whether the snapshot that a LUN clone rests on is still there.
    """

    def __init__(
        self,
        scan: Scan,
        root: int,
        excludes: Excludes,
        base: Base | None,
        backing_exists: Callable[[str], bool],
        progress: Progress,
    ) -> None:
        self._scan = scan
        self._base = base
        self._excludes = excludes
        self._backing_exists = backing_exists
        self._progress = progress
        self._tree = _Tree()
        self._reasons: dict[int, str] = {}
        self._shared: list[int] = []
        self._map = DumpMap(Numbering(root), root, excludes)

    def map_files(self) -> None:
        """Phase I: take in every inode of the snapshot. Raises UsageError for a bad root."""
        inodes = self._scan.inodes(Want.ENTRIES | Want.XATTRS)
        for count, inode in enumerate(inodes, 1):
            if inode.links:  # an orphan is about to be deleted
                self._take(inode)
            if not count % _STEP:
                self._progress.step(count, 0)
        self._tree.close()
        index = self._tree.index(self._map.root)
        if index < 0 or not self._tree.flags[index] & _DIRECTORY:
            raise UsageError("dump path", "it is not a directory")

    def map_directories(self) -> DumpMap:
        """Phase II: walk the tree and decide what goes on tape."""
        root = self._tree.index(self._map.root)
        later = self._walk(root)
        if self._base is not None:
            self._hold_excluded(later, self._base)
        self._choose()
        self._note_partial(later)
        if self._base is not None:
            self._connect(root)
        self._collect(root)
        return self._map

    # -- phase I ----------------------------------------------------------------------------

    def _take(self, inode: ScannedInode) -> None:
        tree = self._tree
        flags = _DIRECTORY if stat.S_ISDIR(inode.mode) else 0
        if self._base is not None and inode.changed_in > self._base.generation:
            flags |= _CHANGED
        if inode.xattrs:
            flags = self._consider(inode, flags)
        tree.numbers.append(inode.number)
        tree.flags.append(flags)
        tree.blocks.append(_estimate(inode if inode.blocks >= 0 else self._measured(inode)))
        if flags & _DIRECTORY and inode.entries:
            tree.children.extend([child for child, _, _ in inode.entries])
            if self._excludes:
                match = self._excludes.match
                tree.excluded.extend([match(name) for _, name, _ in inode.entries])
        tree.starts.append(len(tree.children))

    def _measured(self, inode: ScannedInode) -> ScannedInode:
        """Give an inode with the blocks that its extents occupy."""
        found = next(self._scan.inodes(Want.DATA, [inode.number]), inode)
        return inode._replace(blocks=max(found.blocks, 0))

    def _consider(self, inode: ScannedInode, flags: int) -> int:
        """Add what extended attributes say about an inode to its flags."""
        xattrs = inode.xattrs
        if JUNCTION in xattrs and flags & _DIRECTORY:
            flags &= ~_DIRECTORY
            self._map.junctions.add(inode.number)
        reason = ""
        if RESTRICTED in xattrs:
            reason = "client I/O on it is restricted by a restore"
        elif LUN in xattrs:
            lun = read_lun(xattrs[LUN])
            if lun and lun.backing_snapshot and not self._backing_exists(lun.backing_snapshot):
                reason = f"it is an inconsistent LUN: snapshot {lun.backing_snapshot} is gone"
        if reason:
            flags |= _WITHHELD
            self._reasons[inode.number] = reason
        return flags

    # -- phase II ---------------------------------------------------------------------------

    def _walk(self, root: int) -> list[int]:
        """Mark what can be reached from the root; give the positions of excluded entries."""
        tree, later, stack = self._tree, [], [root]
        state, flags, children, excluded = tree.state, tree.flags, tree.children, tree.excluded
        state[root] = _REACHED
        tree.parents[root] = root
        done = 0
        while stack:
            directory = stack.pop()
            for position in tree.entries(directory):
                if excluded and excluded[position]:
                    later.append(position)
                    continue
                index = tree.index(children[position])
                if index < 0 or state[index]:
                    continue
                state[index] = self._withhold(index) if flags[index] & _WITHHELD else _REACHED
                if flags[index] & _DIRECTORY and state[index] == _REACHED:
                    tree.parents[index] = directory
                    stack.append(index)
            done += 1
            if not done % _STEP:
                self._progress.step(done, 0)
        return later

    def _withhold(self, index: int) -> int:
        """Leave an inode out, and note it; give the state it has then."""
        number = self._tree.numbers[index]
        reason = self._reasons.pop(number, "")  # it may have several names
        if reason:
            self._map.skipped.append((number, reason))
        if self._base is not None and self._map.numbering.tape(number) in self._base.used:
            return _HELD
        return 0

    def _hold_excluded(self, positions: list[int], base: Base) -> None:
        """Keep excluded inodes that the base had, with all below them that it had."""
        tree, stack = self._tree, list(positions)
        while stack:
            position = stack.pop()
            number = tree.children[position]
            index = tree.index(number)
            if index < 0:
                continue
            if tree.state[index]:
                if tree.state[tree.directory(position)] & _HELD:
                    self._shared.append(index)
                continue
            if self._map.numbering.tape(number) in base.used:
                tree.state[index] = _HELD
                stack.extend(tree.entries(index))

    def _choose(self) -> None:
        """Mark what goes on tape because it changed, or because no tape of the chain has it."""
        tree, base, tape = self._tree, self._base, self._map.numbering.tape
        for index, state in enumerate(tree.state):
            if state != _REACHED:
                continue
            if (
                base is None
                or tree.flags[index] & _CHANGED
                or not base.current(tape(tree.numbers[index]))
            ):
                tree.state[index] = _REACHED | _ON_TAPE

    def _note_partial(self, positions: list[int]) -> None:
        """Mark the directories whose excluded entries lead to what is dumped all the same.

        So too what is on tape with other names in excluded directories that the base had: where
        such a name came first, restore(8) does not take the data from this tape.
        """
        tree = self._tree
        for index in self._shared:
            if tree.state[index] & _ON_TAPE:
                tree.state[index] |= _PARTIAL
        for position in positions:
            index = tree.index(tree.children[position])
            if index >= 0 and tree.state[index] & _REACHED:
                tree.state[tree.directory(position)] |= _PARTIAL

    def _connect(self, root: int) -> None:
        """Put the directories on tape that lead from the root to what is there."""
        tree = self._tree
        state = tree.state
        state[root] |= _ON_TAPE
        for index, flags in enumerate(tree.flags):
            if not (flags & _DIRECTORY and state[index] & _REACHED):
                continue
            if state[index] & _ON_TAPE or any(self._tape_children(index)):
                self._link(index)

    def _tape_children(self, directory: int) -> Iterator[bool]:
        tree = self._tree
        for position in tree.entries(directory):
            if not (tree.excluded and tree.excluded[position]):
                index = tree.index(tree.children[position])
                yield index >= 0 and bool(tree.state[index] & _ON_TAPE)

    def _link(self, index: int) -> None:
        tree = self._tree
        while not tree.state[index] & _LINKED:
            tree.state[index] |= _ON_TAPE | _LINKED
            index = tree.parents[index]

    def _collect(self, root: int) -> None:
        """Turn the marks into the maps and lists of the phases that write."""
        tree, found = self._tree, self._map
        found.directories.append(found.root)
        for index, state in enumerate(tree.state):
            if not state:
                continue
            number = tree.numbers[index]
            tape = found.numbering.tape(number)
            found.used.add(tape)
            if state & (_HELD | _PARTIAL):
                found.missing.add(tape)
            if state & _ON_TAPE:
                found.on_tape.add(tape)
                self._collect_on_tape(index, number, root)
        found.highest = max(found.used.highest, 2)
        maps = 2 * (1 + found.highest // 8192 + 1)
        found.blocks += found.directory_blocks + maps + 2

    def _collect_on_tape(self, index: int, number: int, root: int) -> None:
        tree, found = self._tree, self._map
        if tree.flags[index] & _DIRECTORY:
            found.directory_blocks += tree.blocks[index]
            if index != root:
                found.directories.append(number)
        else:
            found.blocks += tree.blocks[index]
            found.files.append(number)


def _estimate(inode: ScannedInode) -> int:
    """Estimate the KiB that an inode takes on tape, its headers among them."""
    if stat.S_ISDIR(inode.mode):
        # btrfs counts every name twice in a directory's size; an entry has 12 bytes more on tape
        return 2 + (inode.size // 2 + 12 * len(inode.entries) + 24) // 1000
    blocks = -(-inode.size // 1024)
    headers = max(-(-blocks // MAX_SEGMENT), 1)
    if not stat.S_ISREG(inode.mode):
        return headers + blocks
    return headers + min(blocks, -(-inode.blocks // 2) or 1)
