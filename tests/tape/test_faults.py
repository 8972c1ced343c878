"""Faults on purpose, in this process and in another's open drive."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import sense
from tape.changer import Changer
from tape.drive import Drive, FixedRead
from tape.errors import (
    EndOfMedium,
    HardwareError,
    LibraryDamaged,
    MediumError,
    ReservationConflict,
    TransportFailed,
)
from tape.sense import Sense
from tape.virtual.faults import Fault, read_faults, write_faults
from tape.virtual.library import VirtualLibrary
from tape.virtual.transport import VirtualTransport

READ, WRITE, REWIND, MOVE = 0x08, 0x0A, 0x01, 0xA5
WRITE_ERROR = Sense(3, 0x0C, 0)


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    return VirtualLibrary.create(tmp_path / "lib0", cartridges=["SR0001L8"], durable=False)


@pytest.fixture
def transport(library: VirtualLibrary) -> Iterator[VirtualTransport]:
    with Changer(library.changer_transport()) as changer:
        changer.move(0x400, 0x100)
    transport = library.drive_transport(0)
    yield transport
    transport.close()


@pytest.fixture
def drive(transport: VirtualTransport) -> Drive:
    drive = Drive(transport)
    drive.clear_attentions()
    return drive


faults = st.builds(
    Fault,
    opcode=st.none() | st.integers(0, 255),
    nth=st.integers(1, 99),
    count=st.integers(0, 9),
    device=st.sampled_from(["*", "drive0", "changer0"]),
    delay=st.floats(0, 1),
    sense=st.none() | st.builds(Sense, key=st.integers(0, 15), asc=st.integers(0, 255)),
    status=st.none() | st.integers(0, 255),
    transport=st.none() | st.text(max_size=9),
    hang=st.booleans(),
    after=st.booleans(),
)


@given(st.lists(faults, max_size=4))
def test_rules_come_back_from_their_file(tmp_path_factory, rules: list[Fault]) -> None:
    directory = tmp_path_factory.mktemp("faults")
    write_faults(directory, rules)
    assert read_faults(directory / "faults.json") == rules


def test_the_nth_command_fails_and_the_next_does_not(
    transport: VirtualTransport, drive: Drive
) -> None:
    transport.faults.add(Fault(opcode=WRITE, nth=3, sense=WRITE_ERROR))
    drive.write_block(b"1")
    drive.rewind()
    drive.write_block(b"2")
    with pytest.raises(MediumError, match="write error"):
        drive.write_block(b"3")
    drive.write_block(b"4")
    assert drive.position().object == 2


def test_all_from_the_nth_on(transport: VirtualTransport, drive: Drive) -> None:
    transport.faults.add(Fault(opcode=WRITE, nth=2, count=0, sense=Sense(4, 0x44)))
    drive.write_block(b"1")
    for _ in range(3):
        with pytest.raises(HardwareError):
            drive.write_block(b"2")
    transport.faults.clear()
    drive.write_block(b"2")


def test_a_deferred_error_says_so(transport: VirtualTransport, drive: Drive) -> None:
    transport.faults.add(Fault(opcode=WRITE, sense=Sense(3, 0x0C, 0, deferred=True)))
    with pytest.raises(MediumError, match="an earlier command failed"):
        drive.write_block(b"x")


def test_a_recovered_write_that_left_something_is_no_success(
    transport: VirtualTransport, drive: Drive
) -> None:
    left = Sense(sense.RECOVERED, 0, 2, information=100, eom=True, valid=True)
    transport.faults.add(Fault(opcode=WRITE, sense=left))
    with pytest.raises(EndOfMedium) as caught:
        drive.write_block(b"x" * 100)
    assert caught.value.information == 100


def test_recovered_fixed_blocks_are_read(transport: VirtualTransport, drive: Drive) -> None:
    drive.set_block_size(10)
    drive.write_blocks(b"x" * 20, 10)
    drive.rewind()
    told = Sense(sense.RECOVERED, 0x17, 1, valid=True)
    transport.faults.add(Fault(opcode=READ, sense=told, after=True))
    buffer = bytearray(20)
    assert drive.read_blocks(buffer, 10) == FixedRead(20)
    assert bytes(buffer) == b"x" * 20


def test_a_lost_answer_leaves_the_deed_done(transport: VirtualTransport, drive: Drive) -> None:
    transport.faults.add(Fault(opcode=WRITE, transport="link lost", after=True))
    with pytest.raises(TransportFailed, match="link lost"):
        drive.write_block(b"x")
    assert drive.position().object == 1


def test_a_conflict_and_a_delay(transport: VirtualTransport, drive: Drive) -> None:
    transport.faults.add(Fault(opcode=REWIND, status=0x18), Fault(opcode=WRITE, delay=0.05))
    with pytest.raises(ReservationConflict):
        drive.rewind()
    drive.write_block(b"x")
    drive.rewind()
    assert transport.execute(bytes(6)).duration < 0.05


def test_a_hang_ends_with_the_timeout(transport: VirtualTransport) -> None:
    transport.faults.add(Fault(hang=True))
    done = transport.execute(bytes(6), timeout=0.05)
    assert done.reason == "no answer within 0.05 s"
    assert done.duration >= 0.05


@pytest.mark.parametrize("way", ["abort", "close"])
def test_a_hang_is_broken_off(transport: VirtualTransport, drive: Drive, way: str) -> None:
    transport.faults.add(Fault(opcode=REWIND, hang=True))
    told: list[str] = []

    def rewind() -> None:
        try:
            drive.rewind()
        except TransportFailed as error:
            told.append(error.reason)

    thread = threading.Thread(target=rewind)
    thread.start()
    while thread.is_alive():
        getattr(transport, way)()
        thread.join(0.01)
    assert told in (["aborted"], ["the device is closed"])


def test_a_file_reaches_a_drive_that_is_open(library: VirtualLibrary, drive: Drive) -> None:
    drive.write_block(b"1")
    write_faults(
        library.path,
        [
            Fault(device="drive1", opcode=WRITE, sense=Sense(4)),
            Fault(device="drive0", opcode=WRITE, nth=2, sense=WRITE_ERROR),
        ],
    )
    drive.write_block(b"2")
    with pytest.raises(MediumError):
        drive.write_block(b"3")
    (library.path / "faults.json").unlink()
    drive.write_block(b"3")


def test_a_changer_fails_as_well(library: VirtualLibrary) -> None:
    write_faults(library.path, [Fault(opcode=MOVE, sense=Sense(4, 0x15, 0x01))])
    with Changer(library.changer_transport()) as changer:
        with pytest.raises(HardwareError, match="mechanical positioning"):
            changer.move(0x400, 0x401)
        changer.move(0x400, 0x401)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"speed": 1}]', '[{"sense": {"kee": 1}}]'])
def test_rules_that_make_no_sense_are_told(
    library: VirtualLibrary, drive: Drive, text: str
) -> None:
    (library.path / "faults.json").write_text(text)
    with pytest.raises(TransportFailed, match=r"faults\.json"):
        drive.rewind()
    with pytest.raises(LibraryDamaged):
        read_faults(library.path / "faults.json")
