"""Attributes of objects in the form that the kernel takes, and how long it may keep them.

Only this process changes an active volume, apart from the engine, which says what it changed.
So the kernel keeps names and attributes for long. Snapshots come and go without the kernel's
knowledge: names in `.snapshot` are asked for each time, and what is below is kept for a moment.
"""

import os
import stat
from dataclasses import dataclass

import pyfuse3

from fuse.volume import Usage


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long the kernel may keep a name and the attributes behind it, in seconds."""

    name: float
    attributes: float


ACTIVE = Lifetime(300, 300)
SNAPSHOT = Lifetime(1, 1)
VIRTUAL = Lifetime(0, 0)
MISSING = 10.0
"""Seconds that the kernel may remember that an active directory lacks a name."""


def entry(
    status: os.stat_result, node: int, lifetime: Lifetime = ACTIVE, generation: int = 0
) -> pyfuse3.EntryAttributes:
    """Give the attributes of `node`, whose lstat is `status`.

    The kernel takes note of `generation` in the answer to a lookup, and of what else makes it
    know a node; it must always be the same for a node.
    """
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = node
    attributes.generation = generation
    attributes.st_mode = status.st_mode
    attributes.st_nlink = status.st_nlink
    attributes.st_uid = status.st_uid
    attributes.st_gid = status.st_gid
    attributes.st_rdev = status.st_rdev
    attributes.st_size = status.st_size
    attributes.st_blksize = status.st_blksize
    attributes.st_blocks = status.st_blocks
    attributes.st_atime_ns = status.st_atime_ns
    attributes.st_mtime_ns = status.st_mtime_ns
    attributes.st_ctime_ns = status.st_ctime_ns
    if lifetime is not ACTIVE:
        attributes.entry_timeout = lifetime.name
        attributes.attr_timeout = lifetime.attributes
    return attributes


def missing() -> pyfuse3.EntryAttributes:
    """Say that a name does not exist, in the form that the kernel remembers for MISSING."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = 0
    attributes.entry_timeout = MISSING
    return attributes


def snapshot_directory(
    owner: os.stat_result, changed_ns: int, node: int
) -> pyfuse3.EntryAttributes:
    """Give the attributes of the `.snapshot` directory of `owner`, last changed at `changed_ns`.

    Its times are those of `owner` as long as `changed_ns` is 0: there never was a snapshot.
    """
    attributes = entry(owner, node, VIRTUAL)
    attributes.st_mode = stat.S_IFDIR | (owner.st_mode & 0o555) | 0o111
    attributes.st_nlink = 2
    attributes.st_size = 0
    attributes.st_blocks = 0
    changed_ns = changed_ns or owner.st_mtime_ns
    attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = changed_ns
    return attributes


def capacity(usage: Usage, block: int = 4096) -> pyfuse3.StatvfsData:
    """Give the figures of statfs(2) for a volume: its own limits, and what is left of them.

    A volume without a limit on inodes shows none, as btrfs does.
    """
    data = pyfuse3.StatvfsData()
    data.f_bsize = data.f_frsize = block
    total = usage.size or usage.used + usage.available
    data.f_blocks = total // block
    data.f_bfree = max(total - usage.used, usage.available) // block
    data.f_bavail = usage.available // block
    if usage.files:
        data.f_files = usage.files
        data.f_ffree = data.f_favail = usage.files_available
    data.f_namemax = 255
    return data
