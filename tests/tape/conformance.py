"""What every drive and changer must do, whatever transport they are behind.

A subclass gives the fixtures `drive` (a scratch cartridge loaded, rewound, variable
blocks, nothing pending) and `changer`, and says what its target cannot do.
"""

import pytest

from tape import inquiry
from tape.changer import Changer
from tape.drive import Drive, FixedRead, Position
from tape.elements import ElementKind
from tape.errors import (
    BeginningOfMedium,
    BlankCheck,
    DestinationFull,
    FilemarkReached,
    IncorrectLength,
    InvalidElement,
    NoCartridge,
    NotLoaded,
    RemovalPrevented,
    SourceEmpty,
)

SIZE = 4096


def block(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def fill(drive: Drive, *files: int) -> None:
    """Write files of so many blocks, each closed by a filemark; blocks are numbered through."""
    number = 0
    for count in files:
        for _ in range(count):
            assert drive.write_block(block(number)) is False
            number += 1
        drive.write_filemarks()
    drive.rewind()


def next_block(drive: Drive) -> int:
    buffer = bytearray(SIZE)
    assert drive.read_block(buffer) == SIZE
    number = int.from_bytes(buffer[:4], "big")
    assert bytes(buffer) == block(number)
    return number


class DriveConformance:
    """Over a loaded scratch cartridge."""

    def test_a_torn_file_is_closed_off_once(self, drive: Drive) -> None:
        fill(drive, 2)
        drive.locate_file(1)
        drive.write_block(block(2))
        assert drive.close_off()
        assert drive.position() == Position(5, 2, beginning=False, end=False)
        assert not drive.close_off()
        assert drive.position() == Position(5, 2, beginning=False, end=False)

    def test_closing_off_changes_nothing_elsewhere(self, drive: Drive) -> None:
        fill(drive, 2, 2)
        for number in (0, 1, 2, 3, 4, 5, 6):
            drive.locate(number)
            assert not drive.close_off()
            assert drive.position().object == number
        drive.rewind()
        drive.space_end_of_data()
        assert drive.position().object == 6

    def test_says_who_it_is(self, drive: Drive) -> None:
        identity = drive.identify()
        assert identity.device_type == inquiry.TAPE_DRIVE
        assert identity.serial
        assert identity.designators

    def test_limits_and_settings(self, drive: Drive) -> None:
        limits = drive.block_limits()
        assert limits.least <= 1024
        assert limits.greatest >= 262144
        assert drive.settings().block_size == 0
        assert not drive.settings().write_protected

    def test_files_are_read_as_written(self, drive: Drive) -> None:
        fill(drive, 3, 2)
        assert [next_block(drive) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(FilemarkReached):
            next_block(drive)
        assert [next_block(drive) for _ in range(2)] == [3, 4]
        with pytest.raises(FilemarkReached):
            next_block(drive)
        for _ in range(2):
            with pytest.raises(BlankCheck):
                next_block(drive)

    def test_a_shorter_block_is_told_by_its_length(self, drive: Drive) -> None:
        drive.write_block(block(7, 1024))
        drive.write_block(block(8, 2048))
        drive.rewind()
        buffer = bytearray(SIZE)
        assert drive.read_block(buffer) == 1024
        assert bytes(buffer[:1024]) == block(7, 1024)
        assert drive.read_block(buffer) == 2048

    def test_a_longer_block_is_an_error_and_passed(self, drive: Drive) -> None:
        drive.write_block(block(7))
        drive.write_block(block(8))
        drive.rewind()
        buffer = bytearray(1024)
        with pytest.raises(IncorrectLength) as caught:
            drive.read_block(buffer)
        assert caught.value.information == 1024 - SIZE
        assert bytes(buffer) == block(7, 1024)
        assert next_block(drive) == 8

    def test_large_blocks(self, drive: Drive) -> None:
        for size in (65536, 262144):
            drive.rewind()
            drive.write_block(block(size, size))
            drive.write_filemarks()
            drive.rewind()
            buffer = bytearray(size)
            assert drive.read_block(buffer) == size
            assert bytes(buffer) == block(size, size)

    def test_fixed_blocks(self, drive: Drive) -> None:
        drive.set_block_size(512)
        assert drive.settings().block_size == 512
        drive.write_blocks(block(1, 512 * 10), 512)
        drive.write_filemarks()
        drive.rewind()
        buffer = bytearray(512 * 16)
        assert drive.read_blocks(buffer, 512) == FixedRead(512 * 10, filemark=True)
        assert bytes(buffer[: 512 * 10]) == block(1, 512 * 10)
        with pytest.raises(BlankCheck):
            drive.read_blocks(buffer, 512)
        drive.set_block_size(0)
        drive.rewind()
        assert drive.read_block(buffer) == 512

    def test_fixed_blocks_of_another_length(self, drive: Drive) -> None:
        drive.write_block(block(1, 1024))
        drive.rewind()
        drive.set_block_size(512)
        with pytest.raises(IncorrectLength):
            drive.read_blocks(bytearray(2048), 512)
        drive.set_block_size(0)

    def test_overwriting_cuts_off_what_follows(self, drive: Drive) -> None:
        fill(drive, 3, 2)
        next_block(drive)
        drive.write_block(block(99))
        drive.rewind()
        assert [next_block(drive), next_block(drive)] == [0, 99]
        with pytest.raises(BlankCheck):
            next_block(drive)

    def test_spacing_over_blocks(self, drive: Drive) -> None:
        fill(drive, 5, 2)
        drive.space_blocks(3)
        assert next_block(drive) == 3
        drive.space_blocks(-2)
        assert next_block(drive) == 2
        drive.space_blocks(0)
        with pytest.raises(FilemarkReached) as caught:
            drive.space_blocks(4)
        assert caught.value.information == 2
        assert next_block(drive) == 5
        with pytest.raises(FilemarkReached) as caught:
            drive.space_blocks(-3)
        assert caught.value.information == 2
        with pytest.raises(FilemarkReached):
            next_block(drive)

    def test_spacing_over_filemarks(self, drive: Drive) -> None:
        fill(drive, 2, 2, 2)
        drive.space_filemarks(2)
        assert next_block(drive) == 4
        drive.space_filemarks(-2)
        with pytest.raises(FilemarkReached):
            next_block(drive)
        assert next_block(drive) == 2
        with pytest.raises(BlankCheck) as caught:
            drive.space_filemarks(5)
        assert caught.value.information == 3

    def test_both_ends(self, drive: Drive) -> None:
        fill(drive, 2)
        with pytest.raises(BeginningOfMedium):
            drive.space_blocks(-1)
        drive.space_blocks(1)
        with pytest.raises(BeginningOfMedium) as caught:
            drive.space_filemarks(-2)
        assert caught.value.information == 2
        drive.space_end_of_data()
        with pytest.raises(BlankCheck) as caught:
            drive.space_blocks(2)
        assert caught.value.information == 2
        assert drive.write_block(block(9)) is False
        drive.space_blocks(-1)
        assert next_block(drive) == 9

    def test_positions(self, drive: Drive) -> None:
        fill(drive, 2, 3)
        assert drive.position() == Position(0, 0, beginning=True)
        next_block(drive)
        assert drive.position() == Position(1, 0)
        drive.space_filemarks(1)
        assert drive.position() == Position(3, 1)
        drive.space_end_of_data()
        assert drive.position() == Position(7, 2)

    def test_locating(self, drive: Drive) -> None:
        fill(drive, 2, 3)
        drive.locate(4)
        assert next_block(drive) == 3
        drive.locate(1)
        assert next_block(drive) == 1
        drive.locate_file(1)
        assert next_block(drive) == 2
        drive.locate_file(0)
        assert next_block(drive) == 0
        with pytest.raises(BlankCheck):
            drive.locate(100)
        assert drive.position().object == 7
        with pytest.raises(BlankCheck):
            drive.locate_file(9)

    def test_compression_is_switched(self, drive: Drive) -> None:
        for enabled in (False, True):
            drive.set_compression(enabled=enabled)
            assert drive.settings().compression is enabled

    def test_unloading_and_loading(self, drive: Drive) -> None:
        fill(drive, 2)
        next_block(drive)
        drive.unload()
        with pytest.raises((NotLoaded, NoCartridge)):
            drive.ready()
        with pytest.raises((NotLoaded, NoCartridge)):
            next_block(drive)
        drive.load()
        drive.wait_ready()
        assert next_block(drive) == 0

    def test_preventing_removal(self, drive: Drive) -> None:
        drive.prevent_removal()
        with pytest.raises(RemovalPrevented):
            drive.unload()
        drive.allow_removal()
        drive.ready()

    def test_erasing(self, drive: Drive) -> None:
        fill(drive, 3)
        drive.space_blocks(1)
        drive.erase()
        with pytest.raises(BlankCheck):
            next_block(drive)

    def test_log_pages(self, drive: Drive) -> None:
        drive.write_block(block(1, 1 << 20))
        capacity = drive.capacity()
        assert 0 < capacity.remaining <= capacity.maximum
        assert drive.tape_alerts() == frozenset()


class ChangerConformance:
    """Over a library with a drive, a cartridge in a slot, a free slot and an empty drive."""

    def test_says_who_it_is(self, changer: Changer) -> None:
        assert changer.identify().device_type == inquiry.CHANGER
        changer.ready()

    def test_inventory_has_what_the_address_page_says(self, changer: Changer) -> None:
        where, inventory = changer.addresses(), changer.inventory()
        assert len(inventory.slots) == where.slots
        assert len(inventory.drives) == where.drives
        assert len(inventory.mailslots) == where.mailslots
        assert inventory.slots[0].address == where.first_slot

    def test_a_cartridge_goes_to_a_slot_and_back(self, changer: Changer) -> None:
        before = changer.inventory()
        source = next(e for e in before.slots if e.full)
        free = before.free_slot()
        assert free is not None
        changer.move(source.address, free.address)
        after = changer.inventory()
        assert after.find(source.barcode).address == free.address
        assert not after.at(source.address).full
        changer.move(free.address, source.address)
        assert changer.inventory().find(source.barcode).address == source.address

    def test_a_cartridge_goes_to_a_drive_and_back(self, changer: Changer) -> None:
        before = changer.inventory()
        source = next(e for e in before.slots if e.full)
        drive = next(e for e in before.drives if not e.full)
        changer.move(source.address, drive.address)
        loaded = changer.inventory().at(drive.address)
        assert (loaded.barcode, loaded.source) == (source.barcode, source.address)
        assert loaded.kind is ElementKind.DRIVE
        changer.move(drive.address, source.address)

    def test_wrong_moves_are_refused_and_change_nothing(self, changer: Changer) -> None:
        before = changer.inventory()
        full = [e for e in before.slots if e.full]
        free = before.free_slot()
        assert free is not None
        with pytest.raises(SourceEmpty):
            changer.move(free.address, full[0].address)
        with pytest.raises(DestinationFull):
            changer.move(full[0].address, full[1].address)
        with pytest.raises(InvalidElement):
            changer.move(full[0].address, 0xFFF0)
        assert changer.inventory() == before

    def test_initializing(self, changer: Changer) -> None:
        before = changer.inventory()
        changer.initialize()
        assert changer.inventory() == before
