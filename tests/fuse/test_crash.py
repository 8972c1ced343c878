"""kill -9 at every line of the library's changes, and what the next start makes of it."""

import os
from pathlib import Path

import pytest

from fuse import loop
from fuse.aggregate import Aggregate
from fuse.errors import NotFound
from fuse.mounts import mount_at
from fuse.source import ImageSource
from fuse.volume import Volume
from tests.fuse.crash import every_kill

pytestmark = pytest.mark.root

MIB = 1 << 20


def reopened(aggregate: Aggregate) -> Aggregate:
    found = Aggregate.find(aggregate.path.parent.parent, aggregate.name)
    found.attach()
    return found


def assert_tidy(aggregate: Aggregate) -> None:
    """Nothing is half there: no leavings on disk, no rows and snapshots of what is gone."""
    layout = aggregate.layout
    assert list(layout.creating.iterdir()) == []
    assert list(layout.deleting.iterdir()) == []
    volumes = aggregate.volumes()
    ids = {str(volume.subvolid) for volume in volumes}
    assert {path.name for path in layout.snapshots.iterdir()} == ids
    living = {volume.uuid for volume in volumes}
    rows = aggregate.database().rows("SELECT volume FROM snapshot_lock")
    assert {str(identity) for (identity,) in rows} <= living


def test_volume_create(fresh: Aggregate) -> None:
    fresh.close()

    def create() -> None:
        Aggregate.open(fresh.path).create_volume("vol1", size=32 * MIB, comment="complete")

    kills = 0
    for _ in every_kill(create, stride=3):
        kills += 1
        with reopened(fresh) as aggregate:
            assert_tidy(aggregate)
            for volume in aggregate.volumes():
                assert volume.metadata().comment == "complete"
                assert volume.usage().size == 32 * MIB
                volume.snapshots.create("s")
                aggregate.delete_volume("vol1")
    assert kills > 10
    with reopened(fresh) as aggregate:
        aggregate.delete_volume("vol1")


def test_volume_delete(fresh: Aggregate) -> None:
    def prepare(aggregate: Aggregate) -> None:
        volume = aggregate.create_volume("vol1")
        for name in ("a", "b", "c"):
            volume.snapshots.create(name)
        volume.count_inodes()

    prepare(fresh)
    fresh.close()
    outcomes = set()
    for _ in every_kill(lambda: Aggregate.open(fresh.path).delete_volume("vol1"), stride=7):
        with reopened(fresh) as aggregate:
            assert_tidy(aggregate)
            try:
                volume = aggregate.volume("vol1")
            except NotFound:
                outcomes.add("gone")
                prepare(aggregate)
            else:
                outcomes.add("whole")
                assert [each.name for each in volume.snapshots.list()] == ["a", "b", "c"]
    assert outcomes == {"gone", "whole"}


def open_volume(path: Path) -> Volume:
    return Aggregate.open(path).volume("vol1")


def test_backup_snapshot(fresh: Aggregate) -> None:
    """Whenever its maker dies, the owner's leavings are found and removed."""
    fresh.create_volume("vol1")
    fresh.close()
    left = set()
    for _ in every_kill(
        lambda: open_volume(fresh.path).snapshots.create_for_backup("session 1"), 2
    ):
        with Aggregate.open(fresh.path) as aggregate:
            snapshots = aggregate.volume("vol1").snapshots
            names = {snapshot.name for snapshot in snapshots.list()}
            locks = {lock.snapshot for lock in snapshots.leftovers()}
            assert names <= locks, "a snapshot without an owner"
            left.add((bool(names), bool(locks)))
            assert set(snapshots.expire_owner("session 1")) == names
            assert snapshots.list() == ()
            assert snapshots.all_locks() == ()
    assert left == {(False, False), (False, True), (True, True)}
    with Aggregate.open(fresh.path) as aggregate:
        aggregate.volume("vol1").snapshots.expire_owner("session 1")


def test_expiry(fresh: Aggregate) -> None:
    """Expiry itself can die anywhere and be repeated."""
    fresh.create_volume("vol1").snapshots.create_for_backup("session 1")
    fresh.close()
    for _ in every_kill(lambda: open_volume(fresh.path).snapshots.expire_owner("session 1"), 3):
        with Aggregate.open(fresh.path) as aggregate:
            snapshots = aggregate.volume("vol1").snapshots
            names = {snapshot.name for snapshot in snapshots.list()}
            assert names <= {lock.snapshot for lock in snapshots.leftovers()}
            snapshots.expire_owner("session 1")
            assert snapshots.list() == ()
            assert snapshots.all_locks() == ()
            snapshots.create_for_backup("session 1")


def test_lun(fresh: Aggregate) -> None:
    """A LUN is there, complete, or not at all."""
    fresh.create_volume("vol1")
    fresh.close()
    for _ in every_kill(lambda: open_volume(fresh.path).luns.create("lun0", MIB), stride=3):
        with Aggregate.open(fresh.path) as aggregate:
            volume = aggregate.volume("vol1")
            for name in os.listdir(volume.path):
                assert volume.luns.get(name).path.stat().st_size == MIB
                volume.luns.delete(name)


def test_restriction(fresh: Aggregate) -> None:
    """Every mark is listed, whenever the process that set or lifted it died."""
    volume = fresh.create_volume("vol1")
    path = volume.path / "file"
    path.touch()
    inode = path.stat().st_ino
    fresh.close()

    def set_and_lift() -> None:
        restrictions = open_volume(fresh.path).restrictions
        restrictions.restrict(inode, "restore-1")
        restrictions.lift(inode)

    seen = set()
    for _ in every_kill(set_and_lift, stride=2):
        with Aggregate.open(fresh.path) as aggregate:
            restrictions = aggregate.volume("vol1").restrictions
            listed = {each.inode for each in restrictions.list("restore-1")}
            marked = {inode} if restrictions.get(inode) else set()
            assert listed == marked
            seen.add(bool(marked))
            restrictions.lift(inode)
    assert seen == {True, False}


def test_aggregate_create(tmp_path: Path) -> None:
    """It exists and works, or can be created; never a loop device without a mount."""
    image = tmp_path / "images" / "aggr1.img"
    place = tmp_path / "aggregates" / "aggr1"

    def create() -> Aggregate:
        return Aggregate.create(tmp_path, "aggr1", ImageSource(image, 256 * MIB))

    outcomes = set()
    for _ in every_kill(create, stride=13):
        for path in image.parent.glob("*"):
            assert mount_at(place) or loop.find(path) == []
        try:
            found = Aggregate.find(tmp_path, "aggr1")
        except NotFound:
            outcomes.add("absent")
            create().destroy()
        else:
            outcomes.add("present")
            found.attach()
            found.create_volume("vol1")
            found.delete_volume("vol1")
            found.destroy()
        assert list(image.parent.iterdir()) == []
    assert outcomes == {"absent", "present"}
    Aggregate.find(tmp_path, "aggr1").destroy()


def test_attach(fresh: Aggregate) -> None:
    """Attaching can die anywhere; the next one finds the volumes and no second loop device."""
    fresh.create_volume("vol1", size=32 * MIB)
    image = fresh.source.path if fresh.source else Path()
    root = fresh.path.parent.parent
    fresh.detach()
    for _ in every_kill(lambda: Aggregate.find(root, "fresh").attach(), stride=11):
        assert len(loop.find(image)) == bool(mount_at(fresh.path))
        with reopened(fresh) as aggregate:
            assert_tidy(aggregate)
            assert [volume.name for volume in aggregate.volumes()] == ["vol1"]
            assert len(loop.find(image)) == 1
        fresh.detach()
