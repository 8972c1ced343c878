"""Requests to btrfs: subvolumes, snapshots, clones, quotas, health. One function an ioctl.

Layouts are those of <linux/btrfs.h>. Every function takes descriptors (not O_PATH), raises
OSError with the errno of the kernel, and releases the GIL while it works.

Two kinds of quota serve volume sizes. *Simple quotas* (Linux 6.7) charge an extent to the
subvolume that wrote it, for as long as anything holds the extent: data that only a snapshot
holds still counts for its volume. *Qgroups* count what the subvolume itself references.
"""

import errno
import fcntl
import os
import struct
import uuid as uuids
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUPER_MAGIC = 0x9123683E
TOP_LEVEL = 5
"""Subvolume id of a file system's top level."""
FIRST_FREE_OBJECTID = 256
LAST_FREE_OBJECTID = 2**64 - 256

_SUBVOL_CREATE_V2 = 0x50009418
_SNAP_CREATE_V2 = 0x50009417
_SNAP_DESTROY_V2 = 0x5000943F
_SUBVOL_GETFLAGS = 0x80089419
_SUBVOL_SETFLAGS = 0x4008941A
_GET_SUBVOL_INFO = 0x81F8943C
_QUOTA_CTL = 0xC0109428
_QGROUP_LIMIT = 0x8030942B
_QUOTA_RESCAN_WAIT = 0x942E
_SYNC = 0x9408
_START_SYNC = 0x80089418
_WAIT_SYNC = 0x40089416
_RESIZE = 0x50009403
_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FS_INFO = 0x8400941F
_GET_DEV_STATS = 0xC4089434
_TREE_SEARCH_V2 = 0xC0709411

_READ_ONLY = 1 << 1
_SPEC_BY_ID = 1 << 4
_QUOTA_ENABLE = 1
_QUOTA_ENABLE_SIMPLE = 4
_MAX_REFERENCED = 1
_NO_LIMIT = 2**64 - 1

_VOL_ARGS = struct.Struct("=qQQQ24x4040s")
_VOL_ARGS_BY_ID = struct.Struct("=qQQ32xQ4032x")
_SUBVOL_INFO = struct.Struct("=Q256sQQQQ16s16s16sQQQQQI4xQI4xQI4xQI4x64x")
_TIME_INDEX = 13
_LIMIT = struct.Struct("=QQQQQQ")
_SEARCH_KEY = struct.Struct("=QQQQQQQIIII32x")
_SEARCH_BUFFER = 1 << 20
_ITEM_HEADER = struct.Struct("=QQQII")
_INODE_ITEM = 1
_INODE_TRANSID = struct.Struct("=8xQ")


@dataclass(frozen=True, slots=True)
class SubvolumeInfo:
    """What GET_SUBVOL_INFO tells; times in ns since 1970, `created_transid` is otransid."""

    subvolid: int
    parent: int
    generation: int
    read_only: bool
    uuid: uuids.UUID
    parent_uuid: uuids.UUID | None
    created_transid: int
    created_ns: int


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """Bytes charged to a subvolume, with what is reserved for writes under way; limit 0 = none."""

    used: int
    limit: int


def _name(name: str | bytes) -> bytes:
    encoded = os.fsencode(name)
    if len(encoded) > 255:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return encoded


def create_subvolume(dir_fd: int, name: str | bytes) -> None:
    """Make an empty subvolume `name` in `dir_fd`."""
    fcntl.ioctl(dir_fd, _SUBVOL_CREATE_V2, bytearray(_VOL_ARGS.pack(0, 0, 0, 0, _name(name))))


def create_snapshot(source_fd: int, dir_fd: int, name: str | bytes, read_only: bool = True) -> None:
    """Make `name` in `dir_fd` a snapshot of the subvolume whose top directory is `source_fd`.

    Everything whose write(2) had returned is in it: the kernel writes out delayed allocations
    of the source first. On return the snapshot is on disk, since its transaction is committed.
    """
    flags = _READ_ONLY if read_only else 0
    args = bytearray(_VOL_ARGS.pack(source_fd, 0, flags, 0, _name(name)))
    fcntl.ioctl(dir_fd, _SNAP_CREATE_V2, args)


def destroy_subvolume(dir_fd: int, name: str | bytes) -> None:
    """Remove subvolume `name` of `dir_fd` with all it holds; space is freed in the background.

    Raises OSError: ENOTEMPTY when another subvolume is nested in it.
    """
    fcntl.ioctl(dir_fd, _SNAP_DESTROY_V2, bytearray(_VOL_ARGS.pack(0, 0, 0, 0, _name(name))))


def destroy_subvolume_by_id(mount_fd: int, subvolid: int) -> None:
    """Remove the subvolume `subvolid`, wherever it is below `mount_fd`."""
    fcntl.ioctl(
        mount_fd, _SNAP_DESTROY_V2, bytearray(_VOL_ARGS_BY_ID.pack(0, 0, _SPEC_BY_ID, subvolid))
    )


def set_read_only(fd: int, read_only: bool) -> None:
    """Freeze or thaw the subvolume whose top directory is `fd`."""
    flags = bytearray(8)
    fcntl.ioctl(fd, _SUBVOL_GETFLAGS, flags)
    (value,) = struct.unpack("=Q", flags)
    value = value | _READ_ONLY if read_only else value & ~_READ_ONLY
    fcntl.ioctl(fd, _SUBVOL_SETFLAGS, bytearray(struct.pack("=Q", value)))


def subvolume_info(fd: int) -> SubvolumeInfo:
    """Describe the subvolume that holds the object `fd`."""
    buffer = bytearray(_SUBVOL_INFO.size)
    fcntl.ioctl(fd, _GET_SUBVOL_INFO, buffer)
    data = _SUBVOL_INFO.unpack(buffer)
    parent_uuid = uuids.UUID(bytes=data[7])
    return SubvolumeInfo(
        subvolid=data[0],
        parent=data[2],
        generation=data[4],
        read_only=bool(data[5] & 1),
        uuid=uuids.UUID(bytes=data[6]),
        parent_uuid=parent_uuid if parent_uuid.int else None,
        created_transid=data[10],
        created_ns=data[_TIME_INDEX + 2] * 1_000_000_000 + data[_TIME_INDEX + 3],
    )


def subvolume_id(fd: int) -> int:
    """Give the id of the subvolume that holds the object `fd`."""
    return subvolume_info(fd).subvolid


def sync(fd: int) -> None:
    """Write out all of the file system and commit its transaction."""
    fcntl.ioctl(fd, _SYNC)


def commit(fd: int) -> None:
    """Commit the transaction under way; data not yet written out is left alone."""
    transid = bytearray(8)
    fcntl.ioctl(fd, _START_SYNC, transid)
    fcntl.ioctl(fd, _WAIT_SYNC, transid)


def clone(source_fd: int, target_fd: int) -> None:
    """Make the file `target_fd` share all extents of `source_fd` (FICLONE)."""
    fcntl.ioctl(target_fd, _FICLONE, source_fd)


def clone_range(source_fd: int, offset: int, length: int, target_fd: int, target: int) -> None:
    """Share a range (FICLONERANGE); offsets and length in whole sectors, or length to the end."""
    args = bytearray(struct.pack("=qQQQ", source_fd, offset, length, target))
    fcntl.ioctl(target_fd, _FICLONERANGE, args)


def resize(fd: int, size: int | None = None) -> None:
    """Give the file system `size` bytes of its (only) device, or all of it."""
    text = b"max" if size is None else str(size).encode()
    fcntl.ioctl(fd, _RESIZE, bytearray(struct.pack("=q4088s", 0, text)))


def file_system_id(fd: int) -> uuids.UUID:
    """Give the UUID of the file system that holds `fd`."""
    info = bytearray(1024)
    fcntl.ioctl(fd, _FS_INFO, info)
    return uuids.UUID(bytes=bytes(info[16:32]))


def node_size(fd: int) -> int:
    """Give the metadata node size in bytes; it bounds the size of one extended attribute."""
    info = bytearray(1024)
    fcntl.ioctl(fd, _FS_INFO, info)
    return int(struct.unpack_from("=I", info, 32)[0])


DEVICE_ERRORS = ("write", "read", "flush", "corruption", "generation")


def device_errors(fd: int, device: int = 1) -> dict[str, int]:
    """Count the errors of a device since its counters were reset, by DEVICE_ERRORS."""
    args = bytearray(0x408)
    struct.pack_into("=QQQ", args, 0, device, len(DEVICE_ERRORS), 0)
    fcntl.ioctl(fd, _GET_DEV_STATS, args)
    return dict(zip(DEVICE_ERRORS, struct.unpack_from("=5Q", args, 24), strict=True))


def is_btrfs(fd: int) -> bool:
    """Say whether `fd` lies on btrfs."""
    try:
        file_system_id(fd)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise
    return True


# -- quotas ---------------------------------------------------------------------------------


def _quota_directory(fd: int) -> Path:
    return Path(f"/sys/fs/btrfs/{file_system_id(fd)}/qgroups")


def quota_mode(fd: int) -> str:
    """Say how space is counted: `squota` (simple), `qgroup`, or empty when it is not."""
    directory = _quota_directory(fd)
    try:
        if (directory / "enabled").read_text().strip() != "1":
            return ""
        return (directory / "mode").read_text().strip()
    except FileNotFoundError:
        return "qgroup" if directory.exists() else ""


def enable_quota(fd: int) -> str:
    """Turn on simple quotas where the kernel has them, else qgroups; give the mode.

    What is on already stays. Simple quotas do not count data that was there before.
    """
    mode = quota_mode(fd)
    if mode:
        return mode
    try:
        fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE_SIMPLE, 0)))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE, 0)))
        fcntl.ioctl(fd, _QUOTA_RESCAN_WAIT)
    return quota_mode(fd)


def set_limit(fd: int, subvolid: int, limit: int) -> None:
    """Bound what subvolume `subvolid` may use to `limit` bytes; 0 lifts the bound.

    Writes beyond it fail with EDQUOT.
    """
    value = limit or _NO_LIMIT
    args = bytearray(_LIMIT.pack(subvolid, _MAX_REFERENCED, value, 0, 0, 0))
    fcntl.ioctl(fd, _QGROUP_LIMIT, args)


def quota_usage(fd: int, subvolid: int) -> QuotaUsage:
    """Tell what `subvolid` uses and may use: a few reads of sysfs, always current.

    Raises FileNotFoundError when quotas are off or the subvolume is unknown.
    """
    directory = _quota_directory(fd) / f"0_{subvolid}"

    def value(name: str) -> int:
        return int((directory / name).read_text())

    used = value("referenced") + value("rsv_data")
    used += value("rsv_meta_pertrans") + value("rsv_meta_prealloc")
    limited = value("limit_flags") & _MAX_REFERENCED
    limit = value("max_referenced") if limited else 0
    return QuotaUsage(used, 0 if limit == _NO_LIMIT else limit)


# -- inodes ---------------------------------------------------------------------------------


def inode_transids(fd: int, newer_than: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (inode, transid) of the inodes of `fd`'s subvolume, ascending, the top included.

    Only those changed in a transaction later than `newer_than`; leaves without changes are
    not read. A change of a living subvolume shows in its inode's item no later than at the next
    commit, so look for changes in a snapshot; an inode's existence shows at once.
    """
    buffer = bytearray(_SEARCH_KEY.size + 40 + _SEARCH_BUFFER)
    first, kind, offset = FIRST_FREE_OBJECTID, 0, 0
    while True:
        _SEARCH_KEY.pack_into(
            buffer,
            0,
            *(0, first, LAST_FREE_OBJECTID, offset, 2**64 - 1, newer_than + 1, 2**64 - 1),
            *(kind, 255, 2**32 - 1, 0),
        )
        struct.pack_into("=Q", buffer, 104, _SEARCH_BUFFER)
        fcntl.ioctl(fd, _TREE_SEARCH_V2, buffer)
        (count,) = struct.unpack_from("=I", buffer, 64)
        if not count:
            return
        position = 112
        for _ in range(count):
            _, first, offset, kind, length = _ITEM_HEADER.unpack_from(buffer, position)
            position += _ITEM_HEADER.size
            if kind == _INODE_ITEM:
                (transid,) = _INODE_TRANSID.unpack_from(buffer, position)
                if transid > newer_than:
                    yield first, transid
            position += length
        first, kind, offset = _successor(first, kind, offset)


def _successor(objectid: int, kind: int, offset: int) -> tuple[int, int, int]:
    if offset < 2**64 - 1:
        return objectid, kind, offset + 1
    return (objectid, kind + 1, 0) if kind < 255 else (objectid + 1, 0, 0)


def count_inodes(fd: int) -> int:
    """Count the inodes of `fd`'s subvolume, its top directory included."""
    return sum(1 for _ in inode_transids(fd))
