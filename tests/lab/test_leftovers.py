"""What a run leaves is found, whatever it is, and can be taken away."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import leftovers

pytestmark = pytest.mark.root


@contextmanager
def sleeper(**options: object) -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"], **options)  # type: ignore[call-overload]
    try:
        wait_for_environment(process)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def wait_for_environment(process: "subprocess.Popen[bytes]") -> None:
    """The kernel fills in a process' memory shortly after Popen has returned."""
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
        os.sched_yield()


@pytest.fixture
def marker() -> str:
    return f"test-{os.getpid()}/"


def test_nothing_is_reported_where_nothing_is(short_root: Path, marker: str) -> None:
    assert leftovers.report(short_root, marker) == []
    assert leftovers.files(short_root) == []
    assert leftovers.files(short_root / "missing") == []


def test_mounts_are_found_innermost_first_and_others_are_not(short_root: Path) -> None:
    outer, inner = short_root / "a space", short_root / "a space" / "ä" / "inner"
    outer.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", outer], check=True)
    inner.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    try:
        assert leftovers.mounts(short_root) == [str(inner), str(outer)]
        assert leftovers.mounts(short_root / "a") == []
    finally:
        subprocess.run(["umount", inner], check=True)
        subprocess.run(["umount", outer], check=True)


def test_processes_are_found_by_marker(short_root: Path, marker: str) -> None:
    with sleeper(env={leftovers.MARKER: f"{marker}x"}) as pid:
        assert leftovers.processes(marker) == {pid: "sleep 300"}
        assert leftovers.processes("another") == {}


def test_processes_are_found_by_where_they_work(short_root: Path, marker: str) -> None:
    with sleeper(cwd=short_root, env={}) as pid:
        assert leftovers.processes(marker, short_root) == {pid: "sleep 300"}
        assert leftovers.processes(marker) == {}


def test_zombies_do_not_count(marker: str) -> None:
    process = subprocess.Popen(["true"], env={leftovers.MARKER: marker})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert leftovers.processes(marker) == {}
    process.wait()


def test_settled_waits_for_what_is_ending(short_root: Path, marker: str) -> None:
    process = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, env={leftovers.MARKER: marker, "PATH": os.environ["PATH"]}
    )
    wait_for_environment(process)
    assert leftovers.settled(short_root, marker, seconds=0) != []
    assert process.stdin is not None
    process.stdin.close()
    assert leftovers.settled(short_root, marker) == []
    process.wait()


def test_sweep_takes_everything_away(short_root: Path, marker: str) -> None:
    place = short_root / "place"
    point = place / "mount"
    point.mkdir(parents=True)
    image = place / "image"
    image.write_bytes(bytes(1 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    subprocess.run(["losetup", "-f", image], check=True)
    with sleeper(cwd=place, env={leftovers.MARKER: marker}):
        kinds = [line.split(" ")[0] for line in leftovers.report(place, marker)]
        assert kinds == ["mount", "loop", "process"]
        leftovers.sweep(place, marker)
        assert leftovers.report(place, marker) == []
    assert not place.exists()
