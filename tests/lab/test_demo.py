"""The demo on a small scale: it succeeds, and it cleans up when it is interrupted."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

TOP = Path(__file__).parents[2]


@contextmanager
def playing(place: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.lab.demo", "--dir", str(place), "--files", "1200"]
    with subprocess.Popen(
        command,
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_demo_holds(short_root: Path) -> None:
    with playing(short_root) as process:
        output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert "0 failed, differences: 0" in output
    assert not list(short_root.iterdir())


@pytest.mark.parametrize(
    ("moment", "number"),
    [("Level 0 to cartridge", signal.SIGINT), ("Restore of level 0", signal.SIGTERM)],
)
def test_an_interrupted_demo_leaves_nothing(
    short_root: Path, moment: str, number: signal.Signals
) -> None:
    """What it would leave is found by the guard: its mounts, loop devices and processes."""
    with playing(short_root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        process.send_signal(number)
        rest = process.stdout.read()
        process.wait(timeout=60)
    assert process.returncode == 130, rest
    assert not list(short_root.iterdir())
