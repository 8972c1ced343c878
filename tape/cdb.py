"""Command descriptor blocks of SPC-4, SSC-4 and SMC-3: one table, encode and decode.

A `Command` is a row of the table: a name, an operation code, a length and its fields.
A field is a big-endian run of bits, named as the standards name it; `byte` is where its
last byte lies, `bit` its lowest bit there, `width` its bits. Fields not given are zero.

    WRITE_6.encode(fixed=0, length=65536)  ->  0a 00 01 00 00 00
    WRITE_6.decode(cdb)                    ->  {"fixed": 0, "length": 65536}

Operation codes mean different things to a tape drive and to a changer (2Bh is LOCATE to
one and POSITION TO ELEMENT to the other), so there are two tables, TAPE and CHANGER.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class MalformedCdb(ValueError):
    """A CDB shorter than its command, or a value that its field cannot hold."""


@dataclass(frozen=True, slots=True)
class Field:
    """A run of `width` bits whose lowest bit is bit `bit` of byte `byte`."""

    name: str
    byte: int
    bit: int
    width: int
    signed: bool = False

    def bounds(self) -> tuple[int, int]:
        """Give the least and the greatest value that the field holds."""
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table; `layout` is name, shift, mask and sign bit (0: unsigned) a field."""

    name: str
    opcode: int
    length: int
    fields: tuple[Field, ...]
    layout: tuple[tuple[str, int, int, int], ...]

    def encode(self, **values: int) -> bytes:
        """Give the CDB; raises MalformedCdb for a value out of range or an unknown field."""
        word = self.opcode << (8 * (self.length - 1))
        for name, shift, mask, sign in self.layout:
            value = values.pop(name, 0)
            low, high = (-sign, sign - 1) if sign else (0, mask)
            if not low <= value <= high:
                raise MalformedCdb(f"{self.name}: {name}={value} is not in {low}..{high}")
            word |= (value & mask) << shift
        if values:
            raise MalformedCdb(f"{self.name} has no field {', '.join(values)}")
        return word.to_bytes(self.length, "big")

    def decode(self, cdb: bytes) -> dict[str, int]:
        """Give the fields of a CDB; bytes beyond its length are ignored. Raises MalformedCdb."""
        if len(cdb) < self.length:
            raise MalformedCdb(f"{self.name} has {self.length} bytes, not {len(cdb)}")
        word = int.from_bytes(cdb[: self.length], "big")
        values = {name: (word >> shift) & mask for name, shift, mask, _ in self.layout}
        for name, _, mask, sign in self.layout:
            if sign and values[name] & sign:
                values[name] -= mask + 1
        return values


def _bit(name: str, byte: int, bit: int, width: int = 1) -> Field:
    return Field(name, byte, bit, width)


def _bytes(name: str, first: int, count: int, *, signed: bool = False) -> Field:
    return Field(name, first + count - 1, 0, 8 * count, signed)


def _command(name: str, opcode: int, length: int, *fields: Field) -> Command:
    layout = tuple(
        (
            f.name,
            8 * (length - 1 - f.byte) + f.bit,
            (1 << f.width) - 1,
            1 << (f.width - 1) if f.signed else 0,
        )
        for f in fields
    )
    return Command(name, opcode, length, fields, layout)


_IMMED = _bit("immed", 1, 0)
_MODE_PAGE = (
    _bit("dbd", 1, 3),
    _bit("pc", 2, 6, 2),
    _bit("page", 2, 0, 6),
    _bytes("subpage", 3, 1),
)
_SELECT = (_bit("pf", 1, 4), _bit("sp", 1, 0))

# SPC: what drives and changers share.
TEST_UNIT_READY = _command("TEST UNIT READY", 0x00, 6)
REQUEST_SENSE = _command("REQUEST SENSE", 0x03, 6, _bit("desc", 1, 0), _bytes("allocation", 4, 1))
INQUIRY = _command(
    "INQUIRY", 0x12, 6, _bit("evpd", 1, 0), _bytes("page", 2, 1), _bytes("allocation", 3, 2)
)
MODE_SELECT_6 = _command("MODE SELECT(6)", 0x15, 6, *_SELECT, _bytes("length", 4, 1))
MODE_SELECT_10 = _command("MODE SELECT(10)", 0x55, 10, *_SELECT, _bytes("length", 7, 2))
MODE_SENSE_6 = _command("MODE SENSE(6)", 0x1A, 6, *_MODE_PAGE, _bytes("allocation", 4, 1))
MODE_SENSE_10 = _command("MODE SENSE(10)", 0x5A, 10, *_MODE_PAGE, _bytes("allocation", 7, 2))
RESERVE_6 = _command("RESERVE(6)", 0x16, 6)
RELEASE_6 = _command("RELEASE(6)", 0x17, 6)
PREVENT_ALLOW = _command("PREVENT ALLOW MEDIUM REMOVAL", 0x1E, 6, _bit("prevent", 4, 0, 2))
LOG_SENSE = _command(
    "LOG SENSE",
    0x4D,
    10,
    _bit("ppc", 1, 1),
    _bit("sp", 1, 0),
    _bit("pc", 2, 6, 2),
    _bit("page", 2, 0, 6),
    _bytes("subpage", 3, 1),
    _bytes("parameter", 5, 2),
    _bytes("allocation", 7, 2),
)
PERSISTENT_RESERVE_IN = _command(
    "PERSISTENT RESERVE IN",
    0x5E,
    10,
    _bit("service_action", 1, 0, 5),
    _bytes("allocation", 7, 2),
)
PERSISTENT_RESERVE_OUT = _command(
    "PERSISTENT RESERVE OUT",
    0x5F,
    10,
    _bit("service_action", 1, 0, 5),
    _bit("scope", 2, 4, 4),
    _bit("type", 2, 0, 4),
    _bytes("length", 5, 4),
)
REPORT_LUNS = _command("REPORT LUNS", 0xA0, 12, _bytes("select", 2, 1), _bytes("allocation", 6, 4))

# SSC: sequential-access devices.
REWIND = _command("REWIND", 0x01, 6, _IMMED)
READ_BLOCK_LIMITS = _command("READ BLOCK LIMITS", 0x05, 6)
READ_6 = _command(
    "READ(6)", 0x08, 6, _bit("sili", 1, 1), _bit("fixed", 1, 0), _bytes("length", 2, 3)
)
WRITE_6 = _command("WRITE(6)", 0x0A, 6, _bit("fixed", 1, 0), _bytes("length", 2, 3))
WRITE_FILEMARKS = _command(
    "WRITE FILEMARKS(6)", 0x10, 6, _bit("wsmk", 1, 1), _IMMED, _bytes("count", 2, 3)
)
SPACE_6 = _command("SPACE(6)", 0x11, 6, _bit("code", 1, 0, 4), _bytes("count", 2, 3, signed=True))
ERASE_6 = _command("ERASE(6)", 0x19, 6, _bit("immed", 1, 1), _bit("long", 1, 0))
LOAD_UNLOAD = _command(
    "LOAD UNLOAD",
    0x1B,
    6,
    _IMMED,
    _bit("hold", 4, 3),
    _bit("eot", 4, 2),
    _bit("reten", 4, 1),
    _bit("load", 4, 0),
)
LOCATE_10 = _command(
    "LOCATE(10)",
    0x2B,
    10,
    _bit("bt", 1, 2),
    _bit("cp", 1, 1),
    _IMMED,
    _bytes("object", 3, 4),
    _bytes("partition", 8, 1),
)
READ_POSITION = _command(
    "READ POSITION", 0x34, 10, _bit("service_action", 1, 0, 5), _bytes("allocation", 7, 2)
)
LOCATE_16 = _command(
    "LOCATE(16)",
    0x92,
    16,
    _bit("dest_type", 1, 3, 3),
    _bit("cp", 1, 1),
    _IMMED,
    _bytes("partition", 3, 1),
    _bytes("object", 4, 8),
)

# SMC: medium changers.
INITIALIZE_ELEMENT_STATUS = _command("INITIALIZE ELEMENT STATUS", 0x07, 6)
POSITION_TO_ELEMENT = _command(
    "POSITION TO ELEMENT",
    0x2B,
    10,
    _bytes("transport", 2, 2),
    _bytes("destination", 4, 2),
    _bit("invert", 8, 0),
)
INITIALIZE_ELEMENT_STATUS_WITH_RANGE = _command(
    "INITIALIZE ELEMENT STATUS WITH RANGE",
    0x37,
    10,
    _bit("fast", 1, 1),
    _bit("range", 1, 0),
    _bytes("first", 2, 2),
    _bytes("count", 6, 2),
)
MOVE_MEDIUM = _command(
    "MOVE MEDIUM",
    0xA5,
    12,
    _bytes("transport", 2, 2),
    _bytes("source", 4, 2),
    _bytes("destination", 6, 2),
    _bit("invert", 10, 0),
)
READ_ELEMENT_STATUS = _command(
    "READ ELEMENT STATUS",
    0xB8,
    12,
    _bit("voltag", 1, 4),
    _bit("type", 1, 0, 4),
    _bytes("first", 2, 2),
    _bytes("count", 4, 2),
    _bit("curdata", 6, 1),
    _bit("dvcid", 6, 0),
    _bytes("allocation", 7, 3),
)


def _table(*commands: Iterable[Command]) -> Mapping[int, Command]:
    return {command.opcode: command for group in commands for command in group}


_COMMON = (
    TEST_UNIT_READY,
    REQUEST_SENSE,
    INQUIRY,
    MODE_SELECT_6,
    MODE_SELECT_10,
    MODE_SENSE_6,
    MODE_SENSE_10,
    RESERVE_6,
    RELEASE_6,
    PREVENT_ALLOW,
    LOG_SENSE,
    PERSISTENT_RESERVE_IN,
    PERSISTENT_RESERVE_OUT,
    REPORT_LUNS,
)

TAPE: Mapping[int, Command] = _table(
    _COMMON,
    (
        REWIND,
        READ_BLOCK_LIMITS,
        READ_6,
        WRITE_6,
        WRITE_FILEMARKS,
        SPACE_6,
        ERASE_6,
        LOAD_UNLOAD,
        LOCATE_10,
        READ_POSITION,
        LOCATE_16,
    ),
)
"""What a tape drive understands, by operation code."""

CHANGER: Mapping[int, Command] = _table(
    _COMMON,
    (
        INITIALIZE_ELEMENT_STATUS,
        POSITION_TO_ELEMENT,
        INITIALIZE_ELEMENT_STATUS_WITH_RANGE,
        MOVE_MEDIUM,
        READ_ELEMENT_STATUS,
    ),
)
"""What a medium changer understands, by operation code."""

SPACE_BLOCKS, SPACE_FILEMARKS, SPACE_END_OF_DATA = 0, 1, 3
"""Values of SPACE's `code`."""

LOCATE_OBJECT, LOCATE_FILE, LOCATE_END_OF_DATA = 0, 1, 3
"""Values of LOCATE(16)'s `dest_type`."""

POSITION_SHORT, POSITION_LONG = 0, 6
"""Values of READ POSITION's `service_action`."""
