"""System calls that Python's os module lacks: mounts, renameat2, file handles.

All release the GIL and raise OSError with the errno of the call.
"""

import ctypes
import os

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

MS_NOSUID = 2
MS_NODEV = 4
MS_NOATIME = 1024
MS_BIND = 4096

MNT_DETACH = 2
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.open_by_handle_at.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
_libc.name_to_handle_at.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def _fail(name: str | bytes | None = None) -> OSError:
    errno = ctypes.get_errno()
    if name is None:
        return OSError(errno, os.strerror(errno))
    return OSError(errno, os.strerror(errno), os.fsdecode(name))


def open_by_handle_at(mount_fd: int, handle: bytes, flags: int) -> int:
    """Open the object that `handle` (a struct file_handle) names, as the manual says."""
    fd: int = _libc.open_by_handle_at(mount_fd, handle, flags)
    if fd < 0:
        raise _fail()
    return fd


def name_to_handle_at(dir_fd: int, name: bytes, handle: int, mount_id: int, flags: int) -> None:
    """Fill the struct file_handle at address `handle` and the int at `mount_id`; see the manual."""
    if _libc.name_to_handle_at(dir_fd, name, handle, mount_id, flags) < 0:
        raise _fail(name)


def renameat2(
    old_dir_fd: int, old: str | bytes, new_dir_fd: int, new: str | bytes, flags: int = 0
) -> None:
    """Rename `old` to `new` with RENAME_* `flags`."""
    if _libc.renameat2(old_dir_fd, os.fsencode(old), new_dir_fd, os.fsencode(new), flags) < 0:
        raise _fail(old)


def mount(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    kind: str,
    flags: int = 0,
    options: str = "",
) -> None:
    """Mount `source` of file system type `kind` at `target` with MS_* `flags`."""
    failed = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode()
    )
    if failed < 0:
        raise _fail(os.fspath(source))


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """Unmount what is at `target`; see umount2(2)."""
    if _libc.umount2(os.fsencode(target), flags) < 0:
        raise _fail(os.fspath(target))
