"""What is put in order when an aggregate is attached.

Every change of an aggregate has one step that decides: before it the change never happened,
after it the change will be completed here. For a volume that is made or deleted this is the
rename out of `creating` or into `deleting`.
"""

import os
import shutil
from typing import TYPE_CHECKING

from fuse.database import OWN_TABLES
from fuse.descriptors import exclusive
from fuse.errors import NotFound, StorageError, failing
from fuse.volume import Volume, read_metadata

if TYPE_CHECKING:
    from fuse.aggregate import Aggregate


def recover(aggregate: "Aggregate") -> tuple[str, ...]:
    """Complete or undo what was interrupted; give a line for each thing done.

    Waits for changes that are under way in other processes. Raises StorageFailed.
    """
    with failing("put in order aggregate", aggregate.name), exclusive(aggregate.layout.volumes):
        lines = [
            *_remove_unfinished(aggregate),
            *_finish_deletes(aggregate),
            *_remove_stray_snapshots(aggregate),
            *_apply_limits(aggregate),
        ]
        _purge_rows(aggregate)
        if lines:
            aggregate.engine.commit()
        return tuple(lines)


def _remove_unfinished(aggregate: "Aggregate") -> list[str]:
    lines = []
    for path in aggregate.layout.creating.iterdir():
        aggregate.engine.delete_tree(path)
        lines.append(f"removed the half-made volume {path.name}")
    return lines


def _finish_deletes(aggregate: "Aggregate") -> list[str]:
    lines = []
    for path in aggregate.layout.deleting.iterdir():
        finish_delete(aggregate, int(path.name))
        lines.append(f"finished deleting the volume with subvolume id {path.name}")
    return lines


def finish_delete(aggregate: "Aggregate", subvolid: int) -> None:
    """Delete what is left of a volume in `deleting`. Can be repeated. Raises OSError."""
    tree = aggregate.layout.deleting / str(subvolid)
    try:
        identity = read_metadata(tree, tree.name).uuid
    except (NotFound, StorageError):
        identity = ""
    _remove_snapshots(aggregate, subvolid)
    shutil.rmtree(aggregate.layout.users / str(subvolid), ignore_errors=True)
    _forget(aggregate, identity)
    aggregate.engine.delete_tree(tree)
    aggregate.engine.commit()


def _remove_snapshots(aggregate: "Aggregate", subvolid: int) -> None:
    place = aggregate.layout.snapshots / str(subvolid)
    if place.exists():
        for snapshot in place.iterdir():
            aggregate.engine.delete_tree(snapshot)
        place.rmdir()


def _remove_stray_snapshots(aggregate: "Aggregate") -> list[str]:
    """Remove snapshots of volumes that are no more."""
    living = {str(volume.subvolid) for volume in _volumes(aggregate)}
    lines = []
    for place in aggregate.layout.snapshots.iterdir():
        if place.name not in living:
            _remove_snapshots(aggregate, int(place.name))
            lines.append(f"removed the snapshots of subvolume id {place.name}, which is gone")
    return lines


def _apply_limits(aggregate: "Aggregate") -> list[str]:
    """Set each volume's limit to the size in its metadata, where a crash came in between."""
    lines = []
    for volume in _volumes(aggregate):
        try:
            size = volume.metadata().size
        except StorageError as error:
            lines.append(str(error))
            continue
        if aggregate.engine.usage(volume.subvolid).limit != size:
            aggregate.engine.set_limit(volume.subvolid, size)
            lines.append(f"set the size of volume {volume.name} to {size} bytes again")
    return lines


def _volumes(aggregate: "Aggregate") -> list[Volume]:
    return [Volume(aggregate, name) for name in sorted(os.listdir(aggregate.layout.volumes))]


def _purge_rows(aggregate: "Aggregate") -> None:
    """Forget what the database says of volumes that are no more."""
    living = set()
    for volume in _volumes(aggregate):
        try:
            living.add(volume.uuid)
        except StorageError:
            # Rows of a volume whose metadata cannot be read must outlast the damage.
            return
    database = aggregate.database()
    for table in OWN_TABLES:
        for (identity,) in database.rows(f"SELECT DISTINCT volume FROM {table}"):
            if identity not in living:
                _forget(aggregate, str(identity))


def _forget(aggregate: "Aggregate", identity: str) -> None:
    with aggregate.database().transaction() as connection:
        for table in OWN_TABLES:
            connection.execute(f"DELETE FROM {table} WHERE volume = ?", (identity,))
