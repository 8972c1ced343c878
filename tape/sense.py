"""Sense data of SPC-4, fixed (70h, 71h) and descriptor (72h, 73h) format.

    fixed                                   descriptor
    0  response code, VALID in bit 7        0  response code
    2  FILEMARK EOM ILI in bits 7 6 5, key  1  key
    3  INFORMATION, 32 bits                 2  ASC    3  ASCQ
    7  additional length                    7  additional length
    12 ASC    13 ASCQ                       8  descriptors: 00h INFORMATION (64 bits),
                                               04h stream commands (FILEMARK EOM ILI)

INFORMATION is signed: a block that is longer than asked for gives a negative residue.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NO_SENSE, RECOVERED, NOT_READY, MEDIUM_ERROR = 0x0, 0x1, 0x2, 0x3
HARDWARE_ERROR, ILLEGAL_REQUEST, UNIT_ATTENTION, DATA_PROTECT = 0x4, 0x5, 0x6, 0x7
BLANK_CHECK, VENDOR, COPY_ABORTED, ABORTED = 0x8, 0x9, 0xA, 0xB
VOLUME_OVERFLOW, MISCOMPARE = 0xD, 0xE

KEYS = {
    NO_SENSE: "no sense",
    RECOVERED: "recovered error",
    NOT_READY: "not ready",
    MEDIUM_ERROR: "medium error",
    HARDWARE_ERROR: "hardware error",
    ILLEGAL_REQUEST: "illegal request",
    UNIT_ATTENTION: "unit attention",
    DATA_PROTECT: "data protect",
    BLANK_CHECK: "blank check",
    VENDOR: "vendor specific",
    COPY_ABORTED: "copy aborted",
    ABORTED: "aborted command",
    VOLUME_OVERFLOW: "volume overflow",
    MISCOMPARE: "miscompare",
}
"""Sense keys in words."""

WORDS = {
    (0x00, 0x00): "no additional sense information",
    (0x00, 0x01): "filemark detected",
    (0x00, 0x02): "end of partition or medium detected",
    (0x00, 0x04): "beginning of partition or medium detected",
    (0x00, 0x05): "end of data detected",
    (0x04, 0x00): "not ready, cause not reportable",
    (0x04, 0x01): "becoming ready",
    (0x04, 0x02): "a cartridge is present but not loaded",
    (0x04, 0x03): "manual intervention required",
    (0x04, 0x12): "offline",
    (0x09, 0x00): "track following error",
    (0x0C, 0x00): "write error",
    (0x11, 0x00): "unrecovered read error",
    (0x14, 0x00): "recorded entity not found",
    (0x14, 0x03): "end of data not found",
    (0x15, 0x01): "mechanical positioning error",
    (0x1A, 0x00): "parameter list length error",
    (0x20, 0x00): "invalid command operation code",
    (0x21, 0x01): "invalid element address",
    (0x24, 0x00): "invalid field in CDB",
    (0x25, 0x00): "logical unit not supported",
    (0x26, 0x00): "invalid field in parameter list",
    (0x27, 0x00): "write protected",
    (0x28, 0x00): "medium may have changed",
    (0x28, 0x01): "import or export element accessed",
    (0x29, 0x00): "power on or reset occurred",
    (0x2A, 0x01): "mode parameters changed",
    (0x30, 0x00): "incompatible medium installed",
    (0x30, 0x03): "cleaning cartridge installed",
    (0x30, 0x07): "cleaning failure",
    (0x31, 0x00): "medium format corrupted",
    (0x39, 0x00): "saving parameters not supported",
    (0x3A, 0x00): "medium not present",
    (0x3B, 0x00): "sequential positioning error",
    (0x3B, 0x0D): "medium destination element full",
    (0x3B, 0x0E): "medium source element empty",
    (0x3B, 0x12): "medium magazine removed",
    (0x3F, 0x0E): "reported LUNs data has changed",
    (0x44, 0x00): "internal target failure",
    (0x53, 0x00): "media load or eject failed",
    (0x53, 0x02): "medium removal prevented",
    (0x55, 0x03): "insufficient resources",
    (0x74, 0x01): "unable to decrypt data",
}
"""Additional sense codes in words, (ASC, ASCQ)."""

_FIXED = struct.Struct(">BxBiB4xBB4x")
_DESCRIPTOR = struct.Struct(">BBBB3xB")
_INFORMATION = struct.Struct(">BBBxq")
_STREAM = struct.Struct(">BBxB")
_INT32 = range(-(1 << 31), 1 << 31)


class MalformedSense(ValueError):
    """Bytes that are no sense data, or too few of them."""


@dataclass(frozen=True, slots=True)
class Sense:
    """Why a command did not end GOOD; `information` counts only when `valid`.

    `information` is what is left of the length or count asked for: bytes for variable
    blocks, blocks for fixed ones, negative when a block was longer than asked for.
    `deferred` says that it speaks of an earlier command.
    """

    key: int
    asc: int = 0
    ascq: int = 0
    information: int = 0
    filemark: bool = False
    eom: bool = False
    ili: bool = False
    deferred: bool = False
    valid: bool = False

    @property
    def words(self) -> str:
        """The additional sense code in words, or in hexadecimal when the table lacks it."""
        found = WORDS.get((self.asc, self.ascq))
        key = KEYS.get(self.key, f"sense key {self.key:X}h")
        if found is None:
            return f"{key}, ASC {self.asc:02X}h ASCQ {self.ascq:02X}h"
        return found if (self.asc, self.ascq) != (0, 0) else key


def _flags(sense: Sense) -> int:
    return sense.filemark << 7 | sense.eom << 6 | sense.ili << 5


def encode(sense: Sense, *, descriptor: bool = False) -> bytes:
    """Give the sense data; fixed format when `information` fits it and not asked otherwise."""
    if descriptor or sense.information not in _INT32:
        return _encode_descriptor(sense)
    code = (0x71 if sense.deferred else 0x70) | sense.valid << 7
    return _FIXED.pack(
        code, _flags(sense) | sense.key, sense.information, 10, sense.asc, sense.ascq
    )


def _encode_descriptor(sense: Sense) -> bytes:
    body = b""
    if sense.valid or sense.information:
        body += _INFORMATION.pack(0x00, 0x0A, sense.valid << 7, sense.information)
    if _flags(sense):
        body += _STREAM.pack(0x04, 0x02, _flags(sense))
    code = 0x73 if sense.deferred else 0x72
    return _DESCRIPTOR.pack(code, sense.key, sense.asc, sense.ascq, len(body)) + body


def decode(data: bytes) -> Sense:
    """Read sense data of either format; raises MalformedSense."""
    if not data:
        raise MalformedSense("empty")
    code = data[0] & 0x7F
    if code in {0x70, 0x71}:
        return _decode_fixed(data, deferred=code == 0x71)
    if code in {0x72, 0x73}:
        return _decode_descriptor(data, deferred=code == 0x73)
    raise MalformedSense(f"response code {code:02X}h")


def _decode_fixed(data: bytes, *, deferred: bool) -> Sense:
    if len(data) < 8:
        raise MalformedSense(f"{len(data)} bytes")
    # Devices may cut the data short: what is not there is zero.
    code, flags, information, _, asc, ascq = _FIXED.unpack(data[:18].ljust(18, b"\0"))
    return Sense(
        key=flags & 0x0F,
        asc=asc,
        ascq=ascq,
        information=information,
        filemark=bool(flags & 0x80),
        eom=bool(flags & 0x40),
        ili=bool(flags & 0x20),
        deferred=deferred,
        valid=bool(code & 0x80),
    )


def _decode_descriptor(data: bytes, *, deferred: bool) -> Sense:
    if len(data) < 8:
        raise MalformedSense(f"{len(data)} bytes")
    _, key, asc, ascq, extra = _DESCRIPTOR.unpack_from(data)
    information, valid, flags = 0, False, 0
    for kind, body in _descriptors(data[8 : 8 + extra]):
        if kind == 0x00 and len(body) == _INFORMATION.size:
            _, _, mark, information = _INFORMATION.unpack(body)
            valid = bool(mark & 0x80)
        elif kind == 0x04 and len(body) == _STREAM.size:
            flags = body[3]
    return Sense(
        key=key & 0x0F,
        asc=asc,
        ascq=ascq,
        information=information,
        filemark=bool(flags & 0x80),
        eom=bool(flags & 0x40),
        ili=bool(flags & 0x20),
        deferred=deferred,
        valid=valid,
    )


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 2:
        size = 2 + data[1]
        yield data[0], data[:size]
        data = data[size:]
