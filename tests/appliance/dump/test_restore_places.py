"""Restores from cartridges and pipes, in this process and in a worker of its own."""

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.dump.request import DrivePlace, FdPlace
from appliance.errors import StreamError
from fuse.aggregate import Aggregate
from fuse.volume import Volume
from tape.changer import Changer
from tape.drive import Drive
from tape.opening import open_transport
from tape.virtual.library import VirtualLibrary
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.restorelab import (
    Told,
    change,
    differences,
    fill,
    look,
    request,
    restore,
    threads,
)
from tests.appliance.dump.tapelab import Tape
from tests.appliance.dump.test_worker import worker

pytestmark = pytest.mark.root


@pytest.fixture
def source(aggregate: Aggregate) -> Iterator[Volume]:
    yield aggregate.create_volume("source")
    aggregate.delete_volume("source")


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """Give the description of a virtual drive with a cartridge in it."""
    library = VirtualLibrary.create(
        tmp_path / "lib", drives=1, slots=2, cartridges=["SR0001L8"], durable=False
    )
    with Changer(library.changer_transport()) as changer:
        inventory = changer.inventory()
        cartridge = inventory.find("SR0001L8")
        assert cartridge is not None
        changer.move(cartridge.address, inventory.drives[0].address)
    return {"kind": "virtual", "library": str(tmp_path / "lib"), "drive": 0}


def _rewind(spec: dict[str, Any]) -> None:
    with Drive(open_transport(spec)) as drive:
        drive.clear_attentions()
        drive.rewind()


@pytest.mark.parametrize("factor", [4, 63, 256])
def test_two_levels_on_one_cartridge(
    factor: int, source: Volume, volume: Volume, spec: dict[str, Any], tmp_path: Path
) -> None:
    place = DrivePlace("nrst0a", spec, "none")
    fill(source.path)
    dump(source, place, blocking_factor=factor)
    change(source.path)
    dump(source, place, blocking_factor=factor, level=1)
    _rewind(spec)

    restore(volume, place)
    restore(volume, place, incremental=True)

    assert differences(look(source.path), look(volume.path)) == []
    with pytest.raises(StreamError, match="it is empty"):  # behind the last
        restore(volume, place)
    _rewind(spec)
    told = Told()
    restore(None, DrivePlace("urst0a", spec, "unload"), told, list=True)
    assert any(event.get("name") == "big" for event in told.events)
    assert threads() == []


def test_from_a_pipe(source: Volume, volume: Volume, tmp_path: Path) -> None:
    fill(source.path)
    dump(source, tmp_path / "tape")
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write((tmp_path / "tape").read_bytes())

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    restore(volume, FdPlace(reader, "-"))
    thread.join()
    assert differences(look(source.path), look(volume.path)) == []
    assert threads() == []


def _document(target: Volume, place: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the request that control writes."""
    made = request(target, Path())
    return {
        "kind": "restore", "version": 1, "session": 12, "owner": "session:12", "root": "/nowhere",
        "aggregate": str(made.aggregate), "volume": target.name, "subvolume": str(target.path),
        "subvolid": target.subvolid, "channel": None, "path": made.path, "relative": "",
        "source_path": made.path, "files": [], "list": False, "incremental": False, "rename": [],
        "force": False, "acls": True, "blocking_factor": None, "entries_fd": None,
        "source": place,
    } | more  # fmt: skip


def _ask(target: Volume, tape: Path, **more: Any) -> list[dict[str, Any]]:
    """Give a worker a request; give its events."""
    document = _document(target, {"kind": "file", "path": str(tape)}, **more)
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.dump.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(document) + "\n")
    process.stdin.flush()
    events = [json.loads(line) for line in process.stdout]
    process.stdin.close()
    process.stdout.close()
    assert process.wait(20) == (0 if events[-1]["event"] == "result" else 1)
    return events


def test_a_worker_restores(source: Volume, volume: Volume, tmp_path: Path) -> None:
    fill(source.path)
    dump(source, tmp_path / "tape")
    events = _ask(volume, tmp_path / "tape", files=["d1", "\udcff\udcfe undecodable"])
    assert events[-1]["event"] == "result"
    assert events[-1]["damaged"] == 0
    assert differences(look(source.path / "d1"), look(volume.path / "d1")) == []
    assert (volume.path / os.fsdecode(b"\xff\xfe undecodable")).exists()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"files": ["missing"]}, "usage"),
        ({"rename": [["a"]]}, "usage"),
        ({"source": {"kind": "file", "path": "/nowhere/at/all"}}, "usage"),
        ({"incremental": True}, "refused"),
        ({"volume": "nosuch"}, "storage.not_found"),
    ],
)
def test_a_worker_says_what_is_wrong(
    more: dict[str, Any], code: str, source: Volume, volume: Volume, tmp_path: Path
) -> None:
    (source.path / "file").touch()
    dump(source, tmp_path / "tape")
    last = _ask(volume, tmp_path / "tape", **more)[-1]
    assert (last["event"], last["code"]) == ("error", code)
    assert os.listdir(volume.path) == []


@pytest.mark.parametrize("begun", [0, 40])
def test_abort_while_no_input_comes(
    begun: int, source: Volume, volume: Volume, tmp_path: Path
) -> None:
    (source.path / "file").write_bytes(bytes(100_000))
    dump(source, tmp_path / "tape")
    reading, writing = os.pipe()
    os.write(writing, (tmp_path / "tape").read_bytes()[: begun << 10])
    try:
        with worker(_document(volume, {"kind": "fd", "fd": reading, "name": "-"}), (reading,)) as w:
            if begun:
                w.until("progress", phase=3)
            patience = threading.Timer(20, w.process.kill)
            patience.start()
            w.send(b"abort\n")
            last = w.last()
            patience.cancel()
    finally:
        os.close(writing)
        os.close(reading)
    assert (last["event"], last["code"]) == ("error", "session.aborted")


def test_abort_while_nobody_takes_the_table_of_contents(volume: Volume, tmp_path: Path) -> None:
    numbers = tuple(range(2, 3000))
    tape = Tape(used=numbers, dumped=numbers)
    tape.directory(2, [(number, b"a-file-with-number-%d" % number) for number in numbers[1:]])
    for number in numbers[1:]:
        tape.inode(number, 0o100644)
    (tmp_path / "tape").write_bytes(tape.end())
    reading, writing = os.pipe()
    place = {"kind": "file", "path": str(tmp_path / "tape")}
    try:
        document = _document(volume, place, list=True, entries_fd=writing)
        with worker(document, (writing,)) as w:
            assert select.select([reading], [], [], 20)[0]
            patience = threading.Timer(20, w.process.kill)
            patience.start()
            w.send(b"abort\n")
            last = w.last()
            patience.cancel()
    finally:
        os.close(writing)
        os.close(reading)
    assert (last["event"], last["code"]) == ("error", "session.aborted")
