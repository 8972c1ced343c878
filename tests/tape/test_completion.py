import json

import pytest

from tape import errors, sense
from tape.completion import raise_for
from tape.sense import Sense
from tape.transport import Category, Completion

CASES = [
    (Sense(2, 0x3A, 0), errors.NoCartridge, 4),
    (Sense(2, 0x3A, 2), errors.NoCartridge, 4),
    (Sense(2, 0x04, 1), errors.BecomingReady, 1),
    (Sense(2, 0x04, 2), errors.NotLoaded, 4),
    (Sense(2, 0x30, 3), errors.CleaningCartridge, 4),
    (Sense(2, 0x04, 3), errors.NotReady, 4),
    (Sense(3, 0x11, 0), errors.MediumError, 1),
    (Sense(4, 0x44, 0), errors.HardwareError, 1),
    (Sense(5, 0x20, 0), errors.IllegalRequest, 1),
    (Sense(5, 0x3B, 0x0D), errors.DestinationFull, 3),
    (Sense(5, 0x3B, 0x0E), errors.SourceEmpty, 3),
    (Sense(5, 0x21, 0x01), errors.InvalidElement, 3),
    (Sense(5, 0x53, 0x02), errors.RemovalPrevented, 3),
    (Sense(6, 0x29, 0x02), errors.DeviceReset, 1),
    (Sense(6, 0x28, 0x00), errors.CartridgeChanged, 1),
    (Sense(6, 0x28, 0x01), errors.InventoryChanged, 1),
    (Sense(6, 0x2A, 0x01), errors.UnitAttention, 1),
    (Sense(7, 0x27, 0), errors.WriteProtected, 3),
    (Sense(7, 0x74, 1), errors.SenseError, 1),
    (Sense(4, 0x55, 3), errors.StorageFull, 4),
    (Sense(8, 0x00, 5), errors.BlankCheck, 1),
    (Sense(0, 0x00, 1, filemark=True), errors.FilemarkReached, 1),
    (Sense(0, 0x00, 4, eom=True), errors.BeginningOfMedium, 1),
    (Sense(0, 0x00, 2, eom=True), errors.EndOfMedium, 4),
    (Sense(0xD, 0x00, 2, eom=True), errors.EndOfMedium, 4),
    (Sense(0, ili=True), errors.IncorrectLength, 1),
    (Sense(0xB, 0x4B, 0), errors.SenseError, 1),
]


@pytest.mark.parametrize(("found", "kind", "exit_code"), CASES)
def test_sense_becomes_the_error_that_fits(
    found: Sense, kind: type[errors.SenseError], exit_code: int
) -> None:
    for descriptor in (False, True):
        raw = sense.encode(found, descriptor=descriptor)
        with pytest.raises(errors.SenseError) as caught:
            raise_for(Completion(Category.SENSE, status=2, sense=raw), "nrst0a", "READ(6)")
        assert type(caught.value) is kind
        assert caught.value.exit_code == exit_code
        assert caught.value.advice
        assert "nrst0a" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = _all_kinds(errors.TapeError)
    assert len({kind.code for kind in kinds}) == len(kinds)


def _all_kinds(kind: type[errors.TapeError]) -> list[type[errors.TapeError]]:
    return [kind, *(k for sub in kind.__subclasses__() for k in _all_kinds(sub))]


def test_the_data_of_an_error_are_json() -> None:
    raw = sense.encode(Sense(3, 0x0C, 0, information=-5, valid=True, deferred=True))
    with pytest.raises(
        errors.MediumError, match="an earlier command failed: write error"
    ) as caught:
        raise_for(Completion(Category.SENSE, status=2, sense=raw), "rst0", "WRITE(6)")
    assert json.loads(json.dumps(vars(caught.value)))["information"] == -5
    assert caught.value.deferred


@pytest.mark.parametrize(
    ("completion", "words"),
    [
        (Completion(Category.TRANSPORT, reason="cable pulled"), "cable pulled"),
        (Completion(Category.OS, reason="no such device"), "no such device"),
        (Completion(Category.STATUS, status=8), "the device is busy"),
        (Completion(Category.STATUS, status=0x99), "status 99h"),
        (Completion(Category.SENSE, status=2, sense=b"\x01"), "unreadable sense"),
    ],
)
def test_other_ends_are_transport_failures(completion: Completion, words: str) -> None:
    with pytest.raises(errors.TransportFailed, match=words):
        raise_for(completion, "rst0", "REWIND")


def test_good_recovered_and_conflict() -> None:
    raise_for(Completion(Category.GOOD), "rst0", "REWIND")
    raw = sense.encode(Sense(sense.RECOVERED, 0x17, 1))
    raise_for(Completion(Category.SENSE, status=2, sense=raw), "rst0", "REWIND")
    with pytest.raises(errors.ReservationConflict):
        raise_for(Completion(Category.STATUS, status=0x18), "rst0", "REWIND")
