"""Node ids of the file system process, and the bounded set of descriptors behind them.

A node id is `subvolume id << 40 | inode`: unique over the volume and all its snapshots, and
enough to open the object by handle after a restart. Two kinds are special:
1 is the root of the volume itself, and `0xFFFFFF << 40 | inode` is the virtual `.snapshot`
directory of the directory `inode`.
"""

import errno
import os
from collections import OrderedDict
from dataclasses import dataclass

from fuse.handle import ROOT_INODE, open_inode

ROOT_NODE = 1
SNAPSHOT_SPACE = 0xFFFFFF
"""Stands for a subvolume id in the node ids of `.snapshot` directories."""

_SHIFT = 40
_INODE_MASK = (1 << _SHIFT) - 1


@dataclass(frozen=True, slots=True)
class NodeIds:
    """Translates between node ids and (subvolume id, inode); `active` is the volume's own."""

    active: int

    def node(self, subvolid: int, inode: int) -> int:
        """Give the node id of `inode` in `subvolid`."""
        if inode == ROOT_INODE and subvolid == self.active:
            return ROOT_NODE
        return subvolid << _SHIFT | inode

    def snapshot_directory(self, node: int) -> int:
        """Give the node id of `.snapshot` in the active directory `node`."""
        return SNAPSHOT_SPACE << _SHIFT | self.inode(node)

    def owner(self, snapdir: int) -> int:
        """Give the node id of the directory that the `.snapshot` directory `snapdir` is in."""
        return self.node(self.active, snapdir & _INODE_MASK)

    def subvolid(self, node: int) -> int:
        """Give the subvolume id of `node`; SNAPSHOT_SPACE for a `.snapshot` directory."""
        return self.active if node == ROOT_NODE else node >> _SHIFT

    def inode(self, node: int) -> int:
        """Give the inode number of `node`."""
        return ROOT_INODE if node == ROOT_NODE else node & _INODE_MASK

    def is_active(self, node: int) -> bool:
        """Say whether `node` belongs to the volume itself and may be changed."""
        return node == ROOT_NODE or node >> _SHIFT == self.active

    def is_snapshot_directory(self, node: int) -> bool:
        """Say whether `node` is a virtual `.snapshot` directory."""
        return node >> _SHIFT == SNAPSHOT_SPACE


class HandleCache:
    """O_PATH descriptors by node id: the `capacity` last used, and those of removed objects.

    A removed object that a client still uses (open files, working directories) cannot be
    opened by handle once btrfs forgets its inode, so its descriptor is kept until the kernel
    forgets the node. Belongs to one thread. A descriptor stays good until `capacity` others
    were asked for, so callers use it at once and never across an await.
    """

    def __init__(self, mount_fd: int, ids: NodeIds, capacity: int = 1024) -> None:
        self._mount_fd = mount_fd
        self._ids = ids
        self._capacity = capacity
        self._recent: OrderedDict[int, int] = OrderedDict()
        self._removed: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent) + len(self._removed)

    def fd(self, node: int) -> int:
        """Give an O_PATH descriptor of `node`; raises OSError (ESTALE when it is gone)."""
        fd = self._recent.get(node)
        if fd is not None:
            self._recent.move_to_end(node)
            return fd
        fd = self._removed.get(node)
        if fd is not None:
            return fd
        fd = self.open(node, os.O_PATH)
        self._recent[node] = fd
        if len(self._recent) > self._capacity:
            os.close(self._recent.popitem(last=False)[1])
        return fd

    def open(self, node: int, flags: int) -> int:
        """Open a node, `flags` being those of the system call; the caller owns the descriptor.

        When the process is out of descriptors, half of the cached ones are given up for it.
        """
        subvolid, inode = self._ids.subvolid(node), self._ids.inode(node)
        try:
            return open_inode(self._mount_fd, subvolid, inode, flags | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EMFILE or not self.relieve():
                raise
        return open_inode(self._mount_fd, subvolid, inode, flags | os.O_CLOEXEC)

    def relieve(self) -> bool:
        """Close the older half of the cached descriptors; False when there was none."""
        count = len(self._recent) // 2
        for _ in range(count):
            os.close(self._recent.popitem(last=False)[1])
        return count > 0

    def removed(self, node: int) -> None:
        """Keep the descriptor of `node`, whose last name is gone, until forget()."""
        fd = self._recent.pop(node, None)
        if fd is None:
            return
        self._removed[node] = fd
        if len(self._removed) > self._capacity:
            os.close(self._removed.popitem(last=False)[1])

    def forget(self, node: int) -> int | None:
        """Give up the descriptor of a `node` that the kernel forgot, or that was changed beneath.

        Gives the descriptor for the caller to close, which may free a removed object's data.
        """
        fd = self._recent.pop(node, None)
        return self._removed.pop(node, None) if fd is None else fd

    def drop_subvolume(self, subvolid: int) -> None:
        """Close every descriptor in `subvolid`, so that it can be cleaned once deleted."""
        for table in (self._recent, self._removed):
            for node in [n for n in table if self._ids.subvolid(n) == subvolid]:
                os.close(table.pop(node))

    def close(self) -> None:
        """Close all descriptors."""
        for table in (self._recent, self._removed):
            while table:
                os.close(table.popitem()[1])
