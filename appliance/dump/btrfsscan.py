"""The scan of a btrfs snapshot: one pass of tree searches brings everything, in inode order."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from appliance.dump.scan import ScannedInode, Want
from fuse.handle import ROOT_INODE, open_inode
from fuse.treesearch import (
    DIR_ENTRY,
    EXTENT,
    EXTENT_PLACE,
    INODE,
    LAST_INODE,
    ExtentType,
    Item,
    TreeSearch,
    Type,
    parse_entries,
    parse_references,
)

_GAP = 8
"""Inodes between two wanted ones that are cheaper to read over than to search anew."""
_SMALL, _LARGE = 1 << 16, 4 << 20

_ENTRY_TYPES = bytes((0, 8, 4, 2, 6, 1, 12, 10))
"""BTRFS_FT_* to DT_*."""

# BTRFS_INODE_* to FS_*_FL: sync, immutable, append, nodump, noatime, dirsync. Those that only
# say how btrfs stores data (compression, copy on write) belong to the volume, not to the file.
_FLAGS = ((0x20, 0x8), (0x40, 0x10), (0x80, 0x20), (0x100, 0x40), (0x200, 0x80), (0x400, 0x10000))


_PREALLOCATED = 0x10
"""BTRFS_INODE_PREALLOC: some of what the inode occupies may hold no data."""


def _flags(flags: int) -> int:
    return sum(generic for own, generic in _FLAGS if flags & own)


def inode_ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int, set[int]]]:
    """Group ascending numbers into ranges to search, each with the numbers wanted of it."""
    first = last = -1
    wanted: set[int] = set()
    for number in numbers:
        if wanted and (number - last > _GAP or len(wanted) >= 1 << 16):
            yield first, last, wanted
            wanted = set()
        if not wanted:
            first = number
        last = number
        wanted.add(number)
    if wanted:
        yield first, last, wanted


class _Draft:
    """An inode of which more items may come."""

    __slots__ = ("data", "entries", "extents", "fields", "names", "number", "xattrs")

    def __init__(self, number: int, fields: tuple[int, ...]) -> None:
        self.number = number
        self.fields = fields
        self.names: list[tuple[int, bytes]] = []
        self.entries: list[tuple[int, bytes, int]] = []
        self.xattrs: dict[bytes, bytes] = {}
        self.extents: list[tuple[int, int]] = []
        self.data: bytes | None = None

    def blocks_of_data(self) -> int:
        """Give the blocks of the extents that came; -1 when none did, asked for or not."""
        return sum(end - start for start, end in self.extents) >> 9 or -1

    def finished(self) -> ScannedInode:
        (
            generation, changed_in, size, used, _, links, uid, gid, mode, device, flags, _,
            accessed, accessed_ns, changed, changed_ns, modified, modified_ns, created, created_ns,
        ) = self.fields  # fmt: skip
        return ScannedInode(
            self.number,
            mode,
            links,
            size,
            uid,
            gid,
            device and (device >> 20) << 32 | device & 0xFFFFF,
            flags and _flags(flags),
            used >> 9 if not flags & _PREALLOCATED else self.blocks_of_data(),
            generation,
            changed_in,
            accessed * 1_000_000_000 + accessed_ns,
            modified * 1_000_000_000 + modified_ns,
            changed * 1_000_000_000 + changed_ns,
            created * 1_000_000_000 + created_ns,
            self.names,
            self.entries,
            self.xattrs,
            self.extents,
            self.data,
        )


def _add_reference(draft: _Draft, buffer: bytearray, item: Item) -> None:
    draft.names.extend(parse_references(buffer, item))


def _add_xattr(draft: _Draft, buffer: bytearray, item: Item) -> None:
    draft.xattrs.update(parse_entries(buffer, item.start, item.size))


def _add_entry(draft: _Draft, buffer: bytearray, item: Item) -> None:
    start = item.start
    child, key_type, _, _, _, size, kind = DIR_ENTRY.unpack_from(buffer, start)
    if key_type == Type.INODE:  # anything else is a subvolume, which is no part of this one
        start += DIR_ENTRY.size
        draft.entries.append((child, bytes(buffer[start : start + size]), _ENTRY_TYPES[kind & 7]))


def _add_extent(draft: _Draft, buffer: bytearray, item: Item) -> None:
    start = item.start
    _, size, compression, _, _, kind = EXTENT.unpack_from(buffer, start)
    if kind == ExtentType.INLINE:
        if compression:
            draft.extents.append((0, size))
        else:
            draft.data = bytes(buffer[start + EXTENT.size : start + item.size])
        return
    place, _, _, length = EXTENT_PLACE.unpack_from(buffer, start + EXTENT.size)
    if kind == ExtentType.PREALLOCATED or not place:
        return
    if draft.data is not None:  # inline data was only the beginning
        draft.extents.append((0, len(draft.data)))
        draft.data = None
    extents, end = draft.extents, item.offset + length
    if extents and extents[-1][1] == item.offset:
        extents[-1] = (extents[-1][0], end)
    else:
        extents.append((item.offset, end))


_WANTED = (
    (Want.NAMES, (Type.REFERENCE, Type.LONG_REFERENCE), _add_reference),
    (Want.XATTRS, (Type.XATTR,), _add_xattr),
    (Want.ENTRIES, (Type.DIR_INDEX,), _add_entry),
    (Want.DATA, (Type.EXTENT,), _add_extent),
)


class BtrfsScan:
    """A scan of subvolume `subvolid` in the aggregate that the descriptor `fd` lies in.

    `fd` must not be opened with O_PATH and stays the caller's.
    """

    def __init__(self, fd: int, subvolid: int) -> None:
        self._fd = fd
        self._subvolid = subvolid

    def inodes(self, want: Want, numbers: Iterable[int] | None = None) -> Iterator[ScannedInode]:
        """Yield all inodes, or those of ascending `numbers` that exist, in ascending order."""
        if numbers is None:
            yield from self._range(TreeSearch(self._fd, self._subvolid, _LARGE), want)
            return
        small = TreeSearch(self._fd, self._subvolid, _SMALL)
        large: TreeSearch | None = None
        for first, last, wanted in inode_ranges(numbers):
            search = small
            if last - first > 4 * _GAP:
                search = large = large or TreeSearch(self._fd, self._subvolid, _LARGE)
            for inode in self._range(search, want, first, last):
                if inode.number in wanted:
                    yield inode

    def _range(
        self, search: TreeSearch, want: Want, first: int = ROOT_INODE, last: int = LAST_INODE
    ) -> Iterator[ScannedInode]:
        """Yield the inodes of a range; an item without an inode before it is passed over."""
        handlers = {int(t): add for part, types, add in _WANTED if part in want for t in types}
        types = frozenset({1, *handlers})
        buffer, unpack = search.buffer, INODE.unpack_from
        draft: _Draft | None = None
        for item in search.items(first, last, 0, Type.EXTENT, types):
            kind = item.type
            if kind == 1:
                if draft is not None:
                    yield draft.finished()
                draft = _Draft(item.objectid, unpack(buffer, item.start))
            elif draft is not None and draft.number == item.objectid:
                handlers[kind](draft, buffer, item)
        if draft is not None:
            yield draft.finished()

    def open(self, number: int) -> int:
        """Give a descriptor to read a regular file's data."""
        return open_inode(self._fd, self._subvolid, number, os.O_RDONLY | os.O_NOATIME)

    def path(self, number: int) -> bytes:
        """Give one path of an inode relative to the top of the snapshot."""
        parts: list[bytes] = []
        while number != ROOT_INODE:
            names = next((i.names for i in self.inodes(Want.NAMES, [number])), [])
            if not names:
                return b"/".join((b"<inode %d>" % number, *reversed(parts)))
            number, name = names[0]
            parts.append(name)
        return b"/".join(reversed(parts))

    def lookup(self, path: bytes) -> int:
        """Give the number of the inode at `path` relative to the top; OSError if there is none."""
        number = ROOT_INODE
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            number = self._child(number, part)
        return number

    def _child(self, parent: int, name: bytes) -> int:
        for inode in self.inodes(Want.ENTRIES, [parent]):
            if not stat.S_ISDIR(inode.mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            for child, entry, _ in inode.entries:
                if entry == name:
                    return child
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
