"""Directory data: round trips, block boundaries, and what is no directory."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import directory
from appliance.dump.directory import BLOCK, Entry, MalformedDirectory

names = st.binary(min_size=1, max_size=255).filter(lambda n: b"/" not in n and b"\0" not in n)
entries = st.lists(st.tuples(st.integers(1, (1 << 32) - 1), names, st.integers(0, 15)), max_size=60)


@given(entries)
def test_round_trip(found: list[tuple[int, bytes, int]]) -> None:
    data = directory.encode(found)
    assert len(data) % BLOCK == 0
    assert list(directory.decode(data)) == [Entry(i, n, t) for i, n, t in found]


@given(entries.filter(bool))
def test_no_entry_crosses_a_block_and_each_block_is_full(
    found: list[tuple[int, bytes, int]],
) -> None:
    data = directory.encode(found)
    for start in range(0, len(data), BLOCK):
        position = start
        while position < start + BLOCK:
            inode, length = struct.unpack_from("<IH", data, position)
            assert inode
            assert length >= 12
            position += length
        assert position == start + BLOCK


@given(entries)
def test_big_endian_with_old_entries(found: list[tuple[int, bytes, int]]) -> None:
    out = b"".join(
        struct.pack(">IHH", i, 8 + ((len(n) + 4) & ~3), len(n)) + n.ljust((len(n) + 4) & ~3, b"\0")
        for i, n, _ in found
    )
    decoded = directory.decode(out, order=">", new_format=False)
    assert list(decoded) == [Entry(i, n, 0) for i, n, _ in found]


@given(st.binary(max_size=300))
def test_garbage_gives_entries_or_an_error(data: bytes) -> None:
    try:
        for entry in directory.decode(data):
            assert 0 < len(entry.name) <= 255
    except MalformedDirectory:
        pass


@pytest.mark.parametrize("name", [b"", b"x" * 256])
def test_impossible_names_are_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        directory.encode([(3, name, 8)])


@pytest.mark.parametrize(("mode", "kind"), [(0o100644, 8), (0o40755, 4), (0o120777, 10), (0, 0)])
def test_types_of_modes(mode: int, kind: int) -> None:
    assert directory.type_of_mode(mode) == kind
