import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import names
from tape.names import ChangerName, Density, DriveName, MalformedName, OnClose

NUMBERS = st.text("0123456789", min_size=1, max_size=4)


@given(st.builds(DriveName, NUMBERS, st.sampled_from(OnClose), st.sampled_from(Density)))
def test_drive_names_come_back(name: DriveName) -> None:
    assert names.parse(str(name)) == name


@given(NUMBERS)
def test_changer_names_come_back(number: str) -> None:
    assert names.parse(f"mc{number}") == ChangerName(number)


def test_a_drive_has_twelve_names() -> None:
    found = {str(name) for name in names.all_names("0")}
    assert found == {f"{c}st0{d}" for c in ("r", "nr", "ur") for d in "lmha"}


def test_parts() -> None:
    name = names.parse_drive("nrst00l")
    assert (name.number, name.on_close, name.density) == ("00", OnClose.NOTHING, Density.LOW)
    assert name.alias == "st00"
    assert name != names.parse_drive("nrst0l")
    assert names.parse_drive("urst3").density is Density.AUTOMATIC


@pytest.mark.parametrize(
    "text", ["", "st0", "nrst", "nrst0x", "xrst0a", "mc", "mcx", "rst0a ", "mc٣"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedName):
        names.parse(text)
