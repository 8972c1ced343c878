"""What drives and changers share: a transport, and commands every device answers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from typing_extensions import Buffer

from tape import cdb, inquiry, sense, timeouts
from tape.cdb import Command
from tape.completion import error_for, raise_for, sense_of
from tape.errors import BecomingReady, InvalidRequest, TransportFailed, UnitAttention
from tape.sense import Sense
from tape.transport import Completion, Transport

_ATTENTIONS_AT_MOST = 16
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device says it is; `designators` are those of VPD page 83h."""

    device_type: int
    vendor: str
    product: str
    revision: str
    serial: str
    designators: tuple[inquiry.Designator, ...] = ()


class Device:
    """A SCSI device behind a transport that it owns. Leaving it as a context closes that.

    Every method blocks and raises `tape.errors`. A unit attention is an error like
    others: call `clear_attentions` when the device is opened, not in the middle of work.
    """

    timeouts: Mapping[int, float] = {}

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """What to call the device in messages."""
        return self.transport.name

    def execute(
        self,
        command: Command,
        *,
        data_out: Buffer | None = None,
        data_in: Buffer | None = None,
        **fields: int,
    ) -> Completion:
        """Carry out one command with the timeout of its kind, however it ends.

        Raises InvalidRequest for a number that the command cannot carry, and nothing else.
        """
        try:
            block = command.encode(**fields)
        except cdb.MalformedCdb as error:
            raise InvalidRequest(self.name, str(error)) from error
        return self.transport.execute(
            block,
            data_out=data_out,
            data_in=data_in,
            timeout=self.timeouts.get(command.opcode, timeouts.DEFAULT),
        )

    def do(
        self,
        command: Command,
        *,
        data_out: Buffer | None = None,
        data_in: Buffer | None = None,
        **fields: int,
    ) -> Completion:
        """Carry out one command; raises unless it ended GOOD."""
        done = self.execute(command, data_out=data_out, data_in=data_in, **fields)
        raise_for(done, self.name, command.name)
        return done

    def fetch(self, command: Command, size: int, **fields: int) -> bytes:
        """Carry out one command with allocation length `size`; gives what came."""
        buffer = bytearray(size)
        done = self.do(command, data_out=None, data_in=buffer, allocation=size, **fields)
        return bytes(buffer[: size - done.residual])

    def identify(self) -> Identity:
        """Ask the device who it is; raises TransportFailed when its answer makes no sense."""
        try:
            base = inquiry.Inquiry.decode(self.fetch(cdb.INQUIRY, 96))
            serial = inquiry.decode_serial(self._vital_page(inquiry.PAGE_SERIAL))
            names = inquiry.decode_identification(self._vital_page(inquiry.PAGE_IDENTIFICATION))
        except inquiry.MalformedInquiry as error:
            raise TransportFailed(self.name, "INQUIRY", str(error)) from error
        return Identity(base.device_type, base.vendor, base.product, base.revision, serial, names)

    def _vital_page(self, page: int) -> bytes:
        return self.fetch(cdb.INQUIRY, 1024, evpd=1, page=page)

    def ready(self) -> None:
        """Return when the device can work; raises NotReady, UnitAttention."""
        self.do(cdb.TEST_UNIT_READY)

    def clear_attentions(self) -> list[Sense]:
        """Take the unit attentions that wait, and tell what they were.

        A device that is not ready is none of its business; one that does not answer is:
        raises TransportFailed, ReservationConflict.
        """
        found: list[Sense] = []
        for _ in range(_ATTENTIONS_AT_MOST):
            done = self.execute(cdb.TEST_UNIT_READY)
            waiting = sense_of(done)
            if waiting is None:
                raise_for(done, self.name, cdb.TEST_UNIT_READY.name)
                return found
            if waiting.key != sense.UNIT_ATTENTION:
                return found
            found.append(waiting)
        raise error_for(found[-1], self.name, cdb.TEST_UNIT_READY.name)

    def wait_ready(self, seconds: float = 600.0) -> None:
        """Return when the device can work; waits while it is becoming ready.

        Raises NotReady and its kin at once when waiting would not help, BecomingReady
        when `seconds` are over. Unit attentions are taken.
        """
        deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
        while True:
            self.clear_attentions()
            try:
                self.ready()
            except (BecomingReady, UnitAttention):
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def request_sense(self) -> Sense:
        """Ask for sense data without a command having failed."""
        return sense.decode(self.fetch(cdb.REQUEST_SENSE, 252))

    def prevent_removal(self) -> None:
        """Hold the cartridge fast (a drive), lock mail slots and door (a changer)."""
        self.do(cdb.PREVENT_ALLOW, prevent=1)

    def allow_removal(self) -> None:
        """Undo `prevent_removal`."""
        self.do(cdb.PREVENT_ALLOW, prevent=0)

    def reserve(self) -> None:
        """Keep other hosts off; raises ReservationConflict."""
        self.do(cdb.RESERVE_6)

    def release(self) -> None:
        """Let other hosts in."""
        self.do(cdb.RELEASE_6)

    def close(self) -> None:
        """Close the transport; the device stays as it is."""
        self.transport.close()
