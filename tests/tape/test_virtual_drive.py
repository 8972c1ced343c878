"""What only a virtual drive can be made to do at will, at the level of CDBs too."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tape import cdb, pages, sense
from tape.cdb import Command
from tape.changer import Changer
from tape.drive import Drive, Position
from tape.errors import (
    BlankCheck,
    CartridgeChanged,
    CleaningCartridge,
    DeviceBusy,
    EndOfMedium,
    FilemarkReached,
    IllegalRequest,
    InvalidRequest,
    MediumError,
    NoCartridge,
    NotLoaded,
    RemovalPrevented,
    StorageFull,
    TransportFailed,
    WriteProtected,
)
from tape.names import OnClose
from tape.sense import Sense
from tape.transport import Category, Completion
from tape.virtual.library import VirtualLibrary
from tape.virtual.state import DriveBay

MIB = 1 << 20


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    return VirtualLibrary.create(
        tmp_path / "lib0",
        cartridges=["SR0001L8", "SR0002L8", "CLN001L1"],
        capacity=4 * MIB,
        durable=False,
    )


def put(library: VirtualLibrary, slot: int, drive: int = 0x100) -> None:
    with Changer(library.changer_transport()) as changer:
        changer.move(slot, drive)


@pytest.fixture
def drive(library: VirtualLibrary) -> Iterator[Drive]:
    put(library, 0x400)
    with Drive(library.drive_transport(0)) as drive:
        drive.clear_attentions()
        yield drive


def sense_after(drive: Drive, command: Command, **fields: int) -> Sense:
    done = drive.execute(command, **fields)
    assert done.category is Category.SENSE
    return sense.decode(done.sense)


def test_early_warning_comes_before_the_end(drive: Drive) -> None:
    block = bytes(64 << 10)
    written = 4 * MIB // len(block) - 1
    warnings = [drive.write_block(block) for _ in range(written)]
    assert warnings == sorted(warnings)
    assert 2 <= sum(warnings) < 8
    with pytest.raises(EndOfMedium) as caught:
        drive.write_block(block)
    assert caught.value.information == len(block)
    assert drive.position().end
    assert drive.write_filemarks() is True
    drive.rewind()
    buffer = bytearray(len(block))
    for _ in range(written):
        assert drive.read_block(buffer) == len(block)


def test_early_warning_sense_says_that_nothing_is_left(drive: Drive) -> None:
    drive.write_block(bytes(3 * MIB))
    done = drive.execute(cdb.WRITE_6, data_out=bytes(MIB - 4096), length=MIB - 4096)
    expected = Sense(sense.NO_SENSE, 0, 2, eom=True, valid=True)
    assert sense.decode(done.sense) == expected
    assert done.residual == 0


def test_fixed_blocks_stop_where_the_tape_is_full(drive: Drive) -> None:
    drive.write_block(bytes(4 * MIB - 10000))
    drive.set_block_size(1024)
    with pytest.raises(EndOfMedium) as caught:
        drive.write_blocks(bytes(20 * 1024), 1024)
    fitted = (10000 - 32) // (1024 + 32)
    assert caught.value.information == 20 - fitted
    assert drive.position().object == 1 + fitted


def test_write_protected(library: VirtualLibrary) -> None:
    library.set_write_protected("SR0001L8", protected=True)
    put(library, 0x400)
    with pytest.raises(InvalidRequest, match="in a drive"):
        library.set_write_protected("SR0001L8", protected=False)
    with Drive(library.drive_transport(0)) as drive:
        drive.clear_attentions()
        assert drive.settings().write_protected
        for act in (lambda: drive.write_block(b"x"), drive.write_filemarks, drive.erase):
            with pytest.raises(WriteProtected):
                act()
        with pytest.raises(BlankCheck):
            drive.read_block(bytearray(10))


def test_damage_on_disk_is_a_medium_error(library: VirtualLibrary, drive: Drive) -> None:
    drive.write_block(b"a" * 1000)
    drive.write_block(b"b" * 1000)
    drive.rewind()
    with (library.path / "media" / "SR0001L8" / "data").open("r+b") as file:
        file.seek(4096 + 32 + 500)
        file.write(b"!")
    with pytest.raises(MediumError) as caught:
        drive.read_block(bytearray(1000))
    assert (caught.value.asc, caught.value.ascq) == (0x11, 0x00)
    assert drive.read_block(bytearray(1000)) == 1000


def test_a_cartridge_that_cannot_be_opened_is_a_medium_error(library: VirtualLibrary) -> None:
    (library.path / "media" / "SR0001L8" / "data").write_bytes(b"no tape at all")
    put(library, 0x400)
    with Drive(library.drive_transport(0)) as drive:
        drive.clear_attentions()
        with pytest.raises(MediumError, match="medium format corrupted"):
            drive.rewind()
        assert drive.tape_alerts() == frozenset()
        drive.unload()
        with pytest.raises(NotLoaded):
            drive.ready()


def test_a_new_cartridge_is_told_once(library: VirtualLibrary) -> None:
    with Drive(library.drive_transport(0)) as drive:
        assert drive.clear_attentions() == []
        with pytest.raises(NoCartridge):
            drive.ready()
        put(library, 0x400)
        with pytest.raises(CartridgeChanged):
            drive.rewind()
        drive.rewind()


def test_inquiry_and_request_sense_pass_an_attention(library: VirtualLibrary) -> None:
    put(library, 0x400)
    with Drive(library.drive_transport(0)) as drive:
        drive.identify()
        assert drive.request_sense() == Sense(sense.UNIT_ATTENTION, 0x28, 0x00)
        assert drive.request_sense() == Sense(sense.NO_SENSE)
        drive.ready()


def test_another_run_of_the_machine_resets_the_drive(library: VirtualLibrary, drive: Drive) -> None:
    drive.write_block(b"x")
    drive.set_block_size(512)
    drive.prevent_removal()
    drive.close()
    bay = DriveBay(library.path / "drives" / "0")
    with bay.locked() as state:
        state.boot += 1
        bay.save()
    bay.close()
    with Drive(library.drive_transport(0)) as again:
        assert [(s.asc, s.ascq) for s in again.clear_attentions()] == [(0x29, 0x00)]
        assert again.position().beginning
        assert again.settings().block_size == 0
        again.unload()


def test_a_cleaning_cartridge(library: VirtualLibrary) -> None:
    put(library, 0x402)
    with Drive(library.drive_transport(0)) as drive:
        with pytest.raises(CleaningCartridge):
            drive.wait_ready(seconds=0)
        assert 11 in drive.tape_alerts()
        with pytest.raises(CleaningCartridge):
            drive.write_block(b"x")
        drive.unload()
        put(library, 0x100, 0x402)
        assert drive.tape_alerts() == frozenset()
    stored = {c.attributes.barcode: c.attributes for c in library.cartridges()}
    assert (stored["CLN001L1"].cleanings, stored["CLN001L1"].loads) == (49, 1)


def test_moving_out_of_a_drive_in_use(library: VirtualLibrary, drive: Drive) -> None:
    drive.write_block(b"x")
    drive.prevent_removal()
    with pytest.raises(RemovalPrevented):
        put(library, 0x100, 0x405)
    drive.ready()
    drive.allow_removal()
    put(library, 0x100, 0x405)
    with pytest.raises(NoCartridge):
        drive.write_block(b"y")
    put(library, 0x401)
    with pytest.raises(CartridgeChanged):
        drive.write_block(b"y")
    assert drive.position().beginning


def test_settings_outlive_the_opener(library: VirtualLibrary, drive: Drive) -> None:
    drive.write_block(b"x")
    drive.set_block_size(2048)
    drive.set_compression(enabled=False)
    drive.close()
    with Drive(library.drive_transport(0)) as again:
        settings = again.settings()
        assert (settings.block_size, settings.compression) == (2048, False)
        assert again.position().object == 1


def test_one_opener_at_a_time(library: VirtualLibrary, drive: Drive) -> None:
    with pytest.raises(DeviceBusy, match=r"rst0 is in use by process \d+ since 20"):
        library.drive_transport(0, "rst0")
    drive.close()
    library.drive_transport(0).close()


@pytest.mark.parametrize(
    ("command", "fields", "expected"),
    [
        (cdb.READ_6, {"fixed": 1, "length": 1}, (0x24, 0)),
        (cdb.READ_6, {"length": (1 << 24) - 1}, (0x24, 0)),
        (cdb.WRITE_6, {"fixed": 1, "length": 1}, (0x24, 0)),
        (cdb.WRITE_FILEMARKS, {"wsmk": 1, "count": 1}, (0x24, 0)),
        (cdb.SPACE_6, {"code": 2, "count": 1}, (0x24, 0)),
        (cdb.LOCATE_10, {"cp": 1, "partition": 1}, (0x24, 0)),
        (cdb.LOCATE_16, {"dest_type": 2}, (0x24, 0)),
        (cdb.READ_POSITION, {"service_action": 2}, (0x24, 0)),
        (cdb.INQUIRY, {"evpd": 1, "page": 0x99, "allocation": 99}, (0x24, 0)),
        (cdb.INQUIRY, {"page": 1, "allocation": 99}, (0x24, 0)),
        (cdb.MODE_SENSE_6, {"page": 0x3E, "allocation": 99}, (0x24, 0)),
        (cdb.MODE_SENSE_6, {"page": 0x0F, "pc": 3, "allocation": 99}, (0x39, 0)),
        (cdb.LOG_SENSE, {"page": 0x3E, "allocation": 99}, (0x24, 0)),
        (cdb.MOVE_MEDIUM, {}, (0x20, 0)),
        (cdb.PERSISTENT_RESERVE_IN, {}, (0x20, 0)),
    ],
)
def test_what_a_drive_refuses(
    drive: Drive, command: Command, fields: dict[str, int], expected: tuple[int, int]
) -> None:
    found = sense_after(drive, command, **fields)
    assert (found.key, (found.asc, found.ascq)) == (sense.ILLEGAL_REQUEST, expected)
    drive.ready()


@pytest.mark.parametrize("block", [b"", b"\x08", b"\xff" * 16, b"\x0a\0\0"])
def test_cdbs_that_are_none(drive: Drive, block: bytes) -> None:
    done = drive.transport.execute(block)
    assert sense.decode(done.sense).key == sense.ILLEGAL_REQUEST


def test_wrong_mode_parameters_change_nothing(drive: Drive) -> None:
    for raw in (b"\0\0\0\x09", b"\0\0\x10\x08" + bytes(4) + b"\0\xff\xff\xff", b"\0\0\x10\0\x3e\0"):
        with pytest.raises(IllegalRequest):
            drive.do(cdb.MODE_SELECT_6, data_out=raw, pf=1, length=len(raw))
    assert drive.settings().block_size == 0


def test_mode_pages_in_all_ways(drive: Drive) -> None:
    for command, long in ((cdb.MODE_SENSE_6, False), (cdb.MODE_SENSE_10, True)):
        for control in (0, 1, 2):
            raw = drive.fetch(command, 255, page=0x3F, pc=control)
            found = pages.decode_mode(raw, long=long)
            assert [p.code for p in found.pages] == [0x0F, 0x10]
            assert found.block is not None
    assert pages.decode_mode(drive.fetch(cdb.MODE_SENSE_6, 255, page=0x0F, dbd=1)).block is None
    select = pages.encode_mode(
        pages.ModeParameters(block=pages.BlockDescriptor(0, 4096)), long=True, select=True
    )
    drive.do(cdb.MODE_SELECT_10, data_out=select, pf=1, length=len(select))
    assert drive.settings().block_size == 4096


def test_silence_about_short_blocks_when_asked(drive: Drive) -> None:
    drive.write_block(b"x" * 100)
    drive.write_block(b"y" * 100)
    drive.rewind()
    buffer = bytearray(500)
    done = drive.do(cdb.READ_6, data_in=buffer, sili=1, length=500)
    assert done.residual == 400
    assert bytes(buffer) == b"x" * 100 + bytes(400)
    short = bytearray(50)
    assert drive.do(cdb.READ_6, data_in=short, sili=1, length=50).residual == 0
    assert bytes(short) == b"y" * 50


def test_a_filemark_tells_the_whole_length_as_left(drive: Drive) -> None:
    drive.write_filemarks()
    drive.rewind()
    done = drive.execute(cdb.READ_6, data_in=bytearray(300), length=300)
    assert done.residual == 300
    found = sense.decode(done.sense)
    assert found == Sense(0, 0, 1, information=300, filemark=True, valid=True)


def test_logs_count_bytes(drive: Drive) -> None:
    drive.write_block(bytes(1000))
    drive.rewind()
    drive.read_block(bytearray(1000))
    page = drive.log_page(pages.LOG_SEQUENTIAL_ACCESS)
    found = pages.SequentialAccess.decode(page)
    assert (found.written, found.read) == (1000, 1000)
    supported = pages.decode_supported_log_pages(drive.fetch(cdb.LOG_SENSE, 255, page=0))
    assert {0x0C, 0x12, 0x2E, 0x31} <= set(supported)


def test_short_blocks_are_counted_too(drive: Drive) -> None:
    drive.write_block(bytes(1000))
    drive.rewind()
    drive.read_block(bytearray(5000))
    assert pages.SequentialAccess.decode(drive.log_page(pages.LOG_SEQUENTIAL_ACCESS)).read == 1000


def test_what_remains_is_counted_from_the_end_of_data(drive: Drive) -> None:
    drive.write_block(bytes(MIB))
    for stand in (drive.space_end_of_data, drive.rewind):
        stand()
        assert drive.capacity() == pages.TapeCapacity(2, 4)
    drive.write_filemarks()
    assert drive.capacity() == pages.TapeCapacity(3, 4)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def write_for_ever(drive: Drive) -> None:
    while True:
        drive.write_block(bytes(10_000))


@pytest.mark.root
def test_a_full_disk_is_not_the_cartridges_fault(small_disk: Path) -> None:
    library = VirtualLibrary.create(small_disk / "lib0", drives=1, slots=1, cartridges=["A"])
    put(library, 0x400)
    with Drive(library.drive_transport(0)) as drive:
        drive.wait_ready()
        with pytest.raises(StorageFull, match="the storage behind it is full"):
            write_for_ever(drive)
        written = drive.position().object
        assert 10 < written < 200
        drive.space_blocks(-5)
        drive.write_filemarks()
    with Drive(library.drive_transport(0)) as drive:
        drive.rewind()
        with pytest.raises(FilemarkReached):
            drive.space_blocks(written)
        assert drive.position() == Position(written - 4, 1)


@pytest.mark.parametrize(
    ("on_close", "state"), [("r", "rewound"), ("nr", "left"), ("ur", "unloaded")]
)
def test_finishing_as_the_name_says(library: VirtualLibrary, on_close: str, state: str) -> None:
    put(library, 0x400)
    drive = Drive(library.drive_transport(0))
    drive.clear_attentions()
    drive.write_block(b"x")
    drive.finish(OnClose(on_close))
    with Drive(library.drive_transport(0)) as again:
        if state == "unloaded":
            again.load()
        assert again.position().beginning is (state != "left")


def test_a_closed_transport_says_so(drive: Drive) -> None:
    drive.close()
    drive.close()
    with pytest.raises(TransportFailed, match="closed"):
        drive.rewind()


def test_buffers_that_cannot_be_transferred(drive: Drive) -> None:
    for act in (
        lambda: drive.write_block(b""),
        lambda: drive.write_block(bytes(1 << 24)),
        lambda: drive.read_block(bytearray()),
        lambda: drive.write_blocks(b"abc", 2),
        lambda: drive.write_blocks(b"", 2),
        lambda: drive.write_blocks(b"abc", 0),
        lambda: drive.read_blocks(bytearray(5), 2),
        lambda: drive.read_blocks(bytearray(5), 0),
    ):
        with pytest.raises(InvalidRequest):
            act()


def test_numbers_that_no_command_carries(drive: Drive) -> None:
    for act in (
        lambda: drive.space_filemarks(1 << 24),
        lambda: drive.locate(-1),
        lambda: drive.write_filemarks(-1),
        lambda: drive.set_block_size(1 << 24),
        lambda: drive.set_block_size(-1),
    ):
        with pytest.raises(InvalidRequest):
            act()
    assert drive.settings().block_size == 0


class Lost:
    """A drive's transport whose READ POSITION says `flags`."""

    name = "nrst0a"

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def execute(self, cdb: bytes, *, data_out=None, data_in=None, timeout=60.0) -> Completion:
        data_in[0] = self.flags
        return Completion(Category.GOOD)


@pytest.mark.parametrize("flags", [0x08, 0x04])
def test_a_position_that_the_drive_does_not_know_is_no_number(flags: int) -> None:
    with pytest.raises(TransportFailed, match="does not know where the tape stands"):
        Drive(Lost(flags)).position()
