import os
from pathlib import Path

import pytest

from fuse import metadata
from fuse.aggregate import Aggregate
from fuse.errors import Busy, StorageFailed
from fuse.restriction import lift, restrict, restricted
from fuse.volume import Volume

pytestmark = pytest.mark.root


@pytest.fixture
def file(volume: Volume) -> Path:
    path = volume.path / "file"
    path.write_bytes(b"data")
    return path


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_PATH])
def test_by_descriptor(file: Path, flags: int) -> None:
    fd = os.open(file, flags)
    try:
        assert restricted(fd) is None
        mark = restrict(fd, "restore-1")
        assert restrict(fd, "restore-1") == mark == restricted(fd) == restricted(file)
        assert (mark.session, mark.reason) == ("restore-1", "restore")
        with pytest.raises(Busy, match="restore-1"):
            restrict(fd, "restore-2")
        lift(fd)
        lift(fd)
        assert restricted(file) is None
    finally:
        os.close(fd)


def test_by_path_never_through_a_link(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    restrict(file, "restore-1")
    assert restricted(link) is None
    assert restricted(str(file)) is not None


def test_a_mark_that_cannot_be_read_restricts(file: Path) -> None:
    os.setxattr(file, metadata.RESTRICTED, b"\0")
    mark = restricted(file)
    assert mark is not None
    assert mark.session == "unknown"


def test_marks_are_found_by_session(volume: Volume, file: Path) -> None:
    other = file.with_name("other")
    other.touch()
    first, second = file.stat().st_ino, other.stat().st_ino
    volume.restrictions.restrict(first, "restore-1")
    volume.restrictions.restrict(first, "restore-1")
    volume.restrictions.restrict(second, "restore-2")
    with pytest.raises(Busy, match="restore-2"):
        volume.restrictions.restrict(second, "restore-1")
    assert [each.inode for each in volume.restrictions.list()] == sorted([first, second])
    (found,) = volume.restrictions.list("restore-2")
    assert (found.inode, found.mark.session) == (second, "restore-2")
    assert found.mark == volume.restrictions.get(second) == restricted(other)
    volume.restrictions.lift(second)
    volume.restrictions.lift(second)
    assert restricted(other) is None
    assert volume.restrictions.list("restore-2") == ()


def test_an_inode_that_is_gone(volume: Volume, file: Path) -> None:
    inode = file.stat().st_ino
    volume.restrictions.restrict(inode, "restore-1")
    file.unlink()
    assert volume.restrictions.list() == ()
    volume.restrictions.lift(inode)
    with pytest.raises(StorageFailed, match="Stale"):
        volume.restrictions.restrict(inode, "restore-1")


def test_marks_outlive_a_detach_and_are_in_snapshots(fresh: Aggregate) -> None:
    volume = fresh.create_volume("vol1")
    (volume.path / "file").touch()
    inode = (volume.path / "file").stat().st_ino
    volume.restrictions.restrict(inode, "restore-1")
    frozen = volume.snapshots.create("s").path / "file"
    fresh.detach()
    fresh.attach()
    (found,) = fresh.volume("vol1").restrictions.list()
    assert (found.inode, found.mark.session) == (inode, "restore-1")
    fresh.volume("vol1").restrictions.lift(inode)
    assert restricted(frozen) is not None
