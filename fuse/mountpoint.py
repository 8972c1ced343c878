"""Mounting a FUSE file system without libfuse's help, and unmounting it whatever state it is in.

Mounting here, rather than through libfuse, allows the flag MS_POSIXACL: with it the kernel
leaves the umask to the file system, which must not apply it below a default ACL.
"""

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from fuse.libc import MNT_DETACH, mount, umount

log = logging.getLogger(__name__)

_MS_POSIXACL = 1 << 16
_READ_AHEAD_KB = 1024
_OPTIONS = "fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"


def attach(directory: Path, source: str) -> int:
    """Mount at `directory`, shown as `source`; give the descriptor of the connection.

    What a killed predecessor left there is cleared away first. Raises OSError: EBUSY when
    something else is mounted there.
    """
    clear(directory)
    if directory.is_mount():
        raise OSError(errno.EBUSY, "something is mounted there already", str(directory))
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        mount(source, directory, "fuse.snapreel", _MS_POSIXACL, _OPTIONS.format(fd=fd))
    except OSError:
        os.close(fd)
        raise
    return fd


def clear(directory: Path) -> None:
    """Detach dead FUSE mounts from `directory`: those whose process is gone.

    statvfs tells, being never answered from a cache; stat is, after the end of the process too.
    """
    while True:
        try:
            os.statvfs(directory)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise
            umount(directory, MNT_DETACH)
        else:
            return


def detach(directory: Path) -> None:
    """Unmount; when clients are inside, take it out of sight: what they hold open is cut off."""
    try:
        umount(directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return  # somebody unmounted it already
        if error.errno != errno.EBUSY:
            raise
        log.warning("%s is in use: it is detached, and what is open there is cut off", directory)
        with suppress(FileNotFoundError):
            umount(directory, MNT_DETACH)


def set_read_ahead(directory: Path) -> None:
    """Let the kernel read ahead in requests of a full MiB; a container may forbid it."""
    device = directory.stat().st_dev
    path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        path.write_text(str(_READ_AHEAD_KB))
    except OSError as error:
        log.info("read-ahead of %s stays as it is: %s", directory, error)
