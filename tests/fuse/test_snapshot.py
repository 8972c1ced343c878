import errno
import os
import threading
import time
from pathlib import Path

import pytest

from fuse import snapshot as snapshots
from fuse.aggregate import Aggregate
from fuse.errors import AlreadyExists, Busy, InvalidName, NotFound, Refused
from fuse.volume import Volume

pytestmark = pytest.mark.root


def names(volume: Volume) -> list[str]:
    return [snapshot.name for snapshot in volume.snapshots.list()]


def test_life(volume: Volume) -> None:
    (volume.path / "file").write_bytes(b"then")
    before = time.time_ns()
    made = volume.snapshots.create("hourly.0")
    assert before - 1e9 < made.created_ns < time.time_ns() + 1e9
    (volume.path / "file").write_bytes(b"now")
    assert (made.path / "file").read_bytes() == b"then"
    assert volume.snapshots.get("hourly.0") == made
    assert volume.snapshots.list() == (made,)
    volume.snapshots.delete("hourly.0")
    assert volume.snapshots.list() == ()
    with pytest.raises(NotFound):
        volume.snapshots.get("hourly.0")
    with pytest.raises(NotFound):
        volume.snapshots.delete("hourly.0")


def test_oldest_first(volume: Volume) -> None:
    for name in ("z", "a", "m"):
        volume.snapshots.create(name)
    assert names(volume) == ["z", "a", "m"]
    generations = [snapshot.generation for snapshot in volume.snapshots.list()]
    assert generations == sorted(set(generations))


def test_immutable_for_root(volume: Volume) -> None:
    file = volume.path / "file"
    file.write_bytes(b"data")
    os.setxattr(file, "user.x", b"1")
    frozen = volume.snapshots.create("s").path / "file"
    attempts = [
        lambda: frozen.write_bytes(b"x"),
        lambda: frozen.unlink(),
        lambda: frozen.chmod(0o600),
        lambda: os.chown(frozen, 1, 1),
        lambda: os.utime(frozen),
        lambda: os.setxattr(frozen, "user.x", b"2"),
        lambda: os.removexattr(frozen, "user.x"),
        lambda: os.truncate(frozen, 0),
        lambda: frozen.rename(frozen.with_name("other")),
        lambda: (frozen.parent / "new").mkdir(),
        lambda: os.link(frozen, frozen.with_name("link")),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="Read-only") as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    assert frozen.read_bytes() == b"data"


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "x" * 256, "nul\0"])
def test_bad_names(volume: Volume, bad: str) -> None:
    volume.snapshots.create("s")
    for attempt in (volume.snapshots.create, volume.snapshots.get, volume.snapshots.delete):
        with pytest.raises(InvalidName):
            attempt(bad)
    with pytest.raises(InvalidName):
        volume.snapshots.rename("s", bad)
    assert names(volume) == ["s"]


def test_rename(volume: Volume) -> None:
    made = volume.snapshots.create("nightly 0")
    volume.snapshots.rename("nightly 0", "Schnappschuß 1")
    renamed = volume.snapshots.get("Schnappschuß 1")
    assert (renamed.uuid, renamed.generation) == (made.uuid, made.generation)
    volume.snapshots.create("other")
    with pytest.raises(AlreadyExists):
        volume.snapshots.rename("other", "Schnappschuß 1")
    with pytest.raises(NotFound):
        volume.snapshots.rename("nothing", "x")
    with pytest.raises(AlreadyExists):
        volume.snapshots.create("other")


def test_rename_to_a_name_in_use_keeps_its_locks(volume: Volume) -> None:
    volume.snapshots.create("other")
    held = volume.snapshots.create_for_backup("session 1").name
    with pytest.raises(AlreadyExists):
        volume.snapshots.rename("other", held)
    assert volume.snapshots.locks(held) == ("session 1",)
    volume.snapshots.expire_owner("session 1")


def test_they_outlive_a_close_of_the_aggregate(volume: Volume) -> None:
    volume.snapshots.create("s")
    volume.aggregate.close()
    volume.snapshots.delete("s")
    assert names(volume) == []


def test_limit(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    assert snapshots.MAX_SNAPSHOTS == 1023
    monkeypatch.setattr(snapshots, "MAX_SNAPSHOTS", 2)
    volume.snapshots.create("a")
    volume.snapshots.create("b")
    with pytest.raises(Refused, match="2 snapshots"):
        volume.snapshots.create("c")
    with pytest.raises(Refused):
        volume.snapshots.create_for_backup("session 1")
    assert volume.snapshots.all_locks() == ()


def test_locks(volume: Volume) -> None:
    volume.snapshots.create("s")
    volume.snapshots.lock("s", "session 1")
    volume.snapshots.lock("s", "session 1")
    volume.snapshots.lock("s", "context 2")
    assert volume.snapshots.locks("s") == ("context 2", "session 1")
    with pytest.raises(Busy, match="context 2, session 1") as caught:
        volume.snapshots.delete("s")
    assert caught.value.exit_code == 3
    with pytest.raises(Busy):
        volume.snapshots.rename("s", "t")
    volume.snapshots.unlock("s", "session 1")
    with pytest.raises(NotFound):
        volume.snapshots.unlock("s", "session 1")
    assert volume.snapshots.expire_owner("context 2") == ()
    assert names(volume) == ["s"]
    volume.snapshots.delete("s")
    with pytest.raises(NotFound):
        volume.snapshots.lock("s", "session 1")


def test_backup_snapshots_are_numbered_and_locked(volume: Volume) -> None:
    volume.snapshots.create("snapshot_for_backup.1")
    first = volume.snapshots.create_for_backup("session 1")
    second = volume.snapshots.create_for_backup("session 2")
    assert (first.name, second.name) == ("snapshot_for_backup.0", "snapshot_for_backup.2")
    assert volume.snapshots.locks(first.name) == ("session 1",)
    with pytest.raises(Busy, match="session 1"):
        volume.snapshots.delete(first.name)
    (lock,) = volume.snapshots.locks_of("session 1")
    assert (lock.snapshot, lock.auto_created) == (first.name, True)
    assert [lock.owner for lock in volume.snapshots.leftovers()] == ["session 1", "session 2"]
    assert volume.snapshots.expire_owner("session 1") == (first.name,)
    assert volume.snapshots.expire_owner("session 1") == ()
    third = volume.snapshots.create_for_backup("session 3")
    assert third.name == "snapshot_for_backup.3"
    assert volume.snapshots.expire_owner("session 2") == (second.name,)
    assert volume.snapshots.expire_owner("session 3") == (third.name,)
    assert names(volume) == ["snapshot_for_backup.1"]
    assert volume.snapshots.all_locks() == ()


def test_numbers_start_again_after_a_boot(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = volume.snapshots.create_for_backup("session 1")
    volume.snapshots.expire_owner("session 1")
    second = volume.snapshots.create_for_backup("session 2")
    assert (first.name, second.name) == ("snapshot_for_backup.0", "snapshot_for_backup.1")
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another boot\n")
    monkeypatch.setattr(snapshots, "_BOOT_ID", boot_id)
    third = volume.snapshots.create_for_backup("session 3")
    fourth = volume.snapshots.create_for_backup("session 4")
    assert (third.name, fourth.name) == ("snapshot_for_backup.0", "snapshot_for_backup.2")


def test_volumes_are_numbered_apart(volume: Volume, aggregate: Aggregate) -> None:
    other = aggregate.create_volume("other")
    try:
        for each in (volume, other):
            assert each.snapshots.create_for_backup("s").name == "snapshot_for_backup.0"
        assert other.snapshots.expire_owner("s")
        assert names(volume) == ["snapshot_for_backup.0"]
    finally:
        aggregate.delete_volume("other")


def test_a_backup_snapshot_goes_with_the_last_of_its_owners(volume: Volume) -> None:
    made = volume.snapshots.create_for_backup("session 1")
    volume.snapshots.lock(made.name, "context 2")
    assert volume.snapshots.expire_owner("session 1") == ()
    assert volume.snapshots.locks(made.name) == ("context 2",)
    assert volume.snapshots.expire_owner("context 2") == (made.name,)
    assert names(volume) == []


def test_snapshots_outlive_a_detach_with_their_locks(fresh: Aggregate) -> None:
    volume = fresh.create_volume("vol1")
    made = volume.snapshots.create_for_backup("session 1")
    fresh.detach()
    fresh.attach()
    found = fresh.volume("vol1")
    assert found.snapshots.list() == (made,)
    (lock,) = found.snapshots.leftovers()
    assert lock.owner == "session 1"
    assert found.snapshots.expire_owner("session 1") == (made.name,)


def test_many_at_once(volume: Volume) -> None:
    """Threads that make and drop backup snapshots never meet on a name."""
    failures: list[BaseException] = []

    def run(owner: str) -> None:
        try:
            for _ in range(8):
                made = volume.snapshots.create_for_backup(owner)
                assert volume.snapshots.locks(made.name) == (owner,)
                assert volume.snapshots.expire_owner(owner) == (made.name,)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f"session {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(volume) == []


def test_consistent_under_a_writer(volume: Volume) -> None:
    """Whatever a write had returned for is in the snapshot, while writes go on."""
    done = threading.Event()
    acknowledged = [0]

    def write() -> None:
        with (volume.path / "log").open("wb", buffering=0) as file:
            number = 0
            while not done.is_set():
                file.write(number.to_bytes(8, "big") * 64)
                number += 1
                acknowledged[0] = number

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for round_number in range(10):
            before = acknowledged[0]
            frozen = volume.snapshots.create(f"s{round_number}").path
            data = (frozen / "log").read_bytes() if (frozen / "log").exists() else b""
            assert len(data) >= before * 512
            for number in range(len(data) // 512):
                assert data[number * 512 : number * 512 + 8] == number.to_bytes(8, "big")
    finally:
        done.set()
        writer.join()
