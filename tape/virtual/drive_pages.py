"""The mode and log pages of a virtual drive."""

from tape import pages
from tape.pages import BlockDescriptor, ModePage, ModeParameters
from tape.virtual.cartridge import Cartridge
from tape.virtual.record import FILE_HEADER
from tape.virtual.state import DriveState
from tape.virtual.target import INVALID_FIELD, INVALID_PARAMETER, refuse
from tape.virtual.transfer import MAX_BLOCK

DENSITY = 0x5E
"""LTO-8."""

CURRENT, CHANGEABLE, DEFAULT, SAVED = range(4)
"""Page control."""

_MIB = 1 << 20
_KEEP_DENSITY = frozenset((0x00, 0x7F, DENSITY))


def mode_parameters(
    state: DriveState, *, page: int, control: int, block: bool, write_protected: bool
) -> ModeParameters:
    """Give what MODE SENSE asks for; ends with ILLEGAL REQUEST for what there is not."""
    if control == SAVED:
        raise refuse(0x39)
    found = tuple(p for p in _mode_pages(state, control) if page in {p.code, pages.ALL_PAGES})
    if not found and page:
        raise refuse(*INVALID_FIELD)
    length = state.block_length if control == CURRENT else 0
    return ModeParameters(
        write_protected=write_protected,
        block=BlockDescriptor(DENSITY, length) if block else None,
        pages=found,
    )


def _mode_pages(state: DriveState, control: int) -> tuple[ModePage, ...]:
    if control == CHANGEABLE:
        changeable = bytearray(14)
        changeable[0] = 0x80
        return (
            ModePage(pages.COMPRESSION, bytes(changeable)),
            ModePage(pages.DEVICE_CONFIGURATION, bytes(14)),
        )
    enabled = state.compression if control == CURRENT else True
    return (
        pages.Compression(enabled).encode(),
        pages.DeviceConfiguration(compression=int(enabled)).encode(),
    )


def select_mode(state: DriveState, data: bytes, *, long: bool) -> None:
    """Take over what MODE SELECT sends: the block length and compression."""
    try:
        given = pages.decode_mode(data, long=long)
        compression = given.page(pages.COMPRESSION)
        enabled = None if compression is None else pages.Compression.decode(compression).enabled
    except pages.MalformedPage:
        raise refuse(*INVALID_PARAMETER) from None
    known = {pages.COMPRESSION, pages.DEVICE_CONFIGURATION}
    if any(page.code not in known for page in given.pages):
        raise refuse(*INVALID_PARAMETER)
    if given.block is not None:
        if given.block.length > MAX_BLOCK or given.block.density not in _KEEP_DENSITY:
            raise refuse(*INVALID_PARAMETER)
        state.block_length = given.block.length
    if enabled is not None:
        state.compression = enabled


def log_page(page: int, state: DriveState, cartridge: Cartridge | None) -> bytes:
    """Give what LOG SENSE asks for; reading TapeAlert (2Eh) clears its flags in `state`."""
    if page == pages.LOG_SUPPORTED:
        return pages.encode_supported_log_pages((page, *_LOG_PAGES))
    if page == pages.LOG_SEQUENTIAL_ACCESS:
        done = pages.SequentialAccess(state.written, state.written, state.read, state.read)
        return pages.encode_log(done.encode())
    alerts = pages.TapeAlerts(
        frozenset(flag for flag in range(1, 65) if state.alerts >> (flag - 1) & 1)
    )
    if page == pages.LOG_TAPE_ALERT_RESPONSE:
        return pages.encode_log(alerts.encode_response())
    if page == pages.LOG_TAPE_ALERT:
        state.alerts = 0
        return pages.encode_log(alerts.encode())
    if page == pages.LOG_TAPE_CAPACITY:
        return pages.encode_log(_capacity(cartridge).encode())
    raise refuse(*INVALID_FIELD)


_LOG_PAGES = (
    pages.LOG_SEQUENTIAL_ACCESS,
    pages.LOG_TAPE_ALERT_RESPONSE,
    pages.LOG_TAPE_ALERT,
    pages.LOG_TAPE_CAPACITY,
)


def _capacity(cartridge: Cartridge | None) -> pages.TapeCapacity:
    if cartridge is None:
        return pages.TapeCapacity(0, 0)
    total = cartridge.attributes.capacity
    used = cartridge.end_offset - FILE_HEADER
    return pages.TapeCapacity(max(0, total - used) // _MIB, total // _MIB)
