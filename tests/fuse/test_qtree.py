import os
import subprocess
import sys

import pytest

from fuse import metadata, qtree
from fuse.errors import AlreadyExists, Busy, InvalidName, NotFound, Refused, StorageFailed
from fuse.qtree import read_metadata
from fuse.volume import Volume

pytestmark = pytest.mark.root


def test_life(volume: Volume) -> None:
    made = volume.qtrees.create("home", security_style="ntfs", oplocks=False)
    assert (made.id, made.path) == (1, volume.path / "home")
    assert (made.metadata.security_style, made.metadata.oplocks) == ("ntfs", False)
    assert made.inode == made.path.stat().st_ino
    assert volume.qtrees.get("home") == made
    changed = volume.qtrees.modify("home", security_style="mixed", oplocks=True)
    assert (changed.metadata.security_style, changed.metadata.oplocks) == ("mixed", True)
    assert volume.qtrees.modify("home").metadata == changed.metadata
    volume.qtrees.delete("home")
    assert volume.qtrees.list() == ()
    assert os.listdir(volume.path) == []


def test_ids_rise_and_are_never_given_again(volume: Volume) -> None:
    assert [volume.qtrees.create(name).id for name in ("a", "b", "c")] == [1, 2, 3]
    volume.qtrees.delete("c")
    assert volume.qtrees.create("d").id == 4
    assert [(each.name, each.id) for each in volume.qtrees.list()] == [("a", 1), ("b", 2), ("d", 4)]
    volume.reserve_qtree_id(9)
    volume.reserve_qtree_id(2)
    assert volume.qtrees.create("e").id == 10


def test_unicode_names_and_mode(volume: Volume) -> None:
    mask = os.umask(0o077)
    try:
        made = volume.qtrees.create("Проекты 家 ñ", mode=0o2775)
    finally:
        os.umask(mask)
    assert made.path.stat().st_mode & 0o7777 == 0o2775
    assert [each.name for each in volume.qtrees.list()] == ["Проекты 家 ñ"]


def test_refusals(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    (volume.path / "directory").mkdir()
    (volume.path / "file").touch()
    (volume.path / "dangling").symlink_to("nowhere")
    for taken in ("directory", "file", "dangling"):
        with pytest.raises(AlreadyExists):
            volume.qtrees.create(taken)
        with pytest.raises(NotFound):
            volume.qtrees.get(taken)
        with pytest.raises(NotFound):
            volume.qtrees.delete(taken)
    for bad in ("", "..", "a/b", "x" * 65):
        with pytest.raises(InvalidName):
            volume.qtrees.create(bad)
    with pytest.raises(InvalidName, match="unix, ntfs, mixed"):
        volume.qtrees.create("styled", security_style="dos")
    with pytest.raises(NotFound):
        volume.qtrees.rename("nothing", "x")
    assert qtree.MAX_QTREES == 4994
    monkeypatch.setattr(qtree, "MAX_QTREES", 1)
    volume.qtrees.create("only")
    with pytest.raises(Refused, match="1 qtrees"):
        volume.qtrees.create("more")
    assert sorted(os.listdir(volume.path)) == ["dangling", "directory", "file", "only"]


def test_rename_keeps_the_id(volume: Volume) -> None:
    made = volume.qtrees.create("old")
    (made.path / "file").write_bytes(b"data")
    renamed = volume.qtrees.rename("old", "new")
    assert (renamed.id, renamed.inode) == (made.id, made.inode)
    assert (renamed.path / "file").read_bytes() == b"data"
    (volume.path / "empty").mkdir()
    with pytest.raises(AlreadyExists):
        volume.qtrees.rename("new", "empty")
    assert (volume.path / "empty").is_dir()


def test_only_top_level_directories_are_qtrees(volume: Volume) -> None:
    made = volume.qtrees.create("q")
    inner = made.path / "inner"
    inner.mkdir()
    os.setxattr(inner, metadata.QTREE, made.metadata.encode())
    assert volume.qtrees.list() == (made,)


def test_delete_takes_everything_and_nothing_else(volume: Volume) -> None:
    outside = volume.path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"data")
    top = volume.qtrees.create("q").path
    (top / "link").symlink_to(outside)
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").touch()
    (top / "a" / "up").symlink_to("../../outside")
    volume.qtrees.delete("q")
    assert os.listdir(volume.path) == ["outside"]
    assert (outside / "precious").read_bytes() == b"data"


def test_delete_refuses_while_a_lun_is_being_restored(volume: Volume) -> None:
    volume.qtrees.create("q")
    lun = volume.luns.create("q/lun0", 1 << 20)
    volume.restrictions.restrict(lun.inode, "restore-1")
    with pytest.raises(Busy, match="restore-1"):
        volume.qtrees.delete("q")
    volume.restrictions.lift(lun.inode)
    volume.qtrees.delete("q")


def test_list_while_clients_make_and_remove_directories(volume: Volume) -> None:
    volume.qtrees.create("q")
    program = (
        "import os\n"
        "names = [str(number) for number in range(100)]\n"
        "while True:\n"
        "    for change in (os.mkdir, os.rmdir):\n"
        "        for name in names: change(name)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=volume.path) as client:
        try:
            for _ in range(500):
                assert [qtree.name for qtree in volume.qtrees.list()] == ["q"]
        finally:
            client.kill()


def test_a_snapshot_has_the_qtrees_of_its_time(volume: Volume) -> None:
    volume.qtrees.create("q", security_style="mixed")
    frozen = volume.snapshots.create("s").path
    volume.qtrees.modify("q", security_style="unix")
    then = read_metadata(frozen / "q")
    assert then is not None
    assert then.security_style == "mixed"


def test_a_damaged_attribute_is_reported(volume: Volume) -> None:
    os.setxattr(volume.qtrees.create("q").path, metadata.QTREE, b"{}")
    with pytest.raises(StorageFailed, match="qtree"):
        volume.qtrees.list()
