"""Open any object of an aggregate by (subvolume id, inode number), without a path.

A btrfs file handle is `struct file_handle` of type FILEID_BTRFS_WITHOUT_PARENT (0x4d)
with a body of 20 bytes: objectid u64, root_objectid u64, generation u32. Generation 0
matches every inode, so that a handle stays good for as long as the inode lives.
"""

import ctypes
import struct

from fuse.libc import AT_EMPTY_PATH, name_to_handle_at, open_by_handle_at

ROOT_INODE = 256
"""Inode number of the top directory of every subvolume."""

_BODY_SIZE = 20
_FILEID_BTRFS_WITHOUT_PARENT = 0x4D
_HANDLE = struct.Struct("<IiQQI")


def open_inode(mount_fd: int, subvolid: int, inode: int, flags: int) -> int:
    """Give a descriptor of `inode` in subvolume `subvolid`.

    `mount_fd` is any descriptor within the aggregate, not opened with O_PATH; `flags` are those
    of open(2), without O_CREAT. Raises OSError: ESTALE when there is no such inode or subvolume
    (any more), ELOOP for a symbolic link without O_PATH, EROFS to write in a snapshot.
    """
    handle = _HANDLE.pack(_BODY_SIZE, _FILEID_BTRFS_WITHOUT_PARENT, inode, subvolid, 0)
    return open_by_handle_at(mount_fd, handle, flags)


class Generations:
    """Reads inode numbers with their generations. For one thread: its buffers are used again.

    btrfs may give the number of a deleted inode again once it was mounted afresh, but with
    another generation.
    """

    def __init__(self) -> None:
        self._handle = ctypes.create_string_buffer(_HANDLE.size)
        self._mount_id = ctypes.c_int()
        self._places = ctypes.addressof(self._handle), ctypes.addressof(self._mount_id)

    def read(self, fd: int, name: bytes = b"") -> tuple[int, int]:
        """Give inode and generation of entry `name` of the directory `fd`, or of `fd` itself.

        `fd` may be opened with O_PATH; symbolic links are not followed. Raises OSError.
        """
        struct.pack_into("=I", self._handle, 0, _BODY_SIZE)
        name_to_handle_at(fd, name, *self._places, 0 if name else AT_EMPTY_PATH)
        _, _, inode, _, generation = _HANDLE.unpack_from(self._handle)
        return inode, generation
