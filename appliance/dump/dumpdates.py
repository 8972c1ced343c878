"""dumpdates: which levels of a path have been dumped, and what the next level builds on.

Kept in the aggregate's database, under the volume's uuid and the path in it, so that a volume
keeps its chain when it is renamed. With each entry goes the map of inodes in use, by which an
incremental finds what a restore of the chain does not have yet.
"""

import struct
import time
import zlib
from dataclasses import dataclass

from appliance.dump.inodemap import InodeMap
from appliance.dump.mapping import Base
from fuse.database import Database

FORMAT = 1
"""Version of the stream format that an entry was written in."""

_TABLE = """
CREATE TABLE IF NOT EXISTS dumpdates (
    volume TEXT NOT NULL,
    path BLOB NOT NULL,
    level INTEGER NOT NULL,
    snapshot_ns INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    dump_uuid TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    recorded INTEGER NOT NULL,
    format INTEGER NOT NULL,
    used BLOB NOT NULL,
    missing BLOB NOT NULL,
    PRIMARY KEY (volume, path, level)
)
"""
_COLUMNS = "path, level, snapshot_ns, generation, dump_uuid, snapshot, recorded, format"


@dataclass(frozen=True, slots=True)
class DumpDate:
    """One dump: `path` within the volume, times in ns and seconds since 1970.

    `generation` is the snapshot's, `recorded` when the dump was complete.
    """

    path: bytes
    level: int
    snapshot_ns: int
    generation: int
    dump_uuid: str
    snapshot: str
    recorded: int
    format: int = FORMAT

    @property
    def date(self) -> int:
        """The date of the dump as the stream's headers have it, seconds since 1970."""
        return self.snapshot_ns // 1_000_000_000


class DumpDates:
    """The dumpdates of one volume."""

    def __init__(self, database: Database, volume_uuid: str) -> None:
        self._database = database
        self._volume = volume_uuid
        database.ensure(_TABLE)

    def entries(self, path: bytes | None = None) -> list[DumpDate]:
        """List the dumps of `path`, or all, by path and level."""
        where = "WHERE volume = ?" + (" AND path = ?" if path is not None else "")
        values = (self._volume,) if path is None else (self._volume, path)
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM dumpdates {where} ORDER BY path, level", values
        )
        return [_entry(row) for row in rows]

    def base(self, path: bytes, level: int) -> DumpDate | None:
        """Give the most recent dump of `path` of a lower level, None when there is none.

        The most recent is the one of the latest snapshot, by its generation: a clock can be set
        back. Dumps in another format than the present one are no base.
        """
        entries = self.entries(path)
        lower = [entry for entry in entries if entry.level < level and entry.format == FORMAT]
        return max(lower, key=lambda e: (e.generation, e.recorded, e.level), default=None)

    def load(self, entry: DumpDate) -> Base:
        """Give the maps of an entry that `base` gave."""
        query = (
            "SELECT used, missing FROM dumpdates "
            "WHERE volume = ? AND path = ? AND level = ? AND dump_uuid = ?"
        )
        values = (self._volume, entry.path, entry.level, entry.dump_uuid)
        for used, missing in self._database.rows(query, values):
            assert isinstance(used, bytes)
            assert isinstance(missing, bytes)
            inodes = zlib.decompress(missing)
            return Base(
                InodeMap.from_bytes(zlib.decompress(used)),
                frozenset(struct.unpack(f"<{len(inodes) // 4}I", inodes)),
                entry.generation,
            )
        return Base(InodeMap(), frozenset(), 0)  # gone since: everything is dumped

    def record(self, entry: DumpDate, used: InodeMap, missing: set[int]) -> None:
        """Put an entry in place of the one of the same path and level."""
        packed = struct.pack(f"<{len(missing)}I", *sorted(missing))
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO dumpdates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._volume, entry.path, entry.level, entry.snapshot_ns, entry.generation,
                    entry.dump_uuid, entry.snapshot, entry.recorded, entry.format,
                    zlib.compress(used.to_bytes(), 1), zlib.compress(packed, 1),
                ),
            )  # fmt: skip

    def forget(self, path: bytes, level: int | None = None) -> int:
        """Remove the entries of `path`, or the one of `level`; give how many there were."""
        where = "volume = ? AND path = ?" + (" AND level = ?" if level is not None else "")
        values = (self._volume, path) if level is None else (self._volume, path, level)
        with self._database.transaction() as connection:
            connection.execute(f"DELETE FROM dumpdates WHERE {where}", values)
            return int(connection.changes())


def _entry(row: tuple[object, ...]) -> DumpDate:
    path, level, snapshot_ns, generation, dump_uuid, snapshot, recorded, version = row
    assert isinstance(path, bytes)
    return DumpDate(
        path, int(str(level)), int(str(snapshot_ns)), int(str(generation)), str(dump_uuid),
        str(snapshot), int(str(recorded)), int(str(version)),
    )  # fmt: skip


def show_date(seconds: int) -> str:
    """Write a date as dump does: `Sun Nov 22 08:22:52 2026`, local time; 0 is the epoch."""
    return time.ctime(seconds) if seconds else "the epoch"
