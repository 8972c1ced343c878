"""Sources: files, pipes and drives give the same bytes; a thread reads ahead and ends."""

import os
import sys
import threading
from pathlib import Path

import pytest

from appliance.dump.drivesource import DriveSource
from appliance.dump.request import DrivePlace, FdPlace, FilePlace
from appliance.dump.source import PIECE, READ_AHEAD, Blocks, PipeSource, ReadAhead, open_source
from appliance.errors import StreamError, UsageError
from tape.changer import Changer
from tape.drive import Drive
from tape.errors import DeviceNotFound, MediumError
from tape.opening import open_transport
from tape.sense import Sense
from tape.virtual.faults import Fault, write_faults
from tape.virtual.library import VirtualLibrary
from tests.appliance.dump.restorelab import threads


def _take_all(blocks: Blocks, size: int) -> bytes:
    parts: list[bytes] = []
    try:
        while True:
            parts.append(blocks.take(size))
    except StreamError:
        return b"".join(parts)


def test_a_file_is_read_and_skipped(tmp_path: Path) -> None:
    content = os.urandom(3 * PIECE + 512)
    (tmp_path / "stream").write_bytes(content)
    source = open_source(FilePlace(tmp_path / "stream"))
    blocks = Blocks(source)
    assert blocks.take(100) == content[:100]
    blocks.skip(2 * PIECE)
    assert blocks.take(1000) == content[100 + 2 * PIECE : 1100 + 2 * PIECE]
    assert blocks.offset == 1100 + 2 * PIECE
    assert (
        bytes(blocks.take_some(1 << 30))
        == content[blocks.offset - PIECE + 1612 :][:0] + (content[1100 + 2 * PIECE : blocks.offset])
    )
    with pytest.raises(StreamError, match="ends here") as caught:
        blocks.skip(10 * PIECE)
    assert caught.value.offset <= len(content)
    source.finish()
    source.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError):
            open_source(FilePlace(wrong))
    with pytest.raises(UsageError):
        open_source(FdPlace(987, "-"))


def _feed(writer: int, content: bytes) -> threading.Thread:
    def feed() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=feed)
    thread.start()
    return thread


def test_a_pipe_is_read_ahead_and_drained() -> None:
    content = os.urandom(5 << 20)
    reader, writer = os.pipe()
    thread = _feed(writer, content + bytes(1 << 20))
    source = open_source(FdPlace(reader, "-"))
    blocks = Blocks(source)
    assert blocks.take(len(content)) == content
    source.finish()  # the writer must not meet a broken pipe
    thread.join()
    source.close()
    assert threads() == []


def test_a_pipe_of_a_silent_writer_can_be_closed() -> None:
    reader, writer = os.pipe()
    source = open_source(FdPlace(reader, "-"))
    assert threads() == ["read-ahead"]
    source.close()
    assert threads() == []
    os.close(writer)


class _Endless:
    name = "endless"

    def __init__(self) -> None:
        self.given = 0

    def read(self) -> bytes:
        self.given += PIECE
        return bytes(PIECE)

    def skip(self, size: int) -> int:
        return 0

    def wake(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_reading_ahead_has_a_bound() -> None:
    endless = _Endless()
    source = ReadAhead(endless)
    for _ in range(100):
        source.read()
    source.close()
    assert endless.given <= 100 * PIECE + READ_AHEAD + PIECE


def test_errors_of_the_thread_come_out_where_they_belong() -> None:
    class Broken(_Endless):
        def read(self) -> bytes:
            if self.given:
                raise OSError(5, "Input/output error")
            return super().read()

    blocks = Blocks(ReadAhead(Broken()))
    blocks.take(PIECE)
    with pytest.raises(StreamError, match="cannot be read: Input/output error") as caught:
        blocks.take(1)
    assert caught.value.offset == PIECE


# -- drives -----------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    library = VirtualLibrary.create(
        tmp_path / "lib", drives=1, slots=2, cartridges=["SR0001L8"], durable=False
    )
    with Changer(library.changer_transport()) as changer:
        inventory = changer.inventory()
        cartridge = inventory.find("SR0001L8")
        assert cartridge is not None
        changer.move(cartridge.address, inventory.drives[0].address)
    return library


def _spec(tmp_path: Path) -> dict[str, object]:
    return {"kind": "virtual", "library": str(tmp_path / "lib"), "drive": 0}


def _write(tmp_path: Path, *files: list[bytes]) -> None:
    with Drive(open_transport(_spec(tmp_path))) as drive:
        drive.clear_attentions()
        drive.wait_ready(5)
        drive.rewind()
        for blocks in files:
            for block in blocks:
                drive.write_block(block)
            drive.write_filemarks(1)
        drive.rewind()


@pytest.mark.parametrize("size", [4 << 10, 63 << 10, 256 << 10, PIECE])
def test_a_drive_is_read_up_to_the_filemark(
    size: int, library: VirtualLibrary, tmp_path: Path
) -> None:
    first = [os.urandom(size) for _ in range(5)]
    second = [os.urandom(size) for _ in range(2)]
    _write(tmp_path, first, second)
    source = open_source(DrivePlace("nrst0a", _spec(tmp_path), "none"))
    blocks = Blocks(source)
    assert blocks.take(10) == first[0][:10]
    source.finish()  # the rest of the first file is passed
    source.close()
    source = open_source(DrivePlace("rst0a", _spec(tmp_path), "rewind"))
    assert _take_all(Blocks(source), 1024) == b"".join(second)
    source.finish()
    source.close()
    with Drive(open_transport(_spec(tmp_path))) as drive:
        assert drive.position().beginning
    assert threads() == []


def test_an_empty_cartridge_and_a_missing_drive(library: VirtualLibrary, tmp_path: Path) -> None:
    source = open_source(DrivePlace("rst0a", _spec(tmp_path), "unload"))
    with pytest.raises(StreamError, match="it is empty, nothing is recorded"):
        Blocks(source).take(1)
    source.close()
    with pytest.raises(DeviceNotFound):
        open_source(DrivePlace("rst9a", _spec(tmp_path) | {"drive": 9}, "none"))


def test_a_tape_that_stands_before_a_filemark(library: VirtualLibrary, tmp_path: Path) -> None:
    _write(tmp_path, [], [bytes(65536)])
    source = open_source(DrivePlace("nrst0a", _spec(tmp_path), "none"))
    with pytest.raises(
        StreamError, match=r"there is a filemark where the tape stands; .* position"
    ):
        Blocks(source).take(1)
    source.close()
    source = open_source(DrivePlace("nrst0a", _spec(tmp_path), "none"))
    assert Blocks(source).take(10) == bytes(10)
    source.close()


def test_a_medium_error_is_the_drives_own(library: VirtualLibrary, tmp_path: Path) -> None:
    _write(tmp_path, [bytes(65536)] * 50)
    write_faults(tmp_path / "lib", [Fault(opcode=0x08, nth=20, sense=Sense(3, 0x11, 0))])
    source = open_source(DrivePlace("rst0a", _spec(tmp_path), "none"))
    blocks = Blocks(source)
    with pytest.raises(MediumError):
        blocks.take(50 * 65536)
    source.close()
    assert threads() == []


def test_blocks_larger_than_can_be_read(library: VirtualLibrary, tmp_path: Path) -> None:
    _write(tmp_path, [bytes(1024), bytes(PIECE + 1024)])
    drive = Drive(open_transport(_spec(tmp_path)))
    source = DriveSource(drive, "nrst0a")
    assert source.read() == bytes(1024)
    with pytest.raises(StreamError, match="larger than"):
        source.read()
    source.close()


def test_pipe_source_wakes() -> None:
    reader, writer = os.pipe()
    source = PipeSource(reader, "-")
    source.wake()
    assert source.read() == b""
    source.close()
    os.close(writer)


def test_both_threads_may_count_at_once() -> None:
    """A count that is wrong by what is lost would end in a standstill of both."""

    class Many(_Endless):
        def read(self) -> bytes:
            self.given += 1
            return bytes(1024) if self.given < 400_000 else b""

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        source = ReadAhead(Many())
        while source.read():
            pass
    finally:
        sys.setswitchinterval(interval)
    assert source._ahead == 0
    source.close()


def test_waiting_for_bytes_can_be_ended() -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    reader, writer = os.pipe()
    source = open_source(FdPlace(reader, "-"), check)
    with pytest.raises(Enough):
        source.read()
    source.close()
    os.close(writer)
    assert threads() == []


def test_draining_a_writer_that_never_ends_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.dump.source._DRAIN_ALL_SECONDS", 0.2)
    reader, writer = os.pipe()
    stop = threading.Event()

    def dribble() -> None:
        while not stop.wait(0.01):
            os.write(writer, b"x")

    thread = threading.Thread(target=dribble)
    thread.start()
    source = PipeSource(reader, "-")
    finishing = threading.Thread(target=source.finish)
    finishing.start()
    finishing.join(10)
    ended = not finishing.is_alive()
    stop.set()
    thread.join()
    os.close(writer)
    finishing.join()
    source.close()
    assert ended
