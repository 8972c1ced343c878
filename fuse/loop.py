"""Loop devices: block devices backed by an image file.

Devices are attached with the autoclear flag: the kernel detaches one when its last user,
such as a mount, is gone. So none is left over when a process dies between the steps of
attaching, and unmounting is all it takes to be rid of one.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_SET_STATUS64 = 0x4C04
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82

_AUTOCLEAR = 4
_LOOP_MAJOR = 7
_INFO = struct.Struct("=QQQQQIIII64s64s32s16x")
_CONFIG_SIZE = 8 + _INFO.size + 64
_ATTEMPTS = 64


def _info(image: Path) -> bytes:
    return _INFO.pack(*(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR), os.fsencode(image)[:63], b"", b"")


def _configure(device_fd: int, image_fd: int, image: Path) -> None:
    """Bind in one step (Linux 5.8), else in two."""
    config = bytearray(_CONFIG_SIZE)
    struct.pack_into("=II", config, 0, image_fd, 0)
    config[8 : 8 + _INFO.size] = _info(image)
    try:
        fcntl.ioctl(device_fd, _LOOP_CONFIGURE, config)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        fcntl.ioctl(device_fd, _LOOP_SET_FD, image_fd)
        fcntl.ioctl(device_fd, _LOOP_SET_STATUS64, bytearray(_info(image)))


def _device_path(number: int) -> Path:
    """Give the device node, making it where no udev does."""
    path = Path(f"/dev/loop{number}")
    if not path.exists():
        os.mknod(path, 0o600 | 0o060000, os.makedev(_LOOP_MAJOR, number))
    return path


def _free_number() -> int:
    fd = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(fd, _LOOP_CTL_GET_FREE)
    finally:
        os.close(fd)


def attach(image: Path) -> tuple[Path, int]:
    """Attach `image` to a free loop device; give its path and a descriptor of it.

    The device lives as long as the descriptor or another user of it. Raises OSError.
    """
    image_fd = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            path = _device_path(_free_number())
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(fd, image_fd, image)
            except OSError as error:
                os.close(fd)
                # Another process was faster with this number.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return path, fd
        raise OSError(errno.EBUSY, "no loop device stays free", str(image))
    finally:
        os.close(image_fd)


def _status(fd: int) -> tuple[int, int] | None:
    """Give (device, inode) of the backing file, or None when the loop device is free."""
    buffer = bytearray(_INFO.size)
    try:
        fcntl.ioctl(fd, _LOOP_GET_STATUS64, buffer)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    device, inode = struct.unpack_from("=QQ", buffer)
    return device, inode


def _encoded_device(device: int) -> int:
    """Give a device number in the kernel's encoding."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _bound() -> Iterator[Path]:
    """Yield the devices that have a backing file."""
    for directory in sorted(Path("/sys/block").glob("loop*/loop")):
        yield _device_path(int(directory.parent.name.removeprefix("loop")))


def find(image: Path) -> list[Path]:
    """List the loop devices backed by the file `image`, whatever path it was attached by."""
    status = image.stat()
    wanted = (_encoded_device(status.st_dev), status.st_ino)
    found = []
    for path in _bound():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            # It went away since it was listed.
            if error.errno in (errno.ENXIO, errno.ENOENT, errno.ENODEV):
                continue
            raise
        try:
            if _status(fd) == wanted:
                found.append(path)
        finally:
            os.close(fd)
    return found


def detach(device: Path) -> None:
    """Detach a loop device; one that is in use goes with its last user. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)


def refresh_capacity(device: Path) -> None:
    """Make a loop device see that its image has grown. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_SET_CAPACITY)
    finally:
        os.close(fd)
