"""Private records: round trips, chains, and damage that must be noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import private
from appliance.dump.private import Item, MalformedPrivate

items = st.lists(
    st.builds(Item, st.integers(0, 0xFFFF), st.binary(max_size=300), st.booleans()), max_size=10
)


@given(items, st.binary(max_size=20))
def test_round_trip_whatever_follows(found: list[Item], padding: bytes) -> None:
    payload = private.encode(found)
    assert private.decode(payload + padding) == found
    assert len(payload) == private.encoded_size([len(item.value) for item in found])


@given(st.lists(items, max_size=5))
def test_chains(groups: list[list[Item]]) -> None:
    payload = b"".join(private.encode(group) for group in groups)
    assert list(private.decode_chain(payload)) == [item for group in groups for item in group]


@given(items, st.data())
def test_a_flipped_byte_is_noticed(found: list[Item], data: st.DataObject) -> None:
    payload = bytearray(private.encode(found))
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] ^= data.draw(st.integers(1, 255))
    if position in (6, 7):  # reserved
        return
    with pytest.raises(MalformedPrivate):
        private.decode(bytes(payload))


@given(items, st.data())
def test_a_torn_record_is_noticed(found: list[Item], data: st.DataObject) -> None:
    payload = private.encode(found)
    with pytest.raises(MalformedPrivate):
        private.decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


@given(st.binary(max_size=100))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPrivate):
        private.decode(data)


@given(st.binary(min_size=1, max_size=255), st.binary(max_size=400))
def test_attributes(name: bytes, value: bytes) -> None:
    assert private.decode_xattr(private.encode_xattr(name, value).value) == (name, value)


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=50), st.binary(max_size=100))
def test_acls(inodes: list[int], descriptor: bytes) -> None:
    item = private.encode_acl(inodes, descriptor)
    assert private.decode_acl(item.value) == (tuple(inodes), descriptor)


@given(st.integers(0, 0xFFFFFFFF))
def test_inodes(inode: int) -> None:
    assert private.decode_inode(private.encode_inode(inode).value) == inode


@given(st.binary(max_size=12))
def test_short_items_are_refused(value: bytes) -> None:
    for decode in (private.decode_xattr, private.decode_acl, private.decode_inode):
        try:
            decode(value)
        except MalformedPrivate:
            pass
