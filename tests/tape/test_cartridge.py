"""The file format of a virtual cartridge, and what crashes and rot do to it."""

import json
import os
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape.errors import LibraryDamaged
from tape.virtual import cartridge as module
from tape.virtual.cartridge import Cartridge, Damaged, Full
from tape.virtual.record import (
    FILE_HEADER,
    RECORD_SIZE,
    Entry,
    EntryKind,
    FileHeader,
    MalformedRecord,
    Record,
    RecordKind,
)

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
THIS_BOOT, NEXT_BOOT = 11, 22


@given(st.builds(Record, st.sampled_from(RecordKind), U64, U32, U32))
def test_record_headers_come_back(record: Record) -> None:
    assert Record.decode(record.encode()) == record


@given(st.builds(Entry, st.sampled_from(EntryKind), U64, U64, U64))
def test_index_entries_come_back(entry: Entry) -> None:
    assert Entry.decode(entry.encode()) == entry


@given(
    st.builds(
        FileHeader,
        st.binary(min_size=16, max_size=16),
        st.text("ABCDEFG0123456789-", min_size=1, max_size=32),
        U64,
    )
)
def test_file_headers_come_back(header: FileHeader) -> None:
    raw = header.encode()
    assert len(raw) == FILE_HEADER
    assert FileHeader.decode(raw) == header


@given(st.binary(max_size=40))
def test_other_bytes_are_refused(data: bytes) -> None:
    for decode in (Record.decode, Entry.decode, FileHeader.decode):
        with pytest.raises(MalformedRecord):
            decode(data)


class Tape:
    """A cartridge that can be let go without a word, as a killed process does."""

    def __init__(self, path: Path, capacity: int = 1 << 40) -> None:
        self.path = path / "SR0001L8"
        Cartridge.create(self.path, "SR0001L8", capacity)
        self.open: Cartridge | None = None

    def load(self, boot: int = THIS_BOOT) -> Cartridge:
        if self.open is not None:
            self.open.close()
        self.open = Cartridge(self.path, boot=boot)
        return self.open

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def index(self) -> Path:
        return self.path / "index"

    def overwrite(self, offset: int, raw: bytes) -> None:
        with self.data.open("r+b") as file:
            file.seek(offset)
            file.write(raw)


@pytest.fixture
def tape(tmp_path: Path):
    made = Tape(tmp_path)
    yield made
    if made.open is not None:
        made.open.close()


def write(cartridge: Cartridge, *blocks: bytes) -> None:
    for block in blocks:
        cartridge.append(memoryview(block))


def read_all(cartridge: Cartridge) -> list[bytes | None]:
    """Give what is on the tape from the position on: blocks, None for a filemark."""
    found: list[bytes | None] = []
    buffer = memoryview(bytearray(1 << 20))
    while (record := cartridge.read(buffer)) is not None:
        mark = record.kind is RecordKind.FILEMARK
        found.append(None if mark else bytes(buffer[: record.length]))
    return found


def test_what_was_written_is_read(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"one", b"two" * 1000)
    cartridge.append_filemarks(2)
    write(cartridge, b"three")
    cartridge.seek(0)
    assert read_all(cartridge) == [b"one", b"two" * 1000, None, None, b"three"]
    assert read_all(tape.load()) == [b"one", b"two" * 1000, None, None, b"three"]


def test_writing_in_the_middle_cuts_off_what_follows(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"a", b"b", b"c")
    cartridge.append_filemarks(1)
    cartridge.sync()
    cartridge.seek(1)
    write(cartridge, b"new")
    assert (cartridge.end_object, list(cartridge.index.filemarks)) == (2, [])
    assert read_all(tape.load()) == [b"a", b"new"]


@pytest.mark.parametrize("keep", [1, RECORD_SIZE - 1, RECORD_SIZE, RECORD_SIZE + 99])
def test_a_torn_last_record_is_dropped(tape: Tape, keep: int) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50)
    cartridge.append_filemarks(1)
    end = cartridge.end_offset
    write(cartridge, b"b" * 100)
    os.truncate(tape.data, end + keep)
    again = tape.load()
    assert read_all(again) == [b"a" * 50, None]
    assert tape.data.stat().st_size == end
    write(again, b"c")
    assert read_all(tape.load()) == [b"a" * 50, None, b"c"]


def test_a_machine_crash_keeps_what_was_synced_and_what_verifies(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50)
    cartridge.append_filemarks(1)
    cartridge.sync()
    write(cartridge, b"b" * 100, b"c" * 100, b"d" * 100)
    lost = cartridge.end_offset - 2 * (RECORD_SIZE + 100) + RECORD_SIZE
    tape.overwrite(lost, bytes(100))
    assert read_all(tape.load(NEXT_BOOT)) == [b"a" * 50, None, b"b" * 100]
    assert read_all(tape.load(NEXT_BOOT)) == [b"a" * 50, None, b"b" * 100]


def test_rot_in_synced_data_is_damage_after_a_machine_crash_too(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50, b"b" * 50)
    cartridge.append_filemarks(1)
    cartridge.sync()
    tape.overwrite(FILE_HEADER + RECORD_SIZE + 7, b"!")
    again = tape.load(NEXT_BOOT)
    with pytest.raises(Damaged, match="checksum of object 0"):
        read_all(again)
    assert read_all(again) == [b"b" * 50, None]


@pytest.mark.parametrize("where", [0, 4, 8, 12, 16, 28, RECORD_SIZE, RECORD_SIZE + 49])
def test_every_flipped_byte_is_found(tape: Tape, where: int) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50, b"b" * 50)
    cartridge.append_filemarks(1)
    cartridge.sync()
    second = FILE_HEADER + RECORD_SIZE + 50 + where
    tape.overwrite(second, bytes((tape.data.read_bytes()[second] ^ 0x40,)))
    again = tape.load()
    buffer = memoryview(bytearray(100))
    assert again.read(buffer) is not None
    with pytest.raises(Damaged):
        again.read(buffer)


def test_a_short_buffer_still_verifies_the_whole_block(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50)
    tape.overwrite(FILE_HEADER + RECORD_SIZE + 49, b"!")
    with pytest.raises(Damaged):
        tape.load().read(memoryview(bytearray(10)))


def test_synced_data_that_are_gone_are_no_end_of_data(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50, b"b" * 50)
    cartridge.sync()
    os.truncate(tape.data, FILE_HEADER + RECORD_SIZE + 50)
    buffer = memoryview(bytearray(100))
    for boot in (THIS_BOOT, THIS_BOOT, NEXT_BOOT, NEXT_BOOT):  # nobody makes the others forget
        again = tape.load(boot)
        assert again.read(buffer) is not None
        with pytest.raises(Damaged, match="end of data cannot be found"):
            again.read(buffer)
        again.sync()
    again.seek(1)
    write(again, b"c")
    assert read_all(tape.load()) == [b"a" * 50, b"c"]


@pytest.mark.parametrize("boot", [THIS_BOOT, NEXT_BOOT])
@pytest.mark.parametrize("torn", [0, 16])
def test_a_filemark_that_was_lost_is_not_in_the_index(tape: Tape, torn: int, boot: int) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50)
    cartridge.sync()
    end = cartridge.end_offset
    cartridge.append_filemarks(1)
    os.truncate(tape.data, end + torn)
    again = tape.load(boot)
    assert (again.end_object, list(again.index.filemarks)) == (1, [])
    again.seek(1)
    write(again, b"b" * 50)
    assert list(tape.load(boot).index.filemarks) == []


def test_a_filemark_behind_the_last_sync_counts_once(tape: Tape) -> None:
    cartridge = tape.load()
    write(cartridge, b"a" * 50)
    cartridge.sync()
    cartridge.append_filemarks(1)
    assert list(tape.load(NEXT_BOOT).index.filemarks) == [1]


def test_the_next_opener_puts_what_a_killed_one_wrote_on_stable_storage(tape: Tape) -> None:
    write(tape.load(), b"a" * 50, b"b" * 50)
    tape.load().sync()
    tape.overwrite(FILE_HEADER + RECORD_SIZE, b"!")
    again = tape.load(NEXT_BOOT)
    assert again.end_object == 2
    with pytest.raises(Damaged, match="checksum of object 0"):
        read_all(again)


def test_a_lost_index_is_made_anew(tape: Tape) -> None:
    cartridge = tape.load()
    for number in range(5):
        write(cartridge, bytes((number,)) * 10)
        cartridge.append_filemarks(1)
    cartridge.sync()
    tape.index.unlink()
    again = tape.load()
    assert list(again.index.filemarks) == [1, 3, 5, 7, 9]
    assert again.end_object == 10


@pytest.mark.parametrize("cut", [1, 31, 33])
def test_a_torn_index_is_mended(tape: Tape, cut: int) -> None:
    cartridge = tape.load()
    for number in range(5):
        write(cartridge, bytes((number,)) * 10)
        cartridge.append_filemarks(1)
    os.truncate(tape.index, tape.index.stat().st_size - cut)
    again = tape.load()
    assert list(again.index.filemarks) == [1, 3, 5, 7, 9]
    assert again.end_object == 10


def test_opening_a_long_tape_reads_little_of_it(tape: Tape, monkeypatch) -> None:
    cartridge = tape.load()
    block = memoryview(bytes(16384))
    for _ in range(4000):
        cartridge.append(block)
    parsed = 0
    genuine = Cartridge._parse

    def counting(self, offset, number):
        nonlocal parsed
        parsed += 1
        return genuine(self, offset, number)

    monkeypatch.setattr(Cartridge, "_parse", counting)
    again = tape.load()
    assert again.end_object == 4000
    assert parsed <= module.CHECKPOINT_OBJECTS
    again.seek(2345)
    assert again.read(memoryview(bytearray(16384))).object == 2345
    assert parsed <= 2 * module.CHECKPOINT_OBJECTS + 1


def test_seeking_passes_a_damaged_header_by_the_index(tape: Tape) -> None:
    cartridge = tape.load()
    block = memoryview(bytes(16384))
    for _ in range(500):
        cartridge.append(block)
    cartridge.sync()
    tape.overwrite(FILE_HEADER + 10 * (16384 + RECORD_SIZE), b"rot!")
    again = tape.load()
    with pytest.raises(Damaged, match="header of object 10"):
        again.seek(20)
    again.seek(400)
    assert again.read(memoryview(bytearray(16384))).object == 400


def test_capacity_is_kept(tmp_path: Path) -> None:
    tape = Tape(tmp_path, capacity=1000)
    cartridge = tape.load()
    write(cartridge, b"x" * 800)
    with pytest.raises(Full):
        write(cartridge, b"x" * 200)
    with pytest.raises(Full):
        cartridge.append_filemarks(6)
    cartridge.append_filemarks(5)
    assert (cartridge.room(), cartridge.end_object) == (8, 6)
    cartridge.close()


def test_attributes_that_make_no_sense_are_told(tape: Tape) -> None:
    path = tape.path / "attributes.json"
    good = json.loads(path.read_text())
    for wrong in ({"capacity": "16G"}, {"write_protected": "no"}, {"uuid": str(uuid.uuid4())}):
        path.write_text(json.dumps(good | wrong))
        with pytest.raises(LibraryDamaged) as caught:
            tape.load()
        assert caught.value.library == tape.path.parents[1].name


def test_a_blank_cartridge_takes_no_space(tape: Tape) -> None:
    assert tape.data.stat().st_blocks * 512 <= FILE_HEADER


@given(st.data())
def test_cut_anywhere_it_opens_with_a_whole_beginning(
    tmp_path_factory, data: st.DataObject
) -> None:
    tape = Tape(tmp_path_factory.mktemp("cut"))
    cartridge = Cartridge(tape.path, boot=THIS_BOOT, durable=False)
    sizes = data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=8))
    expected: list[bytes | None] = []
    for size in sizes:
        if size:
            write(cartridge, bytes((size % 256,)) * size)
            expected.append(bytes((size % 256,)) * size)
        else:
            cartridge.append_filemarks(1)
            expected.append(None)
    cartridge.close()
    os.truncate(tape.data, data.draw(st.integers(FILE_HEADER, tape.data.stat().st_size)))
    os.truncate(tape.index, data.draw(st.integers(0, tape.index.stat().st_size)))
    again = Cartridge(tape.path, boot=data.draw(st.sampled_from([THIS_BOOT, NEXT_BOOT])))
    found, marks = read_all(again), list(again.index.filemarks)
    again.close()
    assert found == expected[: len(found)]
    assert marks == [i for i, kept in enumerate(found) if kept is None]


@given(st.data())
def test_a_machine_crash_anywhere_keeps_everything_synced(
    tmp_path_factory, data: st.DataObject
) -> None:
    """What lies behind the last sync may be anything: missing, zeros, or other bytes."""
    tape = Tape(tmp_path_factory.mktemp("crash"))
    cartridge = Cartridge(tape.path, boot=THIS_BOOT, durable=False)
    expected: list[bytes | None] = []
    kept, sure = FILE_HEADER, 0
    for step in data.draw(
        st.lists(st.sampled_from(["block", "mark", "sync", "back"]), max_size=12)
    ):
        if step == "block":
            write(cartridge, bytes((len(expected),)) * 100)
            expected.append(bytes((len(expected),)) * 100)
        elif step == "mark":
            cartridge.append_filemarks(1)
            expected.append(None)
        elif step == "sync":
            cartridge.sync()
            kept, sure = cartridge.end_offset, len(expected)
        else:
            cartridge.seek(data.draw(st.integers(0, len(expected))))
            del expected[cartridge.object :]
            cartridge.cut()
            kept, sure = min(kept, cartridge.offset), min(sure, len(expected))
    cartridge.close()
    tail = tape.data.stat().st_size - kept
    os.truncate(tape.data, kept + data.draw(st.integers(0, tail)))
    tape.overwrite(kept, data.draw(st.binary(max_size=tail)))
    again = Cartridge(tape.path, boot=NEXT_BOOT, durable=False)
    found, marks = read_all(again), list(again.index.filemarks)
    again.close()
    assert found == expected[: len(found)]
    assert len(found) >= sure
    assert marks == [i for i, kept in enumerate(found) if kept is None]
