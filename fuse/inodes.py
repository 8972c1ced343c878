"""The inode limit of a volume, kept by the process that makes and removes its inodes."""

import errno
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuse.volume import Volume


class InodeBudget:
    """How many inodes may still be made. The volume is counted once, then takes and gives are.

    A volume without a limit is never counted. Usable from any thread.
    """

    def __init__(self, volume: "Volume") -> None:
        """Read the limit and count. Raises StorageError."""
        self._volume = volume
        self._lock = threading.Lock()
        self._limit = self._used = 0
        self.refresh()

    def refresh(self) -> None:
        """Count again: the limit was changed, or others made inodes. Raises StorageError."""
        limit = self._volume.metadata().files
        used = self._volume.count_inodes(exact=True) if limit else 0
        with self._lock:
            self._limit, self._used = limit, used

    @property
    def available(self) -> int:
        """Inodes that can still be made, -1 without a limit."""
        with self._lock:
            return max(0, self._limit - self._used) if self._limit else -1

    def take(self, number: int = 1) -> None:
        """Claim inodes before they are made; raises OSError ENOSPC beyond the limit."""
        with self._lock:
            if self._limit and self._used + number > self._limit:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._used += number

    def give(self, number: int = 1) -> None:
        """Give back inodes that were removed, or were claimed and not made."""
        with self._lock:
            self._used -= number
