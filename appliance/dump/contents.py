"""The table of contents of a tape: every name with type, size, inode and time."""

import json
import os
import select
import stat
from collections.abc import Callable
from typing import Any

from appliance.dump.catalog import Catalog
from appliance.dump.record import Inode
from appliance.dump.selection import Selection

_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character", stat.S_IFBLK: "block",
}  # fmt: skip
_BUFFER = 1 << 16
_ASK_MS = 250

EntrySink = Callable[[dict[str, Any]], None]


class PipeEntries:
    """Writes entries to a descriptor as JSON lines; BrokenPipeError when nobody reads.

    While the reader takes its time `check` is called a few times a second, which may raise.
    """

    def __init__(self, fd: int, check: Callable[[], None]) -> None:
        self._fd = fd
        self._check = check
        self._buffer = bytearray()

    def __call__(self, entry: dict[str, Any]) -> None:
        """Write one entry."""
        self._buffer += json.dumps(entry).encode() + b"\n"
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        waiting = memoryview(bytes(self._buffer))
        self._buffer.clear()
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while waiting:
            if poll.poll(_ASK_MS):  # there is room for as much as a pipe takes at once
                waiting = waiting[os.write(self._fd, waiting[: select.PIPE_BUF]) :]
            else:
                self._check()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def list_directories(catalog: Catalog, selection: Selection, tell: EntrySink) -> int:
    """Tell the chosen directories, from the root down; gives how many."""
    count = 0
    for entry in catalog.walk():
        if selection.whole(entry.number):
            tell(describe(catalog.path(entry.number) or b".", entry.number, entry.inode))
            count += 1
    return count


def list_object(
    catalog: Catalog, selection: Selection, number: int, inode: Inode, tell: EntrySink
) -> int:
    """Tell all chosen names of an inode that is no directory; gives how many."""
    names = selection.names_of(number)
    for name in names:
        tell(describe(catalog.join(name), number, inode))
    return len(names)


def describe(path: bytes, number: int, inode: Inode) -> dict[str, Any]:
    """Give the entry of one name; `mtime` in seconds since 1970."""
    return {
        "name": os.fsdecode(path),
        "type": _TYPES.get(stat.S_IFMT(inode.mode), "unknown"),
        "size": inode.size,
        "inode": number,
        "mtime": inode.times.modified // 1_000_000_000,
    }
