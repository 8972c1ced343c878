import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuse import btrfs, libc, loop, source
from fuse.aggregate import Aggregate
from fuse.errors import (
    AlreadyExists,
    Busy,
    InvalidName,
    NotFound,
    NotSupported,
    Refused,
    StorageFailed,
)
from fuse.mounts import mount_at
from fuse.source import DeviceSource, DirectorySource, ImageSource

pytestmark = pytest.mark.root

SIZE = 512 << 20


def again(aggregate: Aggregate) -> Aggregate:
    """Give the aggregate as the next process finds it."""
    aggregate.close()
    return Aggregate.find(aggregate.path.parent.parent, aggregate.name)


def image_of(aggregate: Aggregate) -> Path:
    assert aggregate.source is not None
    return aggregate.source.path


def test_create(fresh: Aggregate, tmp_path: Path) -> None:
    assert fresh.attached
    assert fresh.path == tmp_path / "aggregates" / "fresh"
    assert fresh.path.stat().st_mode & 0o777 == 0o700
    assert image_of(fresh).stat().st_blocks * 512 < SIZE / 4
    assert os.listdir(image_of(fresh).parent) == ["fresh.img"]
    assert btrfs.quota_mode(fresh.fd) in ("squota", "qgroup")
    assert fresh.volumes() == ()
    capacity = fresh.capacity()
    assert capacity.total == SIZE
    assert 0 < capacity.available < SIZE
    assert capacity.used < SIZE / 4
    identity = json.loads((fresh.path / ".snapreel" / "aggregate.json").read_text())
    assert (identity["name"], identity["uuid"]) == ("fresh", fresh.uuid)


def test_found_by_name_and_by_path(fresh: Aggregate, tmp_path: Path) -> None:
    fresh.create_volume("vol1")
    for found in (
        Aggregate.find(tmp_path, "fresh"),
        Aggregate.open(fresh.path),
        *Aggregate.list(tmp_path),
    ):
        with found:
            assert (found.name, found.uuid) == ("fresh", fresh.uuid)
            assert [volume.name for volume in found.volumes()] == ["vol1"]


def test_unknown_aggregates(tmp_path: Path) -> None:
    assert Aggregate.list(tmp_path) == ()
    with pytest.raises(NotFound):
        Aggregate.find(tmp_path, "aggr7")
    with pytest.raises(InvalidName):
        Aggregate.find(tmp_path, "../etc")
    with pytest.raises(NotFound):
        Aggregate.open(tmp_path)


def test_detach_leaves_nothing_attached(fresh: Aggregate) -> None:
    fresh.create_volume("vol1").snapshots.create("s")
    fresh.detach()
    assert mount_at(fresh.path) is None
    assert loop.find(image_of(fresh)) == []
    assert os.listdir(fresh.path) == []
    assert not fresh.attached
    with pytest.raises(Refused, match="not attached"):
        fresh.volumes()
    fresh.detach()
    assert fresh.attach() == ()
    assert [s.name for s in fresh.volume("vol1").snapshots.list()] == ["s"]


def test_attach_again_reuses_the_mount_of_a_crashed_process(fresh: Aggregate) -> None:
    fresh.create_volume("vol1")
    devices = loop.find(image_of(fresh))
    found = again(fresh)
    assert found.attach() == ()
    assert found.attach() == ()
    assert loop.find(image_of(fresh)) == devices
    assert len(devices) == 1
    found.close()


def test_attach_after_an_unmount_behind_our_back(fresh: Aggregate) -> None:
    fresh.create_volume("vol1")
    fresh.close()
    libc.umount(fresh.path)
    found = again(fresh)
    found.attach()
    assert [volume.name for volume in found.volumes()] == ["vol1"]
    found.close()


def test_attach_uses_a_left_over_loop_device(fresh: Aggregate) -> None:
    """One without autoclear, as losetup makes, is used and given back too."""
    image = image_of(fresh)
    fresh.detach()
    command = ["losetup", "--find", "--show", str(image)]
    device = Path(subprocess.check_output(command, text=True).strip())
    found = again(fresh)
    found.attach()
    mount = mount_at(found.path)
    assert mount is not None
    assert mount.source == str(device)
    assert loop.find(image) == [device]
    found.detach()
    assert loop.find(image) == []


def test_detach_says_who_is_in_the_way(fresh: Aggregate) -> None:
    volume = fresh.create_volume("vol1")
    with volume.use("file system of vol1"), pytest.raises(Busy, match="file system of vol1"):
        fresh.detach()
    with (volume.path / "open").open("wb"), pytest.raises(Busy, match="an open file"):
        fresh.detach()
    assert fresh.attached
    fresh.detach()


def test_create_refuses(fresh: Aggregate, tmp_path: Path) -> None:
    other = ImageSource(tmp_path / "other.img", SIZE)
    with pytest.raises(AlreadyExists):
        Aggregate.create(tmp_path, "fresh", other)
    with pytest.raises(InvalidName):
        Aggregate.create(tmp_path, "9lives", other)
    with pytest.raises(InvalidName, match="at least"):
        Aggregate.create(tmp_path, "aggr1", ImageSource(other.path, 1 << 20))
    with pytest.raises(AlreadyExists, match="image"):
        Aggregate.create(tmp_path, "aggr1", ImageSource(image_of(fresh), SIZE))
    with pytest.raises(NotFound):
        Aggregate.create(tmp_path, "aggr1", DeviceSource(tmp_path / "sdz"))
    with pytest.raises(InvalidName, match="no block device"):
        Aggregate.create(tmp_path, "aggr1", DeviceSource(image_of(fresh)))
    with pytest.raises(NotFound):
        Aggregate.create(tmp_path, "aggr1", DirectorySource(tmp_path / "none"))
    with pytest.raises(InvalidName, match="not on btrfs"):
        Aggregate.create(tmp_path, "aggr1", DirectorySource(Path("/proc")))
    with pytest.raises(Refused, match="not empty"):
        Aggregate.create(tmp_path, "aggr1", DirectorySource(fresh.path))
    assert [each.name for each in Aggregate.list(tmp_path)] == ["fresh"]
    assert not other.path.exists()
    assert not (tmp_path / "aggregates" / "aggr1").exists()


def test_without_mkfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    image = ImageSource(tmp_path / "i.img", SIZE)
    with pytest.raises(NotSupported, match="btrfs-progs"):
        Aggregate.create(tmp_path, "aggr1", image)
    monkeypatch.undo()
    created = Aggregate.create(tmp_path, "aggr1", image)
    created.destroy()


def test_a_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(btrfs, "enable_quota", fail)
    image = ImageSource(tmp_path / "i.img", SIZE)
    with pytest.raises(StorageFailed, match="Input/output"):
        Aggregate.create(tmp_path, "aggr1", image)
    assert mount_at(tmp_path / "aggregates" / "aggr1") is None
    assert not (tmp_path / "aggregates" / "aggr1").exists()
    assert Aggregate.list(tmp_path) == ()
    assert not list(tmp_path.glob("*.img*"))


def test_an_image_that_is_gone(fresh: Aggregate) -> None:
    image = image_of(fresh)
    fresh.detach()
    away = image.rename(image.with_name("away"))
    with pytest.raises(NotFound, match="image"):
        fresh.attach()
    away.rename(image)
    fresh.attach()


def test_an_image_with_something_else(fresh: Aggregate) -> None:
    fresh.detach()
    image = image_of(fresh)
    away = image.rename(image.with_name("away"))
    ImageSource(image, SIZE).make("other")
    image.with_name(image.name + ".new").rename(image)
    with pytest.raises(StorageFailed, match="something else"):
        fresh.attach()
    assert mount_at(fresh.path) is None
    assert loop.find(image) == []
    away.rename(image)
    fresh.attach()


def test_a_damaged_descriptor(tmp_path: Path) -> None:
    (tmp_path / "aggregates").mkdir()
    for text in ("", "[]", "{}", '{"uuid": 1}'):
        (tmp_path / "aggregates" / "aggr1.json").write_text(text)
        with pytest.raises(StorageFailed, match="damaged"):
            Aggregate.find(tmp_path, "aggr1")
    text = '{"uuid": "u", "kind": "tape", "path": "/"}'
    (tmp_path / "aggregates" / "aggr1.json").write_text(text)
    with pytest.raises(InvalidName, match="tape"):
        Aggregate.find(tmp_path, "aggr1")


def test_destroy(tmp_path: Path) -> None:
    image = ImageSource(tmp_path / "i.img", SIZE)
    aggregate = Aggregate.create(tmp_path, "aggr1", image)
    aggregate.create_volume("vol1")
    with pytest.raises(Busy, match="vol1"):
        aggregate.destroy()
    aggregate.delete_volume("vol1")
    aggregate.destroy()
    assert Aggregate.list(tmp_path) == ()
    assert not image.path.exists()
    assert os.listdir(tmp_path / "aggregates") == []


def test_destroy_without_its_image(tmp_path: Path) -> None:
    aggregate = Aggregate.create(tmp_path, "aggr1", ImageSource(tmp_path / "i.img", SIZE))
    aggregate.detach()
    (tmp_path / "i.img").unlink()
    aggregate.destroy()
    assert Aggregate.list(tmp_path) == ()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    backing = tmp_path / "disk"
    backing.touch()
    os.truncate(backing, SIZE)
    path, fd = loop.attach(backing)
    yield path
    os.close(fd)


def test_on_a_block_device(device: Path, tmp_path: Path) -> None:
    aggregate = Aggregate.create(tmp_path, "disk0", DeviceSource(device))
    aggregate.create_volume("vol1")
    aggregate.detach()
    with pytest.raises(StorageFailed, match="existing filesystem"):
        Aggregate.create(tmp_path, "disk1", DeviceSource(device))
    found = again(aggregate)
    found.attach()
    assert [volume.name for volume in found.volumes()] == ["vol1"]
    found.delete_volume("vol1")
    found.destroy()
    second = Aggregate.create(tmp_path, "disk1", DeviceSource(device))
    second.destroy()


def test_in_a_directory(aggregate: Aggregate, tmp_path: Path) -> None:
    guest = aggregate.path / "guest"
    guest.mkdir()
    inner = Aggregate.create(tmp_path, "inner", DirectorySource(guest))
    volume = inner.create_volume("vol1", size=64 << 20)
    (volume.path / "file").write_bytes(b"data")
    snapshot = volume.snapshots.create("s")
    assert (snapshot.path / "file").read_bytes() == b"data"
    inner.detach()
    inner.attach()
    assert inner.volume("vol1").usage().size == 64 << 20
    inner.delete_volume("vol1")
    inner.destroy()
    guest.rmdir()


def test_sources_by_name() -> None:
    for kind, maker in source.SOURCES.items():
        assert source.source_of(kind, "/x") == maker(Path("/x"))


def test_qgroups_serve_where_simple_quotas_do_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An unknown command: what a kernel before 6.7 answers to simple quotas.
    monkeypatch.setattr(btrfs, "_QUOTA_ENABLE_SIMPLE", 99)
    aggregate = Aggregate.create(tmp_path, "aggr1", ImageSource(tmp_path / "i.img", SIZE))
    try:
        assert btrfs.quota_mode(aggregate.fd) == "qgroup"
        volume = aggregate.create_volume("vol1", size=20 << 20)
        with pytest.raises(OSError, match="quota"):
            (volume.path / "file").write_bytes(os.urandom(30 << 20))
        assert volume.usage().used <= 20 << 20
    finally:
        if aggregate.volumes():
            aggregate.delete_volume("vol1")
        aggregate.destroy()
