import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse.errors import InvalidName
from fuse.names import (
    check_aggregate_name,
    check_lun_name,
    check_qtree_name,
    check_snapshot_name,
    check_volume_name,
)

WORD = string.ascii_letters + string.digits + "_"


@given(
    st.text(string.ascii_letters + "_", min_size=1, max_size=1),
    st.text(WORD, max_size=202),
)
def test_words_name_volumes_and_aggregates(first: str, rest: str) -> None:
    assert check_volume_name(first + rest) == first + rest
    assert check_aggregate_name(first + rest) == first + rest


@given(st.text(min_size=1))
def test_nothing_else_names_a_volume(name: str) -> None:
    legal = set(name) <= set(WORD) and name[0] not in string.digits and len(name) <= 203
    if legal:
        check_volume_name(name)
        return
    with pytest.raises(InvalidName) as caught:
        check_volume_name(name)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1vol", "vol-1", "vol.1", "völ", "a" * 204, "vol1\n", "a/b"])
def test_bad_volume_names(name: str) -> None:
    with pytest.raises(InvalidName):
        check_volume_name(name)


@pytest.mark.parametrize("check", [check_qtree_name, check_lun_name, check_snapshot_name])
@pytest.mark.parametrize(
    "name", ["", ".", "..", ".snapshot", "a/b", "a\0", "a\nb", "\x7f", "\ud800"]
)
def test_names_that_no_entry_can_have(check: type, name: str) -> None:
    with pytest.raises(InvalidName):
        check(name)


@given(st.text(st.characters(exclude_categories=("C",), exclude_characters="/"), min_size=1))
def test_entries_fit_into_255_bytes(name: str) -> None:
    if name in (".", "..", ".snapshot"):
        return
    if len(name.encode()) <= 255:
        assert check_snapshot_name(name) == name
    else:
        with pytest.raises(InvalidName):
            check_snapshot_name(name)


def test_qtree_names_are_unicode_of_up_to_64_characters() -> None:
    assert check_qtree_name("Привет, qtree №1")
    assert check_qtree_name("x" * 64)
    for name in ("x" * 65, "🎞" * 64):
        with pytest.raises(InvalidName):
            check_qtree_name(name)
