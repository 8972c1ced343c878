"""INQUIRY data of SPC-4: the standard page, and the vital product data pages we read.

standard                          vital product data
0   peripheral device type        00h  supported pages
1   RMB in bit 7                  80h  unit serial number, ASCII
2   version                       83h  device identification: designators
3   response data format          (1 type, 1 page code, 2 length, then the body)
4   additional length
8   vendor, 8 characters
16  product, 16 characters
32  revision, 4 characters
"""

import struct
from dataclasses import dataclass

TAPE_DRIVE, CHANGER = 0x01, 0x08
"""Peripheral device types."""

PAGE_SUPPORTED, PAGE_SERIAL, PAGE_IDENTIFICATION = 0x00, 0x80, 0x83
"""Vital product data pages."""

T10_VENDOR, NAA = 1, 3
"""Designator types."""

_STANDARD = struct.Struct(">BBBBB3x8s16s4s")
_VPD = struct.Struct(">BBH")


class MalformedInquiry(ValueError):
    """Bytes that are no INQUIRY data, or too few of them."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What kind of device answers, and who made it; text is ASCII without padding."""

    device_type: int
    vendor: str
    product: str
    revision: str
    removable: bool = True
    version: int = 6

    def encode(self) -> bytes:
        """Give the 36 bytes of standard INQUIRY data."""
        return _STANDARD.pack(
            self.device_type,
            self.removable << 7,
            self.version,
            0x02,
            _STANDARD.size - 5,
            _pad(self.vendor, 8),
            _pad(self.product, 16),
            _pad(self.revision, 4),
        )

    @classmethod
    def decode(cls, data: bytes) -> "Inquiry":
        """Read standard INQUIRY data; raises MalformedInquiry when it has under 36 bytes."""
        if len(data) < _STANDARD.size:
            raise MalformedInquiry(f"{len(data)} bytes of standard INQUIRY data")
        kind, removable, version, _, _, vendor, product, revision = _STANDARD.unpack_from(data)
        return cls(
            kind & 0x1F,
            _text(vendor),
            _text(product),
            _text(revision),
            bool(removable & 0x80),
            version,
        )


@dataclass(frozen=True, slots=True)
class Designator:
    """One name of a device (page 83h): `value` as it is on the wire.

    `code_set` 1 is binary, 2 ASCII, 3 UTF-8; `association` 0 is the logical unit.
    """

    type: int
    value: bytes
    code_set: int = 2
    association: int = 0
    protocol: int = 0


def _pad(text: str, size: int) -> bytes:
    raw = text.encode("ascii")
    if len(raw) > size:
        raise MalformedInquiry(f"{text!r} is longer than {size}")
    return raw.ljust(size)


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")


def _page(device_type: int, page: int, body: bytes) -> bytes:
    return _VPD.pack(device_type, page, len(body)) + body


def _body(data: bytes, page: int) -> bytes:
    if len(data) < _VPD.size:
        raise MalformedInquiry(f"{len(data)} bytes of vital product data")
    _, found, length = _VPD.unpack_from(data)
    if found != page:
        raise MalformedInquiry(f"page {found:02X}h instead of {page:02X}h")
    body = data[_VPD.size : _VPD.size + length]
    if len(body) < length:
        raise MalformedInquiry(f"page {page:02X}h is cut short")
    return body


def encode_supported(device_type: int, pages: tuple[int, ...]) -> bytes:
    """Give page 00h."""
    return _page(device_type, PAGE_SUPPORTED, bytes(sorted(pages)))


def decode_supported(data: bytes) -> tuple[int, ...]:
    """Read page 00h: the page codes. Raises MalformedInquiry."""
    return tuple(_body(data, PAGE_SUPPORTED))


def encode_serial(device_type: int, serial: str) -> bytes:
    """Give page 80h."""
    return _page(device_type, PAGE_SERIAL, serial.encode("ascii"))


def decode_serial(data: bytes) -> str:
    """Read page 80h: the unit serial number without padding. Raises MalformedInquiry."""
    return _text(_body(data, PAGE_SERIAL))


def encode_identification(device_type: int, designators: tuple[Designator, ...]) -> bytes:
    """Give page 83h."""
    body = b"".join(
        bytes((d.protocol << 4 | d.code_set, d.association << 4 | d.type, 0, len(d.value)))
        + d.value
        for d in designators
    )
    return _page(device_type, PAGE_IDENTIFICATION, body)


def decode_identification(data: bytes) -> tuple[Designator, ...]:
    """Read page 83h; raises MalformedInquiry when a designator is cut short."""
    body = _body(data, PAGE_IDENTIFICATION)
    found = []
    while body:
        if len(body) < 4 or len(body) < 4 + body[3]:
            raise MalformedInquiry("a designator is cut short")
        value = body[4 : 4 + body[3]]
        first, second = body[0], body[1]
        found.append(Designator(second & 0x0F, value, first & 0x0F, second >> 4 & 3, first >> 4))
        body = body[4 + len(value) :]
    return tuple(found)


def t10_identifier(vendor: str, product: str, serial: str) -> bytes:
    """Give the value of a T10 vendor designator: vendor and product padded, then the serial."""
    return _pad(vendor, 8) + _pad(product, 16) + serial.encode("ascii")


def t10_serial(value: bytes) -> str:
    """Give the serial number at the end of a T10 vendor designator."""
    return _text(value[24:])
