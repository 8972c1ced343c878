"""The one seam between Snapreel and a SCSI device.

A `Transport` carries one command at a time and gives back data, never an exception, for
whatever the device says; drives and changers turn that into the error tree. The virtual
library implements it in-process; SG_IO implements it for real devices.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from typing_extensions import Buffer


class Category(Enum):
    """What kind of end a command had, as sg3-utils' pass-through sorts it."""

    GOOD = "good"
    STATUS = "status"
    SENSE = "sense"
    TRANSPORT = "transport"
    OS = "os"


@dataclass(frozen=True, slots=True)
class Completion:
    """How a command ended.

    `status` is the SCSI status byte, `sense` the raw sense data (fixed or descriptor),
    `residual` bytes asked for but not transferred, `duration` seconds.
    `reason` is the text for TRANSPORT and OS ends.
    """

    category: Category
    status: int = 0
    sense: bytes = b""
    residual: int = 0
    duration: float = 0.0
    reason: str = ""


class Transport(Protocol):
    """A SCSI logical unit that takes commands one at a time, blocking the calling thread."""

    @property
    def name(self) -> str:
        """What to call the device in messages."""
        ...

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: Buffer | None = None,
        data_in: Buffer | None = None,
        timeout: float = 60.0,
    ) -> Completion:
        """Carry out one command; `data_in` is filled in place. `timeout` in seconds."""
        ...

    def abort(self) -> None:
        """Break off the command that another thread runs; it ends as a TRANSPORT failure.

        Does nothing when none runs.
        """
        ...

    def close(self) -> None:
        """Let go of the device; its state (position, cartridge) stays."""
        ...
