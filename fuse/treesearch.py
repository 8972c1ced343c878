"""BTRFS_IOC_TREE_SEARCH_V2: the items of a subvolume's tree, in key order, and their codec.

A key is (objectid, type, offset); in a subvolume's tree the objectid is an inode number, so
that one pass yields every inode with all that belongs to it: inode item, names, extended
attributes, directory entries, extents, and the data of files small enough to lie in the tree.
The kernel compares whole keys, so a range of inodes brings all types of items in it.

Layouts are those of <linux/btrfs_tree.h>, all little-endian and unaligned. Needs CAP_SYS_ADMIN.
"""

import errno
import fcntl
import struct
from collections.abc import Container, Iterator
from enum import IntEnum
from typing import NamedTuple

FIRST_INODE = 256
LAST_INODE = (1 << 64) - 257
"""BTRFS_LAST_FREE_OBJECTID; what is above has a negative objectid and is no inode."""

_REQUEST = 0xC0709411
_MAX = (1 << 64) - 1
_KEY = struct.Struct("<QQQQQQQIIII32xQ")
_COUNT_OFFSET = 64
_HEAD = 112
_ITEM = struct.Struct("<QQQII")
_LARGEST_ITEM = 65536

INODE = struct.Struct("<QQQQQIIIIQQQ32xqIqIqIqI")
"""btrfs_inode_item: generation, transid, size, nbytes, block_group, nlink, uid, gid, mode,
rdev, flags, sequence, then seconds and nanoseconds of atime, ctime, mtime, otime."""

DIR_ENTRY = struct.Struct("<QBQQHHB")
"""btrfs_dir_item: location (objectid, type, offset), transid, data_len, name_len, type."""

REFERENCE = struct.Struct("<QH")
"""btrfs_inode_ref: index, name_len."""

LONG_REFERENCE = struct.Struct("<QQH")
"""btrfs_inode_extref: parent, index, name_len."""

EXTENT = struct.Struct("<QQBBHB")
"""Start of btrfs_file_extent_item: generation, ram_bytes, compression, encryption,
other_encoding, type; inline data follows."""

EXTENT_PLACE = struct.Struct("<QQQQ")
"""Rest of an extent that is not inline: disk_bytenr, disk_num_bytes, offset, num_bytes."""


class Type(IntEnum):
    """Key types in a subvolume's tree."""

    INODE = 1
    REFERENCE = 12
    LONG_REFERENCE = 13
    XATTR = 24
    DIR_ITEM = 84
    DIR_INDEX = 96
    EXTENT = 108
    ROOT = 132


class ExtentType(IntEnum):
    """What an extent item stands for."""

    INLINE = 0
    REGULAR = 1
    PREALLOCATED = 2


class Item(NamedTuple):
    """One item: its key and where its data lies in the search buffer."""

    objectid: int
    type: int
    offset: int
    start: int
    size: int


class TreeSearch:
    """Searches in one tree, with a buffer that is used again and again.

    `fd` is any descriptor in the file system (not O_PATH), `tree` the subvolume's id,
    `size` the bytes that one request may return.
    """

    def __init__(self, fd: int, tree: int, size: int = 4 << 20) -> None:
        self._fd = fd
        self._tree = tree
        self._size = max(size, _LARGEST_ITEM)
        self.buffer = bytearray(_HEAD + self._size)
        """Where the data of the items lies; good until the iterator is asked for the next."""

    def items(
        self,
        first: int,
        last: int,
        first_type: int = 0,
        last_type: int = 255,
        types: Container[int] = range(256),
    ) -> Iterator[Item]:
        """Yield the items of `types` from (`first`, `first_type`) to (`last`, `last_type`).

        Raises OSError: ENOENT when the tree does not exist, EPERM without the capability.
        """
        objectid, kind, offset = first, first_type, 0
        while True:
            count = self._request((objectid, kind, offset), last, last_type)
            if not count:
                return
            position = _HEAD
            unpack, head = _ITEM.unpack_from, _ITEM.size
            buffer = self.buffer
            for _ in range(count):
                _, objectid, offset, kind, size = unpack(buffer, position)
                position += head
                if kind in types:
                    yield Item(objectid, kind, offset, position, size)
                position += size
            offset += 1
            if offset > _MAX:
                offset, kind = 0, kind + 1

    def _request(self, start: tuple[int, int, int], last: int, last_type: int) -> int:
        """Fill the buffer with what comes at or after `start`; give the number of items."""
        objectid, kind, offset = start
        _KEY.pack_into(
            self.buffer, 0, self._tree, objectid, last, offset, _MAX, 0, _MAX, kind, last_type,
            (1 << 32) - 1, 0, self._size,
        )  # fmt: skip
        try:
            fcntl.ioctl(self._fd, _REQUEST, self.buffer)
        except OSError as error:
            if error.errno == errno.EOVERFLOW:  # cannot be: no item is larger than a node
                raise OSError(errno.EIO, "an item larger than a tree node") from error
            raise
        (count,) = struct.unpack_from("<I", self.buffer, _COUNT_OFFSET)
        return int(count)


def parse_entries(buffer: bytearray, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of an XATTR item (several where the names' hashes collide)."""
    end = start + size
    while start + DIR_ENTRY.size <= end:
        *_, data_size, name_size, _ = DIR_ENTRY.unpack_from(buffer, start)
        start += DIR_ENTRY.size
        yield (
            bytes(buffer[start : start + name_size]),
            bytes(buffer[start + name_size : start + name_size + data_size]),
        )
        start += name_size + data_size


def parse_references(buffer: bytearray, item: Item) -> Iterator[tuple[int, bytes]]:
    """Yield parent directory and name of a REFERENCE or LONG_REFERENCE item."""
    start, end = item.start, item.start + item.size
    if item.type == Type.REFERENCE:
        while start + REFERENCE.size <= end:
            _, size = REFERENCE.unpack_from(buffer, start)
            start += REFERENCE.size
            yield item.offset, bytes(buffer[start : start + size])
            start += size
        return
    while start + LONG_REFERENCE.size <= end:
        parent, _, size = LONG_REFERENCE.unpack_from(buffer, start)
        start += LONG_REFERENCE.size
        yield parent, bytes(buffer[start : start + size])
        start += size
