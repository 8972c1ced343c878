"""From a Completion to an error of the tree in `tape.errors`."""

from tape import errors, sense
from tape.sense import Sense
from tape.transport import Category, Completion

GOOD, CHECK_CONDITION, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL = 0x00, 0x02, 0x08, 0x18, 0x28
"""SCSI status bytes."""

_STATUS_WORDS = {
    BUSY: "the device is busy",
    TASK_SET_FULL: "the device's queue is full",
    0x40: "the command was aborted",
}

_BY_CODE: dict[tuple[int, int, int], type[errors.SenseError]] = {
    (sense.NOT_READY, 0x3A, 0x00): errors.NoCartridge,
    (sense.NOT_READY, 0x04, 0x01): errors.BecomingReady,
    (sense.NOT_READY, 0x04, 0x02): errors.NotLoaded,
    (sense.NOT_READY, 0x30, 0x03): errors.CleaningCartridge,
    (sense.ILLEGAL_REQUEST, 0x21, 0x01): errors.InvalidElement,
    (sense.ILLEGAL_REQUEST, 0x3B, 0x0D): errors.DestinationFull,
    (sense.ILLEGAL_REQUEST, 0x3B, 0x0E): errors.SourceEmpty,
    (sense.ILLEGAL_REQUEST, 0x53, 0x02): errors.RemovalPrevented,
    (sense.HARDWARE_ERROR, 0x55, 0x03): errors.StorageFull,
    (sense.UNIT_ATTENTION, 0x28, 0x00): errors.CartridgeChanged,
    (sense.UNIT_ATTENTION, 0x28, 0x01): errors.InventoryChanged,
}

_BY_ASC: dict[tuple[int, int], type[errors.SenseError]] = {
    (sense.NOT_READY, 0x3A): errors.NoCartridge,
    (sense.UNIT_ATTENTION, 0x29): errors.DeviceReset,
    (sense.DATA_PROTECT, 0x27): errors.WriteProtected,
}

_BY_KEY: dict[int, type[errors.SenseError]] = {
    sense.NOT_READY: errors.NotReady,
    sense.MEDIUM_ERROR: errors.MediumError,
    sense.HARDWARE_ERROR: errors.HardwareError,
    sense.ILLEGAL_REQUEST: errors.IllegalRequest,
    sense.UNIT_ATTENTION: errors.UnitAttention,
    sense.BLANK_CHECK: errors.BlankCheck,
    sense.VOLUME_OVERFLOW: errors.EndOfMedium,
}


def sense_of(completion: Completion) -> Sense | None:
    """Give the sense of a CHECK CONDITION, or None when it carries none that can be read."""
    if completion.category is not Category.SENSE:
        return None
    try:
        return sense.decode(completion.sense)
    except sense.MalformedSense:
        return None


def raise_for(completion: Completion, device: str, command: str) -> None:
    """Raise the error that fits unless the command ended GOOD.

    RECOVERED ERROR is GOOD. A CHECK CONDITION of which no sense can be read is a
    TransportFailed, as is every end but GOOD, CHECK CONDITION and RESERVATION CONFLICT.
    """
    if completion.category is Category.GOOD:
        return
    if completion.category is Category.SENSE:
        found = sense_of(completion)
        if found is None:
            raise errors.TransportFailed(device, command, "it answered with unreadable sense data")
        if found.key != sense.RECOVERED:
            raise error_for(found, device, command)
        return
    if completion.category is Category.STATUS:
        raise _status_error(completion.status, device, command)
    raise errors.TransportFailed(device, command, completion.reason or "no answer")


def error_for(found: Sense, device: str, command: str) -> errors.SenseError:
    """Give the error for sense data."""
    kind = _class_for(found)
    reason = f"an earlier command failed: {found.words}" if found.deferred else found.words
    return kind(
        device,
        command,
        reason,
        key=found.key,
        asc=found.asc,
        ascq=found.ascq,
        information=found.information if found.valid else None,
        eom=found.eom,
        deferred=found.deferred,
    )


def _class_for(found: Sense) -> type[errors.SenseError]:
    if found.key in {sense.NO_SENSE, sense.RECOVERED}:
        return _stream_class(found)
    return (
        _BY_CODE.get((found.key, found.asc, found.ascq))
        or _BY_ASC.get((found.key, found.asc))
        or _BY_KEY.get(found.key, errors.SenseError)
    )


def _stream_class(found: Sense) -> type[errors.SenseError]:
    if found.filemark:
        return errors.FilemarkReached
    if found.ili:
        return errors.IncorrectLength
    if found.eom:
        beginning = (found.asc, found.ascq) == (0x00, 0x04)
        return errors.BeginningOfMedium if beginning else errors.EndOfMedium
    return errors.SenseError


def _status_error(status: int, device: str, command: str) -> errors.TapeError:
    if status == RESERVATION_CONFLICT:
        return errors.ReservationConflict(device, command, "reservation conflict")
    words = _STATUS_WORDS.get(status, f"status {status:02X}h")
    return errors.TransportFailed(device, command, words)
