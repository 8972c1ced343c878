"""READ and WRITE as SSC-4 has them, over a cartridge; ends other than GOOD are CheckConditions.

INFORMATION is what is left: of bytes for variable blocks, of blocks for fixed ones.
"""

from tape import sense
from tape.sense import Sense
from tape.virtual.cartridge import Cartridge, Damaged, Full
from tape.virtual.record import Record, RecordKind
from tape.virtual.target import CheckCondition

MAX_BLOCK = 8 << 20
_EARLY_WARNING_SHARE = 16
_EARLY_WARNING_MOST = 256 << 20


def early_warning(cartridge: Cartridge) -> bool:
    """Whether the position is in the last sixteenth of the tape (256 MiB at most)."""
    capacity = cartridge.attributes.capacity
    return cartridge.room() < min(capacity // _EARLY_WARNING_SHARE, _EARLY_WARNING_MOST)


def end_of_data(left: int) -> CheckCondition:
    """Give BLANK CHECK with what was left of a count."""
    return CheckCondition(Sense(sense.BLANK_CHECK, 0x00, 0x05, information=left, valid=True))


def filemark(left: int) -> CheckCondition:
    """Give the end at a filemark with what was left of a count."""
    return CheckCondition(
        Sense(sense.NO_SENSE, 0x00, 0x01, information=left, filemark=True, valid=True)
    )


def _incorrect_length(left: int) -> CheckCondition:
    return CheckCondition(Sense(sense.NO_SENSE, information=left, ili=True, valid=True))


def unreadable(left: int | None = None) -> CheckCondition:
    """Give MEDIUM ERROR, unrecovered read error."""
    return CheckCondition(
        Sense(sense.MEDIUM_ERROR, 0x11, 0x00, information=left or 0, valid=left is not None)
    )


def _read_one(cartridge: Cartridge, into: memoryview, left: int) -> Record:
    try:
        record = cartridge.read(into)
    except Damaged:
        raise unreadable(left) from None
    if record is None:
        raise end_of_data(left)
    if record.kind is RecordKind.FILEMARK:
        raise filemark(left)
    return record


def read_variable(
    cartridge: Cartridge, into: memoryview, length: int, *, underlength: bool, overlength: bool
) -> tuple[int, CheckCondition | None]:
    """Read one block: bytes moved, and ILI unless the wrong length is to be passed over.

    `underlength` and `overlength` say whether a shorter or longer block is told.
    """
    record = _read_one(cartridge, into[:length], length)
    moved = min(record.length, length, len(into))
    told = underlength if record.length < length else overlength
    if record.length == length or not told:
        return moved, None
    return moved, _incorrect_length(length - record.length)


def read_fixed(
    cartridge: Cartridge, into: memoryview, count: int, size: int, *, told: list[int]
) -> None:
    """Read `count` blocks of `size` bytes; `told[0]` is the number of bytes moved so far."""
    for done in range(count):
        record = _read_one(cartridge, into[done * size : (done + 1) * size], count - done)
        if record.length != size:
            raise _incorrect_length(count - done)
        told[0] += size


def write_blocks(cartridge: Cartridge, data: memoryview, size: int, *, fixed: bool) -> None:
    """Write blocks of `size` bytes; EOM with NO SENSE at early warning, when all is written.

    VOLUME OVERFLOW when the tape is full: then INFORMATION tells what was not written.
    """
    for start in range(0, len(data), size):
        try:
            cartridge.append(data[start : start + size])
        except Full:
            left = (len(data) - start) // size if fixed else len(data) - start
            raise _overflow(left) from None
    if early_warning(cartridge):
        raise _end_of_medium_near()


def write_filemarks(cartridge: Cartridge, count: int) -> None:
    """Write filemarks; ends as `write_blocks` does."""
    try:
        cartridge.append_filemarks(count)
    except Full:
        raise _overflow(count) from None


def warn_early(cartridge: Cartridge) -> None:
    """End with EOM and NO SENSE when the position is behind early warning."""
    if early_warning(cartridge):
        raise _end_of_medium_near()


def _end_of_medium_near() -> CheckCondition:
    return CheckCondition(Sense(sense.NO_SENSE, 0x00, 0x02, eom=True, valid=True))


def _overflow(left: int) -> CheckCondition:
    return CheckCondition(
        Sense(sense.VOLUME_OVERFLOW, 0x00, 0x02, information=left, eom=True, valid=True)
    )
