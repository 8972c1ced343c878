"""Borders between qtrees, which renames and links may not cross."""

import fcntl
import os
import struct

from fuse.handle import ROOT_INODE
from fuse.metadata import QTREE

_INO_LOOKUP = 0xD0009412
_LOOKUP = struct.Struct("=QQ4080s")


def path_of(fd: int, subvolid: int, inode: int) -> bytes:
    """Give one path of `inode` within `subvolid`, `fd` being anything in the aggregate.

    Not opened with O_PATH. Raises OSError: ENOENT when it has no name left, ENAMETOOLONG
    beyond 4,079 bytes.
    """
    arguments = bytearray(_LOOKUP.pack(subvolid, inode, b""))
    fcntl.ioctl(fd, _INO_LOOKUP, arguments)
    path: bytes = _LOOKUP.unpack(arguments)[2]
    return path.partition(b"\0")[0].rstrip(b"/")


class Borders:
    """Tells in which qtree of a volume an object is."""

    def __init__(self, root_fd: int, subvolid: int) -> None:
        self._root_fd = root_fd
        self._subvolid = subvolid

    def qtree_of(self, inode: int) -> bytes:
        """Give the name of the qtree that holds `inode`, empty when none does."""
        if inode == ROOT_INODE:
            return b""
        top = path_of(self._root_fd, self._subvolid, inode).partition(b"/")[0]
        return top if self.is_qtree(top) else b""

    def between(self, one: int, other: int) -> bool:
        """Say whether a border lies between two inodes; the top of a qtree is within it."""
        if one == other:
            return False
        return self.qtree_of(one) != self.qtree_of(other)

    @staticmethod
    def marks_qtree(found: frozenset[str]) -> bool:
        """Say whether the marks on a top-level directory make it a qtree."""
        return QTREE in found

    def is_qtree(self, name: bytes) -> bool:
        """Say whether the entry `name` of the volume's root is a qtree."""
        path = f"/proc/self/fd/{self._root_fd}/{os.fsdecode(name)}"
        try:
            os.getxattr(path, QTREE, follow_symlinks=False)
        except OSError:
            return False
        return True
