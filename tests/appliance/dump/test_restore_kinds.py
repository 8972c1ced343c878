"""LUNs, qtrees, ACLs and other attributes that a restore gives only where they belong."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import StreamError
from fuse import metadata
from fuse.aggregate import Aggregate
from fuse.volume import Volume
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.restorelab import Told, restore
from tests.appliance.dump.tapelab import Tape

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def storage(aggregate: Aggregate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a tape with qtrees, LUNs and NT ACLs."""
    source = aggregate.create_volume("storage", security_style="ntfs")
    source.qtrees.create("q1", security_style="mixed")
    source.qtrees.create("q2", security_style="unix")
    source.luns.create("lun0", 8 << 20, comment="of storage")
    source.luns.create("q1/lun1", 8 << 20)
    (source.path / "lun0").write_bytes(os.urandom(8 << 20))
    for name in ("file", "q1/file", "q2/file"):
        (source.path / name).write_bytes(name.encode())
        os.setxattr(source.path / name, "security.NTACL", b"the same descriptor")
    (source.path / "dir").mkdir()
    os.setxattr(source.path / "dir", "security.NTACL", b"another descriptor")
    path = tmp_path_factory.mktemp("tapes") / "storage"
    dump(source, path)
    yield path
    aggregate.delete_volume("storage")


def _acl(path: Path) -> bytes | None:
    return metadata.get_attribute(path, "security.NTACL")


def test_acls_follow_the_security_style(storage: Path, volume: Volume) -> None:
    volume.modify(security_style="ntfs")
    told = Told()
    restore(volume, storage, told)
    assert _acl(volume.path / "file") == _acl(volume.path / "q1/file") == b"the same descriptor"
    assert _acl(volume.path / "dir") == b"another descriptor"
    assert _acl(volume.path / "q2/file") is None
    assert "NT ACLs are not restored where the security style is unix" in told.text


def test_acls_can_be_left_out(storage: Path, volume: Volume) -> None:
    volume.modify(security_style="ntfs")
    restore(volume, storage, acls=False)
    assert _acl(volume.path / "file") is None


def test_qtrees_come_back_at_the_root_only(storage: Path, volume: Volume) -> None:
    other = volume.qtrees.create("other")
    restore(volume, storage)
    found = {qtree.name: qtree for qtree in volume.qtrees.list()}
    assert found["q1"].metadata.security_style == "mixed"
    assert len({qtree.id for qtree in found.values()}) == 3
    assert found["other"].id == other.id
    assert volume.qtrees.create("next").id > max(qtree.id for qtree in found.values())
    told = Told()
    restore(volume, storage, told, relative=b"below")
    assert {qtree.name for qtree in volume.qtrees.list()} == {"q1", "q2", "other", "next"}
    assert "qtree information is used at the root of a volume only" in told.text


def test_luns_live_at_the_root_of_a_volume_or_qtree(storage: Path, volume: Volume) -> None:
    told = Told()
    restore(volume, storage, told)
    assert [lun.name for lun in volume.luns.list()] == ["lun0", "q1/lun1"]
    restore(volume, storage, told, relative=b"below")
    assert [lun.name for lun in volume.luns.list()] == ["lun0", "q1/lun1"]
    assert "lun0: restored as a file" in told.text
    assert (volume.path / "below/lun0").stat().st_size == 8 << 20


def test_an_existing_lun_keeps_what_hosts_know_it_by(
    aggregate: Aggregate, storage: Path, volume: Volume
) -> None:
    volume.luns.create("lun0", 4 << 20, comment="mine")
    before = volume.luns.modify("lun0", maps=("hosts",))
    restore(volume, storage, files=(b"lun0",))
    after = volume.luns.get("lun0")
    assert after.inode == before.inode
    assert after.metadata == replace(before.metadata, size=8 << 20)
    source = aggregate.volume("storage").path / "lun0"
    assert (volume.path / "lun0").read_bytes() == source.read_bytes()
    assert volume.restrictions.list() == ()


def test_a_lun_of_a_failed_restore_stays_restricted(
    storage: Path, volume: Volume, tmp_path: Path
) -> None:
    content = storage.read_bytes()
    (tmp_path / "torn").write_bytes(content[: len(content) // 2])
    told = Told()
    with pytest.raises(StreamError):
        restore(volume, tmp_path / "torn", told)
    assert [mark.mark.session for mark in volume.restrictions.list()] == ["7"]
    assert "LUN lun0 is not complete and stays restricted" in told.text
    restore(volume, storage, session=8)
    assert volume.restrictions.list() == ()
    assert [lun.name for lun in volume.luns.list()] == ["lun0", "q1/lun1"]


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """Let writes beyond `size` fail, as those to a broken disk do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_lun_that_alone_could_not_be_written_stays_restricted(
    storage: Path, volume: Volume
) -> None:
    told = Told()
    with _files_of_at_most(4 << 20):
        result = restore(volume, storage, told)
    assert result.damaged == 2
    assert (volume.path / "q2/file").read_bytes() == b"q2/file"  # the restore went on
    assert len(volume.restrictions.list()) == 2
    assert "LUN lun0 is not complete and stays restricted" in told.text
    restore(volume, storage, files=(b"lun0",), session=8)
    assert [mark.mark.session for mark in volume.restrictions.list()] == ["7"]
    assert [lun.name for lun in volume.luns.list()] == ["lun0"]


def test_a_file_that_cannot_be_written_does_not_end_the_restore(
    volume: Volume, tmp_path: Path
) -> None:
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"large"), (4, b"small")])
    tape.inode(3, 0o100644, b"x" * 200_000)
    tape.inode(4, 0o100644, b"small")
    (tmp_path / "tape").write_bytes(tape.end())
    told = Told()
    with _files_of_at_most(150_000):
        result = restore(volume, tmp_path / "tape", told)
    assert (result.files, result.damaged) == (1, 1)
    assert "large is not restored: File too large" in told.text
    assert set(os.listdir(volume.path)) == {"small", "restore_symboltable"}


def test_a_directory_that_takes_no_attributes_does_not_end_the_restore(
    volume: Volume, tmp_path: Path
) -> None:
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"dir"), (4, b"file")])
    tape.directory(3, [])
    tape.inode(4, 0o100644, b"file")
    (tmp_path / "tape").write_bytes(tape.end())
    (volume.path / "dir").mkdir()
    told = Told()
    subprocess.run(["chattr", "+i", volume.path / "dir"], check=True)
    try:
        result = restore(volume, tmp_path / "tape", told)
    finally:
        subprocess.run(["chattr", "-i", volume.path / "dir"], check=True)
    assert result.damaged == 1
    assert "directory dir does not get its attributes: Operation not permitted" in told.text


def test_vm_alignment_is_the_destinations(
    aggregate: Aggregate, volume: Volume, tmp_path: Path
) -> None:
    source = aggregate.create_volume("aligned")
    (source.path / "file").touch()
    os.setxattr(source.path / "file", metadata.VMALIGN, b"7")
    dump(source, tmp_path / "tape")
    volume.modify(vm_align_sector=63)
    restore(volume, tmp_path / "tape")
    assert os.getxattr(volume.path / "file", metadata.VMALIGN) == b"63"
    aggregate.delete_volume("aligned")
