"""What the library relies on btrfs to do, tried on the real one."""

import errno
import os
from pathlib import Path

import pytest

from fuse import btrfs
from fuse.aggregate import Aggregate
from fuse.descriptors import directory
from fuse.handle import ROOT_INODE, open_inode
from fuse.volume import Volume

pytestmark = pytest.mark.root


def transid_of(path: Path, inode: int) -> int:
    with directory(path) as fd:
        return dict(btrfs.inode_transids(fd))[inode]


def test_info_of_subvolume_and_snapshot(volume: Volume) -> None:
    snapshot = volume.snapshots.create("s")
    with directory(volume.path) as live, directory(snapshot.path) as frozen:
        of_live, of_frozen = btrfs.subvolume_info(live), btrfs.subvolume_info(frozen)
    assert not of_live.read_only
    assert of_frozen.read_only
    assert of_frozen.parent_uuid == of_live.uuid
    assert of_frozen.subvolid == snapshot.subvolid != of_live.subvolid == volume.subvolid
    assert abs(of_frozen.created_ns - snapshot.path.stat().st_ctime_ns) < 3600e9
    assert of_live.parent == btrfs.TOP_LEVEL


def test_read_only_flag(volume: Volume) -> None:
    with directory(volume.path) as fd:
        btrfs.set_read_only(fd, True)
        with pytest.raises(OSError, match="Read-only"):
            (volume.path / "file").touch()
        btrfs.set_read_only(fd, False)
    (volume.path / "file").touch()


def test_a_subvolume_is_destroyed_by_id(aggregate: Aggregate) -> None:
    with directory(aggregate.path) as top:
        btrfs.create_subvolume(top, "extra")
        with directory("extra", top) as fd:
            subvolid = btrfs.subvolume_id(fd)
        btrfs.destroy_subvolume_by_id(top, subvolid)
    assert not (aggregate.path / "extra").exists()


def test_snapshot_transaction_divides_before_from_after(volume: Volume) -> None:
    """An inode changed right after a snapshot has a larger transid, one before has not."""
    for round_number in range(20):
        before, after = volume.path / f"b{round_number}", volume.path / f"a{round_number}"
        before.write_bytes(b"before")
        after.write_bytes(b"old")
        snapshot = volume.snapshots.create(f"s{round_number}")
        after.write_bytes(b"new")
        following = volume.snapshots.create(f"t{round_number}").path
        assert transid_of(following, before.stat().st_ino) <= snapshot.generation
        assert transid_of(following, after.stat().st_ino) > snapshot.generation
        changed = set(volume.aggregate.engine.changed_since(following, snapshot.generation))
        assert changed == {after.stat().st_ino}


@pytest.mark.parametrize("change", ["chmod", "xattr", "rename", "link", "utime", "truncate"])
def test_every_kind_of_change_is_seen(volume: Volume, change: str) -> None:
    path = volume.path / "file"
    path.write_bytes(b"data")
    inode = path.stat().st_ino
    snapshot = volume.snapshots.create("s")
    match change:
        case "chmod":
            path.chmod(0o600)
        case "xattr":
            os.setxattr(path, "user.x", b"1")
        case "rename":
            path.rename(volume.path / "other")
        case "link":
            os.link(path, volume.path / "other")
        case "utime":
            os.utime(path, ns=(1, 1))
        case "truncate":
            os.truncate(path, 1)
    following = volume.snapshots.create("t").path
    changed = set(volume.aggregate.engine.changed_since(following, snapshot.generation))
    assert inode in changed


def test_snapshot_has_all_that_was_written(volume: Volume) -> None:
    """Data in the page cache only, written by a descriptor still open, is in the snapshot."""
    with (volume.path / "file").open("wb", buffering=0) as file:
        for number in range(64):
            file.write(bytes([number]) * 65536)
        snapshot = volume.snapshots.create("s")
        file.seek(0)
        file.write(b"changed")
    data = (snapshot.path / "file").read_bytes()
    assert data == b"".join(bytes([number]) * 65536 for number in range(64))


def test_inodes_are_counted(volume: Volume) -> None:
    assert volume.count_inodes() == 1
    for number in range(3000):
        (volume.path / f"{number:04}").touch()
    os.link(volume.path / "0000", volume.path / "link")
    with directory(volume.path) as fd:
        assert btrfs.count_inodes(fd) == 3001
        inodes = [inode for inode, _ in btrfs.inode_transids(fd)]
    assert inodes == sorted(inodes)
    assert len(set(inodes)) == 3001


def test_handles_reach_every_inode(volume: Volume) -> None:
    path = volume.path / "file"
    path.write_bytes(b"live")
    inode = path.stat().st_ino
    snapshot = volume.snapshots.create("s")
    path.write_bytes(b"changed")
    mount = volume.aggregate.fd

    def read(subvolid: int) -> bytes:
        fd = open_inode(mount, subvolid, inode, os.O_RDONLY)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)

    assert read(volume.subvolid) == b"changed"
    assert read(snapshot.subvolid) == b"live"
    top = open_inode(mount, snapshot.subvolid, ROOT_INODE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.listdir(top) == ["file"]
    finally:
        os.close(top)
    with pytest.raises(OSError, match="Read-only") as caught:
        open_inode(mount, snapshot.subvolid, inode, os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    path.unlink()
    for gone in ((volume.subvolid, inode), (volume.subvolid, 1 << 30), (1 << 30, ROOT_INODE)):
        with pytest.raises(OSError, match="Stale") as caught:
            open_inode(mount, *gone, os.O_RDONLY)
        assert caught.value.errno == errno.ESTALE


def test_clone(volume: Volume) -> None:
    source, target = volume.path / "a", volume.path / "b"
    source.write_bytes(os.urandom(1 << 20))
    with source.open("rb") as read, target.open("wb") as write:
        btrfs.clone(read.fileno(), write.fileno())
    assert source.read_bytes() == target.read_bytes()


def test_health_and_node_size(aggregate: Aggregate) -> None:
    assert aggregate.health() == dict.fromkeys(btrfs.DEVICE_ERRORS, 0)
    assert btrfs.node_size(aggregate.fd) == 65536
    assert btrfs.is_btrfs(aggregate.fd)
    with directory("/proc") as fd:
        assert not btrfs.is_btrfs(fd)


def test_a_name_that_is_too_long(aggregate: Aggregate) -> None:
    with pytest.raises(OSError, match="too long"):
        btrfs.create_subvolume(aggregate.fd, "x" * 256)
