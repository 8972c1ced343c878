"""Inode bitmaps against Python's sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump.inodemap import BLOCK, InodeMap

inodes = st.sets(st.integers(1, 100_000), max_size=50)


@given(inodes)
def test_round_trip(found: set[int]) -> None:
    data = InodeMap(found).to_bytes()
    assert len(data) % BLOCK == 0
    assert len(data) == max(-(-max(found, default=1) // (8 * BLOCK)), 1) * BLOCK
    assert InodeMap.from_bytes(data) == InodeMap(found)
    assert list(InodeMap.from_bytes(data)) == sorted(found)


@given(inodes, inodes)
def test_like_a_set(added: set[int], removed: set[int]) -> None:
    inodemap = InodeMap(added)
    for inode in removed:
        inodemap.discard(inode)
    left = added - removed
    assert (len(inodemap), inodemap.highest) == (len(left), max(left, default=0))
    assert all((inode in inodemap) == (inode in left) for inode in added | removed | {0, 1, 2**31})


def test_bit_order_is_that_of_dump() -> None:
    assert InodeMap([1, 2, 11]).to_bytes()[:2] == b"\3\4"


def test_wide_enough_for_the_highest_asked_for() -> None:
    assert len(InodeMap([2]).to_bytes(8192)) == BLOCK
    assert len(InodeMap([2]).to_bytes(8193)) == 2 * BLOCK


def test_numbers_start_at_one() -> None:
    with pytest.raises(ValueError, match="start at 1"):
        InodeMap([0])
