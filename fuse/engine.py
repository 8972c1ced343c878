"""What an aggregate needs of the file system below it, and how btrfs does it.

An aggregate keeps its volumes as *trees*: directories that can be bounded, snapshotted and
removed as a whole. `Engine` is all that volumes, snapshots and LUNs ask for; everything else
they do with ordinary file calls. Another kind of aggregate brings another Engine.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fuse import btrfs
from fuse.descriptors import directory


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of an aggregate; `available` is what can still be written."""

    total: int
    used: int
    available: int


@dataclass(frozen=True, slots=True)
class TreeInfo:
    """Identity of a tree: `generation` is the change number of its creation, times in ns."""

    tree_id: int
    uuid: str
    generation: int
    last_generation: int
    created_ns: int


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """Bytes that a tree holds and may hold; `limit` 0 is no limit."""

    used: int
    limit: int


class Engine(Protocol):
    """Trees of one aggregate. All methods raise OSError."""

    def create_tree(self, path: Path) -> None:
        """Make an empty tree; its parent exists."""

    def delete_tree(self, path: Path) -> None:
        """Remove a tree or a snapshot with all it holds."""

    def snapshot(self, source: Path, target: Path) -> None:
        """Make an immutable copy of a tree, with everything whose write had returned."""

    def info(self, path: Path) -> TreeInfo:
        """Describe a tree or a snapshot."""

    def set_limit(self, tree_id: int, limit: int) -> None:
        """Bound the bytes of a tree; 0 lifts the bound. Writes beyond it fail."""

    def usage(self, tree_id: int) -> TreeUsage:
        """Tell what a tree uses, cheaply."""

    def count_inodes(self, path: Path) -> int:
        """Count the inodes of a tree, its top included; takes time in proportion to them."""

    def changed_since(self, path: Path, generation: int) -> Iterator[int]:
        """Yield, ascending, the inodes changed after `generation`.

        Complete for a snapshot; of a living tree the latest changes may be missing.
        """

    def clone_file(self, source_fd: int, target_fd: int) -> None:
        """Make a file share the data of another."""

    def capacity(self) -> Capacity:
        """Tell the space of the aggregate."""

    def health(self) -> dict[str, int]:
        """Count the errors of the device since it was made, by kind."""

    def commit(self) -> None:
        """Make what was created, renamed and deleted outlive a power failure."""

    def close(self) -> None:
        """Give back descriptors."""


class BtrfsEngine:
    """Trees are btrfs subvolumes, limits are quota groups; see Engine."""

    def __init__(self, path: Path) -> None:
        """Serve the btrfs mounted at `path`; raises OSError."""
        self.path = path
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give back the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()

    def enable_limits(self) -> str:
        """Turn on the counting that limits need; gives `squota` or `qgroup`."""
        return btrfs.enable_quota(self.fd)

    def create_tree(self, path: Path) -> None:
        """Make a subvolume."""
        with directory(path.parent) as parent:
            btrfs.create_subvolume(parent, path.name)

    def delete_tree(self, path: Path) -> None:
        """Remove a subvolume; its space comes back in the background."""
        with directory(path.parent) as parent:
            btrfs.destroy_subvolume(parent, path.name)

    def snapshot(self, source: Path, target: Path) -> None:
        """Make a read-only snapshot; on disk on return."""
        with directory(source) as tree, directory(target.parent) as parent:
            btrfs.create_snapshot(tree, parent, target.name)

    def info(self, path: Path) -> TreeInfo:
        """Describe a subvolume; `generation` is the transaction that created it."""
        with directory(path) as tree:
            info = btrfs.subvolume_info(tree)
        return TreeInfo(
            info.subvolid,
            str(info.uuid),
            info.created_transid,
            info.generation,
            info.created_ns,
        )

    def set_limit(self, tree_id: int, limit: int) -> None:
        """Set the limit of the subvolume's quota group."""
        btrfs.set_limit(self.fd, tree_id, limit)

    def usage(self, tree_id: int) -> TreeUsage:
        """Read the subvolume's quota group."""
        usage = btrfs.quota_usage(self.fd, tree_id)
        return TreeUsage(usage.used, usage.limit)

    def count_inodes(self, path: Path) -> int:
        """Count inode items by tree search."""
        with directory(path) as tree:
            return btrfs.count_inodes(tree)

    def changed_since(self, path: Path, generation: int) -> Iterator[int]:
        """Find inode items with a later transid by tree search."""
        with directory(path) as tree:
            for inode, _ in btrfs.inode_transids(tree, generation):
                yield inode

    def clone_file(self, source_fd: int, target_fd: int) -> None:
        """Share extents (FICLONE)."""
        btrfs.clone(source_fd, target_fd)

    def capacity(self) -> Capacity:
        """Tell what statvfs tells."""
        status = os.fstatvfs(self.fd)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        return Capacity(status.f_blocks * status.f_frsize, used, status.f_bavail * status.f_frsize)

    def health(self) -> dict[str, int]:
        """Count device errors."""
        return btrfs.device_errors(self.fd)

    def commit(self) -> None:
        """Commit the transaction, without writing out data that nobody asked to be on disk."""
        btrfs.commit(self.fd)
