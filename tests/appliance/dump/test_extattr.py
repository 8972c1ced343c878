"""Extended attribute records: round trips, limits, and the ext2 form of ACLs."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import extattr
from appliance.dump.extattr import MAX_RECORD, MalformedAttributes

names = st.builds(
    lambda prefix, name: prefix + name,
    st.sampled_from([b"user.", b"trusted.", b"security."]),
    st.binary(min_size=1, max_size=60).filter(lambda n: b"\0" not in n),
)
values = st.binary(max_size=200) | st.binary(min_size=3900, max_size=5000)
attributes = st.dictionaries(names, values, max_size=12)

acl_entries = st.lists(
    st.tuples(st.sampled_from([0x01, 0x04, 0x10, 0x20]), st.integers(0, 7), st.just(0xFFFFFFFF))
    | st.tuples(st.sampled_from([0x02, 0x08]), st.integers(0, 7), st.integers(0, 0xFFFFFFFF)),
    max_size=60,
)
acls = acl_entries.map(
    lambda found: struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in found)
)


@given(attributes)
def test_records_and_left_overs_hold_everything(found: dict[bytes, bytes]) -> None:
    records, left = extattr.encode(found)
    out: dict[bytes, bytes] = {}
    for one in records:
        assert len(one) <= MAX_RECORD
        decoded = extattr.decode(one)
        assert decoded
        assert not decoded.keys() & out.keys()
        out |= decoded
    assert not out.keys() & left.keys()
    assert out | left == found
    assert all(len(value) > 3800 for value in left.values())


@given(acls)
def test_acls_survive_in_either_form(acl: bytes) -> None:
    assert extattr.acl_from_ext2(extattr.acl_to_ext2(acl)) == acl
    records, left = extattr.encode({extattr.ACL_DEFAULT: acl})
    assert not left
    assert extattr.decode(records[0]) == {extattr.ACL_DEFAULT: acl}


@pytest.mark.parametrize(
    "acl",
    [
        b"",
        b"\3\0\0\0",
        b"\2\0\0\0abc",
        struct.pack("<IHHI", 2, 0x40, 7, 0),  # a tag that nobody knows
        struct.pack("<IHHI", 2, 0x01, 7, 5),  # the owner, yet with a number
    ],
)
def test_an_acl_that_ext2_cannot_say_is_left_over(acl: bytes) -> None:
    records, left = extattr.encode({extattr.ACL_ACCESS: acl})
    assert (records, left) == ([], {extattr.ACL_ACCESS: acl})


@pytest.mark.parametrize("name", [b"btrfs.compression", b"system.nfs4_acl", b"user."])
def test_an_unknown_namespace_is_left_over(name: bytes) -> None:
    assert extattr.encode({name: b"v"}) == ([], {name: b"v"})


@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    for magic in (b"", struct.pack("<I", 0xEA020001), struct.pack("<I", 0xEA020000)):
        try:
            extattr.decode(magic + data)
        except MalformedAttributes:
            pass


@given(st.binary(max_size=100))
def test_a_broken_acl_is_refused(data: bytes) -> None:
    try:
        acl = extattr.acl_from_ext2(data)
    except MalformedAttributes:
        return
    assert extattr.acl_to_ext2(acl) == data


def test_block_form_with_offsets_from_the_start() -> None:
    value = b"hello"
    entry = struct.pack("<BBHIII", 1, 1, 56, 0, len(value), 0) + b"x\0\0\0"
    block = struct.pack("<I28x", extattr.BLOCK_MAGIC) + entry + bytes(4) + value
    assert extattr.decode(block.ljust(64, b"\0")) == {b"user.x": value}
