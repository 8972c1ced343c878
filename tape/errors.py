"""The tree of tape errors.

    TapeError
    ├── DeviceNotFound      no drive, changer, cartridge or library of this name
    ├── DeviceBusy          the device is reserved; says by whom and since when
    ├── InvalidRequest      the operator asked for something that cannot be
    ├── InvalidName         no name of a device or cartridge
    ├── LibraryDamaged      files of a virtual library that cannot be read
    ├── TransportFailed     the command did not reach the device or did not come back
    └── SenseError          the device answered CHECK CONDITION; carries the sense data
        ├── NotReady            NoCartridge, NotLoaded, BecomingReady, CleaningCartridge
        ├── MediumError         the cartridge or the head failed
        ├── HardwareError       StorageFull
        ├── IllegalRequest      SourceEmpty, DestinationFull, InvalidElement, RemovalPrevented
        ├── UnitAttention       DeviceReset, CartridgeChanged, InventoryChanged
        ├── WriteProtected
        ├── BlankCheck          end of data
        ├── FilemarkReached
        ├── BeginningOfMedium   spacing backward met the beginning
        ├── EndOfMedium         the tape is full (early warning is no error)
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


@dataclass(eq=False)
class InvalidName(TapeError):
    """Text that names no device, barcode or library; `reason` says what would."""

    code = "tape.invalid_name"
    exit_code = 2
    template = "{kind} {name!r} cannot be used: {reason}"
    kind: str
    name: str
    reason: str


@dataclass(eq=False)
class LibraryDamaged(TapeError):
    """Files of a virtual library that cannot be read; `reason` says which and why."""

    code = "tape.library_damaged"
    template = "virtual library {library}: {reason}"
    advice = "restore the file named from a copy; cartridges keep their data in media/"
    library: str
    reason: str


@dataclass(eq=False)
class SenseError(TapeError):
    """`device` answered `command` with sense data; `reason` says it in words.

    `key`, `asc`, `ascq` as in SPC-4; `information` is what was left of the count asked
    for, or None; `deferred`: it speaks of an earlier command.
    """

    code = "tape.sense"
    template = "{device}: {command}: {reason}"
    advice = "look at the drive and the cartridge with: snapreel tape status"
    device: str
    command: str
    reason: str
    key: int = 0
    asc: int = 0
    ascq: int = 0
    information: int | None = None
    eom: bool = False
    deferred: bool = False


class NotReady(SenseError):
    """The drive cannot reach a cartridge; somebody may have to do something."""

    code = "tape.not_ready"
    exit_code = 4
    advice = "see what the drive holds with: snapreel library show"


class NoCartridge(NotReady):
    """There is no cartridge in the drive."""

    code = "tape.no_cartridge"
    template = "{device}: there is no cartridge in it"
    advice = "load one with: snapreel library load"


class NotLoaded(NotReady):
    """A cartridge is in the drive's mouth but not threaded."""

    code = "tape.not_loaded"
    template = "{device}: its cartridge is unloaded"
    advice = "load it again with: snapreel library load, or move it to a slot"


class BecomingReady(NotReady):
    """The drive is loading or positioning; asking again later helps."""

    code = "tape.becoming_ready"
    exit_code = 1
    template = "{device}: it is becoming ready"
    advice = "wait and try again"


class CleaningCartridge(NotReady):
    """The cartridge in the drive is a cleaning cartridge."""

    code = "tape.cleaning_cartridge"
    template = "{device}: a cleaning cartridge is in it"
    advice = "let the cleaning end, then unload it with: snapreel library unload"


class MediumError(SenseError):
    """The cartridge, or the head on it, failed."""

    code = "tape.medium"
    advice = "try the cartridge in another drive; do not write to it again"


class HardwareError(SenseError):
    """The drive or library failed."""

    code = "tape.hardware"
    advice = "take the device out of use; the cartridge may well be good in another drive"


class StorageFull(HardwareError):
    """A virtual drive could not write: the file system below it is full."""

    code = "tape.storage_full"
    exit_code = 4
    template = "{device}: {command}: the storage behind it is full"
    advice = "free space on the file system of the library; what is on the cartridge is whole"


class IllegalRequest(SenseError):
    """The device does not know the command, or refuses it as it stands."""

    code = "tape.illegal_request"
    advice = "this device cannot do it"


class SourceEmpty(IllegalRequest):
    """MOVE MEDIUM from an element that holds nothing."""

    code = "tape.source_empty"
    exit_code = 3
    template = "{device}: {command}: there is no cartridge in the source element"
    advice = "see what lies where with: snapreel library show"


class DestinationFull(IllegalRequest):
    """MOVE MEDIUM to an element that holds a cartridge already."""

    code = "tape.destination_full"
    exit_code = 3
    template = "{device}: {command}: the destination element is full"
    advice = "see what lies where with: snapreel library show"


class InvalidElement(IllegalRequest):
    """An element address that the library does not have."""

    code = "tape.invalid_element"
    exit_code = 3
    template = "{device}: {command}: there is no such element"
    advice = "see the library's elements with: snapreel library show"


class RemovalPrevented(IllegalRequest):
    """The drive holds its cartridge fast: somebody is using it."""

    code = "tape.removal_prevented"
    exit_code = 3
    template = "{device}: {command}: the drive holds its cartridge fast"
    advice = "see who uses the drive with: snapreel session list"


class UnitAttention(SenseError):
    """Something happened to the device since the last command."""

    code = "tape.unit_attention"
    advice = "the tape may have moved: rewind, check the cartridge and start again"


class DeviceReset(UnitAttention):
    """The device was reset or lost power; position and settings are gone."""

    code = "tape.reset"


class CartridgeChanged(UnitAttention):
    """A cartridge was loaded or changed."""

    code = "tape.cartridge_changed"
    advice = "check which cartridge is loaded with: snapreel library show"


class InventoryChanged(UnitAttention):
    """A mail slot or the door was opened."""

    code = "tape.inventory_changed"
    advice = "take a new inventory with: snapreel library inventory"


class WriteProtected(SenseError):
    """The cartridge must not be written."""

    code = "tape.write_protected"
    exit_code = 3
    template = "{device}: {command}: the cartridge is write protected"
    advice = "move its write protect tab, or use another cartridge"


class BlankCheck(SenseError):
    """End of data: nothing is recorded here."""

    code = "tape.end_of_data"
    template = "{device}: {command}: end of data"
    advice = "position the tape to a recorded file"


class FilemarkReached(SenseError):
    """A filemark was met; the tape stands behind it (before it, when going backward)."""

    code = "tape.filemark"
    template = "{device}: {command}: filemark"
    advice = "the file on tape ends here"


class BeginningOfMedium(SenseError):
    """Spacing backward met the beginning of the tape."""

    code = "tape.beginning"
    template = "{device}: {command}: beginning of tape"
    advice = "there is nothing before it"


class EndOfMedium(SenseError):
    """The tape is full: the block was NOT written."""

    code = "tape.end_of_medium"
    exit_code = 4
    template = "{device}: {command}: the tape is full"
    advice = "go on with another cartridge"


class IncorrectLength(SenseError):
    """A block is longer than the buffer, or not of the fixed length asked for.

    The tape stands behind it. `information` is the length asked for less the actual one.
    """

    code = "tape.block_length"
    template = "{device}: {command}: the block has another length than asked for"
    advice = "read it with a greater blocking factor"


class ReservationConflict(SenseError):
    """Another host has reserved the device."""

    code = "tape.reserved"
    exit_code = 3
    template = "{device}: {command}: another host has reserved it"
    advice = "release it there, or break the reservation"
