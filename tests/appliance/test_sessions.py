"""Dump and restore sessions from the command line: done, refused, aborted, killed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.control.client import ControlClient
from appliance.errors import ErrorDocument
from tape.virtual.faults import Fault, write_faults
from tests.appliance.serving import Filer, nothing_left, wait_for

pytestmark = pytest.mark.root

WRITE, READ = 0x0A, 0x08


@pytest.fixture(scope="module")
def loaded(filer: Filer) -> Filer:
    """Give the served root with data in vol1 and a cartridge in rst0."""
    filer.ok("library", "load", "SR0001L8", "rst0")
    fill(filer, "vol1")
    return filer


def fill(filer: Filer, volume: str, size: int = 4 << 20) -> None:
    top = filer.mount(volume) / "data"
    top.mkdir(exist_ok=True)
    for number in range(20):
        (top / f"file{number}").write_bytes(os.urandom(size // 20))
    (top / "caf\udce9").write_text("a name that is not UTF-8")


def last(filer: Filer) -> dict:
    (session,) = filer.json("session", "list", "--limit", "1")
    return session


def snapshots(filer: Filer, volume: str = "vol1") -> list[str]:
    return [s["name"] for s in filer.call("snapshot.list", volume=volume)]


def drive(filer: Filer, name: str = "rst0") -> dict:
    (found,) = filer.call("tape.show", device=name)
    return found


def same_data(filer: Filer, source: str, destination: str) -> bool:
    one, other = filer.mount("vol1") / source, filer.mount("vol1") / destination
    names = sorted(os.listdir(one))
    assert names == sorted(set(os.listdir(other)) - {"restore_symboltable"})
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


# Work that is done


def test_dump_to_tape_and_back(loaded):
    done = loaded.ok("dump", "/vol/vol1/data", "--to", "nrst0a")
    assert "DUMP: dumping (Pass IV) [regular files]\n" in done.out
    session = last(loaded)
    assert (session["state"], session["files"], session["drive"]) == ("done", 21, "nrst0a")
    assert [phase["number"] for phase in session["phases"]] == [1, 2, 3, 4, 5]
    assert session["ended"] >= session["started"]
    assert session["snapshot"].startswith("snapshot_for_backup.")
    assert snapshots(loaded) == []
    assert drive(loaded)["state"] != "in use"
    assert f"session {session['id']} done: 21 files" in done.out
    loaded.ok("tape", "position", "nrst0a", "rewind")
    loaded.ok("restore", "--from", "rst0", "/vol/vol1/back")
    assert same_data(loaded, "data", "back")
    assert loaded.json("tape", "status", "rst0")["beginning"]  # the r of rst0


def test_dump_to_a_file_relative_to_where_the_operator_is(loaded, tmp_path):
    session = loaded.ok(
        "--output", "json", "dump", "/vol/vol1/data", "--to", "file:out", cwd=tmp_path
    ).json
    assert session["target"] == f"file:{tmp_path}/out"
    assert session["state"] == "done"
    assert (tmp_path / "out").stat().st_size >= session["bytes"]


def test_standard_output_and_input(loaded, tmp_path):
    path = tmp_path / "stream"
    with path.open("wb") as stream:
        done = subprocess.run(
            loaded.command("dump", "/vol/vol1/data", "--to", "-"),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.PIPE,
            check=True,
        )
    assert b"DUMP: DUMP IS DONE" in done.stderr
    with path.open("rb") as stream:
        loaded.ok("restore", "--from", "-", "/vol/vol1/piped", stdin=stream)
    assert same_data(loaded, "data", "piped")


def test_the_record_goes_to_standard_error_when_the_stream_has_the_output(loaded):
    done = loaded.background("--output", "json", "dump", "/vol/vol1/data", "--to", "-")
    stream, text = done.communicate(timeout=60)
    assert len(stream) > 1 << 20
    assert json.loads(text)["state"] == "done"


def test_list(loaded, tmp_path):
    target = f"file:{tmp_path}/out"
    loaded.ok("dump", "/vol/vol1/data", "--to", target)
    listed = loaded.json("restore", "--from", target, "--list")
    names = {entry["name"] for entry in listed["entries"]}
    assert {"file0", "file19", "caf\udce9"} <= names
    assert listed["session"]["state"] == "done"
    assert "caf\udce9" in loaded.ok("restore", "--list", "--from", target).out


def test_a_list_whose_reader_goes_away(loaded, tmp_path):
    target = f"file:{tmp_path}/out"
    loaded.ok("dump", "/vol/vol1/data", "--to", target)
    listing = loaded.background("restore", "--from", target, "--list")
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.wait(60) == 1
    assert b"Traceback" not in listing.stderr.read()
    wait_for(lambda: last(loaded)["ended"])


def test_some_files_under_other_names(loaded, tmp_path):
    target = f"file:{tmp_path}/out"
    loaded.ok("dump", "/vol/vol1/data", "--to", target)
    loaded.ok("restore", "--from", target, "/vol/vol1/some", "file3", "file4")
    assert sorted(os.listdir(loaded.mount("vol1") / "some")) == ["file3", "file4"]
    loaded.ok(
        "restore", "--from", target, "/vol/vol1", "file3", "--to", "/vol/vol1/other",
        "--rename", "file3=third",
    )  # fmt: skip
    assert os.listdir(loaded.mount("vol1") / "other") == ["third"]


def test_levels_and_dumpdates(loaded, tmp_path):
    loaded.ok("volume", "create", "chain")
    fill(loaded, "chain", 40_000)
    loaded.ok("dump", "/vol/chain", "--to", f"file:{tmp_path}/0")
    (loaded.mount("chain") / "data" / "file3").write_text("changed")
    loaded.ok("dump", "/vol/chain", "--to", f"file:{tmp_path}/1", "--level", "1")
    assert last(loaded)["files"] == 1
    dates = loaded.json("dumpdates", "list", "/vol/chain")
    assert [(d["path"], d["level"]) for d in dates] == [("/vol/chain", 0), ("/vol/chain", 1)]
    assert loaded.json("dumpdates", "forget", "/vol/chain", "--level", "1")["forgotten"] == 1
    assert len(loaded.json("dumpdates", "list")) >= 1
    loaded.ok("dumpdates", "forget", "/vol/chain")
    assert loaded.json("dumpdates", "list", "/vol/chain") == []
    loaded.ok("volume", "delete", "chain", "--force")


def test_a_named_snapshot_is_kept(loaded, tmp_path):
    loaded.ok("snapshot", "create", "vol1", "mine")
    loaded.ok("dump", "/vol/vol1/data", "--to", f"file:{tmp_path}/o", "--snapshot", "mine")
    assert snapshots(loaded) == ["mine"]
    assert loaded.json("snapshot", "locks", "vol1") == []
    loaded.ok("snapshot", "delete", "vol1", "mine")


# Bad input: one line, an exit code, nothing changed, and a record


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("/vol/nope", "--to", "nrst0a"), 1, "volume nope does not exist"),
        (("/vol/vol1/nothing", "--to", "file:/nowhere"), 2, "/vol/vol1/nothing"),
        (("vol1", "--to", "nrst0a"), 2, "/vol/VOLUME"),
        (("/etc/passwd", "--to", "nrst0a"), 2, "/vol/VOLUME"),
        (("/vol/vol1/../../etc", "--to", "nrst0a"), 2, "'..'"),
        (("/vol/", "--to", "nrst0a"), 2, "names no volume"),
        (("/vol/vol1", "--to", "nrst0a", "--level", "32"), 2, "from 0 to 31"),
        (("/vol/vol1", "--to", "nrst0a", "--level", "-1"), 2, "from 0 to 31"),
        (("/vol/vol1", "--to", "nrst0a", "--level", "x"), 2, "from 0 to 31"),
        (("/vol/vol1", "--to", "nrst0a", "--blocking-factor", "3"), 2, "from 4 to 256"),
        (("/vol/vol1", "--to", "nrst0a", "--blocking-factor", "257"), 2, "from 4 to 256"),
        (("/vol/vol1", "--to", "nrst7a"), 1, "tape device nrst7a does not exist"),
        (("/vol/vol1", "--to", "tape"), 1, "tape device tape does not exist"),
        (("/vol/vol1", "--to", "/dev/nst0"), 2, "file:PATH"),
        (("/vol/vol1", "--to", "ftp:x"), 2, "no kind 'ftp'"),
        (("/vol/vol1", "--to", "file:"), 2, "absolute path"),
        (("/vol/vol1", "--to", "file:/no/such/directory/x"), 1, "/no/such/directory/x"),
        (("/vol/vol1", "--to", "nrst1a"), 4, "no cartridge"),
        (("/vol/vol1", "--to", "nrst0a", "--snapshot", "nope"), 1, "snapshot nope"),
        (("/vol/vol1", "--to", "nrst0a", "--label", "x" * 40), 2, "longer than"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_dump_that_cannot_be(loaded, arguments, code, words):
    before = loaded.json("tape", "status", "rst0")["block"]
    line = loaded.run("dump", *arguments).refused(code, words)
    session = last(loaded)
    assert f"(session {session['id']})" in line
    assert (session["kind"], session["state"]) == ("dump", "failed")
    assert words in session["reason"]
    assert session["path"] == arguments[0]
    assert snapshots(loaded) == []
    assert loaded.json("tape", "status", "rst0")["block"] == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--from", "file:/nowhere", "/vol/vol1/x"), 2, "/nowhere"),
        (("--from", "file:/etc/passwd", "/vol/vol1/x"), 1, "dump stream"),
        (("--from", "file:/dev/null", "/vol/vol1/x"), 1, "dump stream"),
        (("--from", "nrst1a", "/vol/vol1/x"), 4, "no cartridge"),
        (("--from", "nrst9a", "/vol/vol1/x"), 1, "does not exist"),
        (("--from", "file:/x", "/vol/nope"), 1, "volume nope"),
        (("--from", "file:/x", "/tmp"), 2, "/vol/VOLUME"),
        (("--from", "file:/x"), 2, "say where to"),
        (("--from", "file:/x", "/vol/vol1", "../up"), 2, "'..'"),
        (("--from", "file:/x", "/vol/vol1", "--rename", "a"), 2, "OLD=NEW"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_restore_that_cannot_be(loaded, arguments, code, words):
    before = sorted(os.listdir(loaded.mount("vol1")))
    loaded.run("restore", *arguments).refused(code, words)
    session = last(loaded)
    assert (session["kind"], session["state"]) == ("restore", "failed")
    assert words in session["reason"]
    assert sorted(os.listdir(loaded.mount("vol1"))) == before


def test_the_error_is_a_document_with_the_session(loaded):
    done = loaded.run("--output", "json", "dump", "/vol/vol1", "--to", "file:/x", "--level", "32")
    assert (done.code, done.out) == (2, "")
    session = last(loaded)
    assert done.error["session"] == session["id"]
    assert (done.error["code"], done.error["exit_code"]) == ("usage", 2)
    assert session["error"]["code"] == "usage"


def test_numbers_are_checked_whoever_calls(loaded):
    for level in (True, 1.5, None, [], "1 ", 10**30):
        with pytest.raises(ErrorDocument, match="level"):
            loaded.call("dump.start", path="/vol/vol1", to="file:/x", level=level)
    for path in (None, 3, ["/vol/vol1"]):
        with pytest.raises(ErrorDocument, match="path"):
            loaded.call("dump.start", path=path, to="file:/x")


def test_the_log_of_a_session(loaded, tmp_path):
    loaded.ok("dump", "/vol/vol1/data", "--to", f"file:{tmp_path}/o")
    session = last(loaded)
    shown = loaded.ok("session", "show", session["id"], "--log").out
    assert "DUMP: DUMP IS DONE" in shown
    assert f"session {session['id']} done" in shown
    assert Path(session["log"]).stat().st_mode & 0o777 == 0o600
    # Following it after its end gives its record at once.
    assert f"session {session['id']} done" in loaded.ok("session", "watch", session["id"]).out


def test_no_such_session(loaded):
    for verb in ("show", "abort", "watch"):
        loaded.run("session", verb, "999999").refused(1, "session 999999 does not exist")


# Sessions that are stopped: their output is a pipe that nobody reads, so they wait


class Stuck:
    """A dump to standard output that nobody reads, seen in phase III or IV."""

    def __init__(self, filer: Filer) -> None:
        self.filer = filer
        self.command = filer.background("dump", "/vol/vol1/data", "--to", "-")
        self.session = self._begun()

    def _begun(self) -> int:
        def begun() -> int | None:
            for latest in self.filer.call("session.list", limit=1):
                if latest["state"] == "running" and len(latest["phases"]) >= 3:
                    return int(latest["id"])
            return None

        number: int = wait_for(begun)
        return number

    def record(self) -> dict:
        found: dict = self.filer.call("session.show", session=self.session)
        return found

    def close(self) -> None:
        self.filer.end_commands()


@pytest.fixture
def stuck(loaded: Filer) -> Iterator[Stuck]:
    started = Stuck(loaded)
    yield started
    started.close()
    wait_for(lambda: started.record()["ended"])
    assert snapshots(loaded) == []


def test_what_a_running_session_shows(loaded, stuck):
    record = stuck.record()
    assert record["snapshot"] in snapshots(loaded)
    (lock,) = loaded.json("snapshot", "locks", "vol1")
    assert lock["owner"] == f"session:{stuck.session}"
    loaded.run("snapshot", "delete", "vol1", record["snapshot"]).refused(3, "in use")
    loaded.run("volume", "offline", "vol1").refused(3, f"dump session {stuck.session}")
    loaded.run("volume", "delete", "vol1", "--force").refused(3, f"session {stuck.session}")
    assert loaded.json("status")["sessions"] == 1
    loaded.ok("session", "abort", stuck.session)


def test_abort(loaded, stuck):
    ended = loaded.json("session", "abort", stuck.session)
    assert (ended["state"], ended["reason"]) == ("aborted", "aborted by operator")
    assert ended["error"]["code"] == "session.aborted"
    assert snapshots(loaded) == []
    assert stuck.command.wait(60) == 1
    assert b"aborted by operator" in stuck.command.communicate()[1].splitlines()[-1]
    loaded.run("session", "abort", stuck.session).refused(3, "ended already")


def test_ctrl_c_aborts(loaded, stuck):
    stuck.command.send_signal(signal.SIGINT)
    assert stuck.command.wait(60) == 130
    assert stuck.record()["state"] == "aborted"
    text = stuck.command.communicate()[1]
    assert b"aborting session" in text
    assert b"Traceback" not in text


def test_a_worker_that_does_not_listen_is_killed(loaded, stuck):
    os.kill(loaded.worker(stuck.session), signal.SIGSTOP)
    ended = loaded.json("session", "abort", stuck.session)
    assert ended["state"] == "aborted"


def test_kill_9_of_a_worker(loaded, stuck):
    os.kill(loaded.worker(stuck.session), signal.SIGKILL)
    assert stuck.command.wait(60) == 1
    record = stuck.record()
    assert (record["state"], record["reason"]) == (
        "failed",
        "worker ended with signal 9 (SIGKILL)",
    )
    assert record["error"]["code"] == "session.interrupted"
    assert snapshots(loaded) == []


def test_a_reader_that_goes_away(loaded, stuck):
    assert stuck.command.stdout is not None
    stuck.command.stdout.close()
    assert stuck.command.wait(60) == 1
    assert stuck.record()["state"] == "failed"


def test_a_command_that_is_killed_leaves_the_session_to_itself(loaded, stuck):
    stuck.command.kill()
    stuck.command.wait()
    assert stuck.record()["state"] == "running"
    # Its output is still the pipe, which somebody may go on reading.
    assert stuck.command.stdout is not None
    assert len(stuck.command.stdout.read()) > 1 << 20
    wait_for(lambda: stuck.record()["state"] == "done")


def test_the_session_limit(loaded, stuck):
    limit = loaded.json("sysconfig")["session_limit"]
    reader, writer = os.pipe()
    others = []
    try:
        with ControlClient.connect(loaded.root.control_socket, "") as client:
            for _ in range(limit - 1):
                started = client.call(
                    "dump.start",
                    {"path": "/vol/vol1/data", "to": "-", "update": False},
                    descriptors=[writer],
                )
                others.append(started["id"])
            with pytest.raises(ErrorDocument) as caught:
                client.call("dump.start", {"path": "/vol/vol1/data", "to": "file:/tmp/x"})
            assert (caught.value.exit_code, str(limit) in str(caught.value)) == (3, True)
    finally:
        os.close(writer)
        os.close(reader)  # with nobody left to read, they fail by themselves
        for number in [*others, stuck.session]:
            wait_for(lambda n=number: _ended(loaded, n))


def _ended(filer: Filer, number: int) -> bool:
    if filer.call("session.show", session=number)["ended"]:
        return True
    filer.run("session", "abort", number)
    return False


# Drives


@pytest.fixture
def hanging(loaded: Filer) -> Iterator[Filer]:
    """Make drive 0 stop in the middle of a dump."""
    library = loaded.root.library("lib0")
    write_faults(library, [Fault(opcode=WRITE, nth=10, count=0, device="drive0", delay=1.0)])
    yield loaded
    write_faults(library, [])


def test_a_drive_in_use_is_refused_with_who_has_it(hanging):
    running = hanging.background("dump", "/vol/vol1/data", "--to", "nrst0a")
    wait_for(lambda: drive(hanging)["state"] == "in use")
    number = last(hanging)["id"]
    hanging.run("dump", "/vol/vol1/data", "--to", "rst0").refused(3, f"session {number}")
    hanging.run("tape", "position", "rst0", "rewind").refused(3, f"session {number}")
    hanging.run("library", "unload", "rst0").refused(3, f"session {number}")
    hanging.ok("session", "abort", number)
    assert running.wait(60) == 1
    assert drive(hanging)["state"] != "in use"
    hanging.ok("tape", "position", "rst0", "rewind")


def test_kill_9_of_a_worker_frees_its_drive(hanging):
    tape = hanging.root.library("lib0") / "media" / "SR0001L8" / "data"
    before = tape.stat().st_mtime_ns
    running = hanging.background("dump", "/vol/vol1/data", "--to", "nrst0a")
    wait_for(lambda: tape.stat().st_mtime_ns != before and tape.stat().st_size > 200_000)
    number = last(hanging)["id"]
    os.kill(hanging.worker(number), signal.SIGKILL)
    assert running.wait(60) == 1
    assert drive(hanging)["state"] != "in use"
    assert snapshots(hanging) == []
    # What is appended next is a file of its own.
    found = hanging.ok("--output", "json", "tape", "status", "rst0").json
    assert found["block"] > 1
    assert found["file"] >= 1
    hanging.ok("tape", "position", "rst0", "rewind")
    # The cartridge is not held fast by a dead worker.
    hanging.ok("library", "unload", "rst0")
    hanging.ok("library", "load", "SR0001L8", "rst0")


# The control process goes


@pytest.fixture
def dumping(fresh: Filer) -> Iterator[tuple[Filer, Stuck]]:
    """Give a root of its own in the middle of a dump."""
    fresh.start()
    fresh.ok("volume", "create", "vol1")
    fill(fresh, "vol1")
    started = Stuck(fresh)
    yield fresh, started
    started.close()


def test_a_stop_in_order_aborts_sessions(dumping):
    filer, stuck = dumping
    assert filer.stop() == 0
    assert nothing_left(filer.path)
    assert stuck.command.wait(60) == 1
    filer.start()
    record = stuck.record()
    assert (record["state"], record["reason"]) == ("aborted", "the control process was stopped")
    assert snapshots(filer) == []


def test_kill_9_of_the_control_process(dumping):
    filer, stuck = dumping
    filer.kill()
    assert stuck.command.wait(60) == 1
    assert b"went away" in stuck.command.communicate()[1]
    filer.start()
    record = stuck.record()
    assert (record["state"], record["reason"]) == (
        "failed",
        "interrupted: the control process ended while it ran",
    )
    assert snapshots(filer) == []
    assert filer.json("snapshot", "locks", "vol1") == []
    assert filer.json("status")["recovered"]["sessions"] == [stuck.session]
    filer.ok("dump", "/vol/vol1/data", "--to", f"file:{filer.path}/out")
    assert filer.stop() == 0
    assert nothing_left(filer.path)


def test_kill_9_of_everything_at_once(dumping):
    filer, stuck = dumping
    worker = filer.worker(stuck.session)
    name = stuck.record()["snapshot"]
    mount = filer.call("volume.show", name="vol1")["mount"]["pid"]
    for pid in (worker, mount):
        os.kill(pid, signal.SIGSTOP)
    filer.kill()
    for pid in (worker, mount):
        os.kill(pid, signal.SIGKILL)
    filer.start()
    assert stuck.record()["state"] == "failed"
    assert filer.json("status")["recovered"]["snapshots"] == [f"vol1/{name}"]
    assert snapshots(filer) == []
    assert filer.mount("vol1").joinpath("data", "file0").stat().st_size


def test_a_worker_of_the_life_before_does_not_go_on(dumping):
    filer, stuck = dumping
    worker = filer.worker(stuck.session)
    os.kill(worker, signal.SIGSTOP)
    filer.kill()
    filer.start()
    killed = filer.json("status")["recovered"]["killed"]
    assert killed == [f"session:{stuck.session} (process {worker})"]
    assert snapshots(filer) == []


def test_session_numbers_are_never_used_again(dumping):
    filer, stuck = dumping
    filer.kill()
    filer.start()
    filer.run("dump", "/vol/nope", "--to", "file:/x")
    assert last(filer)["id"] == stuck.session + 1
    assert last(filer)["started"] <= time.time()
