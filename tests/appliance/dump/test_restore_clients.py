"""What clients of a mounted volume see while it is restored, and afterwards."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.dump.source import FileSource
from fuse.errors import StorageError
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.restorelab import Told, restore
from tests.fuse.mounting import Stand, as_user, mounted

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with mounted() as made:
        yield made


def test_clients_see_what_is_restored_and_not_what_they_cached(
    stand: Stand, tmp_path: Path
) -> None:
    top = stand.volume.path
    (top / "dir").mkdir()
    (top / "dir/file").write_bytes(b"as dumped")
    (top / "dir/moves").write_bytes(b"moves")
    dump(stand.volume, tmp_path / "l0")
    mount = stand.mount
    (mount / "dir/file").write_bytes(b"changed since, and longer")
    (mount / "dir/moves").unlink()
    assert (mount / "dir/file").read_bytes() == b"changed since, and longer"
    assert not (mount / "dir/moves").exists()  # which the kernel remembers
    channel = stand.process.socket
    restore(stand.volume, tmp_path / "l0", channel=channel)
    assert (mount / "dir/file").read_bytes() == b"as dumped"
    assert (mount / "dir/moves").read_bytes() == b"moves"
    assert sorted(os.listdir(mount / "dir")) == ["file", "moves"]


def test_clients_are_kept_off_luns_until_all_is_restored(stand: Stand, tmp_path: Path) -> None:
    stand.volume.luns.create("lun", 4 << 20)
    beneath = stand.volume.path / "lun"
    beneath.write_bytes(b"on tape " * (1 << 19))
    (stand.volume.path / "zzz-after").write_bytes(b"x" * 100_000)
    dump(stand.volume, tmp_path / "l0")
    client = stand.mount / "lun"
    refused: list[int] = []

    def aborted() -> bool:  # asked between pieces, while the LUN is being restored
        def read() -> int:
            try:
                client.read_bytes()
            except OSError as error:
                return error.errno or 0
            return 0

        if stand.volume.restrictions.list():
            refused.append(as_user(read))
        return False

    assert client.read_bytes() == b"on tape " * (1 << 19)
    beneath.write_bytes(b"since " * 100)
    restore(stand.volume, tmp_path / "l0", aborted=aborted, channel=stand.process.socket)
    assert set(refused) == {errno.EBUSY}
    assert client.read_bytes() == b"on tape " * (1 << 19)


def test_clients_see_what_is_there_also_when_the_restore_fails_at_its_very_end(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand.volume.path / "end").mkdir()
    (stand.volume.path / "end/file").write_bytes(b"as dumped")
    dump(stand.volume, tmp_path / "l0")
    (stand.mount / "end/file").unlink()
    assert not (stand.mount / "end/file").exists()  # which the kernel remembers

    def broken(_: FileSource) -> None:
        raise MediumError

    class MediumError(StorageError):
        pass

    monkeypatch.setattr(FileSource, "finish", broken)
    told = Told()
    with pytest.raises(MediumError):
        restore(stand.volume, tmp_path / "l0", told, channel=stand.process.socket)
    assert "The restore ends early" in told.text
    assert (stand.mount / "end/file").read_bytes() == b"as dumped"


def test_a_volume_mounted_while_it_is_restored(stand: Stand, tmp_path: Path) -> None:
    (stand.volume.path / "late").mkdir()
    for number in range(5):
        (stand.volume.path / f"late/file{number}").write_bytes(b"as dumped")
    dump(stand.volume, tmp_path / "l0")
    (stand.volume.path / "late/file4").unlink()
    stand.process.stop()
    told = Told()
    seen: list[bool] = []

    def aborted() -> bool:  # asked between pieces
        if told.lines[-1:] == ["RESTORE: Writing data to files"] and not seen:
            stand.restart()
            seen.append((stand.mount / "late/file4").exists())
        return False

    restore(stand.volume, tmp_path / "l0", told, aborted, channel=stand.process.socket)
    assert seen == [False]
    assert (stand.mount / "late/file4").read_bytes() == b"as dumped"
