"""What is added to libfuse's answer to INIT."""

import struct

import pytest

from fuse.handshake import (
    AUTO_INVAL_DATA,
    EXPLICIT_INVAL_DATA,
    HANDLE_KILLPRIV_V2,
    WANTED,
    complete,
)

LIBFUSE = AUTO_INVAL_DATA | 0b1001


def offer(flags: int, opcode: int = 26) -> bytes:
    return struct.pack("=IIQQIIIHH", 104, opcode, 2, 0, 0, 0, 0, 0, 0) + struct.pack(
        "=IIIII", 7, 45, 131072, flags, 0
    )


def answer(flags: int = LIBFUSE, error: int = 0) -> bytes:
    return struct.pack("=IiQIIII", 80, error, 2, 7, 34, 131072, flags) + bytes(48)


def flags_of(data: bytes) -> int:
    return int(struct.unpack_from("=I", data, 28)[0])


def test_wanted_features_are_added() -> None:
    completed = complete(offer(0xFFFFFFFF), answer())
    assert flags_of(completed) == (LIBFUSE & ~AUTO_INVAL_DATA) | WANTED
    assert completed[:28] == answer()[:28]
    assert completed[32:] == answer()[32:]


def test_a_kernel_without_them_is_not_asked() -> None:
    assert complete(offer(AUTO_INVAL_DATA), answer()) == answer()
    only = complete(offer(HANDLE_KILLPRIV_V2 | AUTO_INVAL_DATA), answer())
    assert flags_of(only) == LIBFUSE | HANDLE_KILLPRIV_V2
    assert not flags_of(only) & EXPLICIT_INVAL_DATA


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (offer(0xFFFFFFFF, opcode=3), answer()),
        (offer(0xFFFFFFFF), answer(error=-71)),
        (offer(0xFFFFFFFF), answer()[:24]),
        (b"", answer()),
    ],
)
def test_anything_else_is_left_alone(asked: bytes, told: bytes) -> None:
    assert complete(asked, told) == told
