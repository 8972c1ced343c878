"""Requests about attributes: getattr, setattr, extended attributes, statfs."""

# Handlers take what pyfuse3 gives them, needed or not; descriptors and paths in /proc/self/fd are
# no business of pathlib.
# ruff: noqa: ARG002, PTH101, PTH116

import errno
import os
import stat

import pyfuse3
import trio

from fuse import attributes
from fuse.caller import drop_privilege, in_group
from fuse.handling import handler, refuse
from fuse.metadata import PREFIX
from fuse.mounted import MountedVolume
from fuse.openfile import BULK

_PRIVATE = PREFIX.encode()
_ACCESS_ACL = b"system.posix_acl_access"


class MetadataRequests:
    """Handlers that read and change what is known about an object."""

    _mounted: MountedVolume

    def _attributes(self, node: int) -> pyfuse3.EntryAttributes:
        mounted = self._mounted
        if mounted.ids.is_snapshot_directory(node):
            owner = os.stat(mounted.fd(mounted.ids.owner(node)))
            return attributes.snapshot_directory(owner, mounted.snapshots.changed_ns(), node)
        return attributes.entry(os.stat(mounted.fd(node)), node, mounted.lifetime(node))

    @handler
    async def getattr(
        self, inode: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        """Give the attributes of a node."""
        return self._attributes(inode)

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Change size, owner, mode and times; the kernel has asked whether the caller may."""
        mounted = self._mounted
        mounted.check_writable(inode)
        mounted.fence.admit(inode, mounted.path(inode))
        if fields.update_size:
            await self._truncate(inode, attr.st_size, fh)
        path = mounted.path(inode)
        if fields.update_size or _changes_owner(fields):
            drop_privilege(path, ctx)
        if _changes_owner(fields):
            uid = attr.st_uid if fields.update_uid else -1
            os.chown(path, uid, attr.st_gid if fields.update_gid else -1)
        if fields.update_mode:
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_atime or fields.update_mtime:
            _set_times(path, attr, fields)
        return self._attributes(inode)

    async def _truncate(self, node: int, size: int, handle: int | None) -> None:
        mounted = self._mounted
        path = mounted.path(node)
        if os.stat(path).st_size - size < BULK:
            if handle is None:
                os.truncate(path, size)
            else:
                os.truncate(handle, size)
            return
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with mounted.fence.change(node):
                await trio.to_thread.run_sync(os.ftruncate, fd, size)
        finally:
            os.close(fd)

    @handler
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Set an extended attribute; those of the appliance itself are refused with EPERM."""
        path = self._changeable(inode, name)
        os.setxattr(path, name, value)
        if name == _ACCESS_ACL:
            _drop_foreign_setgid(path, ctx)

    @handler
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an extended attribute; those of the appliance itself are refused with EPERM."""
        os.removexattr(self._changeable(inode, name), name)

    def _changeable(self, node: int, name: bytes) -> str:
        mounted = self._mounted
        mounted.check_writable(node)
        if name.startswith(_PRIVATE):
            refuse(errno.EPERM)
        path = mounted.path(node)
        mounted.fence.admit(node, path)
        return path

    @handler
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Give the value of an extended attribute; ENODATA without one."""
        if name.startswith(_PRIVATE) or self._mounted.ids.is_snapshot_directory(inode):
            refuse(errno.ENODATA)
        return os.getxattr(self._mounted.path(inode), name)

    @handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        """Give the names of the extended attributes, without those of the appliance."""
        if self._mounted.ids.is_snapshot_directory(inode):
            return []
        names = [os.fsencode(name) for name in os.listxattr(self._mounted.path(inode))]
        return [name for name in names if not name.startswith(_PRIVATE)]

    @handler
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Allow: the kernel checks permissions itself and never asks."""
        return True

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Give the volume's own figures."""
        usage = await trio.to_thread.run_sync(self._mounted.volume.usage)
        return attributes.capacity(usage)


def _changes_owner(fields: pyfuse3.SetattrFields) -> bool:
    """Say whether this is a chown; one that names nothing at all is chown(path, -1, -1).

    That one changes nothing but clears setuid and setgid bits, as every chown does.
    """
    if fields.update_uid or fields.update_gid:
        return True
    times = fields.update_atime or fields.update_mtime or fields.update_ctime
    return not (fields.update_size or fields.update_mode or times)


def _set_times(path: str, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields) -> None:
    present = os.stat(path)
    atime = attr.st_atime_ns if fields.update_atime else present.st_atime_ns
    mtime = attr.st_mtime_ns if fields.update_mtime else present.st_mtime_ns
    os.utime(path, ns=(atime, mtime))


def _drop_foreign_setgid(path: str, caller: pyfuse3.RequestContext) -> None:
    """Clear setgid when its ACL was changed by one who is not of the file's group.

    The kernel does so for a local file system; here it cannot tell us.
    """
    status = os.stat(path)
    if status.st_mode & stat.S_ISGID and not in_group(caller, status.st_gid):
        os.chmod(path, stat.S_IMODE(status.st_mode) & ~stat.S_ISGID)
