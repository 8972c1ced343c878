"""The index of a virtual cartridge: where filemarks and every so many blocks lie.

It makes opening and locating quick, and tells after a crash how far the data can be
trusted. It is never the truth about the data: the record headers are, and a missing or
shorter index only costs a walk along them.
"""

import errno
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path

from tape.virtual.record import ENTRY_SIZE, RECORD_SIZE, Entry, EntryKind, MalformedRecord


class Index:
    """Entries in the order of their offsets, in memory and in the file `path`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; call `load` before anything else."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._clear()

    def _clear(self) -> None:
        self._kinds = bytearray()
        self._objects = array("Q")
        self._offsets = array("Q")
        self._extras = array("Q")
        self.filemarks = array("Q")

    def __len__(self) -> int:
        return len(self._kinds)

    def entry(self, number: int) -> Entry:
        """Give the entry of this number, from 0."""
        return Entry(
            EntryKind(self._kinds[number]),
            self._objects[number],
            self._offsets[number],
            self._extras[number],
        )

    def load(self, size: int) -> Entry | None:
        """Read the file; drop what is torn or lies beyond a data file of `size` bytes.

        Returns the last SYNCED entry, one dropped too: it lies beyond `size` when the data
        file has lost something.
        """
        self._clear()
        raw = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        for start in range(0, len(raw), ENTRY_SIZE):
            try:
                self._remember(Entry.decode(raw[start : start + ENTRY_SIZE]))
            except MalformedRecord:
                break
        synced = self.synced()
        keep = len(self)
        while keep and self._end(keep - 1) > size:
            keep -= 1
        self.keep(keep)
        return synced

    def _end(self, number: int) -> int:
        marker = self._kinds[number] in {EntryKind.SYNCED, EntryKind.BOOT}
        return self._offsets[number] + (0 if marker else RECORD_SIZE)

    def _remember(self, entry: Entry) -> None:
        self._kinds.append(entry.kind)
        self._objects.append(entry.object)
        self._offsets.append(entry.offset)
        self._extras.append(entry.extra)
        if entry.kind is EntryKind.FILEMARK:
            self.filemarks.append(entry.object)

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries to the file and to memory, all or none. Raises OSError."""
        batch = list(entries)
        raw, end = b"".join(entry.encode() for entry in batch), len(self) * ENTRY_SIZE
        if os.pwrite(self._fd, raw, end) != len(raw):
            # Entries that were written would come to life behind the next one.
            os.ftruncate(self._fd, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for entry in batch:
            self._remember(entry)

    def truncate(self, offset: int) -> None:
        """Forget the entries at `offset` and beyond."""
        self.keep(bisect_left(self._offsets, offset))

    def keep(self, count: int) -> None:
        """Forget all but the first `count` entries."""
        dropped = self._kinds[count:].count(EntryKind.FILEMARK)
        del self.filemarks[len(self.filemarks) - dropped :]
        for column in (self._kinds, self._objects, self._offsets, self._extras):
            del column[count:]
        os.ftruncate(self._fd, count * ENTRY_SIZE)

    def nearest(self, number: int) -> tuple[int, int] | None:
        """Give (object, offset) of the last entry at or before an object, or None."""
        found = bisect_right(self._objects, number) - 1
        return (self._objects[found], self._offsets[found]) if found >= 0 else None

    def nearest_offset(self) -> tuple[int, int] | None:
        """Give (object, offset) of the last entry, or None."""
        return (self._objects[-1], self._offsets[-1]) if len(self) else None

    def filemarks_before(self, number: int) -> int:
        """Count the filemarks before an object."""
        return bisect_left(self.filemarks, number)

    def synced(self) -> Entry | None:
        """Give the last SYNCED entry, or None."""
        return self._last(EntryKind.SYNCED)

    def boot(self) -> int | None:
        """Give the boot hash under which was written last, or None."""
        entry = self._last(EntryKind.BOOT)
        return None if entry is None else entry.extra

    def _last(self, kind: EntryKind) -> Entry | None:
        found = self._kinds.rfind(bytes((kind,)))
        return None if found < 0 else self.entry(found)

    def trust_synced_only(self) -> None:
        """Forget everything after the last SYNCED entry."""
        self.keep(self._kinds.rfind(bytes((EntryKind.SYNCED,))) + 1)

    def sync(self) -> None:
        """Put the file on stable storage."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
