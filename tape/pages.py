"""Mode parameters and log pages of SPC-4, SSC-4 and SMC-3.

mode parameters (6)                     (10)
0  length of what follows               0  length of what follows, 16 bits
1  medium type                          2  medium type
2  device specific: WP in bit 7,        3  device specific
   buffered mode in bits 6..4
3  block descriptor length              6  block descriptor length, 16 bits
then the block descriptor (density, blocks 24 bits, -, block length 24 bits), then pages

log page: page code (SPF in bit 6, DS in bit 7), subpage, length 16 bits, parameters;
parameter: code 16 bits, control, length, value
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

COMPRESSION, DEVICE_CONFIGURATION, ELEMENT_ADDRESSES, ALL_PAGES = 0x0F, 0x10, 0x1D, 0x3F
"""Mode page codes."""

LOG_SUPPORTED, LOG_SEQUENTIAL_ACCESS, LOG_TAPE_ALERT_RESPONSE = 0x00, 0x0C, 0x12
LOG_TAPE_ALERT, LOG_TAPE_CAPACITY = 0x2E, 0x31
"""Log page codes."""

_HEADER_6 = struct.Struct(">BBBB")
_HEADER_10 = struct.Struct(">HBB2xH")
_BLOCK = struct.Struct(">II")
_LOG = struct.Struct(">BBH")
_PARAMETER = struct.Struct(">HBB")


class MalformedPage(ValueError):
    """Mode parameters or a log page whose lengths do not add up."""


@dataclass(frozen=True, slots=True)
class ModePage:
    """A mode page: `body` is what follows the length byte."""

    code: int
    body: bytes
    saveable: bool = False


@dataclass(frozen=True, slots=True)
class BlockDescriptor:
    """How blocks are recorded: `length` 0 means variable blocks."""

    density: int
    length: int
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class ModeParameters:
    """What MODE SENSE gives and MODE SELECT takes."""

    write_protected: bool = False
    buffered: int = 1
    medium_type: int = 0
    block: BlockDescriptor | None = None
    pages: tuple[ModePage, ...] = ()

    def page(self, code: int) -> ModePage | None:
        """Give the page of this code, or None."""
        return next((p for p in self.pages if p.code == code), None)


def encode_mode(parameters: ModeParameters, *, long: bool = False, select: bool = False) -> bytes:
    """Give mode parameters; `long` for the (10) form. `select`: the length field is reserved."""
    block = b"" if parameters.block is None else _encode_block(parameters.block)
    body = block + b"".join(_encode_page(p) for p in parameters.pages)
    specific = parameters.write_protected << 7 | parameters.buffered << 4
    if long:
        length = 0 if select else _HEADER_10.size - 2 + len(body)
        header = _HEADER_10.pack(length, parameters.medium_type, specific, len(block))
    else:
        length = 0 if select else _HEADER_6.size - 1 + len(body)
        header = _HEADER_6.pack(length, parameters.medium_type, specific, len(block))
    return header + body


def decode_mode(data: bytes, *, long: bool = False) -> ModeParameters:
    """Read mode parameters, those of MODE SELECT too; raises MalformedPage."""
    header = _HEADER_10 if long else _HEADER_6
    if len(data) < header.size:
        raise MalformedPage(f"{len(data)} bytes of mode parameters")
    length, medium, specific, descriptors = header.unpack_from(data)
    size = length + (2 if long else 1) if length else len(data)
    body = data[header.size : size]
    if descriptors > len(body) or descriptors % _BLOCK.size:
        raise MalformedPage(f"block descriptors of {descriptors} bytes")
    block = _decode_block(body) if descriptors else None
    return ModeParameters(
        write_protected=bool(specific & 0x80),
        buffered=specific >> 4 & 7,
        medium_type=medium,
        block=block,
        pages=tuple(_decode_pages(body[descriptors:])),
    )


def _encode_block(block: BlockDescriptor) -> bytes:
    return _BLOCK.pack(block.density << 24 | block.blocks, block.length)


def _decode_block(body: bytes) -> BlockDescriptor:
    first, second = _BLOCK.unpack_from(body)
    return BlockDescriptor(first >> 24, second & 0xFFFFFF, first & 0xFFFFFF)


def _encode_page(page: ModePage) -> bytes:
    return bytes((page.code | page.saveable << 7, len(page.body))) + page.body


def _decode_pages(body: bytes) -> Iterator[ModePage]:
    while body:
        if len(body) < 2 or body[0] & 0x40 or len(body) < 2 + body[1]:
            raise MalformedPage("a mode page is cut short")
        size = 2 + body[1]
        yield ModePage(body[0] & 0x3F, body[2:size], bool(body[0] & 0x80))
        body = body[size:]


@dataclass(frozen=True, slots=True)
class Compression:
    """Mode page 0Fh: data compression `enabled` (DCE) and `capable` (DCC), and decompression."""

    enabled: bool
    capable: bool = True
    decompression: bool = True
    algorithm: int = 0x01

    def encode(self) -> ModePage:
        """Give the mode page."""
        flags = self.enabled << 7 | self.capable << 6
        body = struct.pack(
            ">BBII4x", flags, self.decompression << 7, self.algorithm, self.algorithm
        )
        return ModePage(COMPRESSION, body)

    @classmethod
    def decode(cls, page: ModePage) -> "Compression":
        """Read the mode page; raises MalformedPage."""
        if page.code != COMPRESSION or len(page.body) < 6:
            raise MalformedPage("no data compression page")
        flags, expansion, algorithm = struct.unpack_from(">BBI", page.body)
        return cls(bool(flags & 0x80), bool(flags & 0x40), bool(expansion & 0x80), algorithm)


@dataclass(frozen=True, slots=True)
class DeviceConfiguration:
    """Mode page 10h, the fields that matter for streaming.

    `write_delay` in 100 ms; `early_warning_sync` (SEW): buffered blocks are written at
    early warning; `compression` the algorithm selected; `block_ids` (BIS): the drive
    records logical positions.
    """

    write_delay: int = 0
    early_warning_sync: bool = True
    compression: int = 1
    block_ids: bool = True

    def encode(self) -> ModePage:
        """Give the mode page."""
        body = bytearray(14)
        struct.pack_into(">H", body, 4, self.write_delay)
        body[6] = self.block_ids << 6
        body[8] = 0x08 if self.early_warning_sync else 0
        body[12] = self.compression
        return ModePage(DEVICE_CONFIGURATION, bytes(body))

    @classmethod
    def decode(cls, page: ModePage) -> "DeviceConfiguration":
        """Read the mode page; raises MalformedPage."""
        body = page.body
        if page.code != DEVICE_CONFIGURATION or len(body) < 14:
            raise MalformedPage("no device configuration page")
        return cls(
            write_delay=int.from_bytes(body[4:6], "big"),
            early_warning_sync=bool(body[8] & 0x08),
            compression=body[12],
            block_ids=bool(body[6] & 0x40),
        )


@dataclass(frozen=True, slots=True)
class ElementAddresses:
    """Mode page 1Dh: where each kind of element begins and how many there are."""

    first_transport: int
    transports: int
    first_slot: int
    slots: int
    first_mailslot: int
    mailslots: int
    first_drive: int
    drives: int

    def encode(self) -> ModePage:
        """Give the mode page."""
        body = struct.pack(
            ">8H2x",
            self.first_transport,
            self.transports,
            self.first_slot,
            self.slots,
            self.first_mailslot,
            self.mailslots,
            self.first_drive,
            self.drives,
        )
        return ModePage(ELEMENT_ADDRESSES, body)

    @classmethod
    def decode(cls, page: ModePage) -> "ElementAddresses":
        """Read the mode page; raises MalformedPage."""
        if page.code != ELEMENT_ADDRESSES or len(page.body) < 16:
            raise MalformedPage("no element address assignment page")
        return cls(*struct.unpack_from(">8H", page.body))


@dataclass(frozen=True, slots=True)
class LogParameter:
    """One parameter of a log page; numbers are big-endian."""

    code: int
    value: bytes
    control: int = 0x03

    @property
    def number(self) -> int:
        """The value as a number."""
        return int.from_bytes(self.value, "big")


@dataclass(frozen=True, slots=True)
class LogPage:
    """A log page."""

    code: int
    parameters: tuple[LogParameter, ...]
    subpage: int = 0

    def get(self, code: int) -> LogParameter | None:
        """Give the parameter of this code, or None."""
        return next((p for p in self.parameters if p.code == code), None)


def encode_log(page: LogPage) -> bytes:
    """Give a log page."""
    body = b"".join(
        _PARAMETER.pack(p.code, p.control, len(p.value)) + p.value for p in page.parameters
    )
    return _LOG.pack(page.code | (page.subpage > 0) << 6, page.subpage, len(body)) + body


def decode_log(data: bytes) -> LogPage:
    """Read a log page, as far as whole parameters go; raises MalformedPage."""
    if len(data) < _LOG.size:
        raise MalformedPage(f"{len(data)} bytes of log page")
    code, subpage, length = _LOG.unpack_from(data)
    body, found = data[_LOG.size : _LOG.size + length], []
    while len(body) >= _PARAMETER.size:
        number, control, size = _PARAMETER.unpack_from(body)
        value = body[_PARAMETER.size : _PARAMETER.size + size]
        if len(value) < size:
            break
        found.append(LogParameter(number, value, control))
        body = body[_PARAMETER.size + size :]
    return LogPage(code & 0x3F, tuple(found), subpage if code & 0x40 else 0)


def encode_supported_log_pages(codes: tuple[int, ...]) -> bytes:
    """Give log page 00h."""
    return _LOG.pack(LOG_SUPPORTED, 0, len(codes)) + bytes(sorted(codes))


def decode_supported_log_pages(data: bytes) -> tuple[int, ...]:
    """Read log page 00h: the page codes. Raises MalformedPage."""
    if len(data) < _LOG.size or data[0] & 0x3F != LOG_SUPPORTED:
        raise MalformedPage("no page of supported log pages")
    return tuple(data[_LOG.size : _LOG.size + int.from_bytes(data[2:4], "big")])


@dataclass(frozen=True, slots=True)
class SequentialAccess:
    """Log page 0Ch, in bytes, as the host sent and received them, and as they lie on tape."""

    written: int = 0
    written_to_medium: int = 0
    read_from_medium: int = 0
    read: int = 0
    cleaning_required: bool = False

    def encode(self) -> LogPage:
        """Give the log page."""
        values = (self.written, self.written_to_medium, self.read_from_medium, self.read)
        counts = tuple(LogParameter(i, v.to_bytes(8, "big")) for i, v in enumerate(values))
        return LogPage(
            LOG_SEQUENTIAL_ACCESS,
            (*counts, LogParameter(0x0100, self.cleaning_required.to_bytes(8, "big"))),
        )

    @classmethod
    def decode(cls, page: LogPage) -> "SequentialAccess":
        """Read the log page; counts that a drive leaves out are 0."""
        found = {p.code: p.number for p in page.parameters}
        first, second, third, fourth = (found.get(i, 0) for i in range(4))
        return cls(first, second, third, fourth, bool(found.get(0x0100, 0)))


@dataclass(frozen=True, slots=True)
class TapeAlerts:
    """The TapeAlert flags that are set, 1 to 64.

    Page 2Eh has a parameter a flag, and reading it clears them; page 12h has them as
    64 bits in parameter 0, flag 1 the highest, and leaves them.
    """

    flags: frozenset[int] = frozenset()

    def encode(self) -> LogPage:
        """Give page 2Eh."""
        return LogPage(
            LOG_TAPE_ALERT,
            tuple(LogParameter(i, bytes((i in self.flags,))) for i in range(1, 65)),
        )

    def encode_response(self) -> LogPage:
        """Give page 12h."""
        bits = sum(1 << (64 - flag) for flag in self.flags)
        return LogPage(LOG_TAPE_ALERT_RESPONSE, (LogParameter(0, bits.to_bytes(8, "big")),))

    @classmethod
    def decode(cls, page: LogPage) -> "TapeAlerts":
        """Read either page; raises MalformedPage for another."""
        if page.code == LOG_TAPE_ALERT:
            return cls(frozenset(p.code for p in page.parameters if p.number & 1))
        if page.code == LOG_TAPE_ALERT_RESPONSE:
            first = page.get(0)
            bits = first.number if first else 0
            return cls(frozenset(i for i in range(1, 65) if bits >> (64 - i) & 1))
        raise MalformedPage(f"log page {page.code:02X}h has no TapeAlert flags")


TAPE_ALERTS: Mapping[int, str] = {
    1: "read warning",
    2: "write warning",
    3: "hard error",
    4: "medium failure",
    5: "read failure",
    6: "write failure",
    7: "the medium has reached the end of its life",
    8: "not data grade",
    9: "write protect",
    10: "removal prevented",
    11: "cleaning medium loaded",
    12: "unsupported format",
    20: "clean now",
    21: "clean periodic",
    22: "expired cleaning medium",
    30: "hardware failure A",
    31: "hardware failure B",
    32: "interface",
    33: "eject medium",
    36: "drive temperature",
}
"""The TapeAlert flags that the virtual drives raise and the commonest of real ones, in words."""


@dataclass(frozen=True, slots=True)
class TapeCapacity:
    """Log page 31h for a tape of one partition, in MiB."""

    remaining: int
    maximum: int

    def encode(self) -> LogPage:
        """Give the log page."""
        values = {1: self.remaining, 2: 0, 3: self.maximum, 4: 0}
        return LogPage(
            LOG_TAPE_CAPACITY,
            tuple(LogParameter(c, v.to_bytes(4, "big")) for c, v in values.items()),
        )

    @classmethod
    def decode(cls, page: LogPage) -> "TapeCapacity":
        """Read the log page; raises MalformedPage when a value is missing."""
        remaining, maximum = page.get(1), page.get(3)
        if page.code != LOG_TAPE_CAPACITY or remaining is None or maximum is None:
            raise MalformedPage("no tape capacity page")
        return cls(remaining.number, maximum.number)
