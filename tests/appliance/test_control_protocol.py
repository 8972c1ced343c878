"""The lines of the control API."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control.protocol import LineSplitter, Request, decode_request, encode
from appliance.errors import ProtocolError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.integers(0, 1 << 60) | st.text() | st.none(),
    st.text(),
    st.dictionaries(st.text(), JSON, max_size=4),
    st.integers(0, 8),
)
def test_request_round_trip(identity, method, params, fds):
    line = encode({"id": identity, "method": method, "params": params, "fds": fds})
    assert line.count(b"\n") == 1
    assert decode_request(line) == Request(identity, method, params, fds)


def test_names_that_are_not_utf8_survive():
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    line = encode({"method": "m", "params": {"path": name}})
    assert decode_request(line).params["path"] == name


@given(st.binary())
def test_hostile_lines_are_protocol_errors(line):
    with suppress(ProtocolError):
        decode_request(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{}",
        b'{"method": 3}',
        b'{"method": "m", "params": []}',
        b'{"method": "m", "id": 1.5}',
        b'{"method": "m", "id": true}',
        b'{"method": "m", "id": []}',
        b'{"method": "m", "fds": -1}',
        b'{"method": "m", "fds": 9}',
        b'{"method": "m", "fds": true}',
        b'{"method": "m", "more": 1}',
        b"[" * 100_000,
        b'{"method": "m", "params": ' + b'{"a":' * 100_000,
        b'{"method": ' + b"1" * 10_000 + b"}",
        b"\xff\xfe",
    ],
    ids=range(19),
)
def test_no_request(line):
    with pytest.raises(ProtocolError):
        decode_request(line)


@given(st.lists(st.binary().filter(lambda b: b"\n" not in b)), st.integers(1, 7))
def test_lines_are_cut_wherever_the_bytes_are(lines, step):
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    found = []
    for start in range(0, len(stream), step):
        found += splitter.feed(stream[start : start + step])
    assert found == lines


def test_a_line_without_end_is_refused_at_the_limit():
    splitter = LineSplitter(limit=10)
    splitter.feed(b"0123456789")
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        splitter.feed(b"0")


def test_a_long_line_with_an_end_is_refused_too():
    with pytest.raises(ProtocolError):
        LineSplitter(limit=10).feed(b"ok\n" + b"x" * 11 + b"\nok\n")


def test_encode_takes_what_json_does_not_know():
    assert json.loads(encode({"data": {"path": b"x"}})) == {"data": {"path": "b'x'"}}
