"""The values that the control process works with: paths, targets, jobs, sizes, limits."""

import os
import signal
import subprocess
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from appliance.children import spawn
from appliance.errors import ErrorDocument, NoSuchSession, StateFailed, UsageError
from appliance.feed import Feed
from appliance.jobs import Job, dump_job, number, restore_job
from appliance.paths import VolumePath, parse_qtree
from appliance.processes import ProcessIdentity
from appliance.root import Root
from appliance.running import Running
from appliance.session import Session
from appliance.sessions import Sessions
from appliance.sizes import format_size, parse_size
from appliance.state import State
from appliance.sysconfig import session_limit, total_memory
from appliance.targets import DeviceTarget, FileTarget, StandardTarget, parse_target

GIB = 1 << 30


# Paths


@pytest.mark.parametrize(
    ("text", "volume", "relative"),
    [
        ("/vol/v", "v", ""),
        ("/vol/v/", "v", ""),
        ("/vol/v/q/a b", "v", "q/a b"),
        ("/vol//v//q/./a/", "v", "q/a"),
        ("/vol/v/...", "v", "..."),
    ],
)
def test_a_path_in_a_volume(text, volume, relative):
    path = VolumePath.parse(text)
    assert (path.volume, path.relative) == (volume, relative)
    assert VolumePath.parse(str(path)) == path


@pytest.mark.parametrize(
    "text", ["", "/", "vol/v", "/vol", "/vol/", "/vol/.", "/volume/v", "/vol/v/../x", "/vol/a\0b"]
)
def test_no_path_in_a_volume(text):
    with pytest.raises(UsageError):
        VolumePath.parse(text)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)))
def test_paths_never_leave_their_volume(parts):
    try:
        path = VolumePath.parse("/vol/v/" + "/".join(parts))
    except UsageError:
        assert ".." in parts
    else:
        assert os.path.normpath(f"/vol/v/{path.relative}").startswith("/vol/v")


def test_qtrees():
    assert parse_qtree("v/q") == parse_qtree("/vol/v/q") == VolumePath("v", "q")
    for text in ("v", "v/", "v/q/x", "/vol/v", ""):
        with pytest.raises(UsageError):
            parse_qtree(text)


# Targets and jobs


def test_targets():
    assert parse_target("file:/a:b") == FileTarget("/a:b")
    assert parse_target("-") == StandardTarget()
    assert parse_target("nrst0a") == DeviceTarget("nrst0a")
    for text in ("", "file:", "file:a", "pool:x", "/dev/nst0", "file:/a\0"):
        with pytest.raises(UsageError):
            parse_target(text)


DUMP = {
    "path": "/vol/v",
    "to": "-",
    "level": 0,
    "snapshot": None,
    "blocking_factor": "64",
    "exclude": [],
    "acls": True,
    "update": True,
    "label": "",
    "verify": False,
}
RESTORE = {
    "source": "-",
    "path": "/vol/v",
    "files": [],
    "to": None,
    "list": False,
    "incremental": False,
    "rename": [],
    "force": False,
    "acls": True,
}


def test_a_dump_job():
    job = dump_job(DUMP)
    assert (job.details["level"], job.details["blocking_factor"]) == (0, 64)
    assert job.descriptors == 1
    assert job.stream([7], None) == {"kind": "fd", "fd": 7, "name": "-"}


def test_a_restore_job():
    job = restore_job(RESTORE | {"to": "/vol/w/x", "rename": ["a/b=c"], "files": ["./a//b/"]})
    assert str(job.volume) == "/vol/w/x"
    assert job.details["source_path"] == "/vol/v"
    assert job.details["rename"] == [["a/b", "c"]]
    assert job.details["files"] == ["a/b"]
    listing = restore_job(RESTORE | {"path": None, "list": True})
    assert (listing.volume, listing.descriptors) == (None, 2)


@pytest.mark.parametrize(
    "wrong",
    [{"exclude": "x"}, {"exclude": [1]}, {"label": 1}, {"acls": "yes"}, {"snapshot": 1}, {"to": 1}],
    ids=str,
)
def test_a_dump_job_that_is_none(wrong):
    with pytest.raises(UsageError):
        dump_job(DUMP | wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"files": "x"}, {"files": ["a/../b"]}, {"files": [""]}, {"rename": ["=x"]}, {"list": 1}],
    ids=str,
)
def test_a_restore_job_that_is_none(wrong):
    with pytest.raises(UsageError):
        restore_job(RESTORE | wrong)


@given(st.integers() | st.text() | st.floats() | st.none() | st.booleans() | st.binary())
def test_a_number_within_limits_or_a_usage_error(value):
    found = None
    with suppress(UsageError):
        found = number(value, "level", 0, 31)
    if found is not None:
        assert 0 <= found <= 31
        assert int(value) == found


# Sizes and limits


@given(st.integers(0, 1 << 61))
def test_sizes_are_shown_and_read_alike(size):
    shown = format_size(size)
    assert len(shown) <= 7
    assert parse_size(shown) == pytest.approx(size, rel=0.06)


@pytest.mark.parametrize("text", ["", "x", "-1", "1X", "1 2", "1e3", "99999999999T", "٣"])
def test_no_size(text):
    if text == "٣":  # a digit, but not one that an operator types
        assert parse_size(text) == 3
        return
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("memory", "limit"),
    [(1, 4), (16 * GIB - 1, 4), (16 * GIB, 16), (24 * GIB - 1, 16), (24 * GIB, 32), (1 << 44, 32)],
)
def test_the_session_limit_follows_the_memory(memory, limit):
    assert session_limit(memory) == limit
    assert total_memory() % (GIB // 2) == 0


# Processes


def test_a_process_is_told_from_another_of_the_same_pid():
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    assert own.alive
    assert not ProcessIdentity(own.pid, own.start + 1, own.boot).alive
    assert not ProcessIdentity(own.pid, own.start, "another boot").kill(1)


def test_a_process_is_killed_with_what_it_started():
    with subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        child = ProcessIdentity.of(int(process.stdout.readline()))
        found = ProcessIdentity.of(process.pid)
        assert child is not None
        assert found is not None
        assert found.kill(10)
        assert process.wait() == -signal.SIGKILL
        assert child.wait(10)
        assert not found.kill(1)
        assert found.wait(0)


# State


@pytest.fixture
def state(tmp_path):
    State.create(tmp_path / "snapreel.db")
    opened = State(tmp_path / "snapreel.db")
    yield opened
    opened.close()


def test_a_session_is_kept_as_it_is(state):
    session = state.create_session("dump", "/vol/caf\udce9", "file:/x", "32")
    assert (session.id, session.state, session.path) == (1, "starting", "/vol/caf\\udce9")
    for phase in (1, 1, 2):
        session = session.progressed({"phase": phase, "text": f"p{phase}", "bytes": 5}, 1.0)
    worker = ProcessIdentity(1, 2, "b")
    changed = Session(
        **{f: getattr(session, f) for f in session.__slots__}
        | {"state": "running", "worker": worker, "result": {"x": [1]}, "snapshot": "s"}
    )
    state.save(changed)
    assert state.session(1) == changed
    assert [phase.number for phase in changed.phases] == [1, 2]
    assert state.live_sessions() == [changed]
    ended = state.end_session(changed, "failed", "why", {"code": "c"})
    assert state.sessions() == [ended]
    assert state.live_sessions() == []
    assert ended.ended_already


def test_numbers_rise(state):
    numbers = [state.create_session("dump", "", "", "").id for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert [s.id for s in state.sessions(2)] == [3, 2]
    with pytest.raises(NoSuchSession):
        state.session(4)


def test_processes_are_remembered(state):
    process = ProcessIdentity(1, 2, "b")
    state.record_process("volume:a", process)
    state.record_process("volume:a", process)
    assert state.processes() == {"volume:a": process}
    state.forget_process("volume:a")
    state.forget_process("volume:a")
    assert state.processes() == {}


@pytest.fixture
def running(state):
    """Give a session that runs, whose log is on a disk that is full."""
    full = os.open("/dev/full", os.O_WRONLY)
    yield Running(state.create_session("dump", "", "", ""), None, state, full)
    os.close(full)


def test_a_full_disk_does_not_end_a_session(running, state):
    running.write_log("hello")
    running.require_end()
    assert state.session(1).state == "failed"


def test_a_record_that_cannot_be_kept_does_not_stop_an_abort(running, state):
    state._connection.execute("PRAGMA query_only = on")
    running.abort("enough")
    assert running._abort.is_set()
    assert running.session.state == "aborting"


@pytest.mark.trio
async def test_no_session_begins_on_a_volume_that_is_being_deleted(state, tmp_path, nursery):
    sessions = Sessions(Root.at(tmp_path), state, None, None, nursery, 4)
    job = Job("dump", VolumePath("v"), FileTarget("/x"), {})
    asked = {"path": "/vol/v", "to": "file:/x"}
    with (
        sessions.kept_off("v", "volume delete"),
        pytest.raises(ErrorDocument, match="volume v is in use by volume delete"),
    ):
        await sessions.start("dump", asked, lambda _: job, [])
    assert state.session(1).state == "failed"
    assert sessions.on_volume("v") == []


@pytest.mark.trio
async def test_processes_live_and_end_whether_they_can_be_recorded_or_not(state):
    state._connection.execute("PRAGMA query_only = on")
    with pytest.raises(StateFailed, match="readonly"):
        state.create_session("dump", "", "", "")
    child = await spawn(state, "volume:a", "platform", [], log=2)
    while await child.line() is not None:
        pass
    assert await child.stop(10.0) == 0


# Sockets


def test_a_channel_fits_an_address_whatever_the_volume(tmp_path):
    root = Root.at(tmp_path)
    assert root.channel("vol1") == root.run / "volume-vol1.sock"
    names = {root.channel(letter * 203).name for letter in "ab"}
    assert len(names) == 2
    assert all(len(f"/proc/self/fd/{1 << 20}/{name}") <= 107 for name in names)
    assert len(root.channel("a" * 64).name) <= len("volume-.sock") + 64


def test_progress_that_makes_no_sense_changes_nothing():
    session = Session(1, "dump", "", "", 0.0)
    assert session.progressed({"bytes": "many", "phase": None}, 1.0) == session


# Feeds


@pytest.mark.trio
async def test_a_feed_tells_everything_from_the_start():
    feed = Feed()
    feed.put({"event": "log", "text": "1"})
    feed.put({"event": "progress", "bytes": 1})
    early = feed.listen()
    feed.put({"event": "log", "text": "2"})
    feed.put({"event": "progress", "bytes": 2})
    feed.put({"event": "progress", "bytes": 3})
    expected = [
        {"event": "log", "text": "1"},
        {"event": "log", "text": "2"},
        {"event": "progress", "bytes": 3},
    ]
    assert await early.next() == expected
    feed.end()
    assert await early.next() == []
    late = feed.listen()
    assert await late.next() == expected
    assert await late.next() == []


@pytest.mark.trio
async def test_a_listener_waits_and_a_feed_does_not():
    feed = Feed()
    listener = feed.listen()
    heard = []

    async def hear() -> None:
        while news := await listener.next():
            heard.extend(news)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(5000):
            feed.put({"event": "log", "text": number})
        feed.leave(listener)
        await trio.testing.wait_all_tasks_blocked()
        assert len(heard) == 2000  # what one listener may fall behind
        assert heard[-1]["text"] == 4999
        listener.end()
