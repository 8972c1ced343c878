"""The symbol table: what is written is read, and damage never goes unnoticed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import symboltable
from appliance.dump.symboltable import ChainState, MalformedTable, decode, encode

STATE = ChainState(date=1_700_000_000, base_date=5, level=3, dump_uuid="ab", tree="cd", root=256)

_targets = st.dictionaries(st.integers(2, (1 << 32) - 1), st.integers(256, (1 << 64) - 1))


@given(targets=_targets, level=st.integers(0, 31), path=st.text())
def test_round_trip(targets: dict[int, int], level: int, path: str) -> None:
    state = ChainState(date=9, base_date=8, level=level, dump_path=path)
    assert decode(encode(state, targets)) == (state, targets)


@given(targets=_targets, data=st.data())
def test_any_damage_is_noticed(targets: dict[int, int], data: st.DataObject) -> None:
    content = bytearray(encode(STATE, targets))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MalformedTable):
        decode(bytes(content))


@given(cut=st.integers(0, 200))
def test_torn(cut: int) -> None:
    content = encode(STATE, {2: 256, 3: 300})
    if cut < len(content):
        with pytest.raises(MalformedTable):
            decode(content[:cut])


def test_unknown_keys_are_ignored_and_later_versions_refused() -> None:
    content = encode(STATE, {})
    with pytest.raises(MalformedTable, match="version 2"):
        decode(content[:8] + b"\2" + content[9:])


def test_on_disk(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert symboltable.load(directory) is None
        symboltable.prepare(directory, STATE, {2: 256})
        assert symboltable.load(directory) is None
        symboltable.publish(directory)
        assert symboltable.load(directory) == (STATE, {2: 256})
        assert (tmp_path / "restore_symboltable").stat().st_mode & 0o777 == 0o600
        symboltable.remove(directory)
        symboltable.remove(directory)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(directory)
