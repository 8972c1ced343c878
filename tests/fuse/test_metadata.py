import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse.metadata import (
    LunMetadata,
    MalformedMetadata,
    QtreeMetadata,
    RestrictionMark,
    VolumeMetadata,
)

RECORDS = (VolumeMetadata, QtreeMetadata, LunMetadata, RestrictionMark)

volumes = st.builds(VolumeMetadata)
records = st.one_of(*(st.builds(kind) for kind in RECORDS))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(records)
def test_round_trip(record: VolumeMetadata | QtreeMetadata | LunMetadata | RestrictionMark) -> None:
    assert type(record).decode(record.encode()) == record


@given(records, st.dictionaries(st.text(min_size=30), json_values))
def test_unknown_keys_are_ignored(
    record: VolumeMetadata | QtreeMetadata | LunMetadata | RestrictionMark, extra: dict[str, object]
) -> None:
    data = json.loads(record.encode()) | extra
    assert type(record).decode(json.dumps(data).encode()) == record


@given(st.sampled_from(RECORDS), st.binary() | json_values.map(lambda v: json.dumps(v).encode()))
def test_hostile_bytes_are_malformed_or_a_record(kind: type[VolumeMetadata], value: bytes) -> None:
    try:
        record = kind.decode(value)
    except MalformedMetadata:
        return
    assert kind.decode(record.encode()) == record


@given(volumes, st.sampled_from(["uuid", "size", "state", "snapdir"]), json_values)
def test_a_value_of_another_type_is_malformed(
    record: VolumeMetadata, key: str, value: object
) -> None:
    data = json.loads(record.encode())
    if type(value) is type(data[key]):
        return
    with pytest.raises(MalformedMetadata):
        VolumeMetadata.decode(json.dumps(data | {key: value}).encode())


@pytest.mark.parametrize("value", [b"", b"[]", b"7", b"{}", b"\xff", b'{"uuid":1}', b"[" * 100_000])
def test_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMetadata):
        VolumeMetadata.decode(value)
