"""A helper process that reads ahead of phase IV, in the order of the disk.

Files are dumped in the order of their inodes, which on a disk means a seek a file. The helper
is given windows of inode numbers ahead of time, looks up where their data is, and asks the
kernel to bring it into memory in the order in which it lies on the disk. It changes nothing
but the time that a dump takes; when it ends early, the dump goes on without it.

    stdin   inode numbers, u64 in the machine's byte order; its end is the helper's end
"""

import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress

from appliance.dump.btrfsscan import inode_ranges
from fuse.handle import open_inode
from fuse.treesearch import EXTENT, EXTENT_PLACE, ExtentType, TreeSearch, Type

WINDOW = 1000
"""Inodes that are sorted and read together."""
AHEAD = 3
"""Windows that the helper may be ahead."""
FILE_LIMIT = 4 << 20
"""Bytes of one file that are asked for; the kernel itself reads ahead in long files."""
WINDOW_LIMIT = 128 << 20
"""Bytes of one window that are asked for, so that they are still in memory when needed."""


class Prefetcher:
    """The dump's end: feeds a helper for the snapshot `subvolid` of the aggregate of `fd`.

    `numbers` are the inodes of phase IV. Every failure only ends the reading ahead.
    """

    def __init__(self, fd: int, subvolid: int, numbers: "array[int]") -> None:
        self._numbers = numbers
        self._sent = 0
        self._helper: subprocess.Popen[bytes] | None = None
        if len(numbers) >= WINDOW and (os.cpu_count() or 1) > 1:
            with suppress(OSError):
                self._helper = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(fd), str(subvolid)],
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=(fd,),
                )  # fmt: skip
        if self._helper and self._helper.stdin:
            os.set_blocking(self._helper.stdin.fileno(), False)
        self.done(0)

    def done(self, files: int) -> None:
        """Say how many files of phase IV are done; sends what may be read ahead from there."""
        while (
            self._helper and self._sent < len(self._numbers) and self._sent < files + AHEAD * WINDOW
        ):
            assert self._helper.stdin
            window = self._numbers[self._sent : self._sent + WINDOW].tobytes()
            try:
                if os.write(self._helper.stdin.fileno(), window) != len(window):
                    self.close()  # a torn window: it does not keep up
            except BlockingIOError:
                return
            except OSError:
                self.close()
            self._sent += WINDOW

    def close(self) -> None:
        """End the helper."""
        helper, self._helper = self._helper, None
        if helper and helper.stdin:
            helper.kill()
            helper.stdin.close()
            helper.wait()


Wish = tuple[int, int, list[tuple[int, int]]]
"""Where the data of a file begins on disk, its inode, and ranges (offset, length) of it."""


def wishes(search: TreeSearch, numbers: "array[int]") -> list[Wish]:
    """Look up what to read of `numbers`, in the order of the disk."""
    found: dict[int, Wish] = {}
    for first, last, wanted in inode_ranges(numbers):
        for item in search.items(first, last, 0, Type.EXTENT, (Type.EXTENT,)):
            if item.objectid not in wanted or item.offset >= FILE_LIMIT:
                continue
            *_, kind = EXTENT.unpack_from(search.buffer, item.start)
            if kind != ExtentType.REGULAR:
                continue
            place, _, _, length = EXTENT_PLACE.unpack_from(search.buffer, item.start + EXTENT.size)
            if place:
                wish = found.setdefault(item.objectid, (place, item.objectid, []))
                wish[2].append((item.offset, min(length, FILE_LIMIT)))
    return sorted(found.values())


def read_ahead(fd: int, subvolid: int, numbers: "array[int]", search: TreeSearch) -> None:
    """Ask the kernel for the data of a window of inodes."""
    left = WINDOW_LIMIT
    for _, number, ranges in wishes(search, numbers):
        with suppress(OSError):
            file = open_inode(fd, subvolid, number, os.O_RDONLY | os.O_NOATIME)
            try:
                for offset, length in ranges:
                    os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
                    left -= length
            finally:
                os.close(file)
        if left < 0:
            return


def _windows() -> Iterator["array[int]"]:
    size = WINDOW * 8
    while piece := os.read(0, size):
        while len(piece) % 8:
            rest = os.read(0, 8 - len(piece) % 8)
            if not rest:
                return
            piece += rest
        yield array("Q", piece)


def main() -> None:
    """Serve one dump."""
    fd, subvolid = int(sys.argv[1]), int(sys.argv[2])
    search = TreeSearch(fd, subvolid, 1 << 20)
    for numbers in _windows():
        read_ahead(fd, subvolid, numbers, search)


if __name__ == "__main__":
    main()
