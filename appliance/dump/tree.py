"""The tree a restore writes into: objects of one volume by inode number, beneath the mount.

Nothing is ever reached by a path. Directories are opened by btrfs handle and names are used
one at a time with O_NOFOLLOW or its like, so that neither a hostile tape nor a client that
renames things meanwhile can lead a write out of the volume. What changes is told to the
volume's file system process in batches, so that clients see it.
"""

import errno
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass

from appliance.errors import Refused
from fuse.channel import VolumeChannel
from fuse.handle import ROOT_INODE, open_inode
from fuse.volume import Volume

_CACHED = 256
_BATCH = 2000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ESTALE, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of a directory in the target."""

    name: bytes
    inode: int
    directory: bool


class Invalidation:
    """What clients' caches may hold wrongly, told to the file system process in batches.

    Collected also while nothing listens: the volume may be mounted before the restore ends.
    """

    def __init__(self, channel: VolumeChannel | None) -> None:
        self._channel = channel
        self._inodes: set[int] = set()
        self._entries: list[tuple[int, bytes]] = []

    def entry(self, parent: int, name: bytes) -> None:
        """The name `name` of directory `parent` stands for something else."""
        if self._channel is None:
            return
        self._inodes.add(parent)
        self._entries.append((parent, name))
        if len(self._entries) >= _BATCH:
            self.flush()

    def inode(self, number: int) -> None:
        """The data or attributes of an object changed that clients could know."""
        if self._channel is None:
            return
        self._inodes.add(number)
        if len(self._inodes) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Tell what has been collected. Raises StorageFailed."""
        if self._channel is not None and (self._inodes or self._entries):
            self._channel.invalidate(sorted(self._inodes), self._entries)
        self._inodes.clear()
        self._entries = []


class Tree:
    """Objects of one volume; `inode` is a btrfs inode number throughout.

    All methods raise OSError unless they say otherwise.
    """

    def __init__(self, volume: Volume, channel: VolumeChannel | None = None) -> None:
        self.volume = volume
        self.invalidation = Invalidation(channel)
        self._open: OrderedDict[int, int] = OrderedDict()
        self._mount = volume.aggregate.fd
        self._subvolid = volume.subvolid
        self._device = volume.path.lstat().st_dev

    def close(self) -> None:
        """Close all directories."""
        while self._open:
            os.close(self._open.popitem()[1])

    # -- reaching objects -------------------------------------------------------------------

    def open(self, inode: int, flags: int) -> int:
        """Open an object; ESTALE when it is gone. The caller closes the descriptor."""
        return open_inode(self._mount, self._subvolid, inode, flags | os.O_CLOEXEC)

    def directory(self, inode: int) -> int:
        """Give a descriptor of a directory that stays open for the next few calls only."""
        fd = self._open.get(inode)
        if fd is not None:
            self._open.move_to_end(inode)
            return fd
        fd = self.open(inode, _DIRECTORY)
        self._open[inode] = fd
        if len(self._open) > _CACHED:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def status(self, inode: int) -> os.stat_result | None:
        """Give the lstat of an object, None when it is gone or has no name any more."""
        try:
            fd = self.open(inode, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        return found if found.st_nlink else None

    def lookup(self, parent: int, name: bytes) -> os.stat_result | None:
        """Give the lstat of a name, None when there is none.

        Raises Refused when something else than this volume begins there.
        """
        try:
            found = os.stat(name, dir_fd=self.directory(parent), follow_symlinks=False)
        except FileNotFoundError:
            return None
        if found.st_dev != self._device or (
            found.st_ino == ROOT_INODE and stat.S_ISDIR(found.st_mode)
        ):
            raise Refused(os.fsdecode(name), "another file system is mounted there")
        return found

    def children(self, inode: int) -> list[Child]:
        """List a directory.

        Through a descriptor of its own: btrfs shows an open one no names that came after it
        was opened.
        """
        fd = self.open(inode, _DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                return [
                    Child(os.fsencode(e.name), e.inode(), e.is_dir(follow_symlinks=False))
                    for e in entries
                ]
        finally:
            os.close(fd)

    def parent(self, inode: int) -> int:
        """Give the directory that a directory is in."""
        return os.stat("..", dir_fd=self.directory(inode)).st_ino

    # -- changing names ---------------------------------------------------------------------

    def make_directory(self, parent: int, name: bytes, mode: int = 0o700) -> int:
        """Make a directory and give its inode."""
        fd = self.directory(parent)
        os.mkdir(name, mode, dir_fd=fd)
        self.invalidation.entry(parent, name)
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino

    def create_file(self, parent: int, name: bytes) -> int:
        """Make an empty file for root alone and give a descriptor to write it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.directory(parent))
        self.invalidation.entry(parent, name)
        return fd

    def make_symlink(self, parent: int, name: bytes, target: bytes) -> None:
        """Make a symbolic link."""
        os.symlink(target, name, dir_fd=self.directory(parent))
        self.invalidation.entry(parent, name)

    def make_node(self, parent: int, name: bytes, mode: int, device: int) -> None:
        """Make a fifo, socket or device; `device` is major << 32 | minor."""
        number = os.makedev(device >> 32, device & 0xFFFFFFFF)
        kind = stat.S_IFMT(mode) | 0o600
        os.mknod(name, kind, number, dir_fd=self.directory(parent))
        self.invalidation.entry(parent, name)

    def link(self, inode: int, parent: int, name: bytes) -> None:
        """Give an object that is no directory another name."""
        fd = self.open(inode, os.O_PATH | os.O_NOFOLLOW)
        try:
            target = self.directory(parent)
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=target, follow_symlinks=True)
        finally:
            os.close(fd)
        self.invalidation.entry(parent, name)
        self.invalidation.inode(inode)

    def unlink(self, parent: int, name: bytes, inode: int) -> None:
        """Take a name away from `inode`, which is no directory."""
        os.unlink(name, dir_fd=self.directory(parent))
        self.invalidation.entry(parent, name)
        self.invalidation.inode(inode)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """Move a name to another directory; what has that name is replaced, if it can be."""
        source, target = self.directory(parent), self.directory(new_parent)
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        self.invalidation.entry(parent, name)
        self.invalidation.entry(new_parent, new_name)
