import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import elements
from tape.elements import Element, ElementKind, MalformedElements

BARCODE = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", max_size=32)


@st.composite
def element_lists(draw: st.DrawFn) -> list[Element]:
    kinds = draw(st.lists(st.sampled_from(ElementKind), max_size=12))
    found = []
    for address, kind in enumerate(sorted(kinds)):
        identifier = draw(st.binary(min_size=1, max_size=48)) if draw(st.booleans()) else b""
        found.append(
            Element(
                address,
                kind,
                full=draw(st.booleans()),
                barcode=draw(BARCODE),
                source=draw(st.none() | st.integers(0, 0xFFFF)),
                access=draw(st.booleans()),
                exception=draw(st.booleans()),
                asc=draw(st.integers(0, 255)),
                ascq=draw(st.integers(0, 255)),
                import_enabled=draw(st.booleans()),
                export_enabled=draw(st.booleans()),
                imported=draw(st.booleans()),
                disabled=draw(st.booleans()),
                medium_type=draw(st.integers(0, 7)),
                identifier=identifier,
                identifier_type=draw(st.integers(0, 15)) if identifier else 0,
                code_set=draw(st.integers(0, 15)) if identifier else 0,
            )
        )
    return found


@given(element_lists())
def test_elements_come_back(found: list[Element]) -> None:
    data = elements.encode(found, voltag=True, dvcid=True)
    assert list(elements.decode(data)) == found
    assert elements.bytes_available(data) == len(data)


@given(element_lists(), st.integers(8, 600))
def test_what_an_allocation_length_cuts_is_whole_descriptors(
    found: list[Element], allocation: int
) -> None:
    data = elements.encode(found, voltag=True, dvcid=True, allocation=allocation)
    assert len(data) <= allocation
    everything = elements.encode(found, voltag=True, dvcid=True)
    assert elements.bytes_available(data) == len(everything)
    got = list(elements.decode(data))
    assert all(e in found for e in got)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_and_end(data: bytes) -> None:
    try:
        elements.decode(data)
    except MalformedElements:
        return


@given(element_lists(), st.data())
def test_damaged_data_are_read_or_refused_and_end(
    found: list[Element], data: st.DataObject
) -> None:
    raw = bytearray(elements.encode(found, voltag=True, dvcid=True))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        elements.decode(bytes(raw))
    except MalformedElements:
        return


@pytest.mark.parametrize("size", [0, 1, 11])
def test_descriptors_too_short_to_be_ones_are_refused(size: int) -> None:
    page = bytes((2, 0)) + size.to_bytes(2, "big") + (4096).to_bytes(4, "big")
    with pytest.raises(MalformedElements, match=f"descriptors of {size} bytes"):
        elements.decode((0).to_bytes(2, "big") + bytes((0, 4)) + (4104).to_bytes(4, "big") + page)


def test_the_serial_of_a_drive_is_found_in_its_identifier() -> None:
    named = Element(
        256, ElementKind.DRIVE, identifier=b"IBM     ULT3580-TD8     0013A", identifier_type=1
    )
    assert named.serial == "0013A"
    assert Element(256, ElementKind.DRIVE, identifier=b"0013A  ").serial == "0013A"
