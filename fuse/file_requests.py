"""Requests that carry file data: open, create, read, write, fsync, release.

What the page cache can answer is done at once in the request loop, which costs a tenth of
handing it to a thread. RWF_NOWAIT makes the kernel say when it cannot, and then a thread waits.
"""

# Handlers take what pyfuse3 gives them, needed or not; descriptors and paths in /proc/self/fd are
# no business of pathlib.
# ruff: noqa: ARG002, PTH116

import errno
import logging
import os
import stat
from collections.abc import Sequence

import pyfuse3
import trio

from fuse import snapdir
from fuse.caller import acting_as, drop_privilege
from fuse.fence import is_lun
from fuse.handling import handler, refuse
from fuse.mounted import MountedVolume
from fuse.openfile import BULK, OpenFile
from fuse.pace import Pace

log = logging.getLogger("fuse.operations")

_WOULD_WAIT = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})
_READ_BUFFER = 1 << 20

_sync_threads = trio.CapacityLimiter(16)
"""Apart from those of reads and writes, which should not wait for a queue of fsyncs."""


class FileRequests:
    """Handlers of open files.

    Of the flags of a client's open(2), only access mode and O_TRUNC concern the file beneath:
    O_APPEND would misplace pages that the kernel writes back, O_SYNC arrives as fsync requests,
    and O_DIRECT is about the client's cache.
    """

    _mounted: MountedVolume

    def __init__(self) -> None:
        self._buffer = bytearray(_READ_BUFFER)
        self._view = memoryview(self._buffer)
        self._pace = Pace(slow=0.02, caution=1.0)

    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file; EBUSY while it is restricted, EROFS to change a snapshot."""
        mounted = self._mounted
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            mounted.check_writable(inode)
        path = mounted.path(inode)
        found = mounted.fence.admit(inode, path)
        if flags & os.O_TRUNC:
            drop_privilege(path, ctx)
        bulk = flags & os.O_TRUNC and os.stat(path).st_size >= BULK
        passed_on = os.O_ACCMODE if bulk else os.O_ACCMODE | os.O_TRUNC
        fd = mounted.reopen(path, flags & passed_on)
        if bulk:
            with mounted.fence.change(inode):
                await _empty(fd)
        handle = mounted.files.add(OpenFile(fd, inode, _unseen_writer(flags, ctx)))
        lun = is_lun(found)
        return pyfuse3.FileInfo(fh=handle, direct_io=lun, keep_cache=not lun)

    @handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Create a file of the caller's and open it.

        What the engine made since the kernel last looked is ESTALE: the kernel looks again, and
        decides who may open what it finds.
        """
        mounted = self._mounted
        mounted.check_writable(parent_inode)
        if name == snapdir.NAME:
            refuse(errno.EROFS)
        try:
            fd = self._create(parent_inode, name, mode, flags, ctx)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            refuse(errno.ESTALE)
        entry = mounted.entry(mounted.ids.active, fd)
        mounted.files.add(OpenFile(fd, entry.st_ino, _unseen_writer(flags, ctx)))
        return pyfuse3.FileInfo(fh=fd, keep_cache=True), entry

    def _create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> int:
        mounted = self._mounted
        how = flags & os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        directory = mounted.fd(parent)
        with acting_as(ctx):
            try:
                return os.open(name, how, stat.S_IMODE(mode), dir_fd=directory)
            except OSError as error:
                if error.errno != errno.EMFILE or not mounted.handles.relieve():
                    raise
        directory = mounted.fd(parent)
        with acting_as(ctx):
            return os.open(name, how, stat.S_IMODE(mode), dir_fd=directory)

    @handler
    async def read(self, fh: int, off: int, size: int) -> bytes | memoryview:
        """Give up to `size` bytes at `off`; fewer only at the end of the file.

        What is given may be the handler's own buffer, good until the next request.
        """
        mounted = self._mounted
        file = mounted.files[fh]
        mounted.fence.check(file.node)
        if size > _READ_BUFFER:
            return await self._read_waiting(file, off, size)
        view = self._view[:size]
        try:
            count = os.preadv(fh, (view,), off, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in _WOULD_WAIT:
                raise
            return await self._read_waiting(file, off, size)
        if count == size or off + count >= os.stat(fh).st_size:
            return view[:count]
        start = bytes(view[:count])
        return start + await self._read_waiting(file, off + count, size - count)

    async def _read_waiting(self, file: OpenFile, offset: int, size: int) -> bytes:
        data = await trio.to_thread.run_sync(os.pread, file.fd, size, offset)
        self._mounted.fence.check(file.node)
        return data

    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write all of `buf` at `off`."""
        mounted = self._mounted
        file = mounted.files[fh]
        mounted.fence.check(file.node)
        if file.unseen_writer is not None and drop_privilege(fh, file.unseen_writer):
            pyfuse3.invalidate_inode(file.node, attr_only=True)
        with self._pace.call() as brisk:
            if brisk:
                return os.pwrite(fh, buf, off)
            with mounted.fence.change(file.node):
                count = await trio.to_thread.run_sync(_write_all, fh, memoryview(buf), off)
        mounted.fence.check(file.node)
        return count

    @handler
    async def flush(self, fh: int) -> None:
        """Nothing waits to be written when a descriptor is closed: ENOSYS, do not ask again."""
        refuse(errno.ENOSYS)

    @handler
    async def release(self, fh: int) -> None:
        """Close a file; the data of a large removed one is freed off the loop."""
        self._mounted.files.remove(fh)
        await close_file(fh)

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Bring what was written to stable storage."""
        sync = os.fdatasync if datasync else os.fsync
        await trio.to_thread.run_sync(sync, fh, limiter=_sync_threads)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Let go of objects that the kernel knows no longer. No answer, so no refusal either."""
        for node, _ in inode_list:
            fd = self._mounted.handles.forget(node)
            if fd is not None:
                try:
                    await close_file(fd)
                except OSError as error:
                    log.error("letting go of node %x: %s", node, error)


def _unseen_writer(flags: int, opener: pyfuse3.RequestContext) -> pyfuse3.RequestContext | None:
    """Give who writes when the kernel does not clear setuid bits itself: through O_DIRECT."""
    return opener if flags & os.O_DIRECT and opener.uid else None


async def close_file(fd: int) -> None:
    """Close `fd`, in a thread when that may free much."""
    status = os.stat(fd)
    if status.st_nlink == 0 and status.st_blocks * 512 >= BULK:
        await trio.to_thread.run_sync(os.close, fd)
    else:
        os.close(fd)


async def _empty(fd: int) -> None:
    """Truncate a file in a thread; it is closed when that fails."""
    try:
        await trio.to_thread.run_sync(os.truncate, f"/proc/self/fd/{fd}", 0)
    except BaseException:
        os.close(fd)
        raise


def _write_all(fd: int, data: memoryview, offset: int) -> int:
    """Write `data`; give the count written, short only when what follows cannot be."""
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(fd, data[done:], offset + done)
        except OSError:
            if done:
                return done
            raise
    return done
