"""What a dump tells while it runs."""

import os
from pathlib import Path
from typing import Any

import pytest

from appliance.dump import progress as module
from appliance.dump.progress import Progress
from appliance.errors import SessionAborted
from fuse.volume import Volume
from tests.appliance.dump.dumplab import Heard, dump


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def test_events_come_a_few_times_a_second(clock: Clock) -> None:
    events: list[dict[str, Any]] = []
    progress = Progress(events.append, lambda: False)
    progress.phase(4, "words", total_files=10, total_bytes=5000, position=1000)
    assert [e["event"] for e in events] == ["log", "progress"]
    for number in range(100):
        clock.now += 1 / 128
        progress.step(number, 1000 + number)
    shown = [e for e in events if e["event"] == "progress"]
    assert len(shown) == 4
    assert shown[-1] == {
        "event": "progress",
        "phase": 4,
        "text": "words",
        "files": 95,
        "bytes": 95,
        "total_files": 10,
        "total_bytes": 5000,
        "rate": 126,
    }


def test_an_abort_is_seen_at_the_next_move(clock: Clock) -> None:
    wanted = False
    progress = Progress(lambda event: None, lambda: wanted, 12)
    progress.phase(4, "words")
    progress.moved(0)
    wanted = True
    with pytest.raises(SessionAborted, match="session 12 was aborted"):
        progress.moved(1)


@pytest.mark.root
def test_the_words_of_a_dump(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "file").write_text("x")
    heard = Heard()
    result = dump(volume, tmp_path / "dump", heard=heard)
    snapshot = f'"/vol/{volume.name}/../{result.snapshot}" snapshot.'
    lines = [line for line in heard.lines if "Date of this" not in line]
    assert lines == [
        f"DUMP: creating {snapshot}",
        "DUMP: Using Full Volume Dump",
        "DUMP: Date of last level 0 dump: the epoch.",
        f"DUMP: Dumping /vol/{volume.name} to {tmp_path / 'dump'}",
        "DUMP: mapping (Pass I) [regular files]",
        "DUMP: mapping (Pass II) [directories]",
        lines[6],
        "DUMP: dumping (Pass III) [directories]",
        "DUMP: dumping (Pass IV) [regular files]",
        "DUMP: dumping (Pass V) [ACLs]",
        f"DUMP: {result.blocks} KB",
        "DUMP: DUMP IS DONE",
        f"DUMP: Deleting {snapshot}",
    ]
    assert lines[6].startswith("DUMP: estimated ")
    assert [e["phase"] for e in heard.events if e["event"] == "progress"] == [1, 2, 3, 4, 5]


@pytest.mark.root
def test_the_estimate_is_close(volume: Volume, tmp_path: Path) -> None:
    for number in range(300):
        (volume.path / f"file{number}").write_bytes(b"x" * number * 37)
    heard = Heard()
    result = dump(volume, tmp_path / "dump", heard=heard, blocking_factor=4)
    (line,) = [line for line in heard.lines if "estimated" in line]
    assert abs(int(line.split()[2]) - result.blocks) < result.blocks / 20


@pytest.mark.root
def test_the_estimate_leaves_out_what_holds_no_data(volume: Volume, tmp_path: Path) -> None:
    with (volume.path / "reserved").open("wb") as reserved:
        os.posix_fallocate(reserved.fileno(), 0, 16 << 20)
        reserved.write(b"x" * 5000)
    with (volume.path / "thin").open("wb") as thin:
        thin.truncate(1 << 30)
    heard = Heard()
    result = dump(volume, tmp_path / "dump", heard=heard, blocking_factor=4)
    (line,) = [line for line in heard.lines if "estimated" in line]
    headers_of_holes = (1 << 30) // (512 << 10)
    assert abs(int(line.split()[2]) - result.blocks) < headers_of_holes / 20


@pytest.mark.root
def test_one_large_file_moves_too(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    (volume.path / "large").write_bytes(b"x" * (20 << 20))
    heard = Heard()
    dump(volume, tmp_path / "dump", heard=heard)
    seen = [e["bytes"] for e in heard.events if e["event"] == "progress" and e["phase"] == 4]
    assert len(seen) > 15
    assert seen == sorted(seen)


@pytest.mark.root
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_an_abort_leaves_nothing(volume: Volume, tmp_path: Path, calls: int) -> None:
    (volume.path / "large").write_bytes(b"x" * (20 << 20))
    left = calls

    def aborted() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    with pytest.raises(SessionAborted):
        dump(volume, tmp_path / "dump", aborted=aborted)
    assert not list(tmp_path.iterdir())
    assert not volume.snapshots.list()
    assert not volume.snapshots.all_locks()
