"""The worker process: requests, events, and every way to end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.dump.request import DumpRequest
from appliance.errors import UsageError
from fuse.volume import Volume
from tests.appliance.dump.streamcheck import check_stream

pytestmark = pytest.mark.root

Document = dict[str, Any]


def document(volume: Volume, target: Document, **more: Any) -> Document:
    return {
        "kind": "dump", "version": 1, "session": 3, "owner": "session:3", "root": "/nowhere",
        "aggregate": str(volume.aggregate.path), "volume": volume.name,
        "subvolume": str(volume.path), "subvolid": volume.subvolid,
        "path": f"/vol/{volume.name}", "relative": "", "snapshot": None, "level": 0,
        "blocking_factor": 64, "exclude": [], "acls": True, "update": True, "label": "",
        "verify": False, "channel": None, "target": target, **more,
    }  # fmt: skip


class Worker:
    """One worker process and its events."""

    def __init__(self, request: Document | bytes, pass_fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appliance.dump.worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds,
            start_new_session=True,
        )  # fmt: skip
        line = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.send(line + b"\n")

    def send(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def event(self) -> Document:
        assert self.process.stdout
        event = json.loads(self.process.stdout.readline())
        assert isinstance(event, dict)
        return event

    def until(self, kind: str, **values: Any) -> Document:
        while True:
            event = self.event()
            if event["event"] == kind and values.items() <= event.items():
                return event

    def last(self) -> Document:
        """Give the last event, and see that the process ends as it says."""
        assert self.process.stdout
        events = [json.loads(line) for line in self.process.stdout]
        code = self.process.wait(30)
        assert [e for e in events if e["event"] in ("result", "error")] == events[-1:]
        assert code == (0 if events[-1]["event"] == "result" else 1)
        last = events[-1]
        assert isinstance(last, dict)
        return last


@contextmanager
def worker(request: Document | bytes, pass_fds: tuple[int, ...] = ()) -> Iterator[Worker]:
    started = Worker(request, pass_fds)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        for stream in (started.process.stdin, started.process.stdout, started.process.stderr):
            if stream:
                stream.close()


@contextmanager
def stuck(volume: Volume) -> Iterator[Worker]:
    """Give a worker that writes into a pipe which nobody reads, in phase IV."""
    reading, writing = os.pipe()
    with (volume.path / "large").open("wb") as file:
        for _ in range(24):
            file.write(os.urandom(1 << 20))
    target = {"kind": "fd", "fd": writing, "name": "-"}
    with worker(document(volume, target), (writing,)) as started:
        os.close(writing)
        started.until("progress", phase=4)
        try:
            yield started
        finally:
            os.close(reading)


def test_a_dump(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "file").write_text("x")
    target = tmp_path / "dump"
    with worker(document(volume, {"kind": "file", "path": str(target)})) as started:
        assert started.until("snapshot")["name"].startswith("snapshot_for_backup.")
        last = started.last()
    assert last["event"] == "result"
    assert (last["files"], last["directories"], last["warnings"]) == (1, 1, 0)
    assert last["bytes"] == target.stat().st_size
    check_stream(target, 64)
    assert not volume.snapshots.list()


def test_names_that_are_not_utf8(volume: Volume, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (volume.path / name).mkdir()
    target = {"kind": "file", "path": str(tmp_path / name)}
    more = {"path": f"/vol/{volume.name}/{name}", "relative": name}
    with worker(document(volume, target, **more)) as started:
        assert started.last()["event"] == "result"
    stream = check_stream(tmp_path / name, 64)
    assert stream.filesystem == os.fsencode(more["path"])


def test_abort(volume: Volume) -> None:
    with stuck(volume) as started:
        started.send(b"abort\n")
        last = started.last()
    assert (last["event"], last["code"]) == ("error", "session.aborted")
    assert not volume.snapshots.list()
    assert not volume.snapshots.all_locks()


def test_the_end_of_the_control_process(volume: Volume) -> None:
    with stuck(volume) as started:
        assert started.process.stdin
        started.process.stdin.close()
        assert started.process.wait(30) == 1
    # it may have had no time to clean up, but then its traces are found
    volume.snapshots.expire_owner("session:3")
    assert not volume.snapshots.list()


def test_sigterm_is_an_abort(volume: Volume) -> None:
    with stuck(volume) as started:
        started.process.send_signal(signal.SIGTERM)
        assert started.last()["code"] == "session.aborted"
    assert not volume.snapshots.list()


def test_what_a_killed_worker_leaves_is_found(volume: Volume, tmp_path: Path) -> None:
    with stuck(volume) as started:
        started.process.kill()
        started.process.wait()
    (lock,) = volume.snapshots.locks_of("session:3")
    assert lock.auto_created
    assert volume.snapshots.expire_owner("session:3") == (lock.snapshot,)
    assert not volume.snapshots.list()


@pytest.mark.parametrize(
    ("change", "code", "exit_code", "words"),
    [
        ({"level": 32}, "usage", 2, "level 32: it must be from 0 to 31"),
        ({"blocking_factor": 3}, "usage", 2, "blocking factor 3: it must be from 4 to 256"),
        ({"blocking_factor": 257}, "usage", 2, "blocking factor 257"),
        ({"exclude": ["a*b"]}, "usage", 2, "an asterisk can only be the first or the last"),
        ({"relative": "no/such"}, "usage", 2, "there is no such directory in snapshot"),
        ({"relative": "file/x"}, "usage", 2, "there is no such directory in snapshot"),
        ({"relative": "file"}, "usage", 2, "it is not a directory"),
        ({"volume": "nope"}, "storage.not_found", 1, "volume nope does not exist"),
        ({"snapshot": "nope"}, "storage.not_found", 1, "snapshot nope does not exist"),
        ({"subvolid": 1}, "storage.not_found", 1, "does not exist"),
        ({"kind": "copy"}, "usage", 2, "choose dump or restore"),
        ({"version": 2}, "usage", 2, "its version is not 1"),
        ({"level": True}, "usage", 2, "level: True is no int"),
        ({"target": {"kind": "file", "path": "x"}}, "usage", 2, "absolute path"),
        ({"target": {"kind": "ether"}}, "usage", 2, "choose one of file, fd, drive"),
    ],
)
def test_bad_requests(
    volume: Volume, tmp_path: Path, change: Document, code: str, exit_code: int, words: str
) -> None:
    (volume.path / "file").write_text("x")
    request = document(volume, {"kind": "file", "path": str(tmp_path / "dump")}) | change
    with worker(request) as started:
        last = started.last()
    assert (last["event"], last["code"], last["exit_code"]) == ("error", code, exit_code)
    assert words in last["message"]
    assert not list(tmp_path.iterdir())
    assert not volume.snapshots.list()
    assert not volume.snapshots.all_locks()


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_request(line: bytes) -> None:
    with worker(line) as started:
        assert started.last()["code"] == "usage"


def test_requests_are_read_strictly(volume: Volume) -> None:
    request = document(volume, {"kind": "file", "path": "/x"})
    assert DumpRequest.from_json(request).volume == volume.name
    for key in ("session", "owner", "aggregate", "volume", "subvolid", "path", "target"):
        with pytest.raises(UsageError, match=key):
            DumpRequest.from_json({k: v for k, v in request.items() if k != key})
