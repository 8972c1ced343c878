"""A virtual library in a directory: what is in it, and an operator's hands.

library.json         name, serial, number of elements
elements.json        which cartridge is where (tape.virtual.inventory)
library.lock         held for one changer command or one act by hand
changer/opener       held by the one that has the changer open
drives/N/state       the drive's state, with command.lock and opener beside it
media/BARCODE/       a cartridge, in the library or on the shelf
faults.json          faults on purpose, when there are any
"""

import shutil
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from tape import inquiry
from tape.elements import ElementKind
from tape.errors import DeviceNotFound, InvalidRequest, LibraryDamaged
from tape.inquiry import Designator, Inquiry
from tape.virtual.attributes import Attributes, check_barcode, read_json, write_json
from tape.virtual.boot import boot_hash
from tape.virtual.cartridge import Cartridge
from tape.virtual.changer import ChangerTarget
from tape.virtual.drive import DriveTarget
from tape.virtual.faults import FILE as FAULTS
from tape.virtual.faults import Faults
from tape.virtual.inventory import Inventory, Layout, Place
from tape.virtual.record import FILE_HEADER
from tape.virtual.robot import Robot
from tape.virtual.state import DriveBay
from tape.virtual.transport import OpenerLock, VirtualTransport

DEFAULT_CAPACITY = 16 << 30
CLEANINGS = 50
_DRIVE = Inquiry(inquiry.TAPE_DRIVE, "SNAPREEL", "VIRTUAL LTO-8", "0100")
_CHANGER = Inquiry(inquiry.CHANGER, "SNAPREEL", "VIRTUAL LIBRARY", "0100")


@dataclass(frozen=True, slots=True)
class LibraryConfig:
    """What `library.json` holds; not `durable`: stable storage is never asked for (tests)."""

    name: str
    serial: str
    drives: int
    slots: int
    mailslots: int
    durable: bool = True
    version: int = 1


@dataclass(frozen=True, slots=True)
class StoredCartridge:
    """A cartridge and where it is: an element address, or None on the shelf.

    `size` is what its data takes on disk, in bytes.
    """

    attributes: Attributes
    address: int | None
    size: int


class VirtualLibrary:
    """A library of virtual drives, a changer and cartridges; many processes may have it open."""

    def __init__(self, path: Path, config: LibraryConfig) -> None:
        """Take a library that `create` has made; use `open`."""
        self.path = path
        self.config = config
        self.layout = Layout(config.drives, config.slots, config.mailslots)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        name: str = "",
        drives: int = 2,
        slots: int = 10,
        mailslots: int = 2,
        cartridges: Iterable[str] = (),
        capacity: int = DEFAULT_CAPACITY,
        durable: bool = True,
    ) -> "VirtualLibrary":
        """Make a library with cartridges of these barcodes in its slots.

        Barcodes that begin with CLN are cleaning cartridges. Raises InvalidRequest when
        there is a library already or more cartridges than slots, InvalidName. What a
        creation cut short has left is made anew, but recorded cartridges are never touched.
        """
        path = Path(path)
        if (path / "library.json").exists():
            raise InvalidRequest(str(path), "there is a virtual library already")
        _check_layout(path, Layout(drives, slots, mailslots))
        serial = f"SR{uuid.uuid4().hex[:8].upper()}"
        config = LibraryConfig(name or path.name, serial, drives, slots, mailslots, durable)
        library = cls(path, config)
        library._make(list(cartridges), capacity)
        write_json(path / "library.json", asdict(config))
        return library

    def _make(self, cartridges: list[str], capacity: int) -> None:
        if len(cartridges) > self.config.slots:
            raise InvalidRequest(
                str(self.path), f"{len(cartridges)} cartridges for {self.config.slots} slots"
            )
        for barcode in cartridges:
            if cartridges.count(check_barcode(barcode)) > 1:
                raise InvalidRequest(f"cartridge {barcode}", "its barcode is given twice")
        _clear_blank(self.path / "media")
        (self.path / "media").mkdir(parents=True, exist_ok=True)
        (self.path / "changer").mkdir(exist_ok=True)
        for number in range(self.config.drives):
            with (
                closing(DriveBay(self.path / "drives" / str(number))) as bay,
                bay.locked() as state,
            ):
                state.boot = boot_hash()
                bay.save()
        inventory = Inventory(self.path / "elements.json")
        inventory.boot = boot_hash()
        slots = self.layout.addresses(ElementKind.SLOT)
        for address, barcode in zip(slots, cartridges, strict=False):
            self._blank(barcode, capacity)
            inventory.places[address] = Place(barcode)
        inventory.save()

    @classmethod
    def open(cls, path: Path) -> "VirtualLibrary":
        """Open a library; raises DeviceNotFound, LibraryDamaged."""
        path = Path(path)
        if not (path / "library.json").exists():
            raise DeviceNotFound("virtual library", str(path))
        data = read_json(path / "library.json")
        known = {f.name for f in fields(LibraryConfig)}
        try:
            return cls(path, LibraryConfig(**{k: v for k, v in data.items() if k in known}))
        except TypeError as error:
            raise LibraryDamaged(path.name, f"{path / 'library.json'}: {error}") from error

    # Devices

    def drive_serial(self, number: int) -> str:
        """Give the unit serial number of a drive, from 0."""
        return f"{self.config.serial}D{number}"

    @property
    def changer_serial(self) -> str:
        """The unit serial number of the changer."""
        return f"{self.config.serial}C0"

    def drive_transport(self, number: int, name: str = "") -> VirtualTransport:
        """Open a drive; `name` is what messages call it. Raises DeviceNotFound, DeviceBusy."""
        name = name or f"{self.config.name}:drive{number}"
        if number not in range(self.config.drives):
            raise DeviceNotFound("drive", name)
        with ExitStack() as undo:
            bay = DriveBay(self.path / "drives" / str(number))
            undo.callback(bay.close)
            lock = OpenerLock(bay.path / "opener", "drive", name)
            undo.callback(lock.release)
            self._reconcile()
            media, serial = self.path / "media", self.drive_serial(number)
            target = DriveTarget(bay, media, _DRIVE, serial, durable=self.config.durable)
            undo.pop_all()
        return VirtualTransport(name, target, self._faults(f"drive{number}"), lock)

    def changer_transport(self, name: str = "") -> VirtualTransport:
        """Open the changer; raises DeviceBusy."""
        name = name or f"{self.config.name}:changer0"
        designators = [self._designator(number) for number in range(self.config.drives)]
        with ExitStack() as undo:
            lock = OpenerLock(self.path / "changer" / "opener", "changer", name)
            undo.callback(lock.release)
            target = ChangerTarget(self._robot(), designators, _CHANGER, self.changer_serial)
            undo.pop_all()
        return VirtualTransport(name, target, self._faults("changer0"), lock)

    def _designator(self, number: int) -> Designator:
        serial = self.drive_serial(number)
        value = inquiry.t10_identifier(_DRIVE.vendor, _DRIVE.product, serial)
        return Designator(inquiry.T10_VENDOR, value)

    def _faults(self, device: str) -> Faults:
        return Faults(device, self.path / FAULTS)

    # An operator's hands

    def add_cartridge(
        self, barcode: str, capacity: int = DEFAULT_CAPACITY, *, mailslot: bool = False
    ) -> int:
        """Make a blank cartridge and put it into a free slot (mail slot); gives the address.

        Raises InvalidName, InvalidRequest when the barcode is taken or no slot is free.
        """
        check_barcode(barcode)
        with closing(self._robot()) as robot, robot.locked() as inventory:
            if (self.path / "media" / barcode).exists():
                raise InvalidRequest(f"cartridge {barcode}", "there is one of this barcode already")
            address = self._free(inventory, ElementKind.MAILSLOT if mailslot else ElementKind.SLOT)
            self._blank(barcode, capacity)
            self._place(inventory, address, barcode)
        return address

    def insert_cartridge(self, barcode: str) -> int:
        """Put a cartridge from the shelf into a free mail slot; gives the address.

        Raises DeviceNotFound, InvalidRequest.
        """
        self._attributes(barcode)
        with closing(self._robot()) as robot, robot.locked() as inventory:
            if inventory.find(barcode) is not None:
                raise InvalidRequest(f"cartridge {barcode}", "it is in the library already")
            if inventory.prevented:
                raise InvalidRequest(f"cartridge {barcode}", "the mail slots are locked")
            address = self._free(inventory, ElementKind.MAILSLOT)
            self._place(inventory, address, barcode)
        return address

    def remove_cartridge(self, barcode: str) -> None:
        """Take a cartridge out of a slot or mail slot and put it on the shelf.

        Raises DeviceNotFound, InvalidRequest when it is not there or locked.
        """
        self._attributes(barcode)
        with closing(self._robot()) as robot, robot.locked() as inventory:
            address = inventory.find(barcode)
            if address is None:
                raise InvalidRequest(f"cartridge {barcode}", "it is not in the library")
            kind = self.layout.kind(address)
            if kind is ElementKind.DRIVE:
                raise InvalidRequest(f"cartridge {barcode}", "it is in a drive")
            if inventory.prevented:
                raise InvalidRequest(f"cartridge {barcode}", "the mail slots and door are locked")
            del inventory.places[address]
            inventory.attend(0x28, 0x01 if kind is ElementKind.MAILSLOT else 0x00)
            inventory.save()

    def set_write_protected(self, barcode: str, *, protected: bool) -> None:
        """Move a cartridge's write protect tab; raises InvalidRequest while it is in a drive."""
        with closing(self._robot()) as robot, robot.locked() as inventory:
            attributes = self._attributes(barcode)
            address = inventory.find(barcode)
            if address is not None and self.layout.kind(address) is ElementKind.DRIVE:
                raise InvalidRequest(f"cartridge {barcode}", "it is in a drive")
            replace(attributes, write_protected=protected).save(
                self.path / "media" / barcode / "attributes.json"
            )

    def cartridges(self) -> list[StoredCartridge]:
        """Give every cartridge by barcode, those on the shelf too."""
        with closing(self._robot()) as robot, robot.locked() as inventory:
            where = {place.barcode: address for address, place in inventory.places.items()}
        media = sorted(p for p in (self.path / "media").iterdir() if not p.name.startswith("."))
        return [
            StoredCartridge(
                Attributes.load(path / "attributes.json"),
                where.get(path.name),
                (path / "data").stat().st_blocks * 512,
            )
            for path in media
        ]

    def _robot(self) -> Robot:
        return Robot(self.path, self.layout)

    def _reconcile(self) -> None:
        """Let the drives follow the inventory: one cartridge must not be in two of them."""
        with closing(self._robot()) as robot, robot.locked():
            return

    def _attributes(self, barcode: str) -> Attributes:
        path = self.path / "media" / check_barcode(barcode)
        if not path.exists():
            raise DeviceNotFound("cartridge", barcode)
        return Attributes.load(path / "attributes.json")

    def _blank(self, barcode: str, capacity: int) -> None:
        cleaning = barcode.startswith("CLN")
        Cartridge.create(
            self.path / "media" / barcode,
            barcode,
            capacity,
            cleaning=cleaning,
            cleanings=CLEANINGS if cleaning else 0,
        )

    def _free(self, inventory: Inventory, kind: ElementKind) -> int:
        for address in self.layout.addresses(kind):
            if address not in inventory.places:
                return address
        noun = "mail slot" if kind is ElementKind.MAILSLOT else "slot"
        raise InvalidRequest(self.config.name, f"no {noun} is free")

    def _place(self, inventory: Inventory, address: int, barcode: str) -> None:
        mail = self.layout.kind(address) is ElementKind.MAILSLOT
        inventory.places[address] = Place(barcode, imported=mail)
        inventory.attend(0x28, 0x01 if mail else 0x00)
        inventory.save()


def _check_layout(path: Path, layout: Layout) -> None:
    for kind in (ElementKind.DRIVE, ElementKind.MAILSLOT, ElementKind.SLOT):
        found, most = len(layout.addresses(kind)), layout.most(kind)
        if found > most:
            raise InvalidRequest(str(path), f"{found} elements of kind {kind.name}, at most {most}")


def _clear_blank(media: Path) -> None:
    """Remove the blank cartridges of a library that was never made; refuse recorded ones."""
    if not media.is_dir():
        return
    for path in sorted(media.iterdir()):
        data = path / "data"
        if data.exists() and data.stat().st_size > FILE_HEADER:
            reason = f"{path} is recorded, but there is no library.json; move it away first"
            raise InvalidRequest(str(media.parent), reason)
    shutil.rmtree(media)
