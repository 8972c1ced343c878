"""Putting attributes on restored objects: owner, mode, extended attributes, times.

The order matters: changing the owner clears setuid bits and capabilities, an ACL and the mode
share bits, and times come last. The set of extended attributes is replaced, except those that
are this project's own bookkeeping.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping

from appliance.dump.record import Inode
from fuse.metadata import CRTIME, PREFIX, VMALIGN

NTACL = b"security.NTACL"
_OWN = PREFIX.encode()
_REPLACED = (CRTIME.encode(), VMALIGN.encode())
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LARGE = 14_000
"""Values above this may be refused for their size by a file system with small nodes."""


def created_value(inode: Inode) -> bytes | None:
    """Give the value of the creation time's attribute, None where the tape tells none."""
    return None if inode.times.created is None else b"%d" % inode.times.created


class AttributeWriter:
    """Applies attributes; `lose` is told of each (kind, text) that could not be kept."""

    def __init__(self, lose: Callable[[str, str], None]) -> None:
        self._lose = lose

    def apply(
        self,
        fd: int,
        status: os.stat_result,
        inode: Inode,
        xattrs: Mapping[bytes, bytes],
        path: bytes,
        *,
        bare: bool = False,
    ) -> None:
        """Give the object behind `fd` all that `inode` and `xattrs` say; `path` names it.

        `status` is how it is now; a `bare` one has no extended attributes. `fd` may be opened
        with O_PATH unless it is a regular file or a directory. Raises OSError, with ENOSPC or
        EDQUOT when full.
        """
        place = self._place(fd, status)
        if not bare:
            self._remove_others(place, xattrs)
        chown = (status.st_uid, status.st_gid) != (inode.uid, inode.gid)
        if chown:
            os.chown(place, inode.uid, inode.gid)
        mode = stat.S_IMODE(inode.mode)
        chmod = chown or stat.S_IMODE(status.st_mode) != mode  # chown(2) may clear bits
        if chmod and not stat.S_ISLNK(status.st_mode):
            os.chmod(place, mode)  # noqa: PTH101 - a descriptor, or an entry of /proc
        for name, value in xattrs.items():
            self._set(place, name, value, path)
        os.utime(place, ns=(inode.times.accessed, inode.times.modified))

    @staticmethod
    def _place(fd: int, status: os.stat_result) -> int | str:
        """Give what leads to the object: O_PATH descriptors only do through /proc."""
        real = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        return fd if real else f"/proc/self/fd/{fd}"

    @staticmethod
    def set_times(fd: int, inode: Inode) -> None:
        """Set the times of access and modification of a directory."""
        os.utime(fd, ns=(inode.times.accessed, inode.times.modified))

    @staticmethod
    def _remove_others(place: int | str, xattrs: Mapping[bytes, bytes]) -> None:
        for text in os.listxattr(place):
            name = os.fsencode(text)
            kept = name.startswith(_OWN) and name not in _REPLACED
            if name not in xattrs and not kept:
                os.removexattr(place, name)

    def _set(self, place: int | str, name: bytes, value: bytes, path: bytes) -> None:
        try:
            os.setxattr(place, name, value)
        except OSError as error:
            if error.errno in _FULL and len(value) <= _LARGE:
                raise
            shown, where = os.fsdecode(name), os.fsdecode(path)
            reason = error.strerror or str(error)
            text = f"{where}: attribute {shown} of {len(value)} bytes is lost: {reason}"
            self._lose(f"attribute {shown.partition('.')[0]}", text)
