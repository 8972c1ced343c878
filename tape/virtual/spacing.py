"""SPACE and LOCATE as SSC-4 has them, over a cartridge.

Filemarks are found in the index, so that no motion reads more than a few headers.
Meeting a filemark, the end of data or the beginning before the count is done ends with
a CheckCondition whose INFORMATION is what was left of the count.
"""

from bisect import bisect_left

from tape import sense
from tape.sense import Sense
from tape.virtual.cartridge import Cartridge
from tape.virtual.target import CheckCondition
from tape.virtual.transfer import end_of_data, filemark, unreadable


def _beginning(left: int) -> CheckCondition:
    return CheckCondition(Sense(sense.NO_SENSE, 0x00, 0x04, information=left, eom=True, valid=True))


def to_end_of_data(cartridge: Cartridge) -> None:
    """Go behind the last object."""
    cartridge.seek(cartridge.end_object)
    if cartridge.damaged_end:
        raise unreadable()


def space_blocks(cartridge: Cartridge, count: int) -> None:
    """Pass `count` blocks, backward when negative; stop behind (before) a filemark."""
    if count >= 0:
        _blocks_forward(cartridge, count)
    else:
        _blocks_backward(cartridge, -count)


def _blocks_forward(cartridge: Cartridge, count: int) -> None:
    here, marks = cartridge.object, cartridge.index.filemarks
    coming = bisect_left(marks, here)
    limit = marks[coming] if coming < len(marks) else cartridge.end_object
    if here + count <= limit:
        cartridge.seek(here + count)
        return
    left = count - (limit - here)
    if coming < len(marks):
        cartridge.seek(limit + 1)
        raise filemark(left)
    to_end_of_data(cartridge)
    raise end_of_data(left)


def _blocks_backward(cartridge: Cartridge, count: int) -> None:
    here, marks = cartridge.object, cartridge.index.filemarks
    passed = bisect_left(marks, here)
    floor = marks[passed - 1] + 1 if passed else 0
    if here - count >= floor:
        cartridge.seek(here - count)
        return
    left = count - (here - floor)
    if passed:
        cartridge.seek(floor - 1)
        raise filemark(left)
    cartridge.seek(0)
    raise _beginning(left)


def space_filemarks(cartridge: Cartridge, count: int) -> None:
    """Pass `count` filemarks, backward when negative; a backward one ends before the mark."""
    marks = cartridge.index.filemarks
    passed = bisect_left(marks, cartridge.object)
    wanted = passed + count - 1 if count > 0 else passed + count
    if count > 0 and wanted >= len(marks):
        to_end_of_data(cartridge)
        raise end_of_data(count - (len(marks) - passed))
    if wanted < 0 and count < 0:
        cartridge.seek(0)
        raise _beginning(-count - passed)
    if count:
        cartridge.seek(marks[wanted] + (count > 0))


def locate_object(cartridge: Cartridge, number: int) -> None:
    """Go to a logical object; BLANK CHECK at the end of data when there is none such."""
    if number > cartridge.end_object:
        to_end_of_data(cartridge)
        raise end_of_data(0)
    cartridge.seek(number)


def locate_file(cartridge: Cartridge, number: int) -> None:
    """Go to the first object of a logical file: what follows `number` filemarks."""
    marks = cartridge.index.filemarks
    if number > len(marks):
        to_end_of_data(cartridge)
        raise end_of_data(0)
    cartridge.seek(marks[number - 1] + 1 if number else 0)
