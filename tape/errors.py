"""The tree of tape errors.

    TapeError
    ├── DeviceNotFound      no drive, changer, cartridge or library of this name
    ├── DeviceBusy          the device is reserved; says by whom and since when
    ├── InvalidRequest      the operator asked for something that cannot be
    ├── TransportFailed     the command did not reach the device or did not come back
    └── SenseError          the device answered CHECK CONDITION; carries the sense data
        ├── NotReady            no cartridge, becoming ready, needs an operator
        ├── MediumError         the cartridge or the head failed
        ├── HardwareError
        ├── IllegalRequest
        ├── UnitAttention       reset, cartridge changed, inventory changed
        ├── WriteProtected
        ├── BlankCheck          end of data
        ├── FilemarkReached
        ├── EndOfMedium         early warning or physical end
        ├── IncorrectLength
        └── ReservationConflict

Every member carries its data as attributes, a stable `code`, the exit code of the
command line (1 failed, 2 usage, 3 refused, 4 needs an operator), and what to do next.
"""

from dataclasses import dataclass
from typing import ClassVar


class TapeError(Exception):
    """Root of the tape errors: `code` is stable, `str()` is one line for an operator."""

    code: ClassVar[str] = "tape.error"
    exit_code: ClassVar[int] = 1
    template: ClassVar[str] = "tape error"
    advice: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.template.format_map(vars(self))


@dataclass(eq=False)
class DeviceNotFound(TapeError):
    """A drive, changer, cartridge, slot or library does not exist."""

    code = "tape.not_found"
    template = "{kind} {name} does not exist"
    advice = "see what is there with: snapreel library show"
    kind: str
    name: str


@dataclass(eq=False)
class DeviceBusy(TapeError):
    """The device is reserved by `holder` since `since` (ISO time, or empty)."""

    code = "tape.busy"
    exit_code = 3
    template = "{kind} {name} is in use by {holder} since {since}"
    advice = "wait for it to end, or abort it with: snapreel session abort"
    kind: str
    name: str
    holder: str
    since: str


@dataclass(eq=False)
class InvalidRequest(TapeError):
    """What was asked cannot be; `reason` says why."""

    code = "tape.invalid"
    exit_code = 3
    template = "{what}: {reason}"
    what: str
    reason: str


@dataclass(eq=False)
class TransportFailed(TapeError):
    """The command did not reach `device`, or did not come back."""

    code = "tape.transport"
    template = "{device}: {command} did not complete: {reason}"
    advice = "check the device and its cabling; its position is unknown until it is rewound"
    device: str
    command: str
    reason: str
