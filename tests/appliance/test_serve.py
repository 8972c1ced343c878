"""The control process: start, second start, stop, and what it repairs after kill -9."""

import os
import signal
import socket
from contextlib import suppress

import pytest

from tests.appliance.serving import Filer, nothing_left, wait_for
from tests.lab import leftovers

pytestmark = pytest.mark.root


def test_init_makes_a_root_and_leaves_nothing_mounted(fresh):
    assert nothing_left(fresh.path)
    made = {path.name for path in fresh.path.iterdir()}
    assert made == {"aggregates", "images", "libraries", "run", "sessions", "snapreel.db", "vol"}
    assert fresh.root.image("aggr0").stat().st_size == 1 << 30
    assert fresh.root.image("aggr0").stat().st_blocks * 512 < 64 << 20


def test_a_second_init_is_refused(fresh):
    fresh.run("init").refused(3, "initialised already")


def test_init_that_fails_leaves_nothing(short_root):
    filer = Filer(short_root / "root")
    filer.run("init", "--size", "1M").refused(2, "268435456")
    assert not filer.root.database.exists()
    assert not any(filer.root.aggregates.parent.rglob("*.img*"))
    filer.init("1G")


def test_init_goes_on_where_a_killed_one_stopped(fresh):
    # As if it had been killed just before its last step.
    fresh.root.database.unlink()
    fresh.root.unfinished.touch()
    fresh.init("1G")
    assert not fresh.root.unfinished.exists()


def test_init_does_not_touch_a_root_whose_database_is_lost(fresh):
    fresh.root.database.unlink()
    fresh.run("init", "--size", "1G").refused(3, "not empty")
    assert fresh.root.image("aggr0").exists()


def test_serve_needs_a_root(short_root):
    Filer(short_root / "nothing").run("serve").refused(1, "it does not exist", "init")
    assert not (short_root / "nothing").exists()


def test_a_verb_needs_a_control_process(fresh):
    fresh.run("volume", "list").refused(1, "nothing serves", "serve")


def test_a_second_serve_is_refused_and_says_who(fresh):
    fresh.start()
    assert fresh.process is not None
    fresh.run("serve").refused(3, f"process {fresh.process.pid}")
    fresh.run("init").refused(3, f"process {fresh.process.pid}")
    assert fresh.ok("status")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_order_leaves_nothing(fresh, number):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.mount("vol1").joinpath("file").write_text("kept")
    assert fresh.root.control_socket.stat().st_mode & 0o777 == 0o600
    assert fresh.stop(number) == 0
    assert nothing_left(fresh.path)
    assert {p.name for p in fresh.root.run.iterdir()} == {"lock"}
    assert not any(fresh.root.volumes.iterdir())
    fresh.start()
    assert fresh.mount("vol1").joinpath("file").read_text() == "kept"


def test_a_stop_with_open_files_on_the_mount(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    held = os.open(fresh.mount("vol1") / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.write(held, b"x")
        assert fresh.stop() == 0
        with pytest.raises(OSError, match="not connected"):
            os.read(held, 1)
    finally:
        with suppress(OSError):  # what close could not write is told, but it is closed
            os.close(held)
    wait_for(lambda: nothing_left(fresh.path))


def test_systemd_is_told(fresh, short_root):
    address = short_root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(30)
        fresh.start(NOTIFY_SOCKET=str(address))
        assert listener.recv(100) == b"READY=1"
        assert fresh.stop() == 0
        assert listener.recv(100) == b"STOPPING=1"


def test_after_kill_9_of_the_control_process(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.mount("vol1").joinpath("file").write_text("kept")
    fresh.kill()
    # The file system process lost its lifeline: it unmounts by itself.
    wait_for(lambda: not fresh.mount("vol1").is_mount())
    fresh.start()
    assert fresh.mount("vol1").joinpath("file").read_text() == "kept"
    assert fresh.stop() == 0
    assert nothing_left(fresh.path)


def test_after_kill_9_of_everything(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.mount("vol1").joinpath("file").write_text("kept")
    mounted = fresh.json("volume", "show", "vol1")["mount"]
    os.kill(mounted["pid"], signal.SIGSTOP)  # it will not see its lifeline end
    fresh.kill()
    os.kill(mounted["pid"], signal.SIGKILL)
    fresh.start()
    status = fresh.json("status")
    assert status["recovered"]["detached"] == [str(fresh.mount("vol1"))]
    assert fresh.mount("vol1").joinpath("file").read_text() == "kept"


def test_a_file_system_process_that_ignores_its_end_is_killed(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    pid = fresh.json("volume", "show", "vol1")["mount"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    fresh.kill()
    fresh.start()
    assert fresh.json("status")["recovered"]["killed"] == [f"volume:vol1 (process {pid})"]
    assert pid not in leftovers.processes("-", fresh.path)
    assert fresh.mount("vol1").is_mount()


def test_a_file_system_process_that_crashes_is_started_again(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.mount("vol1").joinpath("file").write_text("kept")
    before = fresh.json("volume", "show", "vol1")["mount"]
    os.kill(before["pid"], signal.SIGKILL)

    def again() -> bool:
        mount = fresh.call("volume.show", name="vol1")["mount"]
        return bool(mount["state"] == "mounted" and mount["pid"] != before["pid"])

    wait_for(again)
    assert fresh.call("volume.show", name="vol1")["mount"]["restarts"] == 1
    assert fresh.mount("vol1").joinpath("file").read_text() == "kept"


def test_an_aggregate_that_is_gone_is_reported_and_the_rest_goes_on(fresh):
    fresh.start()
    fresh.ok("aggregate", "create", "aggr1", "--size", "300M")
    fresh.ok("volume", "create", "vol1", "--aggregate", "aggr1")
    fresh.ok("volume", "create", "vol0", "--aggregate", "aggr0")
    assert fresh.stop() == 0
    fresh.root.image("aggr1").rename(fresh.path / "away")
    fresh.start()
    states = {a["name"]: a["state"] for a in fresh.json("aggregate", "list")}
    assert states == {"aggr0": "online", "aggr1": "failed"}
    fresh.run("aggregate", "show", "aggr1").refused(3, "not attached")
    assert [v["name"] for v in fresh.json("volume", "list")] == ["vol0"]
    assert fresh.mount("vol0").is_mount()


def test_an_offline_volume_stays_offline(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.ok("volume", "offline", "vol1")
    assert not fresh.mount("vol1").exists()
    fresh.stop()
    fresh.start()
    assert fresh.json("volume", "show", "vol1")["mount"]["state"] == "unmounted"
    fresh.ok("volume", "online", "vol1")
    assert fresh.mount("vol1").is_mount()


def test_no_loop_device_is_left_by_a_stop_during_the_start(fresh):
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fresh.stop()
    for _ in range(3):
        starting = fresh.background("serve")
        starting.send_signal(signal.SIGTERM)  # wherever it is by then
        starting.communicate(timeout=60)
    fresh.start()
    assert fresh.stop() == 0
    assert not leftovers.loops(fresh.path)
