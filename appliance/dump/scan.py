"""The one seam between the dump engine and a file system: a scan of a snapshot.

A scan yields inodes in ascending order of their numbers, each with its metadata and with what
was asked for of names, directory entries, extended attributes and data. Numbers are the file
system's own; `Numbering` turns them into those of the tape.
"""

from collections.abc import Iterable, Iterator
from enum import Flag, auto
from typing import NamedTuple, Protocol

from appliance.dump.record import ROOT_INODE
from appliance.errors import Refused

HIGHEST_TAPE_INODE = (1 << 32) - 2


class Want(Flag):
    """What a scan shall bring beside the metadata; the rest of `ScannedInode` stays empty."""

    NOTHING = 0
    NAMES = auto()
    ENTRIES = auto()
    XATTRS = auto()
    DATA = auto()


class ScannedInode(NamedTuple):
    """One inode of a snapshot.

    Times are ns since 1970, `device` is major << 32 | minor, `flags` those of
    FS_IOC_GETFLAGS. `blocks` are of 512 bytes; -1 where part of what is allocated may hold no
    data, so that only the extents tell. `changed_in` is the generation of the last change.
    `names` are (parent, name), `entries` of a directory (child, name, DT_ type).
    `extents` are the ranges [start, end) of bytes that are not holes, ascending and not
    touching; they may reach beyond the end of the file. `data` holds the first bytes of a file
    whose data came with the scan; then there are no extents.
    A tuple and not a dataclass, since one is made for every inode in every phase.
    """

    number: int
    mode: int
    links: int
    size: int
    uid: int
    gid: int
    device: int
    flags: int
    blocks: int
    generation: int
    changed_in: int
    accessed: int
    modified: int
    changed: int
    created: int
    names: list[tuple[int, bytes]]
    entries: list[tuple[int, bytes, int]]
    xattrs: dict[bytes, bytes]
    extents: list[tuple[int, int]]
    data: bytes | None


class Scan(Protocol):
    """Access to one snapshot; not thread-safe. Raises OSError when the snapshot cannot be read."""

    def inodes(self, want: Want, numbers: Iterable[int] | None = None) -> Iterator[ScannedInode]:
        """Yield all inodes, or those of ascending `numbers` that exist, in ascending order."""
        ...

    def open(self, number: int) -> int:
        """Give a descriptor to read a regular file or symbolic link's data; the caller closes."""
        ...

    def path(self, number: int) -> bytes:
        """Give one path of an inode relative to the top of the snapshot, for messages."""
        ...

    def lookup(self, path: bytes) -> int:
        """Give the number of the inode at `path` relative to the top; OSError if there is none."""
        ...


class Numbering:
    """Tape inode numbers of a dump whose root is inode `root`.

    The root is 2. Any other inode n is n - 254: the first inode of a btrfs subvolume after its
    top directory is 257 and becomes 3. So a number on tape stays that of its inode over all
    levels of dumps of the same path, without any table.
    """

    __slots__ = ("_root",)

    OFFSET = 254

    def __init__(self, root: int) -> None:
        self._root = root

    def tape(self, number: int) -> int:
        """Give the number on tape; raises Refused when it does not fit into the format."""
        if number == self._root:
            return ROOT_INODE
        tape = number - self.OFFSET
        if tape > HIGHEST_TAPE_INODE:
            raise Refused(
                f"inode {number}", "the dump format has no inode numbers above 4294967294"
            )
        return tape

    def source(self, tape: int) -> int:
        """Undo `tape`."""
        return self._root if tape == ROOT_INODE else tape + self.OFFSET
