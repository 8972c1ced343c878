import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import pages
from tape.pages import (
    BlockDescriptor,
    Compression,
    DeviceConfiguration,
    ElementAddresses,
    LogPage,
    LogParameter,
    MalformedPage,
    ModePage,
    ModeParameters,
    SequentialAccess,
    TapeAlerts,
    TapeCapacity,
)

BYTE = st.integers(0, 255)
U16 = st.integers(0, 0xFFFF)
U24 = st.integers(0, 0xFFFFFF)

parameters = st.builds(
    ModeParameters,
    write_protected=st.booleans(),
    buffered=st.integers(0, 7),
    medium_type=BYTE,
    block=st.none() | st.builds(BlockDescriptor, density=BYTE, length=U24, blocks=U24),
    pages=st.lists(
        st.builds(
            ModePage, code=st.integers(0, 63), body=st.binary(max_size=30), saveable=st.booleans()
        ),
        max_size=4,
    ).map(tuple),
)


@given(parameters, st.booleans(), st.booleans())
def test_mode_parameters_come_back(found: ModeParameters, long: bool, select: bool) -> None:
    assert pages.decode_mode(pages.encode_mode(found, long=long, select=select), long=long) == found


@given(st.builds(Compression, *[st.booleans()] * 3, algorithm=st.integers(0, 0xFFFFFFFF)))
def test_compression_comes_back(found: Compression) -> None:
    assert Compression.decode(found.encode()) == found


@given(st.builds(DeviceConfiguration, U16, st.booleans(), BYTE, st.booleans()))
def test_device_configuration_comes_back(found: DeviceConfiguration) -> None:
    assert DeviceConfiguration.decode(found.encode()) == found


@given(st.builds(ElementAddresses, *[U16] * 8))
def test_element_addresses_come_back(found: ElementAddresses) -> None:
    assert ElementAddresses.decode(found.encode()) == found


@given(
    st.builds(
        LogPage,
        code=st.integers(0, 63),
        parameters=st.lists(
            st.builds(LogParameter, U16, st.binary(max_size=16), BYTE), max_size=6
        ).map(tuple),
        subpage=BYTE,
    )
)
def test_log_pages_come_back(found: LogPage) -> None:
    assert pages.decode_log(pages.encode_log(found)) == found


@given(st.frozensets(st.integers(1, 64)))
def test_tape_alerts_come_back_from_both_pages(flags: frozenset[int]) -> None:
    alerts = TapeAlerts(flags)
    for page in (alerts.encode(), alerts.encode_response()):
        assert TapeAlerts.decode(pages.decode_log(pages.encode_log(page))) == alerts


@given(st.builds(SequentialAccess, *[st.integers(0, (1 << 64) - 1)] * 4, st.booleans()))
def test_sequential_access_comes_back(found: SequentialAccess) -> None:
    assert SequentialAccess.decode(found.encode()) == found


@given(st.builds(TapeCapacity, *[st.integers(0, 0xFFFFFFFF)] * 2))
def test_capacity_comes_back(found: TapeCapacity) -> None:
    assert TapeCapacity.decode(found.encode()) == found


@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, long: bool) -> None:
    for decode in (
        lambda: pages.decode_mode(data, long=long),
        lambda: pages.decode_log(data),
        lambda: pages.decode_supported_log_pages(data),
    ):
        try:
            decode()
        except MalformedPage:
            continue


def test_pages_of_another_kind_are_refused() -> None:
    other = ModePage(0x3E, b"")
    for kind in (Compression, DeviceConfiguration, ElementAddresses):
        with pytest.raises(MalformedPage):
            kind.decode(other)
    with pytest.raises(MalformedPage):
        TapeAlerts.decode(LogPage(0x0C, ()))
