"""A medium changer: SMC commands in Python's terms, over a transport."""

from dataclasses import dataclass

from tape import cdb, elements, pages, timeouts
from tape.device import Device
from tape.elements import Element, ElementKind
from tape.errors import DeviceNotFound, TransportFailed

_HEADER = 8
_MOST = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a library has and holds, by element address."""

    elements: tuple[Element, ...]

    def of(self, kind: ElementKind) -> tuple[Element, ...]:
        """Give the elements of a kind in the order of their addresses."""
        return tuple(e for e in self.elements if e.kind is kind)

    @property
    def drives(self) -> tuple[Element, ...]:
        """The drives; `Element.serial` tells which drive it is."""
        return self.of(ElementKind.DRIVE)

    @property
    def slots(self) -> tuple[Element, ...]:
        """The storage slots."""
        return self.of(ElementKind.SLOT)

    @property
    def mailslots(self) -> tuple[Element, ...]:
        """The import and export slots."""
        return self.of(ElementKind.MAILSLOT)

    def find(self, barcode: str) -> Element:
        """Give the element that holds a cartridge; raises DeviceNotFound."""
        for element in self.elements:
            if element.full and element.barcode == barcode:
                return element
        raise DeviceNotFound("cartridge", barcode)

    def at(self, address: int) -> Element:
        """Give the element at an address; raises DeviceNotFound."""
        for element in self.elements:
            if element.address == address:
                return element
        raise DeviceNotFound("element", str(address))

    def drive(self, serial: str) -> Element:
        """Give the element of the drive with a serial number; raises DeviceNotFound."""
        for element in self.drives:
            if element.serial == serial:
                return element
        raise DeviceNotFound("drive element of serial", serial)

    def free_slot(self) -> Element | None:
        """Give the first empty slot, or None."""
        return next((e for e in self.slots if not e.full), None)


class Changer(Device):
    """A medium changer. A context manager: leaving it closes the transport."""

    timeouts = timeouts.CHANGER

    def initialize(self) -> None:
        """Let the changer look into every element anew."""
        self.do(cdb.INITIALIZE_ELEMENT_STATUS)

    def addresses(self) -> pages.ElementAddresses:
        """Ask where each kind of element begins and how many there are."""
        try:
            found = pages.decode_mode(
                self.fetch(cdb.MODE_SENSE_6, 255, dbd=1, page=pages.ELEMENT_ADDRESSES)
            ).page(pages.ELEMENT_ADDRESSES)
            if found is None:
                raise pages.MalformedPage("there is no element address page")
            return pages.ElementAddresses.decode(found)
        except pages.MalformedPage as error:
            raise TransportFailed(self.name, cdb.MODE_SENSE_6.name, str(error)) from error

    def inventory(self) -> Inventory:
        """Ask what lies in each element; raises TransportFailed for data that make no sense.

        Each kind of element is asked for alone: some libraries cannot report all at once.
        """
        where = self.addresses()
        counts = {
            ElementKind.TRANSPORT: (where.first_transport, where.transports),
            ElementKind.SLOT: (where.first_slot, where.slots),
            ElementKind.MAILSLOT: (where.first_mailslot, where.mailslots),
            ElementKind.DRIVE: (where.first_drive, where.drives),
        }
        found = [
            element
            for kind, (first, count) in counts.items()
            if count
            for element in self._report(kind, first, count)
        ]
        return Inventory(tuple(found))

    def _report(self, kind: ElementKind, first: int, count: int) -> tuple[Element, ...]:
        fields = {
            "voltag": 1,
            "type": int(kind),
            "first": first,
            "count": count,
            "dvcid": int(kind is ElementKind.DRIVE),
        }
        try:
            header = self.fetch(cdb.READ_ELEMENT_STATUS, _HEADER, **fields)
            size = min(elements.bytes_available(header), _MOST)
            return elements.decode(self.fetch(cdb.READ_ELEMENT_STATUS, size, **fields))
        except elements.MalformedElements as error:
            raise TransportFailed(self.name, cdb.READ_ELEMENT_STATUS.name, str(error)) from error

    def move(self, source: int, destination: int) -> None:
        """Move a cartridge between two element addresses.

        Raises SourceEmpty, DestinationFull, InvalidElement, RemovalPrevented and others.
        """
        self.do(cdb.MOVE_MEDIUM, source=source, destination=destination)
