"""A tape is a list: random motion and writing compared with a model, through Drive."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tape.changer import Changer
from tape.drive import Drive
from tape.errors import (
    BeginningOfMedium,
    BlankCheck,
    FilemarkReached,
    IncorrectLength,
    SenseError,
    TapeError,
)
from tape.virtual.library import VirtualLibrary

MARK = None
SIZES = st.sampled_from([1, 7, 512, 1000, 4096])


class TapeModel(RuleBasedStateMachine):
    """`objects` is what is recorded, blocks or MARK; `here` the position."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.library = VirtualLibrary.create(
            Path(self.directory.name) / "lib", cartridges=["SR0001L8"], durable=False
        )
        with Changer(self.library.changer_transport()) as changer:
            changer.move(0x400, 0x100)
        self.objects: list[bytes | None] = []
        self.here = 0
        self.serial = 0
        self.drive = self.open()

    def open(self) -> Drive:
        drive = Drive(self.library.drive_transport(0))
        drive.clear_attentions()
        return drive

    def teardown(self) -> None:
        self.drive.close()
        self.directory.cleanup()

    @initialize(files=st.lists(st.integers(0, 3), max_size=4))
    def record(self, files: list[int]) -> None:
        for count in files:
            for _ in range(count):
                self.write(64)
            self.filemarks(1)

    # Writing

    @rule(size=SIZES)
    def write(self, size: int) -> None:
        self.serial += 1
        block = (self.serial.to_bytes(4, "big") * (size // 4 + 1))[:size]
        assert self.drive.write_block(block) is False
        self.put([block])

    @rule(count=st.integers(0, 3))
    def filemarks(self, count: int) -> None:
        self.drive.write_filemarks(count)
        if count:
            self.put([MARK] * count)

    @rule(count=st.integers(1, 4), size=SIZES)
    def write_fixed(self, count: int, size: int) -> None:
        self.serial += 1
        data = bytes((self.serial % 251,)) * (count * size)
        self.drive.set_block_size(size)
        self.drive.write_blocks(data, size)
        self.drive.set_block_size(0)
        self.put([data[:size]] * count)

    @rule()
    def erase(self) -> None:
        self.drive.erase()
        self.put([])

    def put(self, objects: list[bytes | None]) -> None:
        self.objects[self.here :] = objects
        self.here += len(objects)

    # Reading

    @rule(room=SIZES)
    def read(self, room: int) -> None:
        buffer = bytearray(room)
        if self.here == len(self.objects):
            with pytest.raises(BlankCheck):
                self.drive.read_block(buffer)
            return
        expected = self.objects[self.here]
        self.here += 1
        if expected is MARK:
            with pytest.raises(FilemarkReached):
                self.drive.read_block(buffer)
        elif len(expected) > room:
            with pytest.raises(IncorrectLength) as caught:
                self.drive.read_block(buffer)
            assert caught.value.information == room - len(expected)
            assert bytes(buffer) == expected[:room]
        else:
            assert self.drive.read_block(buffer) == len(expected)
            assert bytes(buffer[: len(expected)]) == expected

    # Motion

    @rule()
    def rewind(self) -> None:
        self.drive.rewind()
        self.here = 0

    @rule(count=st.integers(-6, 6))
    def space_blocks(self, count: int) -> None:
        self.expect(*self.model_blocks(count), lambda: self.drive.space_blocks(count))

    def model_blocks(self, count: int) -> tuple[type[SenseError] | None, int]:
        left = abs(count)
        while left and count > 0:
            if self.here == len(self.objects):
                return BlankCheck, left
            self.here += 1
            if self.objects[self.here - 1] is MARK:
                return FilemarkReached, left
            left -= 1
        while left and count < 0:
            if self.here == 0:
                return BeginningOfMedium, left
            self.here -= 1
            if self.objects[self.here] is MARK:
                return FilemarkReached, left
            left -= 1
        return None, 0

    @rule(count=st.integers(-4, 4))
    def space_filemarks(self, count: int) -> None:
        self.expect(*self.model_filemarks(count), lambda: self.drive.space_filemarks(count))

    def model_filemarks(self, count: int) -> tuple[type[SenseError] | None, int]:
        left = abs(count)
        while left and count > 0:
            if self.here == len(self.objects):
                return BlankCheck, left
            self.here += 1
            left -= self.objects[self.here - 1] is MARK
        while left and count < 0:
            if self.here == 0:
                return BeginningOfMedium, left
            self.here -= 1
            left -= self.objects[self.here] is MARK
        return None, 0

    def expect(self, kind: type[SenseError] | None, left: int, act) -> None:
        if kind is None:
            act()
            return
        with pytest.raises(kind) as caught:
            act()
        assert type(caught.value) is kind
        assert caught.value.information == left

    @rule()
    def space_end(self) -> None:
        self.drive.space_end_of_data()
        self.here = len(self.objects)

    @rule(data=st.data())
    def locate(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.objects) + 2))
        self.here = min(number, len(self.objects))
        if number > len(self.objects):
            with pytest.raises(BlankCheck):
                self.drive.locate(number)
        else:
            self.drive.locate(number)

    @rule(data=st.data())
    def locate_file(self, data: st.DataObject) -> None:
        marks = [i for i, o in enumerate(self.objects) if o is MARK]
        number = data.draw(st.integers(0, len(marks)))
        self.drive.locate_file(number)
        self.here = marks[number - 1] + 1 if number else 0

    # Life

    @rule()
    def reopen(self) -> None:
        self.drive.close()
        self.drive = self.open()

    @rule()
    def unload_and_load(self) -> None:
        self.drive.unload()
        self.drive.load()
        self.here = 0

    @precondition(lambda self: self.objects)
    @rule()
    def move_away_and_back(self) -> None:
        with Changer(self.library.changer_transport()) as changer:
            changer.move(0x100, 0x401)
            with pytest.raises(TapeError):
                self.drive.rewind()
            changer.move(0x401, 0x100)
        self.drive.clear_attentions()
        self.here = 0

    @invariant()
    def position_is_that_of_the_model(self) -> None:
        found = self.drive.position()
        assert found.object == self.here
        assert found.file == sum(o is MARK for o in self.objects[: self.here])
        assert found.beginning == (self.here == 0)


TestTapeModel = TapeModel.TestCase
TestTapeModel.settings = settings(max_examples=60, stateful_step_count=40)
