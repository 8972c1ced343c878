import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import inquiry
from tape.inquiry import Designator, Inquiry, MalformedInquiry

ASCII = st.characters(min_codepoint=33, max_codepoint=126)


def text(size: int) -> st.SearchStrategy[str]:
    return st.text(ASCII, max_size=size)


@given(
    st.builds(
        Inquiry,
        device_type=st.integers(0, 31),
        vendor=text(8),
        product=text(16),
        revision=text(4),
        removable=st.booleans(),
        version=st.integers(0, 255),
    )
)
def test_standard_data_come_back(found: Inquiry) -> None:
    assert Inquiry.decode(found.encode()) == found


designators = st.lists(
    st.builds(
        Designator,
        type=st.integers(0, 15),
        value=st.binary(max_size=255),
        code_set=st.integers(0, 15),
        association=st.integers(0, 3),
        protocol=st.integers(0, 15),
    ),
    max_size=5,
).map(tuple)


@given(designators)
def test_identification_comes_back(found: tuple[Designator, ...]) -> None:
    assert inquiry.decode_identification(inquiry.encode_identification(1, found)) == found


@given(text(64), st.sets(st.integers(0, 255)))
def test_serial_and_supported_pages_come_back(serial: str, pages: set[int]) -> None:
    assert inquiry.decode_serial(inquiry.encode_serial(1, serial)) == serial
    encoded = inquiry.encode_supported(8, tuple(pages))
    assert inquiry.decode_supported(encoded) == tuple(sorted(pages))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (
        Inquiry.decode,
        inquiry.decode_serial,
        inquiry.decode_supported,
        inquiry.decode_identification,
    ):
        try:
            decode(data)
        except MalformedInquiry:
            continue


def test_a_t10_identifier_ends_with_the_serial() -> None:
    value = inquiry.t10_identifier("SNAPREEL", "VIRTUAL LTO-8", "SR01D0")
    assert inquiry.t10_serial(value) == "SR01D0"


def test_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(MalformedInquiry, match="longer than 8"):
        Inquiry(1, "LONGVENDOR", "", "").encode()
