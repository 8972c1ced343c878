"""Reading ahead: what is asked for, and that a dump does not depend on it."""

import os
import signal
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.dump import prefetch
from appliance.dump.prefetch import AHEAD, WINDOW, Prefetcher, read_ahead, wishes
from fuse.treesearch import TreeSearch
from fuse.volume import Volume
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.streamcheck import check_stream

pytestmark = pytest.mark.root


@pytest.fixture
def files(volume: Volume) -> Volume:
    for number in range(WINDOW * 2):
        (volume.path / f"f{number}").write_bytes(b"%d" % number * 1000)
    return volume


@pytest.fixture
def helper(files: Volume) -> Iterator[Prefetcher]:
    snapshot = files.snapshots.create("s")
    numbers = array("Q", range(257, 257 + WINDOW * (AHEAD + 3)))
    found = Prefetcher(files.aggregate.fd, snapshot.subvolid, numbers)
    yield found
    found.close()
    files.snapshots.delete("s")


def test_wishes_are_in_the_order_of_the_disk(volume: Volume) -> None:
    (volume.path / "inline").write_bytes(b"i" * 100)
    (volume.path / "hole").touch()
    os.truncate(volume.path / "hole", 1 << 20)
    for number in range(20):
        (volume.path / f"f{number}").write_bytes(os.urandom(9000))
        if number % 3:
            fd = os.open(volume.path / f"f{number}", os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
    snapshot = volume.snapshots.create("s")
    numbers = array("Q", sorted(p.stat().st_ino for p in volume.path.iterdir()))
    search = TreeSearch(volume.aggregate.fd, snapshot.subvolid)
    found = wishes(search, numbers)
    assert {number for _, number, _ in found} == {
        (volume.path / f"f{n}").stat().st_ino for n in range(20)
    }
    places = [place for place, _, _ in found]
    assert places == sorted(places)
    assert {sum(length for _, length in ranges) for _, _, ranges in found} == {12288}
    read_ahead(volume.aggregate.fd, snapshot.subvolid, numbers, search)


def test_the_helper_is_a_few_windows_ahead(helper: Prefetcher) -> None:
    assert helper._sent == AHEAD * WINDOW
    helper.done(WINDOW)
    assert helper._sent == (AHEAD + 1) * WINDOW
    process = helper._helper
    assert process
    helper.close()
    assert process.returncode == -signal.SIGKILL
    helper.done(5 * WINDOW)  # nothing happens


def test_a_helper_that_was_killed(helper: Prefetcher) -> None:
    assert helper._helper
    helper._helper.kill()
    helper._helper.wait()
    helper.done(WINDOW)
    assert helper._helper is None


def test_a_few_files_need_no_helper(volume: Volume) -> None:
    assert Prefetcher(volume.aggregate.fd, 5, array("Q", [257]))._helper is None


def test_a_dump_with_and_without(
    files: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.snapshots.create("s")
    dump(files, tmp_path / "with", snapshot="s")
    monkeypatch.setattr(prefetch, "WINDOW", 10**9)
    dump(files, tmp_path / "without", snapshot="s")
    one, other = (check_stream(tmp_path / name, 64) for name in ("with", "without"))
    assert [(m.number, m.data) for m in one.members if not m.part] == [
        (m.number, m.data) for m in other.members if not m.part
    ]
    assert len(one.members) > WINDOW * 2
