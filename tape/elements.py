"""READ ELEMENT STATUS data of SMC-3: what lies in each element of a library.

    header        2 first address, 2 number of elements, 1 -, 3 bytes that follow
    page, a type  1 type, 1 PVOLTAG AVOLTAG in bits 7 6, 2 descriptor length, 1 -, 3 bytes
    descriptor    0  address
                  2  flags: EXENAB 5 INENAB 4 ACCESS 3 EXCEPT 2 IMPEXP 1 FULL 0
                  4  ASC   5  ASCQ
                  9  SVALID in bit 7, ED in bit 3, medium type in bits 2..0
                  10 source storage element address
                  12 primary volume tag, 36 bytes, when PVOLTAG
                  .. alternate volume tag, 36 bytes, when AVOLTAG
                  .. code set, identifier type, -, length, identifier

All numbers are big-endian. A length that does not add up is an error, never a loop.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

VOLUME_TAG = 36
_HEADER = struct.Struct(">HHI")
_PAGE = struct.Struct(">BBHI")
_DESCRIPTOR = struct.Struct(">HBxBB3xBH")
_IDENTIFIER = struct.Struct(">BBxB")


class MalformedElements(ValueError):
    """Element status data whose lengths do not add up."""


class ElementKind(IntEnum):
    """Element type codes."""

    TRANSPORT = 1
    SLOT = 2
    MAILSLOT = 3
    DRIVE = 4


@dataclass(frozen=True, slots=True)
class Element:
    """One place for a cartridge.

    `barcode` is the primary volume tag without padding, empty when there is none or it
    could not be read; `source` the slot that the cartridge came from, or None.
    `identifier` names the device behind a drive element (DVCID), `identifier_type` and
    `code_set` as in VPD page 83h. `imported`: an operator put the cartridge into the
    mail slot; `access`: the transport can reach the element.
    """

    address: int
    kind: ElementKind
    full: bool = False
    barcode: str = ""
    source: int | None = None
    access: bool = False
    exception: bool = False
    asc: int = 0
    ascq: int = 0
    import_enabled: bool = False
    export_enabled: bool = False
    imported: bool = False
    disabled: bool = False
    medium_type: int = 0
    identifier: bytes = b""
    identifier_type: int = 0
    code_set: int = 0

    @property
    def serial(self) -> str:
        """The serial number of the device behind a drive element, or empty."""
        raw = self.identifier[24:] if self.identifier_type == 1 else self.identifier
        return raw.decode("ascii", "replace").strip(" \0")


_KINDS = frozenset(kind.value for kind in ElementKind)
_FLAGS = (
    ("export_enabled", 0x20),
    ("import_enabled", 0x10),
    ("access", 0x08),
    ("exception", 0x04),
    ("imported", 0x02),
    ("full", 0x01),
)


def encode(
    elements: Sequence[Element], *, voltag: bool, dvcid: bool, allocation: int | None = None
) -> bytes:
    """Give the data for elements in order of type; only whole descriptors within `allocation`.

    The header tells the size of everything there is, as SMC-3 wants it.
    """
    pages = [
        (kind, _padded([_descriptor(e, voltag=voltag, dvcid=dvcid) for e in group]))
        for kind, group in groupby(elements, key=lambda e: e.kind)
    ]
    total = sum(_PAGE.size + sum(map(len, descriptors)) for _, descriptors in pages)
    first = min((e.address for e in elements), default=0)
    data = bytearray(_HEADER.pack(first, len(elements), total))
    left = len(data) + total if allocation is None else allocation
    for kind, descriptors in pages:
        _append_page(data, kind, descriptors, left, voltag=voltag)
    return bytes(data[:left])


def _padded(descriptors: list[bytes]) -> list[bytes]:
    """Make the descriptors of a page equally long: identifiers differ in length."""
    size = max(map(len, descriptors))
    return [descriptor.ljust(size, b"\0") for descriptor in descriptors]


def _append_page(
    data: bytearray, kind: ElementKind, descriptors: list[bytes], limit: int, *, voltag: bool
) -> None:
    size = len(descriptors[0])
    room = limit - len(data) - _PAGE.size
    fitting = min(len(descriptors), room // size)
    if fitting <= 0:
        return
    tags = 0x80 if voltag else 0
    data += _PAGE.pack(kind, tags, size, size * fitting)
    for descriptor in descriptors[:fitting]:
        data += descriptor


def _descriptor(element: Element, *, voltag: bool, dvcid: bool) -> bytes:
    flags = sum(bit for name, bit in _FLAGS if getattr(element, name))
    origin = element.medium_type & 0x07 | element.disabled << 3
    if element.source is not None:
        origin |= 0x80
    data = _DESCRIPTOR.pack(
        element.address, flags, element.asc, element.ascq, origin, element.source or 0
    )
    if voltag:
        data += _volume_tag(element.barcode)
    identifier = element.identifier if dvcid else b""
    code_set, kind = (element.code_set, element.identifier_type) if identifier else (0, 0)
    return data + _IDENTIFIER.pack(code_set, kind, len(identifier)) + identifier


def _volume_tag(barcode: str) -> bytes:
    if not barcode:
        return bytes(VOLUME_TAG)
    return barcode.encode("ascii").ljust(32)[:32] + bytes(4)


def decode(data: bytes) -> tuple[Element, ...]:
    """Read element status data; raises MalformedElements when lengths do not add up.

    Data cut short by the allocation length is read as far as whole descriptors go.
    """
    if len(data) < _HEADER.size:
        raise MalformedElements(f"{len(data)} bytes")
    _, count, available = _HEADER.unpack_from(data)
    body = data[_HEADER.size : _HEADER.size + (available & 0xFFFFFF)]
    found = tuple(_decode_pages(body))
    if len(found) > count:
        raise MalformedElements(f"{len(found)} descriptors for {count} elements")
    return found


def bytes_available(data: bytes) -> int:
    """Tell from a header how many bytes everything takes, the header included."""
    if len(data) < _HEADER.size:
        raise MalformedElements(f"{len(data)} bytes")
    return _HEADER.size + int(_HEADER.unpack_from(data)[2] & 0xFFFFFF)


def _decode_pages(body: bytes) -> Iterator[Element]:
    while len(body) >= _PAGE.size:
        kind, tags, size, length = _PAGE.unpack_from(body)
        length &= 0xFFFFFF
        if kind not in _KINDS:
            raise MalformedElements(f"element type {kind}")
        least = _DESCRIPTOR.size + VOLUME_TAG * ((tags >> 7) + (tags >> 6 & 1))
        if size < least or length % size:
            raise MalformedElements(f"descriptors of {size} bytes in a page of {length}")
        page, body = body[_PAGE.size : _PAGE.size + length], body[_PAGE.size + length :]
        for start in range(0, len(page) - size + 1, size):
            yield _decode_descriptor(page[start : start + size], ElementKind(kind), tags)


def _decode_descriptor(raw: bytes, kind: ElementKind, tags: int) -> Element:
    address, flags, asc, ascq, origin, source = _DESCRIPTOR.unpack_from(raw)
    rest = raw[_DESCRIPTOR.size :]
    barcode = ""
    if tags & 0x80:
        barcode = rest[:32].decode("ascii", "replace").strip(" \0")
        rest = rest[VOLUME_TAG:]
    if tags & 0x40:
        rest = rest[VOLUME_TAG:]
    code_set, identifier_type, identifier = _identifier(rest)
    return Element(
        address=address,
        kind=kind,
        barcode=barcode,
        source=source if origin & 0x80 else None,
        asc=asc,
        ascq=ascq,
        disabled=bool(origin & 0x08),
        medium_type=origin & 0x07,
        identifier=identifier,
        identifier_type=identifier_type,
        code_set=code_set,
        **{name: bool(flags & bit) for name, bit in _FLAGS},
    )


def _identifier(rest: bytes) -> tuple[int, int, bytes]:
    if len(rest) < _IDENTIFIER.size:
        return 0, 0, b""
    code_set, kind, length = _IDENTIFIER.unpack_from(rest)
    value = rest[_IDENTIFIER.size : _IDENTIFIER.size + length]
    if len(value) < length:
        raise MalformedElements("a device identifier is cut short")
    return code_set & 0x0F, kind & 0x0F, value


def sort_for_report(elements: Iterable[Element]) -> list[Element]:
    """Give elements in the order of a report: by type, then by address."""
    return sorted(elements, key=lambda e: (e.kind, e.address))
