"""The database of an aggregate: what is true about its volumes but is not in a snapshot.

SQLite in WAL mode, shared by all processes that serve the aggregate. A transaction is on disk
when it returns.

| table               | a row says                                                          |
|---------------------|---------------------------------------------------------------------|
| `snapshot_lock`     | `owner` holds snapshot `snapshot` of `volume`; `auto_created` ones   |
|                     | were made for the owner and go with it                              |
| `snapshot_number`   | the next n of `snapshot_for_backup.n` of `volume` since boot `boot_id` |
| `restriction`       | client I/O on `inode` of `volume` is restricted by `session`         |
| `inode_count`       | `volume` had `files` inodes at generation `generation`               |

`volume` is the UUID in the volume's metadata. Others add tables of their own with `ensure`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from fuse.errors import StorageFailed

Value = int | float | str | bytes | None
"""What a column holds."""

_BUSY_TIMEOUT_MS = 60_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshot_lock (
    volume TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    owner TEXT NOT NULL,
    auto_created INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (volume, snapshot, owner)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS snapshot_number (
    volume TEXT PRIMARY KEY NOT NULL,
    boot_id TEXT NOT NULL,
    next INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS restriction (
    volume TEXT NOT NULL,
    inode INTEGER NOT NULL,
    session TEXT NOT NULL,
    PRIMARY KEY (volume, inode)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS inode_count (
    volume TEXT PRIMARY KEY NOT NULL,
    generation INTEGER NOT NULL,
    files INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
"""

OWN_TABLES = ("snapshot_lock", "snapshot_number", "restriction", "inode_count")
"""Tables above, whose rows go with the volume."""


class Database:
    """One connection, usable from any thread; `connection` is for single statements."""

    def __init__(self, path: Path) -> None:
        """Open or create the database at `path`. Raises StorageFailed."""
        self._lock = threading.RLock()
        with _failing():
            self.connection = apsw.Connection(str(path))
            self.connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
        self.ensure(_SCHEMA)

    def ensure(self, schema: str) -> None:
        """Run `schema`, statements of the form CREATE ... IF NOT EXISTS, in a transaction."""
        with self.transaction():
            self.connection.execute(schema)

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Hold the write lock of the database; commit at the end, roll back on an exception.

        Within a transaction of the same thread it is part of that one. Raises StorageFailed.
        """
        with self._lock, _failing():
            if self.connection.in_transaction:
                yield self.connection
                return
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, arguments: tuple[Value, ...] = ()) -> list[tuple[Value, ...]]:
        """Give all rows of a query. Raises StorageFailed."""
        with self._lock, _failing():
            return list(self.connection.execute(query, arguments))

    def close(self) -> None:
        """Close the connection; the last one to close folds the log into the database."""
        with self._lock:
            self.connection.close()


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise StorageFailed("use", "the database of the aggregate", str(error)) from error
