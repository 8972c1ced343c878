"""The snapshots that `.snapshot` shows: names and subvolume ids, as they are at each moment."""

import os
import time
from pathlib import Path

from fuse import btrfs

NAME = b".snapshot"

_SETTLED_NS = 50_000_000
"""A directory changed this recently may change again without a later time stamp."""


class SnapshotTable:
    """What is in a volume's snapshot directory, read again whenever that directory changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stamp = -1
        self._known: dict[bytes, int] = {}

    def changed_ns(self) -> int:
        """Give the time of the last creation, deletion or renaming; 0 before the first."""
        try:
            return self._directory.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def all(self) -> dict[bytes, int]:
        """Give the subvolume id of every snapshot by its name."""
        stamp = self.changed_ns()
        if stamp != self._stamp:
            self._known = self._read() if stamp else {}
            settled = time.time_ns() - stamp > _SETTLED_NS
            self._stamp = stamp if settled else -1
        return self._known

    def subvolid(self, name: bytes) -> int | None:
        """Give the subvolume id of snapshot `name`, None when there is none."""
        return self.all().get(name)

    def holds(self, subvolid: int) -> bool:
        """Say whether there is a snapshot with this subvolume id."""
        return subvolid in self.all().values()

    def _read(self) -> dict[bytes, int]:
        found = {}
        for name in os.listdir(os.fsencode(self._directory)):
            try:
                found[name] = self._identify(name)
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted since it was listed
        return found

    def _identify(self, name: bytes) -> int:
        fd = os.open(self._directory / os.fsdecode(name), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return btrfs.subvolume_id(fd)
        finally:
            os.close(fd)
