"""What the file system process knows of the volume that it presents."""

# Descriptors and paths in /proc/self/fd are no business of pathlib.

import errno
import os
from pathlib import Path

import pyfuse3

from fuse import attributes
from fuse.attributes import ACTIVE, SNAPSHOT, VIRTUAL, Lifetime
from fuse.border import Borders
from fuse.fence import Fence
from fuse.handle import ROOT_INODE, Generations, open_inode
from fuse.handling import refuse
from fuse.listing import Listing, SnapshotListing
from fuse.nodes import ROOT_NODE, HandleCache, NodeIds
from fuse.openfile import OpenFiles
from fuse.snapdir import SnapshotTable
from fuse.volume import Volume


class MountedVolume:
    """A volume as clients see it: descriptors, open files, snapshots, restrictions.

    Belongs to the thread of the request loop.
    """

    def __init__(self, volume: Volume, snapshots: Path, capacity: int = 1024) -> None:
        metadata = volume.metadata()
        self.volume = volume
        self.ids = NodeIds(volume.subvolid)
        self.root_fd = open_inode(
            volume.aggregate.fd, volume.subvolid, ROOT_INODE, os.O_RDONLY | os.O_CLOEXEC
        )
        self.handles = HandleCache(self.root_fd, self.ids, capacity)
        self.files = OpenFiles()
        self.listings: dict[int, Listing | SnapshotListing] = {}
        self.snapshots = SnapshotTable(snapshots)
        self.fence = Fence()
        self._generations = Generations()
        self.borders = Borders(self.root_fd, volume.subvolid)
        for marked in volume.restrictions.list():
            self.fence.raise_for(self.ids.node(volume.subvolid, marked.inode), marked.mark.session)
        self.read_only = metadata.type == "dp"
        self.shows_snapshots = metadata.snapdir

    def fd(self, node: int) -> int:
        """Give a descriptor of `node` for immediate use: of its cache or of an open file.

        Raises OSError: ESTALE when the object, or the snapshot that it was in, is gone.
        """
        try:
            if not self.ids.is_active(node):
                self._check_snapshot(self.ids.subvolid(node))
            return self.handles.fd(node)
        except OSError as error:
            fd = self.files.of(node)
            if fd is not None:
                return fd
            if error.errno == errno.ENOENT:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from error
            raise

    def _check_snapshot(self, subvolid: int) -> None:
        """Let go of a snapshot that was deleted, though its descriptors would still work."""
        if not self.snapshots.holds(subvolid):
            self.forget_subvolume(subvolid)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def path(self, node: int) -> str:
        """Give a path to `node` for calls that take one; see fd()."""
        return f"/proc/self/fd/{self.fd(node)}"

    def reopen(self, path: str, flags: int) -> int:
        """Open what `path` (of path()) leads to for I/O; the caller owns the descriptor."""
        try:
            return os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EMFILE or not self.handles.relieve():
                raise
        return os.open(path, flags | os.O_CLOEXEC)

    def check_writable(self, node: int) -> None:
        """Refuse with EROFS what would change a snapshot or a read-only volume."""
        if self.read_only or not self.ids.is_active(node):
            refuse(errno.EROFS)

    def lifetime(self, node: int) -> Lifetime:
        """Say how long the kernel may keep what it is told of `node`."""
        if self.ids.is_active(node):
            return VIRTUAL if node in self.fence else ACTIVE
        return VIRTUAL if self.ids.is_snapshot_directory(node) else SNAPSHOT

    def entry(
        self, subvolid: int, fd: int, name: bytes = b"", lifetime: Lifetime | None = None
    ) -> pyfuse3.EntryAttributes:
        """Give what the kernel is told of an object of `subvolid` when it gets to know it.

        It is the entry `name` of the directory `fd`, or `fd` itself. Raises OSError.
        """
        while True:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False) if name else os.stat(fd)
            inode, generation = self._generations.read(fd, name)
            if inode == status.st_ino:  # else the engine put another in its place
                break
        node = self.ids.node(subvolid, inode)
        if node == ROOT_NODE:  # the kernel knows it from the start, as of generation 0
            generation = 0
        return attributes.entry(status, node, lifetime or self.lifetime(node), generation)

    def release(self, node: int) -> None:
        """Hold `node` open no longer than its clients do, as the engine may have removed it."""
        fd = self.handles.forget(node)
        if fd is not None:
            os.close(fd)

    def forget_subvolume(self, subvolid: int) -> None:
        """Let go of a snapshot that was deleted; files that clients hold open stay readable."""
        self.handles.drop_subvolume(subvolid)

    def close(self) -> None:
        """Close every descriptor."""
        self.files.close()
        for listing in self.listings.values():
            listing.close()
        self.listings.clear()
        self.handles.close()
        os.close(self.root_fd)
