"""Reading a directory in pieces with the positions that btrfs itself gives its entries.

btrfs numbers the entries of a directory in the order of their creation and never reuses a
number, so a position stays good while other entries come and go: nothing is shown twice or
left out, however long a reader takes.
"""

import ctypes
import os
import struct
from dataclasses import dataclass

_BUFFER_SIZE = 64 * 1024
_SYS_GETDENTS64 = 61 if os.uname().machine in ("aarch64", "riscv64", "loongarch64") else 217
_DIRENT = struct.Struct("=QqHB")
_DT_DIR = 4

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Name:
    """A directory entry: where the entry after it is, its inode, its d_type, its name."""

    next: int
    inode: int
    kind: int
    name: bytes


class Listing:
    """An open directory, read by position; owns its descriptor."""

    def __init__(self, fd: int, node: int) -> None:
        self.fd = fd
        self.node = node
        self._position = 0
        self._names: list[Name] = []
        self._buffer = ctypes.create_string_buffer(_BUFFER_SIZE)

    def at(self, position: int) -> list[Name]:
        """Give the next entries at `position`, empty at the end; position 0 starts afresh."""
        if position == 0 or position != self._position:
            os.lseek(self.fd, position, os.SEEK_SET)
            self._names = []
        if not self._names:
            self._names = self._read()
        self._position = position
        return self._names

    def advance(self, count: int) -> None:
        """Note that the first `count` of what at() gave were taken."""
        if count:
            self._position = self._names[count - 1].next
            del self._names[:count]

    def _read(self) -> list[Name]:
        size = _libc.syscall(_SYS_GETDENTS64, self.fd, self._buffer, _BUFFER_SIZE)
        if size < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return _parse(self._buffer.raw[:size])

    def close(self) -> None:
        """Close the directory."""
        os.close(self.fd)


def _parse(data: bytes) -> list[Name]:
    names = []
    position = 0
    while position < len(data):
        inode, following, length, kind = _DIRENT.unpack_from(data, position)
        end = data.index(b"\0", position + _DIRENT.size)
        names.append(Name(following, inode, kind, data[position + _DIRENT.size : end]))
        position += length
    return names


class SnapshotListing:
    """An open `.snapshot` directory; a snapshot's subvolume id is its position."""

    def __init__(self, node: int, snapshots: dict[bytes, int], inode: int) -> None:
        self.node = node
        ordered = sorted(snapshots.items(), key=lambda item: item[1])
        self._names = [Name(1, inode, _DT_DIR, b"."), Name(2, inode, _DT_DIR, b"..")]
        self._names += [Name(subvolid, inode, _DT_DIR, name) for name, subvolid in ordered]

    def after(self, position: int) -> list[Name]:
        """Give the entries after `position`, at which one of them, or the start, is."""
        return [name for name in self._names if name.next > position]

    def close(self) -> None:
        """Nothing is held open."""
