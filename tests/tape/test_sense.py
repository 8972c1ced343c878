import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import sense
from tape.sense import MalformedSense, Sense

BYTE = st.integers(0, 255)


def senses(low: int, high: int) -> st.SearchStrategy[Sense]:
    return st.builds(
        Sense,
        key=st.integers(0, 15),
        asc=BYTE,
        ascq=BYTE,
        information=st.integers(low, high),
        filemark=st.booleans(),
        eom=st.booleans(),
        ili=st.booleans(),
        deferred=st.booleans(),
        valid=st.booleans(),
    )


@given(senses(-(1 << 31), (1 << 31) - 1))
def test_fixed_format_comes_back(found: Sense) -> None:
    data = sense.encode(found)
    assert data[0] & 0x7F in {0x70, 0x71}
    assert sense.decode(data) == found


@given(senses(-(1 << 63), (1 << 63) - 1))
def test_descriptor_format_comes_back(found: Sense) -> None:
    data = sense.encode(found, descriptor=True)
    assert data[0] in {0x72, 0x73}
    assert sense.decode(data) == found


def test_large_information_takes_descriptor_format() -> None:
    found = Sense(sense.NO_SENSE, 0, 1, information=1 << 40, valid=True)
    assert sense.decode(sense.encode(found)) == found


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        sense.decode(data)
    except MalformedSense:
        return


def test_a_filemark_as_a_real_drive_tells_it() -> None:
    data = bytes.fromhex("f00080000100000a00000000000100000000")
    expected = Sense(0, 0, 1, information=65536, filemark=True, valid=True)
    assert sense.decode(data) == expected
    assert sense.encode(expected) == data


def test_data_cut_short_by_the_host_is_read() -> None:
    assert sense.decode(bytes.fromhex("7000030000000000")) == Sense(3)


@pytest.mark.parametrize("data", [b"", b"\x70", b"\x00" * 18, b"\x72\x01"])
def test_what_is_no_sense_data_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedSense):
        sense.decode(data)


def test_words() -> None:
    assert Sense(2, 0x3A, 0).words == "medium not present"
    assert Sense(3, 0x99, 0x01).words == "medium error, ASC 99h ASCQ 01h"
    assert Sense(0).words == "no sense"
