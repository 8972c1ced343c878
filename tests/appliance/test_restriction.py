"""A LUN whose restore was interrupted stays restricted until an operator lifts it."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.serving import Filer, wait_for

pytestmark = pytest.mark.root

SIZE = 8 << 20


@pytest.fixture
def half_restored(fresh: Filer, tmp_path: Path) -> Iterator[tuple[Filer, int]]:
    """Give a root where the restore of /vol/vol1/lun has got half of its stream, and waits."""
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.ok("lun", "create", "/vol/vol1/lun", "--size", "8M")
    (fresh.mount("vol1") / "lun").write_bytes(os.urandom(SIZE))
    fresh.ok("dump", "/vol/vol1", "--to", f"file:{tmp_path}/stream")
    stream = (tmp_path / "stream").read_bytes()
    restoring = fresh.background(
        "restore", "--from", "-", "/vol/vol1", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert restoring.stdin is not None
    restoring.stdin.write(stream[: len(stream) // 2])
    restoring.stdin.flush()
    wait_for(lambda: fresh.call("lun.show", path="/vol/vol1/lun")["restricted_by"])
    yield fresh, 2
    restoring.stdin.close()


def blocked(filer: Filer) -> bool:
    try:
        (filer.mount("vol1") / "lun").read_bytes()
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def test_while_it_is_restored(half_restored):
    filer, session = half_restored
    assert blocked(filer)
    filer.run("lun", "unrestrict", "/vol/vol1/lun", "--yes").refused(3, "still restoring")
    filer.run("lun", "delete", "/vol/vol1/lun").refused(3, f"session {session}")
    filer.ok("session", "abort", session)


def test_after_kill_9_of_the_worker(half_restored):
    filer, session = half_restored
    os.kill(filer.worker(session), signal.SIGKILL)
    wait_for(lambda: filer.call("session.show", session=session)["ended"])
    assert blocked(filer)
    filer.stop()
    filer.start()
    assert blocked(filer)
    assert filer.json("status")["restricted"] == ["/vol/vol1/lun"]
    shown = filer.ok("lun", "show", "/vol/vol1/lun").out
    assert f"session {session}" in shown
    assert "snapreel lun unrestrict /vol/vol1/lun --yes" in shown
    assert "restricted" in filer.ok("lun", "list").out
    filer.run("lun", "unrestrict", "/vol/vol1/lun").refused(3, "--yes")
    assert blocked(filer)
    filer.ok("lun", "unrestrict", "/vol/vol1/lun", "--yes")
    # The kill may have met the restore before the first byte of data, so any length will do.
    below = filer.path / "aggregates" / "aggr0" / "volumes" / "vol1" / "lun"
    assert (filer.mount("vol1") / "lun").read_bytes() == below.read_bytes()
    filer.run("lun", "unrestrict", "/vol/vol1/lun", "--yes").refused(3, "not restricted")
    assert filer.json("status")["restricted"] == []


def test_restoring_it_again_lifts_the_restriction(half_restored, tmp_path):
    filer, session = half_restored
    os.kill(filer.worker(session), signal.SIGKILL)
    wait_for(lambda: filer.call("session.show", session=session)["ended"])
    filer.ok("restore", "--from", f"file:{tmp_path}/stream", "/vol/vol1")
    assert filer.call("lun.show", path="/vol/vol1/lun")["restricted_by"] == ""
    assert len((filer.mount("vol1") / "lun").read_bytes()) == SIZE


def test_after_kill_9_of_everything(half_restored):
    filer, session = half_restored
    filer.kill()
    filer.start()
    assert blocked(filer)
    assert filer.call("session.show", session=session)["state"] == "failed"
