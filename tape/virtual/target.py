"""What the virtual drive and the virtual changer share: dispatch, INQUIRY, unit attentions."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar

from typing_extensions import Buffer

from tape import cdb, inquiry, sense
from tape.cdb import Command, MalformedCdb
from tape.inquiry import Designator, Inquiry
from tape.sense import Sense
from tape.transport import Category, Completion

Fields = dict[str, int]
_CHECK_CONDITION = 0x02
_GOOD = Completion(Category.GOOD)
_PASS_ATTENTIONS = frozenset((cdb.INQUIRY.opcode, cdb.REQUEST_SENSE.opcode, cdb.REPORT_LUNS.opcode))


class CheckCondition(Exception):
    """Ends a command with sense data."""

    def __init__(self, sense_data: Sense) -> None:
        super().__init__(sense_data.words)
        self.sense = sense_data


def refuse(asc: int, ascq: int = 0) -> CheckCondition:
    """Give an ILLEGAL REQUEST."""
    return CheckCondition(Sense(sense.ILLEGAL_REQUEST, asc, ascq))


INVALID_FIELD = (0x24, 0x00)
INVALID_PARAMETER = (0x26, 0x00)


class Exchange:
    """The data of one command: `out` from the host, `into` to the host, bytes `moved`."""

    __slots__ = ("into", "moved", "out")

    def __init__(self, data_out: Buffer | None, data_in: Buffer | None) -> None:
        self.out = _bytes_of(data_out)
        self.into = _bytes_of(data_in)
        self.moved = 0

    def reply(self, data: bytes, allocation: int) -> None:
        """Send data, cut to the allocation length and to the host's buffer."""
        size = min(len(data), allocation, len(self.into))
        self.into[:size] = data[:size]
        self.moved = size

    def take(self, length: int) -> memoryview:
        """Receive `length` bytes; ABORTED COMMAND when the host sent fewer."""
        if len(self.out) < length:
            raise CheckCondition(Sense(sense.ABORTED, 0x4B, 0x00))
        self.moved = length
        return self.out[:length]

    @property
    def residual(self) -> int:
        """Bytes of the host's buffers that were not used."""
        return len(self.out) + len(self.into) - self.moved


_NOTHING = memoryview(b"")


def _bytes_of(buffer: Buffer | None) -> memoryview:
    return _NOTHING if buffer is None else memoryview(buffer).cast("B")


Handler = Callable[[Fields, Exchange], None]


class Target(ABC):
    """A SCSI logical unit: answers CDBs one at a time."""

    commands: ClassVar[Mapping[int, Command]]

    def __init__(self, identity: Inquiry, serial: str) -> None:
        self.identity = identity
        self.serial = serial
        self._handlers: dict[int, Handler] = {
            cdb.INQUIRY.opcode: self._inquiry,
            cdb.REQUEST_SENSE.opcode: self._request_sense,
            cdb.REPORT_LUNS.opcode: self._report_luns,
        }

    @abstractmethod
    def _exclusive(self) -> AbstractContextManager[object]:
        """Hold the device for one command."""

    @abstractmethod
    def _next_attention(self) -> tuple[int, int] | None:
        """Take the unit attention that waits longest, (ASC, ASCQ)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""

    def execute(
        self, block: bytes, data_out: Buffer | None = None, data_in: Buffer | None = None
    ) -> Completion:
        """Carry out one command."""
        exchange = Exchange(data_out, data_in)
        try:
            command = self.commands.get(block[0]) if block else None
            handler = self._handlers.get(command.opcode) if command else None
            if command is None or handler is None:
                raise refuse(0x20)
            fields = _decode(command, block)
            with self._exclusive():
                self._raise_attention(command.opcode)
                handler(fields, exchange)
        except CheckCondition as check:
            return _sense_completion(check.sense, exchange.residual)
        residual = exchange.residual
        return Completion(Category.GOOD, residual=residual) if residual else _GOOD

    def _raise_attention(self, opcode: int) -> None:
        if opcode in _PASS_ATTENTIONS:
            return
        waiting = self._next_attention()
        if waiting is not None:
            raise CheckCondition(Sense(sense.UNIT_ATTENTION, *waiting))

    def _inquiry(self, fields: Fields, exchange: Exchange) -> None:
        if not fields["evpd"]:
            if fields["page"]:
                raise refuse(*INVALID_FIELD)
            data = self.identity.encode()
        else:
            data = self._vital_page(fields["page"])
        exchange.reply(data, fields["allocation"])

    def _vital_page(self, page: int) -> bytes:
        kind = self.identity.device_type
        if page == inquiry.PAGE_SUPPORTED:
            pages = (page, inquiry.PAGE_SERIAL, inquiry.PAGE_IDENTIFICATION)
            return inquiry.encode_supported(kind, pages)
        if page == inquiry.PAGE_SERIAL:
            return inquiry.encode_serial(kind, self.serial)
        if page == inquiry.PAGE_IDENTIFICATION:
            return inquiry.encode_identification(kind, (self.designator,))
        raise refuse(*INVALID_FIELD)

    @property
    def designator(self) -> Designator:
        """The device's name: T10 vendor identification with the serial number."""
        who = self.identity
        return Designator(
            inquiry.T10_VENDOR, inquiry.t10_identifier(who.vendor, who.product, self.serial)
        )

    def _request_sense(self, fields: Fields, exchange: Exchange) -> None:
        waiting = self._next_attention()
        found = Sense(sense.UNIT_ATTENTION, *waiting) if waiting else Sense(sense.NO_SENSE)
        exchange.reply(sense.encode(found, descriptor=bool(fields["desc"])), fields["allocation"])

    def _report_luns(self, fields: Fields, exchange: Exchange) -> None:
        exchange.reply((8).to_bytes(4, "big") + bytes(12), fields["allocation"])

    def _accept(self, _fields: Fields, _exchange: Exchange) -> None:
        """End GOOD: one opener at a time holds every reservation there is."""
        return


def _decode(command: Command, block: bytes) -> Fields:
    try:
        return command.decode(block)
    except MalformedCdb:
        raise refuse(*INVALID_FIELD) from None


def _sense_completion(found: Sense, residual: int) -> Completion:
    return Completion(
        Category.SENSE, status=_CHECK_CONDITION, sense=sense.encode(found), residual=residual
    )


def process_name() -> str:
    """Tell which process this is, for the one who finds a device busy."""
    return f"process {os.getpid()}"
