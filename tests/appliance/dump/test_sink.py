"""Targets of a dump: files, descriptors and drives, when all is well and when it is not."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.dump.drivesink import DriveSink
from appliance.dump.opening import open_sink
from appliance.dump.request import DrivePlace, FdPlace, FilePlace
from appliance.dump.sink import FdSink, FileSink, RecordSink
from appliance.errors import NeedsOperator, Refused, TargetFailed, UsageError
from tape.changer import Changer
from tape.drive import Drive
from tape.errors import BlankCheck, FilemarkReached, NotReady
from tape.opening import open_transport
from tape.sense import Sense
from tape.virtual.faults import Fault, write_faults
from tape.virtual.library import VirtualLibrary

RECORD = 8 << 10


def fill(sink: RecordSink, records: int, seed: bytes = b"R", close: bool = False) -> bytes:
    """Write so many records, and finish if asked to; give what was written."""
    written = b""
    while records:
        buffer = sink.buffer()
        part = min(records, len(buffer) // RECORD)
        data = b"".join(seed + n.to_bytes(4, "big") * 2047 + b"end" for n in range(part))
        buffer[: len(data)] = data
        sink.submit(buffer, len(data))
        written += data
        records -= part
    if close:
        sink.finish()
    return written


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "dump"
    target.write_text("an older dump")
    sink = FileSink(target, 8)
    written = fill(sink, 700)
    assert target.read_text() == "an older dump"
    sink.finish()
    assert target.read_bytes() == written
    assert sink.written == len(written)
    assert list(tmp_path.iterdir()) == [target]


def test_an_abandoned_file_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "dump"
    target.write_text("an older dump")
    sink = FileSink(target, 8)
    fill(sink, 10)
    sink.abandon()
    assert target.read_text() == "an older dump"
    assert list(tmp_path.iterdir()) == [target]


def test_a_torn_file_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "dump.partial").write_bytes(b"torn" * 100_000)
    sink = FileSink(tmp_path / "dump", 8)
    written = fill(sink, 2)
    sink.finish()
    assert (tmp_path / "dump").read_bytes() == written


def test_a_named_pipe_that_nobody_reads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TargetFailed, match="no such device or address"):
        FileSink(tmp_path / "pipe", 8)


def test_two_dumps_to_one_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "dump", 8)
    with pytest.raises(Refused, match="another dump is writing it"):
        FileSink(tmp_path / "dump", 8)
    sink.abandon()


def test_a_device_is_written_as_it_is() -> None:
    sink = FileSink(Path("/dev/null"), 8)
    fill(sink, 300)
    sink.finish()
    assert not Path("/dev/null.partial").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    sink = FileSink(Path("/dev/full"), 8)
    with pytest.raises(TargetFailed, match="no space left on device"):
        fill(sink, 2000, close=True)
    sink.abandon()


def test_a_file_that_is_finished_while_another_dump_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FileSink(tmp_path / "dump", 8)
    written = fill(first, 3)
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        first.finish()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second = FileSink(tmp_path / "dump", 8)
    assert (tmp_path / "dump").read_bytes() == written
    first.abandon()  # finished, so that nothing happens: the partial file is the second's
    fill(second, 5, close=True)
    assert (tmp_path / "dump").stat().st_size == 5 * RECORD
    assert [p.name for p in tmp_path.iterdir()] == ["dump"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "is a directory"), ("no/dump", "no such file"), ("/", "is a directory")],
)
def test_impossible_files(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(TargetFailed, match=reason):
        FileSink(tmp_path / name, 8)


@pytest.mark.parametrize("factor", [3, 257])
def test_impossible_blocking_factors(tmp_path: Path, factor: int) -> None:
    with pytest.raises(UsageError, match="must be from 4 to 256"):
        FileSink(tmp_path / "dump", factor)
    assert not list(tmp_path.iterdir())


def test_verified_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(tmp_path / "good", 8, verify=True)
    fill(sink, 300)
    sink.finish()
    sink = FileSink(tmp_path / "bad", 8, verify=True)
    fill(sink, 300)
    real = os.fsync

    def damage(fd: int) -> None:
        os.pwrite(fd, b"!", 100)
        real(fd)

    monkeypatch.setattr(os, "fsync", damage)
    with pytest.raises(TargetFailed, match="not what was written"):
        sink.finish()
    sink.abandon()
    assert [p.name for p in tmp_path.iterdir()] == ["good"]
    with pytest.raises(UsageError, match="cannot be read back"):
        open_sink(FdPlace(1, "-"), 8, verify=True)
    with pytest.raises(UsageError, match="cannot be read back"):
        FileSink(Path("/dev/null"), 8, verify=True)


def test_reading_back_can_be_ended(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "dump", 8, verify=True)
    fill(sink, 1000)
    checks = iter([None] * 3)
    with pytest.raises(StopIteration):
        sink.finish(lambda: next(checks))
    sink.abandon()
    assert not list(tmp_path.iterdir())


def test_a_descriptor_of_a_file_is_on_disk_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sink = FdSink(os.open(tmp_path / "dump", os.O_WRONLY | os.O_CREAT), "-", 8)
    fill(sink, 2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TargetFailed, match="no space left on device"):
        sink.finish()
    sink.abandon()


def test_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    sink = FdSink(writing, "-", 8)
    got = bytearray()

    def read() -> None:
        while piece := os.read(reading, 1 << 16):
            got.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    written = fill(sink, 500)
    sink.finish()
    thread.join()
    os.close(reading)
    assert got == written


def test_a_pipe_that_nobody_reads_any_more() -> None:
    reading, writing = os.pipe()
    sink = FdSink(writing, "-", 8)
    os.close(reading)
    with pytest.raises(TargetFailed, match="cannot write the dump to -: broken pipe"):
        fill(sink, 2000)
    sink.abandon()


Library = Callable[..., Path]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Give a function that makes a library with a cartridge of some capacity in drive 0."""

    def make(capacity: int = 64 << 20, protected: bool = False) -> Path:
        place = tmp_path / "lib"
        made = VirtualLibrary.create(
            place, drives=1, slots=2, cartridges=["SR0001L8"], capacity=capacity, durable=False
        )
        if protected:
            made.set_write_protected("SR0001L8", protected=True)
        changer = Changer(open_transport({"kind": "virtual", "library": str(place), "changer": 0}))
        changer.clear_attentions()
        inventory = changer.inventory()
        cartridge = inventory.find("SR0001L8")
        assert cartridge is not None
        changer.move(cartridge.address, inventory.drives[0].address)
        changer.close()
        return place

    return make


def place(library: Path, on_close: str = "none") -> DrivePlace:
    device = {"kind": "virtual", "library": str(library), "drive": 0}
    return DrivePlace("nrst0a", device, on_close)


def blocks(library: Path, files: int = 1) -> list[list[bytes]]:
    """Read tape files from the beginning; then there must be the end of data."""
    found: list[list[bytes]] = []
    buffer = bytearray(1 << 20)
    with Drive(open_transport(place(library).device)) as drive:
        drive.clear_attentions()
        drive.rewind()
        for _ in range(files):
            found.append([])
            while True:
                try:
                    size = drive.read_block(buffer)
                except FilemarkReached:
                    break
                found[-1].append(bytes(buffer[:size]))
        with pytest.raises(BlankCheck):
            drive.read_block(buffer)
    return found


def test_a_record_is_a_tape_block(library: Library) -> None:
    tape = library()
    written = []
    for seed in (b"1", b"2"):  # the second stands behind the first
        sink = open_sink(place(tape), 8, verify=seed == b"2")
        written.append(fill(sink, 300, seed))
        room = sink.remaining()
        assert room is not None
        assert room <= 64 << 20
        sink.finish()
    found = blocks(tape, 2)
    assert [b"".join(file) for file in found] == written
    assert {len(block) for file in found for block in file} == {RECORD}


def test_room_at_the_beginning_is_the_whole_cartridge(library: Library) -> None:
    tape = library()
    sink = open_sink(place(tape), 8)
    whole = sink.remaining()
    fill(sink, 300)
    sink.finish()
    for rewind, room in ((False, whole - (3 << 20)), (True, whole)):
        with Drive(open_transport(place(tape).device)) as drive:
            drive.clear_attentions()
            if rewind:
                drive.rewind()
        sink = open_sink(place(tape), 8)
        assert sink.remaining() == room
        sink.abandon()


def test_a_drive_that_does_not_tell_its_room_is_written_all_the_same(library: Library) -> None:
    tape = library()
    unsupported = Fault(opcode=0x4D, sense=Sense(5, 0x20, 0))
    write_faults(tape, [unsupported])
    sink = open_sink(place(tape), 8)
    assert sink.remaining() is None
    written = fill(sink, 3)
    sink.finish()
    assert b"".join(blocks(tape)[0]) == written


def test_rewind_and_unload_on_close(library: Library) -> None:
    tape = library()
    for on_close, seed in (("rewind", b"1"), ("rewind", b"2")):
        sink = open_sink(place(tape, on_close), 8)
        written = fill(sink, 3, seed)
        sink.finish()
    assert b"".join(blocks(tape)[0]) == written  # over the first
    sink = open_sink(place(tape, "unload"), 8)
    fill(sink, 3)
    sink.finish()
    with pytest.raises(NotReady):
        DriveSink.open(place(tape), 8)


def test_a_full_cartridge_needs_an_operator(library: Library) -> None:
    tape = library(4 << 20)
    sink = open_sink(place(tape), 8)
    with pytest.raises(NeedsOperator, match="the cartridge is full after"):
        fill(sink, 2000, close=True)
    sink.abandon()
    open_sink(place(tape, "rewind"), 8).abandon()  # the drive is free again


def test_a_protected_cartridge_is_refused(library: Library) -> None:
    tape = library(protected=True)
    with pytest.raises(Refused, match="nrst0a: its cartridge is write protected"):
        open_sink(place(tape), 8)


def test_an_abandoned_dump_is_closed_off_by_a_filemark(library: Library) -> None:
    tape = library()
    sink = open_sink(place(tape), 8)
    for _ in range(3):
        fill(sink, 200)
    sink.abandon()
    sink = open_sink(place(tape), 8)
    written = fill(sink, 4, b"2")
    sink.finish()
    assert b"".join(blocks(tape, 2)[1]) == written


def test_places(tmp_path: Path) -> None:
    sink = open_sink(FilePlace(tmp_path / "x"), 8)
    assert isinstance(sink, FileSink)
    sink.abandon()


def test_a_dump_into_a_stuck_pipe_can_be_ended() -> None:
    reading, writing = os.pipe()
    sink = FdSink(writing, "-", 8)

    def check() -> None:
        raise KeyboardInterrupt

    def fill_for_ever() -> None:
        while True:
            buffer = sink.buffer(check)
            sink.submit(buffer, len(buffer))

    with pytest.raises(KeyboardInterrupt):
        fill_for_ever()
    with pytest.raises(KeyboardInterrupt):  # nor does it wait for ever at the end
        sink.finish(check)
    sink.abandon()
    os.close(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writing)
