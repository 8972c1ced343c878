import os
import string

import pytest

from fuse import metadata
from fuse.errors import AlreadyExists, Busy, InvalidName, NotFound, OutOfSpace, Refused
from fuse.lun import make_serial
from fuse.volume import Volume

pytestmark = pytest.mark.root

MIB = 1 << 20


def test_serials() -> None:
    serials = {make_serial() for _ in range(1000)}
    assert len(serials) == 1000
    for serial in serials:
        assert len(serial) == 12
        assert set(serial) <= set(string.printable) - set(string.whitespace)


def test_life(volume: Volume) -> None:
    made = volume.luns.create("lun0", 64 * MIB, ostype="windows", comment="disk of host 1")
    assert made.path.stat().st_size == 64 * MIB
    assert made.path.stat().st_mode & 0o7777 == 0o600
    assert (made.name, made.qtree, made.used) == ("lun0", "", 0)
    assert made.metadata.ostype == "windows"
    assert made.consistent
    assert volume.luns.get("/lun0") == made
    changed = volume.luns.modify("lun0", state="offline", comment="", maps=("igroup1:0",))
    assert changed.metadata.serial == made.metadata.serial
    assert volume.luns.get("lun0").metadata.maps == ("igroup1:0",)
    volume.luns.delete("lun0")
    assert volume.luns.list() == ()
    assert os.listdir(volume.path) == []


def test_only_at_the_roots_of_volume_and_qtree(volume: Volume) -> None:
    volume.qtrees.create("q")
    (volume.path / "directory").mkdir()
    (volume.path / "q" / "inner").mkdir()
    assert volume.luns.create("q/lun0", MIB).qtree == "q"
    for place in ("directory/lun0", "q/inner/lun0"):
        with pytest.raises(Refused, match="root of a volume") as caught:
            volume.luns.create(place, MIB)
        assert caught.value.exit_code == 3
    with pytest.raises(NotFound, match="qtree"):
        volume.luns.create("nothing/lun0", MIB)
    for bad in ("", "q/", "..", "q/..", "x" * 256):
        with pytest.raises((InvalidName, AlreadyExists)):
            volume.luns.create(bad, MIB)
    volume.luns.create("b", MIB)
    assert [lun.name for lun in volume.luns.list()] == ["b", "q/lun0"]


@pytest.mark.parametrize("size", [0, 512, 4097, -4096, 1 << 60])
def test_sizes(volume: Volume, size: int) -> None:
    with pytest.raises(InvalidName):
        volume.luns.create("lun0", size)
    assert os.listdir(volume.path) == []


def test_refusals(volume: Volume) -> None:
    volume.luns.create("lun0", MIB)
    (volume.path / "file").touch()
    for taken in ("lun0", "file"):
        with pytest.raises(AlreadyExists):
            volume.luns.create(taken, MIB)
    for missing in ("file", "nothing"):
        for attempt in (volume.luns.get, volume.luns.delete):
            with pytest.raises(NotFound):
                attempt(missing)
    with pytest.raises(InvalidName, match="linux"):
        volume.luns.create("lun1", MIB, ostype="cp/m")
    for bad in ({"serial": "x"}, {"size": 5}, {"state": "odd"}, {"colour": "red"}):
        with pytest.raises(InvalidName):
            volume.luns.modify("lun0", **bad)


def test_a_mapped_lun_is_not_deleted(volume: Volume) -> None:
    volume.luns.create("lun0", MIB)
    volume.luns.modify("lun0", maps=("igroup1:0",))
    with pytest.raises(Busy, match="igroup1"):
        volume.luns.delete("lun0")
    volume.luns.modify("lun0", state="offline")
    volume.luns.delete("lun0")


def test_resize(volume: Volume) -> None:
    made = volume.luns.create("lun0", 2 * MIB)
    made.path.write_bytes(b"\x55" * (2 * MIB))
    os.setxattr(made.path, metadata.LUN, made.metadata.encode())
    assert volume.luns.resize("lun0", 4 * MIB).metadata.size == 4 * MIB
    assert made.path.stat().st_size == 4 * MIB
    with pytest.raises(Refused, match="cut off"):
        volume.luns.resize("lun0", MIB)
    assert volume.luns.resize("lun0", MIB, shrink=True).metadata.size == MIB
    assert made.path.read_bytes() == b"\x55" * MIB


def test_reserved_space_is_there(volume: Volume) -> None:
    volume.resize(64 * MIB)
    made = volume.luns.create("lun0", 32 * MIB, reserved=True)
    assert made.used >= 32 * MIB
    with pytest.raises(OutOfSpace):
        volume.luns.create("lun1", 48 * MIB, reserved=True)
    with pytest.raises(OutOfSpace):
        volume.luns.resize("lun0", 96 * MIB)
    assert volume.luns.get("lun0").metadata.size == made.path.stat().st_size == 32 * MIB
    assert os.listdir(volume.path) == ["lun0"]
    # A sparse one promises nothing.
    volume.luns.create("lun2", 1 << 40)


def test_clone(volume: Volume) -> None:
    source = volume.luns.create("lun0", 4 * MIB, comment="master")
    volume.luns.modify("lun0", maps=("igroup1:0",))
    data = os.urandom(4 * MIB)
    source.path.write_bytes(data)
    volume.snapshots.create("s")
    source.path.write_bytes(bytes(4 * MIB))

    from_snapshot = volume.luns.clone("lun0", "old", snapshot="s")
    assert from_snapshot.path.read_bytes() == data
    assert from_snapshot.metadata.serial != source.metadata.serial
    assert from_snapshot.metadata.maps == ()
    assert from_snapshot.metadata.comment == "master"
    assert volume.luns.clone("lun0", "copy").path.read_bytes() == bytes(4 * MIB)

    volume.snapshots.delete("s")
    assert volume.luns.get("old").consistent
    assert volume.luns.get("old").path.read_bytes() == data
    for missing in ("nothing", "q/nothing"):
        with pytest.raises(NotFound):
            volume.luns.clone(missing, "x")
    with pytest.raises(NotFound, match="snapshot"):
        volume.luns.clone("lun0", "x", snapshot="s")
    with pytest.raises(AlreadyExists):
        volume.luns.clone("lun0", "copy")


def test_a_backed_clone_is_inconsistent_without_its_snapshot(volume: Volume) -> None:
    volume.luns.create("lun0", MIB)
    volume.snapshots.create("s")
    assert volume.luns.clone("lun0", "clone", snapshot="s", backed=True).consistent
    volume.snapshots.delete("s")
    assert not volume.luns.get("clone").consistent


def test_a_restricted_lun_is_left_alone(volume: Volume) -> None:
    lun = volume.luns.create("lun0", MIB)
    volume.snapshots.create("before")
    volume.restrictions.restrict(lun.inode, "restore-7")
    volume.snapshots.create("during")
    assert volume.luns.get("lun0").restricted_by == "session restore-7"
    for attempt in (
        lambda: volume.luns.delete("lun0"),
        lambda: volume.luns.resize("lun0", 2 * MIB),
        lambda: volume.luns.clone("lun0", "copy"),
        lambda: volume.luns.clone("lun0", "copy", snapshot="during"),
    ):
        with pytest.raises(Busy, match="restore-7"):
            attempt()
    volume.luns.clone("lun0", "copy", snapshot="before")


def test_a_clone_leaves_the_restriction_behind(volume: Volume) -> None:
    lun = volume.luns.create("lun0", MIB)
    volume.snapshots.create("s")
    volume.restrictions.restrict(lun.inode, "restore-7")
    assert volume.luns.clone("lun0", "copy", snapshot="s").restricted_by == ""
