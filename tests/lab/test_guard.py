"""The guard of the test run fails a run that leaves something, and takes it away."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

TOP = Path(__file__).parents[2]

CLEAN = """
import os, tempfile
def test_clean(tmp_path, short_root):
    assert str(tmp_path).startswith(tempfile.gettempdir())
    assert str(short_root).startswith(os.environ["TMPDIR"])
    (tmp_path / "file").write_text("pytest takes this away")
"""

LEAKY = """
import subprocess, tempfile
kept = []
def test_file():
    tempfile.mkdtemp(prefix="forgotten")
def test_process():
    command = ["sh", "-c", "echo; read forgotten_process"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
    process.stdout.readline()
    kept.append(process)
def test_mount_and_loop(tmp_path):
    (tmp_path / "image").write_bytes(bytes(1 << 20))
    (tmp_path / "point").mkdir()
    subprocess.run(["losetup", "-f", tmp_path / "image"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "point"], check=True)
"""


def run(place: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    file = place / "test_inner.py"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={place}", "-c", "/dev/null"]
    command += ["-p", "tests.conftest", "-p", "no:cacheprovider", *options, str(file)]
    return subprocess.run(
        command, cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_a_clean_run_passes(short_root: Path, options: tuple[str, ...]) -> None:
    done = run(short_root, CLEAN, *options)
    assert done.returncode == 0, done.stdout
    assert "left behind" not in done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_a_leaky_run_fails_although_its_tests_pass(
    short_root: Path, options: tuple[str, ...]
) -> None:
    done = run(short_root, LEAKY, *options)
    assert done.returncode == 1, done.stdout
    assert "3 passed" in done.stdout
    lines = [line.split()[0] for line in done.stdout.splitlines() if "(first seen after" in line]
    assert sorted(lines) == ["file", "loop", "mount", "process"], done.stdout
    assert all("test_inner.py" in line for line in done.stdout.splitlines() if "first seen" in line)
    place = next(line for line in done.stdout.splitlines() if line.startswith("mount")).split()[1]
    assert not Path(place).exists()
    assert "read forgotten_process" not in "".join(map(_command, Path("/proc").glob("[0-9]*")))


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""
