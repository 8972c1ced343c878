"""Requests about names: lookup, and what makes, moves and removes directory entries."""

# Handlers take what pyfuse3 gives them, needed or not; descriptors and paths in /proc/self/fd are
# no business of pathlib.
# ruff: noqa: ARG002, PTH116

import errno
import os
import stat

import pyfuse3

from fuse import attributes, snapdir
from fuse.attributes import VIRTUAL
from fuse.caller import acting_as
from fuse.handle import ROOT_INODE
from fuse.handling import handler, refuse
from fuse.libc import RENAME_EXCHANGE, renameat2
from fuse.mounted import MountedVolume
from fuse.nodes import ROOT_NODE


class NameRequests:
    """Handlers that work on directory entries."""

    _mounted: MountedVolume

    # -- finding ------------------------------------------------------------------------------

    @handler
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find `name`; `.` and `..` are asked for by NFS servers that hold old handles."""
        ids = self._mounted.ids
        if name == b".":
            return self._itself(parent_inode)
        if ids.is_snapshot_directory(parent_inode):
            return self._lookup_snapshot(parent_inode, name)
        if name == b"..":
            return self._itself(self._above(parent_inode))
        if name == snapdir.NAME:
            return self._lookup_snapshot_directory(parent_inode)
        return self._lookup_name(parent_inode, name)

    def _lookup_name(self, parent: int, name: bytes) -> pyfuse3.EntryAttributes:
        mounted = self._mounted
        active = mounted.ids.is_active(parent)
        try:
            return mounted.entry(mounted.ids.subvolid(parent), mounted.fd(parent), name)
        except FileNotFoundError:
            if active:
                return attributes.missing()
            raise

    def _lookup_snapshot_directory(self, owner: int) -> pyfuse3.EntryAttributes:
        mounted = self._mounted
        if not mounted.ids.is_active(owner):
            refuse(errno.ENOENT)
        status = os.stat(mounted.fd(owner))
        node = mounted.ids.snapshot_directory(owner)
        return attributes.snapshot_directory(status, mounted.snapshots.changed_ns(), node)

    def _lookup_snapshot(self, snapshot_directory: int, name: bytes) -> pyfuse3.EntryAttributes:
        mounted = self._mounted
        owner = mounted.ids.owner(snapshot_directory)
        if name == b"..":
            return self._itself(owner)
        subvolid = mounted.snapshots.subvolid(name)
        entry = None if subvolid is None else self.directory_in(subvolid, owner)
        if entry is None:
            refuse(errno.ENOENT)
        return entry

    def directory_in(self, subvolid: int, owner: int) -> pyfuse3.EntryAttributes | None:
        """Give the attributes of the directory `owner` in a snapshot; None if it is not there."""
        mounted = self._mounted
        try:
            fd = mounted.fd(mounted.ids.node(subvolid, mounted.ids.inode(owner)))
            entry = mounted.entry(subvolid, fd, lifetime=VIRTUAL)
        except OSError as error:
            if error.errno in (errno.ESTALE, errno.ENOENT):
                return None
            raise
        return entry if stat.S_ISDIR(entry.st_mode) else None

    def _itself(self, node: int) -> pyfuse3.EntryAttributes:
        mounted = self._mounted
        ids = mounted.ids
        if ids.is_snapshot_directory(node):
            return self._lookup_snapshot_directory(ids.owner(node))
        return mounted.entry(ids.subvolid(node), mounted.fd(node))

    def _above(self, directory: int) -> int:
        """Give the node of the directory that `directory` is in; a snapshot's is `.snapshot`."""
        mounted = self._mounted
        ids = mounted.ids
        if directory == ROOT_NODE:
            return ROOT_NODE
        if ids.inode(directory) == ROOT_INODE:
            return ids.snapshot_directory(ROOT_NODE)
        status = os.stat("..", dir_fd=mounted.fd(directory))
        return ids.node(ids.subvolid(directory), status.st_ino)

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Give the target of a symbolic link."""
        return os.readlink(b"", dir_fd=self._mounted.fd(inode))

    # -- making -------------------------------------------------------------------------------

    def _parent(self, parent: int, name: bytes) -> int:
        """Give a descriptor of the directory `parent`, in which `name` is to be changed."""
        self._mounted.check_writable(parent)
        if name == snapdir.NAME:
            refuse(errno.EROFS)
        return self._mounted.fd(parent)

    def _made(self, directory: int, name: bytes) -> pyfuse3.EntryAttributes:
        return self._mounted.entry(self._mounted.ids.active, directory, name)

    @handler
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a file, fifo, socket or device of the caller's."""
        directory = self._parent(parent_inode, name)
        with acting_as(ctx):
            os.mknod(name, mode, rdev, dir_fd=directory)
        return self._made(directory, name)

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a directory of the caller's."""
        directory = self._parent(parent_inode, name)
        with acting_as(ctx):
            os.mkdir(name, stat.S_IMODE(mode), dir_fd=directory)
        return self._made(directory, name)

    @handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a symbolic link of the caller's."""
        directory = self._parent(parent_inode, name)
        with acting_as(ctx):
            os.symlink(target, name, dir_fd=directory)
        return self._made(directory, name)

    @handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Give a file another name; EXDEV out of a snapshot and across the border of a qtree."""
        mounted = self._mounted
        self._parent(new_parent_inode, new_name)
        if not mounted.ids.is_active(inode):
            refuse(errno.EXDEV)
        source = mounted.path(inode)
        mounted.fence.admit(inode, source)
        inodes = (mounted.ids.inode(inode), mounted.ids.inode(new_parent_inode))
        if mounted.borders.between(*inodes):
            refuse(errno.EXDEV)
        directory = mounted.fd(new_parent_inode)
        os.link(source, new_name, dst_dir_fd=directory, follow_symlinks=True)
        return self._made(directory, new_name)

    # -- removing and renaming ----------------------------------------------------------------

    def _victim(self, parent: int, name: bytes) -> tuple[int, os.stat_result]:
        """Find an entry that is to lose its name; EBUSY while restricted, EPERM for a qtree.

        Leaves it in the cache of descriptors. Raises OSError ENOENT.
        """
        mounted = self._mounted
        status = os.stat(name, dir_fd=mounted.fd(parent), follow_symlinks=False)
        node = mounted.ids.node(mounted.ids.active, status.st_ino)
        found = mounted.fence.admit(node, mounted.path(node))
        if parent == ROOT_NODE and mounted.borders.marks_qtree(found):
            refuse(errno.EPERM)
        return node, status

    def _lost_name(self, node: int, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
            self._mounted.handles.removed(node)

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove a name of a file; EBUSY while it is restricted."""
        self._parent(parent_inode, name)
        node, status = self._victim(parent_inode, name)
        os.unlink(name, dir_fd=self._mounted.fd(parent_inode))
        self._lost_name(node, status)

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an empty directory; EPERM for a qtree, which the appliance removes."""
        self._parent(parent_inode, name)
        node, status = self._victim(parent_inode, name)
        os.rmdir(name, dir_fd=self._mounted.fd(parent_inode))
        self._lost_name(node, status)

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Rename, with RENAME_NOREPLACE and RENAME_EXCHANGE; EXDEV between qtrees."""
        mounted = self._mounted
        self._parent(parent_inode_old, name_old)
        self._parent(parent_inode_new, name_new)
        self._victim(parent_inode_old, name_old)
        try:
            replaced = self._victim(parent_inode_new, name_new)
        except FileNotFoundError:
            replaced = None
        if parent_inode_old != parent_inode_new:
            inodes = (mounted.ids.inode(parent_inode_old), mounted.ids.inode(parent_inode_new))
            if mounted.borders.between(*inodes):
                refuse(errno.EXDEV)
        directories = mounted.fd(parent_inode_old), mounted.fd(parent_inode_new)
        renameat2(directories[0], name_old, directories[1], name_new, flags)
        if replaced is not None and not flags & RENAME_EXCHANGE:
            self._lost_name(*replaced)
