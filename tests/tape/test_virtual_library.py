"""The library as a whole: moves, mail slots, an operator's hands, several processes, crashes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tape import cdb
from tape.changer import Changer
from tape.drive import Drive
from tape.elements import ElementKind
from tape.errors import (
    BlankCheck,
    DeviceBusy,
    DeviceNotFound,
    DeviceReset,
    FilemarkReached,
    IllegalRequest,
    InvalidName,
    InvalidRequest,
    InventoryChanged,
    LibraryDamaged,
    NoCartridge,
    TransportFailed,
)
from tape.opening import open_transport
from tape.virtual.index import Index
from tape.virtual.library import VirtualLibrary
from tape.virtual.record import Entry, EntryKind
from tape.virtual.state import DriveBay

SLOT, DRIVE, MAIL = 0x400, 0x100, 0x300
BLOCK = 64 << 10


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    return VirtualLibrary.create(tmp_path / "lib0", cartridges=["SR0001L8", "SR0002L8"])


@pytest.fixture
def changer(library: VirtualLibrary) -> Iterator[Changer]:
    with Changer(library.changer_transport()) as changer:
        yield changer


def spec(library: VirtualLibrary, **device: int) -> dict[str, object]:
    return {"kind": "virtual", "library": str(library.path), **device}


def test_drives_are_found_by_serial(library: VirtualLibrary, changer: Changer) -> None:
    for number in (0, 1):
        with Drive(open_transport(spec(library, drive=number))) as drive:
            element = changer.inventory().drive(drive.identify().serial)
            assert element.address == DRIVE + number
    with pytest.raises(DeviceNotFound):
        changer.inventory().drive("NONE")


def test_an_import_and_an_export(library: VirtualLibrary, changer: Changer) -> None:
    address = library.add_cartridge("SR0099L8", 1 << 20, mailslot=True)
    assert address == MAIL
    with pytest.raises(InventoryChanged):
        changer.ready()
    element = changer.inventory().find("SR0099L8")
    assert (element.kind, element.imported) == (ElementKind.MAILSLOT, True)
    assert element.import_enabled
    assert element.export_enabled
    changer.move(MAIL, SLOT + 5)
    changer.move(SLOT, MAIL + 1)
    element = changer.inventory().find("SR0001L8")
    assert (element.imported, element.source) == (False, SLOT)
    library.remove_cartridge("SR0001L8")
    with pytest.raises(InventoryChanged):
        changer.ready()
    with pytest.raises(DeviceNotFound):
        changer.inventory().find("SR0001L8")
    assert library.insert_cartridge("SR0001L8") == MAIL


def test_a_locked_door_keeps_hands_off(library: VirtualLibrary, changer: Changer) -> None:
    changer.prevent_removal()
    with pytest.raises(InvalidRequest, match="locked"):
        library.remove_cartridge("SR0001L8")
    changer.allow_removal()
    library.remove_cartridge("SR0001L8")
    assert (
        next(c for c in library.cartridges() if c.attributes.barcode == "SR0001L8").address is None
    )


def test_what_hands_cannot_do(library: VirtualLibrary, changer: Changer) -> None:
    changer.move(SLOT, DRIVE)
    with pytest.raises(InvalidRequest, match="in a drive"):
        library.remove_cartridge("SR0001L8")
    with pytest.raises(InvalidRequest, match="already"):
        library.insert_cartridge("SR0002L8")
    with pytest.raises(InvalidRequest, match="barcode already"):
        library.add_cartridge("SR0002L8")
    with pytest.raises(InvalidName):
        library.add_cartridge("../evil")
    with pytest.raises(DeviceNotFound, match="cartridge NONE does not exist"):
        library.insert_cartridge("NONE")
    library.add_cartridge("M1", mailslot=True)
    library.add_cartridge("M2", mailslot=True)
    with pytest.raises(InvalidRequest, match="no mail slot is free"):
        library.add_cartridge("M3", mailslot=True)
    assert not (library.path / "media" / "M3").exists()


def test_a_cartridge_keeps_its_data_from_drive_to_drive(
    library: VirtualLibrary, changer: Changer
) -> None:
    changer.move(SLOT, DRIVE)
    with Drive(open_transport(spec(library, drive=0))) as drive:
        drive.clear_attentions()
        drive.write_block(b"hello")
    changer.move(DRIVE, DRIVE + 1)
    with Drive(open_transport(spec(library, drive=1))) as drive:
        drive.clear_attentions()
        buffer = bytearray(100)
        assert drive.read_block(buffer) == 5
    assert changer.inventory().at(DRIVE + 1).source == SLOT


def test_moves_with_odd_fields(changer: Changer) -> None:
    for fields in ({"transport": 9}, {"invert": 1}):
        with pytest.raises(IllegalRequest):
            changer.do(cdb.MOVE_MEDIUM, source=SLOT, destination=SLOT + 5, **fields)
    changer.do(cdb.MOVE_MEDIUM, transport=1, source=SLOT, destination=SLOT)
    with pytest.raises(IllegalRequest):
        changer.move(1, SLOT + 5)
    changer.do(cdb.POSITION_TO_ELEMENT, destination=SLOT)
    with pytest.raises(IllegalRequest):
        changer.do(cdb.READ_ELEMENT_STATUS, type=7, count=1, allocation=4096)


def test_all_types_at_once_and_a_narrow_allocation(changer: Changer) -> None:
    from tape import elements

    everything = elements.decode(
        changer.fetch(cdb.READ_ELEMENT_STATUS, 65536, voltag=1, count=0xFFFF, dvcid=1)
    )
    assert set(everything) == set(changer.inventory().elements)
    raw = changer.fetch(cdb.READ_ELEMENT_STATUS, 200, voltag=1, count=0xFFFF)
    assert 0 < len(elements.decode(raw)) < len(everything)
    one = elements.decode(
        changer.fetch(cdb.READ_ELEMENT_STATUS, 999, type=2, first=SLOT + 3, count=1)
    )
    assert [e.address for e in one] == [SLOT + 3]


def test_creating_twice_and_opening_nothing(library: VirtualLibrary, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="already"):
        VirtualLibrary.create(library.path)
    with pytest.raises(DeviceNotFound, match="virtual library"):
        VirtualLibrary.open(tmp_path / "none")
    with pytest.raises(InvalidRequest, match="3 cartridges for 2 slots"):
        VirtualLibrary.create(tmp_path / "small", slots=2, cartridges=["A", "B", "C"])
    with pytest.raises(InvalidName):
        VirtualLibrary.create(tmp_path / "odd", cartridges=["a b"])


def test_a_creation_cut_short_is_made_anew(library: VirtualLibrary) -> None:
    (library.path / "library.json").unlink()
    again = VirtualLibrary.create(library.path, cartridges=["SR0001L8", "SR0003L8"])
    assert [c.attributes.barcode for c in again.cartridges()] == ["SR0001L8", "SR0003L8"]


def test_recorded_cartridges_outlive_a_lost_library_file(
    library: VirtualLibrary, changer: Changer
) -> None:
    changer.move(SLOT, DRIVE)
    with Drive(library.drive_transport(0)) as drive:
        drive.wait_ready()
        drive.write_block(b"precious")
    (library.path / "library.json").unlink()
    with pytest.raises(InvalidRequest, match="SR0001L8 is recorded"):
        VirtualLibrary.create(library.path, cartridges=["SR0001L8"])
    assert (library.path / "media" / "SR0001L8" / "data").stat().st_size > 4096


def test_libraries_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        VirtualLibrary.create(tmp_path / "lib0", cartridges=["A", "A"])
    for size in ({"drives": 513}, {"mailslots": 257}, {"slots": 64513}):
        with pytest.raises(InvalidRequest, match="at most"):
            VirtualLibrary.create(tmp_path / "lib0", **size)
    assert not (tmp_path / "lib0").exists()


def test_a_cartridge_without_its_data_comes_out_of_a_drive(
    library: VirtualLibrary, changer: Changer
) -> None:
    changer.move(SLOT, DRIVE)
    (library.path / "media" / "SR0001L8" / "data").unlink()
    changer.move(DRIVE, SLOT)
    assert changer.inventory().at(SLOT).barcode == "SR0001L8"


def test_a_drive_follows_the_inventory_before_it_is_opened(library: VirtualLibrary) -> None:
    """What a power loss may leave: a drive remembers a cartridge that lies in a slot."""
    path = library.path / "elements.json"
    before = path.read_text()
    with Changer(library.changer_transport()) as changer:
        changer.move(SLOT, DRIVE)
    path.write_text(before)
    with Drive(library.drive_transport(0)) as drive, pytest.raises(NoCartridge):
        drive.wait_ready(0)


def test_a_long_command_of_a_drive_holds_the_changer_up_for_nothing(
    library: VirtualLibrary, changer: Changer
) -> None:
    bay = DriveBay(library.path / "drives" / "0")
    with bay.locked():
        looker = threading.Thread(target=changer.inventory, daemon=True)
        looker.start()
        looker.join(30)
        held_up = looker.is_alive()
    bay.close()
    looker.join()
    assert not held_up


def test_what_was_written_is_safe_once_moved_out(library: VirtualLibrary, changer: Changer) -> None:
    changer.move(SLOT, DRIVE)
    with Drive(library.drive_transport(0)) as drive:
        drive.wait_ready()
        drive.write_block(b"x" * 100)
    changer.move(DRIVE, SLOT)
    index = Index(library.path / "media" / "SR0001L8" / "index")
    synced = index.load(1 << 40)
    index.close()
    assert synced == Entry(EntryKind.SYNCED, 1, 4096 + 32 + 100)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"kind": "virtual", "drive": 0}, InvalidRequest),
        ({"kind": "virtual", "library": "/nowhere", "drive": 0}, DeviceNotFound),
        ({"kind": "sg", "path": "/dev/sg0"}, InvalidRequest),
        ({"kind": "floppy"}, InvalidRequest),
        ({}, InvalidRequest),
    ],
)
def test_descriptions_that_open_nothing(wrong: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        open_transport(wrong)


def test_numbers_that_are_not_there(library: VirtualLibrary) -> None:
    for device in ({"drive": 2}, {"drive": -1}, {"changer": 1}):
        with pytest.raises(DeviceNotFound):
            open_transport(spec(library, **device))
    with pytest.raises(InvalidRequest):
        open_transport(spec(library))


def test_a_damaged_inventory_is_told_not_guessed(library: VirtualLibrary) -> None:
    (library.path / "elements.json").write_text("{}")
    changer = Changer(library.changer_transport())
    with changer, pytest.raises(TransportFailed, match=r"elements\.json"):
        changer.inventory()
    with pytest.raises(LibraryDamaged):
        library.cartridges()


def test_another_run_of_the_machine_resets_the_changer(library: VirtualLibrary) -> None:
    path = library.path / "elements.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": 1, "prevented": True}))
    with Changer(library.changer_transport()) as changer:
        with pytest.raises(DeviceReset):
            changer.ready()
        changer.ready()


@pytest.mark.parametrize("barcode", ["SR0001L8", ""])
def test_a_move_cut_short_is_finished_from_the_inventory(
    library: VirtualLibrary, barcode: str
) -> None:
    """What a crash leaves: the inventory says one thing of a drive, its state another."""
    with Changer(library.changer_transport()) as changer:
        if not barcode:
            changer.move(SLOT, DRIVE)
    path = library.path / "elements.json"
    data = json.loads(path.read_text())
    origin, target = (SLOT, DRIVE) if barcode else (DRIVE, SLOT)
    data["elements"][str(target)] = data["elements"].pop(str(origin))
    path.write_text(json.dumps(data))
    with Changer(library.changer_transport()) as changer:
        assert changer.inventory().at(DRIVE).barcode == barcode
    with Drive(library.drive_transport(0)) as drive:
        drive.clear_attentions()
        if barcode:
            drive.ready()
        else:
            with pytest.raises(Exception, match="no cartridge"):
                drive.ready()


# Several processes

WRITER = """
import sys
from pathlib import Path
from tape.drive import Drive
from tape.opening import open_transport

size = int(sys.argv[2])
drive = Drive(open_transport({"kind": "virtual", "library": sys.argv[1], "drive": 0}))
drive.clear_attentions()
number = 0
while True:
    for _ in range(20):
        drive.write_block(number.to_bytes(8, "big") * (size // 8))
        number += 1
    drive.write_filemarks()
    print(number, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("acknowledged", [1, 2, 5, 9])
def test_killing_a_writer_loses_nothing_acknowledged(
    library: VirtualLibrary, changer: Changer, acknowledged: int
) -> None:
    changer.move(SLOT, DRIVE)
    with start(WRITER, library.path, BLOCK) as writer:
        last = 0
        for _ in range(acknowledged):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.stdout]
        last = told[-1] if told else last
    assert writer.returncode == -signal.SIGKILL
    with Drive(library.drive_transport(0)) as drive:
        assert drive.clear_attentions() == []
        stood = drive.position()
        drive.rewind()
        numbers, marks = read_numbers(drive)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= last
        assert marks >= last // 20
        end = drive.position()
        assert stood.object <= end.object <= stood.object + 1
        drive.write_block(b"goes on")


def read_numbers(drive: Drive) -> tuple[list[int], int]:
    buffer = bytearray(BLOCK)
    numbers: list[int] = []
    marks = 0
    while True:
        try:
            assert drive.read_block(buffer) == BLOCK
            number = buffer[:8]
            assert bytes(buffer) == bytes(number) * (BLOCK // 8)
            numbers.append(int.from_bytes(number, "big"))
        except FilemarkReached:
            marks += 1
        except BlankCheck:
            return numbers, marks


def test_another_process_has_the_drive(library: VirtualLibrary, changer: Changer) -> None:
    changer.move(SLOT, DRIVE)
    with start(WRITER, library.path, BLOCK) as writer:
        writer.stdout.readline()
        with pytest.raises(DeviceBusy, match=f"process {writer.pid}"):
            library.drive_transport(0)
        writer.kill()
    library.drive_transport(0).close()


def test_the_changer_takes_a_cartridge_from_a_writer(
    library: VirtualLibrary, changer: Changer
) -> None:
    """The writer is told, nothing is torn, and nothing of it lands on the next cartridge."""
    changer.move(SLOT, DRIVE)
    with start(WRITER, library.path, BLOCK) as writer:
        for _ in range(3):
            last = int(writer.stdout.readline())
        changer.move(DRIVE, SLOT + 4)
        changer.move(SLOT + 1, DRIVE)
        _, told = writer.communicate()
    assert "no cartridge" in told or "medium may have changed" in told
    with Drive(library.drive_transport(0)) as drive:
        drive.wait_ready()
        with pytest.raises(BlankCheck):
            drive.read_block(bytearray(BLOCK))
    changer.move(DRIVE, SLOT + 1)
    changer.move(SLOT + 4, DRIVE + 1)
    with Drive(library.drive_transport(1)) as drive:
        drive.wait_ready()
        numbers, _ = read_numbers(drive)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= last


def test_moves_go_on_while_a_drive_writes(library: VirtualLibrary, changer: Changer) -> None:
    changer.move(SLOT, DRIVE)
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        with Drive(library.drive_transport(0)) as drive:
            drive.clear_attentions()
            try:
                while not stop.is_set():
                    drive.write_block(bytes(4096))
            except BaseException as error:
                failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(20):
        changer.move(SLOT + 1, DRIVE + 1)
        changer.move(DRIVE + 1, SLOT + 1)
        changer.inventory()
    stop.set()
    thread.join()
    assert failures == []


def test_killing_a_changer_in_mid_move_never_doubles_or_loses_a_cartridge(
    library: VirtualLibrary,
) -> None:
    code = """
import sys
from tape.changer import Changer
from tape.opening import open_transport

changer = Changer(open_transport({"kind": "virtual", "library": sys.argv[1], "changer": 0}))
while True:
    changer.move(0x400, 0x100)
    print("in", flush=True)
    changer.move(0x100, 0x101)
    changer.move(0x101, 0x400)
    print("out", flush=True)
"""
    for turn in range(4):
        with start(code, library.path) as mover:
            for _ in range(turn + 1):
                mover.stdout.readline()
            mover.kill()
        with Changer(library.changer_transport()) as changer:
            inventory = changer.inventory()
            assert sorted(e.barcode for e in inventory.elements if e.full) == [
                "SR0001L8",
                "SR0002L8",
            ]
            found = inventory.find("SR0001L8")
            if found.kind is ElementKind.DRIVE:
                with Drive(library.drive_transport(found.address - DRIVE)) as drive:
                    drive.wait_ready()
                changer.move(found.address, SLOT)


def test_nothing_is_left_open(library: VirtualLibrary) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Changer(library.changer_transport()) as changer:
            where = changer.inventory().find("SR0001L8").address
            if where != DRIVE:
                changer.move(where, DRIVE)
        with Drive(library.drive_transport(0)) as drive:
            drive.wait_ready()
            with pytest.raises(DeviceBusy):
                library.drive_transport(0)
        library.cartridges()
    assert len(os.listdir("/proc/self/fd")) == before
