import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fuse import metadata
from fuse.aggregate import Aggregate
from fuse.descriptors import exclusive
from fuse.errors import (
    AlreadyExists,
    Busy,
    InvalidName,
    NotFound,
    OutOfSpace,
    Refused,
    StorageFailed,
)
from fuse.inodes import InodeBudget
from fuse.libc import RENAME_EXCHANGE, renameat2
from fuse.volume import MAX_COMMENT, Volume

pytestmark = pytest.mark.root

MIB = 1 << 20
SYS_FLOCK = 32 if os.uname().machine in ("aarch64", "riscv64", "loongarch64") else 73


def fill(volume: Volume, name: str, most: int) -> int:
    """Write until an error, at most `most` bytes; give the bytes written."""
    written = 0
    with (volume.path / name).open("wb", buffering=0) as file:
        try:
            while written < most:
                written += file.write(os.urandom(256 << 10))
        except OSError as error:
            if error.errno not in (errno.EDQUOT, errno.ENOSPC):
                raise
    return written


def test_create(aggregate: Aggregate, volume: Volume) -> None:
    data = volume.metadata()
    assert (data.size, data.files, data.security_style) == (0, 0, "unix")
    assert (data.type, data.state) == ("rw", "online")
    assert volume.path == aggregate.path / "volumes" / volume.name
    assert os.listdir(volume.path) == []
    assert volume.path.stat().st_ino == 256
    assert volume.path.stat().st_mode & 0o7777 == 0o755
    assert volume.name in [each.name for each in aggregate.volumes()]
    assert aggregate.volume(volume.name).uuid == volume.uuid


def test_create_refuses(aggregate: Aggregate, volume: Volume) -> None:
    before = [each.name for each in aggregate.volumes()]
    with pytest.raises(AlreadyExists):
        aggregate.create_volume(volume.name)
    for bad in ("", "9vol", "a-b", "../x", "x" * 204):
        with pytest.raises(InvalidName):
            aggregate.create_volume(bad)
    with pytest.raises(InvalidName, match="size"):
        aggregate.create_volume("small", size=MIB)
    with pytest.raises(InvalidName, match="files"):
        aggregate.create_volume("small", files=5)
    with pytest.raises(InvalidName, match="unix, ntfs, mixed"):
        aggregate.create_volume("styled", security_style="dos")
    with pytest.raises(InvalidName):
        aggregate.create_volume("negative", size=-1)
    assert [each.name for each in aggregate.volumes()] == before


def test_unknown_volume(aggregate: Aggregate) -> None:
    with pytest.raises(NotFound, match="volume nothing does not exist"):
        aggregate.volume("nothing")
    with pytest.raises(NotFound):
        aggregate.delete_volume("nothing")
    with pytest.raises(NotFound):
        aggregate.rename_volume("nothing", "something")


def test_size_is_a_limit(volume: Volume) -> None:
    volume.resize(32 * MIB)
    written = fill(volume, "big", 64 * MIB)
    assert 24 * MIB < written <= 32 * MIB
    usage = volume.usage()
    assert usage.size == 32 * MIB
    assert usage.used <= 32 * MIB
    assert usage.available < MIB
    # What was acknowledged is there, and deleting works on a full volume.
    assert (volume.path / "big").stat().st_size == written
    (volume.path / "big").unlink()


def test_a_full_volume_is_not_stuck(volume: Volume) -> None:
    """Snapshots, marks and settings work to the last byte, and the limit stays what it was."""
    lun = volume.luns.create("lun0", MIB)
    volume.restrictions.restrict(lun.inode, "restore-1")
    volume.resize(20 * MIB)
    fill(volume, "big", 64 * MIB)
    with pytest.raises(OSError, match="quota"):
        os.setxattr(volume.path / "big", "user.x", b"1")
    assert volume.snapshots.create_for_backup("session 1").name == "snapshot_for_backup.0"
    volume.restrictions.lift(lun.inode)
    volume.restrictions.restrict((volume.path / "big").stat().st_ino, "restore-2")
    volume.luns.modify("lun0", state="offline")
    volume.modify(comment="full")
    assert volume.usage().size == 20 * MIB
    volume.snapshots.expire_owner("session 1")
    volume.resize(32 * MIB)
    assert fill(volume, "more", 64 * MIB) > 8 * MIB


def test_size_can_grow_and_shrink_but_not_below_what_is_used(volume: Volume) -> None:
    volume.resize(32 * MIB)
    fill(volume, "big", 64 * MIB)
    volume.resize(64 * MIB)
    assert fill(volume, "more", 16 * MIB) == 16 * MIB
    with pytest.raises(Refused, match="in use") as caught:
        volume.resize(40 * MIB)
    assert caught.value.exit_code == 3
    assert volume.metadata().size == volume.usage().size == 64 * MIB
    volume.resize(0)
    assert fill(volume, "most", 80 * MIB) == 80 * MIB


def test_data_that_a_snapshot_holds_counts(fresh: Aggregate) -> None:
    volume = fresh.create_volume("vol1", size=64 * MIB)
    fill(volume, "big", 16 * MIB)
    volume.snapshots.create("s")
    (volume.path / "big").unlink()
    fresh.engine.commit()
    assert volume.usage().used > 16 * MIB


def test_usage_is_current(volume: Volume) -> None:
    before = volume.usage().used
    (volume.path / "file").write_bytes(os.urandom(4 * MIB))
    assert 4 * MIB <= volume.usage().used - before < 6 * MIB


def test_limit_outlives_a_detach(fresh: Aggregate) -> None:
    fresh.create_volume("vol1", size=32 * MIB)
    fresh.detach()
    fresh.attach()
    volume = fresh.volume("vol1")
    assert volume.usage().size == 32 * MIB
    assert fill(volume, "big", 64 * MIB) <= 32 * MIB


def test_limit_is_set_again_when_a_crash_lost_it(fresh: Aggregate) -> None:
    volume = fresh.create_volume("vol1", size=32 * MIB)
    fresh.engine.set_limit(volume.subvolid, 0)
    (line,) = fresh.attach()
    assert "vol1" in line
    assert fresh.engine.usage(volume.subvolid).limit == 32 * MIB
    assert fresh.attach() == ()


def test_inodes(volume: Volume) -> None:
    assert volume.usage().files_used == -1
    volume.modify(files=100)
    for number in range(60):
        (volume.path / str(number)).touch()
    volume.aggregate.engine.commit()
    usage = volume.usage()
    assert (usage.files, usage.files_used, usage.files_available) == (100, 61, 39)
    with pytest.raises(OutOfSpace, match="40 inodes needed, 39"):
        volume.require(0, files=40)
    volume.require(0, files=39)
    for number in range(60, 120):
        (volume.path / str(number)).touch()
    with pytest.raises(Refused, match="inodes are in use"):
        volume.modify(files=110)


def test_inode_budget(volume: Volume) -> None:
    budget = InodeBudget(volume)
    assert budget.available == -1
    budget.take(1000)
    volume.modify(files=100)
    (volume.path / "file").touch()
    budget.refresh()
    assert budget.available == 98
    budget.take(98)
    with pytest.raises(OSError, match="No space left"):
        budget.take()
    budget.give(2)
    budget.take()
    assert budget.available == 1


def test_require(volume: Volume) -> None:
    volume.resize(32 * MIB)
    volume.require(16 * MIB)
    with pytest.raises(OutOfSpace, match=f"{40 * MIB} bytes needed"):
        volume.require(40 * MIB)


def test_modify(volume: Volume) -> None:
    volume.modify(security_style="mixed", comment="home 家", state="restricted", snapdir=False)
    data = volume.metadata()
    assert (data.security_style, data.comment) == ("mixed", "home 家")
    assert (data.state, data.snapdir) == ("restricted", False)
    for bad in (
        {"security_style": "dos"},
        {"state": "asleep"},
        {"type": "ls"},
        {"comment": "x" * (MAX_COMMENT + 1)},
        {"size": 5},
        {"uuid": "mine"},
        {"next_qtree_id": 1},
        {"colour": "red"},
        {"vm_align_sector": -1},
    ):
        with pytest.raises(InvalidName):
            volume.modify(**bad)
    assert volume.metadata() == data


def test_a_snapshot_has_the_metadata_of_its_time(volume: Volume) -> None:
    volume.modify(comment="then")
    snapshot = volume.snapshots.create("s")
    volume.modify(comment="now")
    value = metadata.get_attribute(snapshot.path, metadata.VOLUME)
    assert value is not None
    assert metadata.VolumeMetadata.decode(value).comment == "then"


def test_damaged_metadata_are_reported(fresh: Aggregate) -> None:
    volume = fresh.create_volume("vol1")
    healthy = volume.metadata()
    os.setxattr(volume.path, metadata.VOLUME, b"{")
    with pytest.raises(StorageFailed, match="vol1"):
        volume.metadata()
    (line,) = fresh.attach()
    assert "vol1" in line
    os.setxattr(volume.path, metadata.VOLUME, healthy.encode())
    assert fresh.attach() == ()


def test_delete(aggregate: Aggregate) -> None:
    volume = aggregate.create_volume("doomed", size=64 * MIB)
    (volume.path / "file").write_bytes(b"data")
    volume.snapshots.create("s1")
    volume.snapshots.create("s2")
    volume.count_inodes()
    subvolid, identity = volume.subvolid, volume.uuid
    aggregate.delete_volume("doomed")
    assert "doomed" not in [each.name for each in aggregate.volumes()]
    assert not (aggregate.layout.snapshots / str(subvolid)).exists()
    assert list(aggregate.layout.deleting.iterdir()) == []
    rows = aggregate.database().rows("SELECT * FROM inode_count WHERE volume = ?", (identity,))
    assert rows == []
    with pytest.raises(NotFound):
        volume.metadata()
    with pytest.raises(NotFound):
        volume.snapshots.create("late")
    with pytest.raises(NotFound), volume.use("late"):
        pass


def test_delete_refuses_while_a_snapshot_is_locked(aggregate: Aggregate, volume: Volume) -> None:
    volume.snapshots.create("s")
    volume.snapshots.lock("s", "context 4711")
    with pytest.raises(Busy, match="context 4711"):
        aggregate.delete_volume(volume.name)
    assert [snapshot.name for snapshot in volume.snapshots.list()] == ["s"]
    volume.snapshots.unlock("s", "context 4711")
    aggregate.delete_volume(volume.name)


def test_delete_takes_the_volume_that_has_the_name_at_last(
    aggregate: Aggregate, volume: Volume
) -> None:
    """Names that change while it waits for its turn cost no other volume its snapshots."""
    volume.snapshots.create("precious")
    aggregate.create_volume("doomed")
    deleting = threading.Thread(target=aggregate.delete_volume, args=(volume.name,))
    with exclusive(aggregate.layout.volumes) as names:
        deleting.start()
        while not waits_for_a_lock(deleting):
            pass
        renameat2(names, volume.name, names, "doomed", RENAME_EXCHANGE)
    deleting.join()
    kept = aggregate.rename_volume("doomed", volume.name)
    assert kept.uuid == volume.uuid
    assert [snapshot.name for snapshot in kept.snapshots.list()] == ["precious"]


def waits_for_a_lock(thread: threading.Thread) -> bool:
    """Say whether a thread of this process is in flock(2)."""
    number = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0]
    return int(number) == SYS_FLOCK if number.isdigit() else False


def test_delete_and_rename_refuse_while_used(aggregate: Aggregate, volume: Volume) -> None:
    with volume.use("session 5"), volume.use("file system of vol1"):
        assert sorted(volume.users()) == ["file system of vol1", "session 5"]
        with pytest.raises(Busy, match="session 5"):
            aggregate.delete_volume(volume.name)
        with pytest.raises(Busy, match="session 5"):
            aggregate.rename_volume(volume.name, "other")
    assert volume.users() == []
    aggregate.delete_volume(volume.name)


def test_one_at_a_time_has_a_role(volume: Volume) -> None:
    with volume.use("the mount at /a", role="mount"):
        with pytest.raises(Busy, match="the mount at /a"), volume.use("/b", role="mount"):
            pass
        with volume.use("session 5"):
            assert sorted(volume.users()) == ["session 5", "the mount at /a"]
    with volume.use("the mount at /b", role="mount"):
        assert volume.users() == ["the mount at /b"]


def test_a_use_ends_with_its_process(volume: Volume) -> None:
    program = (
        "import sys, pathlib, fuse.aggregate as a\n"
        "volume = a.Aggregate.open(pathlib.Path(sys.argv[1])).volume(sys.argv[2])\n"
        "with volume.use('another process'):\n"
        "    print('using', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(volume.aggregate.path), volume.name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "using\n"
        assert volume.users() == ["another process"]
        process.kill()
        process.wait()
        assert volume.users() == []


def test_rename(aggregate: Aggregate, volume: Volume) -> None:
    (volume.path / "file").write_bytes(b"data")
    volume.snapshots.create("s")
    renamed = aggregate.rename_volume(volume.name, "renamed")
    try:
        assert (renamed.uuid, renamed.subvolid) == (volume.uuid, volume.subvolid)
        assert (renamed.path / "file").read_bytes() == b"data"
        assert [snapshot.name for snapshot in renamed.snapshots.list()] == ["s"]
        with pytest.raises(NotFound):
            aggregate.volume(volume.name)
        with pytest.raises(NotFound):
            volume.modify(comment="x")
        other = aggregate.create_volume(volume.name)
        with pytest.raises(AlreadyExists):
            aggregate.rename_volume("renamed", other.name)
    finally:
        aggregate.delete_volume("renamed")
