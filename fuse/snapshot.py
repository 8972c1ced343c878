"""Snapshots of a volume, and the locks that keep them.

A snapshot is there or not: the file system creates and deletes it in one step. A lock is a row
of the aggregate's database. All that changes either happens under a file lock on the directory
of the volume's snapshots, which no process can leave behind.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuse.database import Database
from fuse.descriptors import exclusive
from fuse.engine import Engine
from fuse.errors import AlreadyExists, Busy, NotFound, Refused, failing
from fuse.libc import RENAME_NOREPLACE, renameat2
from fuse.names import check_snapshot_name

if TYPE_CHECKING:
    from fuse.volume import Volume

MAX_SNAPSHOTS = 1023
"""Snapshots a volume."""
BACKUP_PREFIX = "snapshot_for_backup."

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable state of a volume, at `path`.

    An inode has changed since when its transid is greater than `generation`.
    `created_ns` is in ns since 1970.
    """

    name: str
    path: Path
    subvolid: int
    generation: int
    created_ns: int
    uuid: str


@dataclass(frozen=True, slots=True)
class SnapshotLock:
    """`owner` keeps `snapshot` since `since` (seconds since 1970).

    An `auto_created` snapshot was made for its owner and goes with the last of its owners.
    """

    snapshot: str
    owner: str
    auto_created: bool
    since: int


class Snapshots:
    """The snapshots of one volume."""

    def __init__(self, volume: "Volume") -> None:
        self._volume = volume
        self.directory: Path = volume.aggregate.layout.snapshots / str(volume.subvolid)

    # -- snapshots --------------------------------------------------------------------------

    def list(self) -> tuple[Snapshot, ...]:
        """List the snapshots, oldest first."""
        found = []
        for name in self._names():
            try:
                found.append(self.get(name))
            except NotFound:  # deleted since it was listed
                continue
        return tuple(sorted(found, key=lambda each: (each.generation, each.subvolid)))

    def get(self, name: str) -> Snapshot:
        """Find a snapshot. Raises NotFound."""
        check_snapshot_name(name)
        path = self.directory / name
        try:
            info = self._engine.info(path)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("snapshot", name) from None
        return Snapshot(name, path, info.tree_id, info.generation, info.created_ns, info.uuid)

    def create(self, name: str) -> Snapshot:
        """Freeze the volume as it is: all that was written before the call is in the snapshot.

        Raises InvalidName, AlreadyExists, Refused beyond MAX_SNAPSHOTS.
        """
        check_snapshot_name(name)
        with self.exclusive():
            if self._exists(name):
                raise AlreadyExists("snapshot", name)
            self._check_count()
            self._forget(name)
            self._freeze(name)
            return self.get(name)

    def create_for_backup(self, owner: str) -> Snapshot:
        """Freeze the volume for `owner` as `snapshot_for_backup.n`, locked from the start.

        n starts at 0 after every boot and rises by one a snapshot; names in use are skipped.
        The lock is on disk before the snapshot is made, so that a process killed in between
        leaves at most a snapshot that locks_of(owner) names. Raises Refused.
        """
        with self.exclusive():
            self._check_count()
            name = self._next_backup_name(owner)
            try:
                self._freeze(name)
            except BaseException:
                self._forget(name)
                raise
            return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a snapshot; its space comes back in the background.

        Raises NotFound, Busy with its owners while it is locked.
        """
        with self.exclusive():
            self.get(name)
            self._refuse_locked(name)
            self._remove([name])

    def rename(self, old: str, new: str) -> None:
        """Rename a snapshot. Raises NotFound, AlreadyExists, InvalidName, Busy while locked."""
        check_snapshot_name(new)
        with self.exclusive() as fd:
            self.get(old)
            self._refuse_locked(old)
            if self._exists(new):
                raise AlreadyExists("snapshot", new)
            self._forget(new)
            renameat2(fd, old, fd, new, RENAME_NOREPLACE)
            self._engine.commit()

    # -- locks ------------------------------------------------------------------------------

    def lock(self, name: str, owner: str) -> None:
        """Keep a snapshot for `owner`, once however often it is asked. Raises NotFound."""
        with self.exclusive():
            self.get(name)
            self._insert_lock(name, owner, auto_created=False)

    def unlock(self, name: str, owner: str) -> None:
        """Give up a lock; the snapshot stays. Raises NotFound when `owner` has none."""
        with self.exclusive(), self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM snapshot_lock WHERE volume = ? AND snapshot = ? AND owner = ?",
                (self._volume.uuid, name, owner),
            )
            if not connection.changes():
                raise NotFound("snapshot lock", f"{name} of {owner}")

    def locks(self, name: str) -> tuple[str, ...]:
        """Name the owners of a snapshot, in alphabetical order."""
        return tuple(lock.owner for lock in self._rows("AND snapshot = ?", name))

    def all_locks(self) -> tuple[SnapshotLock, ...]:
        """List the locks on the volume's snapshots."""
        return self._rows()

    def locks_of(self, owner: str) -> tuple[SnapshotLock, ...]:
        """List what `owner` holds, among it what a killed process may have left."""
        return self._rows("AND owner = ?", owner)

    def leftovers(self) -> tuple[SnapshotLock, ...]:
        """List the locks on snapshots that were made for their owners."""
        return self._rows("AND auto_created")

    def expire_owner(self, owner: str) -> tuple[str, ...]:
        """Release all that `owner` holds; give the names of the snapshots that went with it.

        Works as well on what a killed process has left, and can itself be repeated after a
        crash: a lock goes only when the deletion of its snapshot is on disk.
        """
        removed = []
        with self.exclusive():
            for lock in self.locks_of(owner):
                others = [name for name in self.locks(lock.snapshot) if name != owner]
                if lock.auto_created and others:
                    self._inherit(lock.snapshot)
                elif lock.auto_created and self._exists(lock.snapshot):
                    removed.append(lock.snapshot)
            self._remove(removed)
            with self._database.transaction() as connection:
                connection.execute(
                    "DELETE FROM snapshot_lock WHERE volume = ? AND owner = ?",
                    (self._volume.uuid, owner),
                )
        return tuple(removed)

    # -- within -----------------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[int]:
        """Keep all others from changing the volume's snapshots and locks.

        Raises NotFound when the volume is gone.
        """
        with failing("change the snapshots of volume", self._volume.name):
            try:
                with exclusive(self.directory) as fd:
                    if not self._volume.path.exists():
                        raise NotFound("volume", self._volume.name)
                    yield fd
            except FileNotFoundError:
                raise NotFound("volume", self._volume.name) from None

    @property
    def _engine(self) -> Engine:
        return self._volume.aggregate.engine

    @property
    def _database(self) -> Database:
        return self._volume.aggregate.database()

    def _names(self) -> tuple[str, ...]:
        try:
            return tuple(os.listdir(self.directory))
        except FileNotFoundError:
            raise NotFound("volume", self._volume.name) from None

    def _exists(self, name: str) -> bool:
        return os.path.lexists(self.directory / name)

    def _check_count(self) -> None:
        if len(self._names()) >= MAX_SNAPSHOTS:
            reason = f"it has {MAX_SNAPSHOTS} snapshots, the most a volume can have"
            raise Refused("volume", self._volume.name, reason)

    def _freeze(self, name: str) -> None:
        with failing("create snapshot", name):
            self._engine.snapshot(self._volume.path, self.directory / name)

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            with failing("delete snapshot", name):
                self._engine.delete_tree(self.directory / name)
        if names:
            self._engine.commit()

    def _refuse_locked(self, name: str) -> None:
        owners = self.locks(name)
        if owners:
            raise Busy("snapshot", name, ", ".join(owners))

    def _next_backup_name(self, owner: str) -> str:
        """Choose the name and take the lock, in one transaction."""
        boot_id = _BOOT_ID.read_text().strip()
        with self._database.transaction() as connection:
            number = 0
            query = "SELECT next FROM snapshot_number WHERE volume = ? AND boot_id = ?"
            for (stored,) in connection.execute(query, (self._volume.uuid, boot_id)):
                number = int(str(stored))
            while self._exists(f"{BACKUP_PREFIX}{number}"):
                number += 1
            connection.execute(
                "INSERT OR REPLACE INTO snapshot_number VALUES (?, ?, ?)",
                (self._volume.uuid, boot_id, number + 1),
            )
            name = f"{BACKUP_PREFIX}{number}"
            self._forget(name)
            self._insert_lock(name, owner, auto_created=True)
        return name

    def _insert_lock(self, name: str, owner: str, auto_created: bool) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO snapshot_lock VALUES (?, ?, ?, ?, ?)",
                (self._volume.uuid, name, owner, int(auto_created), int(time.time())),
            )

    def _inherit(self, name: str) -> None:
        """Let the other owners of an auto-created snapshot see to its end."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE snapshot_lock SET auto_created = 1 WHERE volume = ? AND snapshot = ?",
                (self._volume.uuid, name),
            )

    def _forget(self, name: str) -> None:
        """Drop the locks of a name that no snapshot has: their process died before it was made."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM snapshot_lock WHERE volume = ? AND snapshot = ?",
                (self._volume.uuid, name),
            )

    def _rows(self, condition: str = "", *arguments: str) -> tuple[SnapshotLock, ...]:
        query = (
            "SELECT snapshot, owner, auto_created, since FROM snapshot_lock "
            f"WHERE volume = ? {condition} ORDER BY snapshot, owner"
        )
        rows = self._database.rows(query, (self._volume.uuid, *arguments))
        return tuple(
            SnapshotLock(str(snapshot), str(owner), bool(auto), int(str(since)))
            for snapshot, owner, auto, since in rows
        )
