import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import cdb
from tape.cdb import CHANGER, TAPE, Command, MalformedCdb

COMMANDS = sorted({*TAPE.values(), *CHANGER.values()}, key=lambda c: (c.opcode, c.name))


@st.composite
def commands_with_values(draw: st.DrawFn) -> tuple[Command, dict[str, int]]:
    command = draw(st.sampled_from(COMMANDS))
    values = {f.name: draw(st.integers(*f.bounds())) for f in command.fields}
    return command, values


@given(commands_with_values())
def test_every_command_comes_back_as_it_went(case: tuple[Command, dict[str, int]]) -> None:
    command, values = case
    block = command.encode(**values)
    assert len(block) == command.length
    assert block[0] == command.opcode
    assert command.decode(block) == values
    assert command.decode(block + b"\0" * 4) == values


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (cdb.READ_6.encode(length=65536), "080001000000"),
        (cdb.READ_6.encode(sili=1, fixed=1, length=2), "080300000200"),
        (cdb.WRITE_6.encode(fixed=1, length=7), "0a0100000700"),
        (cdb.WRITE_FILEMARKS.encode(count=1, immed=1), "100100000100"),
        (cdb.SPACE_6.encode(code=1, count=-2), "1101fffffe00"),
        (cdb.SPACE_6.encode(code=3), "110300000000"),
        (cdb.LOCATE_10.encode(object=0x01020304), "2b000001020304000000"),
        (cdb.LOCATE_16.encode(dest_type=1, object=5), "92080000000000000000000500000000"),
        (cdb.READ_POSITION.encode(service_action=6), "34060000000000000000"),
        (cdb.LOAD_UNLOAD.encode(load=1), "1b0000000100"),
        (cdb.MODE_SENSE_6.encode(page=0x0F, dbd=1, allocation=255), "1a080f00ff00"),
        (cdb.LOG_SENSE.encode(pc=1, page=0x2E, allocation=512), "4d006e00000000020000"),
        (cdb.MOVE_MEDIUM.encode(source=0x400, destination=0x100), "a50000000400010000000000"),
        (
            cdb.READ_ELEMENT_STATUS.encode(voltag=1, type=4, count=2, dvcid=1, allocation=4096),
            "b81400000002010010000000",
        ),
        (cdb.INQUIRY.encode(evpd=1, page=0x80, allocation=252), "12018000fc00"),
    ],
)
def test_bytes_are_those_of_the_standard(block: bytes, expected: str) -> None:
    assert block.hex() == expected


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MalformedCdb, match="length=16777216"):
        cdb.WRITE_6.encode(length=1 << 24)
    with pytest.raises(MalformedCdb, match="count"):
        cdb.SPACE_6.encode(count=1 << 23)
    with pytest.raises(MalformedCdb, match="no field speed"):
        cdb.REWIND.encode(speed=1)
    with pytest.raises(MalformedCdb, match="has 6 bytes, not 3"):
        cdb.READ_6.decode(b"\x08\0\0")


def test_fields_do_not_overlap() -> None:
    for command in COMMANDS:
        masks = [mask << shift for _, shift, mask, _ in command.layout]
        assert sum(masks) == int.from_bytes(_or(masks).to_bytes(16, "big"), "big")
        assert all(f.byte < command.length for f in command.fields)


def _or(masks: list[int]) -> int:
    total = 0
    for mask in masks:
        total |= mask
    return total
