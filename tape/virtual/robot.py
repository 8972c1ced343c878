"""The arm of a virtual library: moves cartridges between elements, one move at a time."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tape.elements import ElementKind
from tape.errors import LibraryDamaged
from tape.virtual.attributes import Attributes
from tape.virtual.boot import boot_hash
from tape.virtual.drive import settle_unthreaded
from tape.virtual.inventory import FIRST_DRIVE, Inventory, Layout, Place
from tape.virtual.state import DriveBay, DriveState, Loaded
from tape.virtual.target import refuse

INVALID_ELEMENT = (0x21, 0x01)
DESTINATION_FULL = (0x3B, 0x0D)
SOURCE_EMPTY = (0x3B, 0x0E)
REMOVAL_PREVENTED = (0x53, 0x02)

_ALERT_CLEAN_NOW, _ALERT_CLEAN_PERIODIC = 20, 21
_ALERT_CLEANING_MEDIUM, _ALERT_EXPIRED = 11, 22


class Robot:
    """The inventory of the library in a directory, its drive bays, and what moves between them.

    A library is worked on while holding its lock, which goes before any drive's.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.layout = layout
        self.inventory = Inventory(path / "elements.json")
        self._media = path / "media"
        self._lock = os.open(path / "library.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._bays: Sequence[DriveBay] = [
            DriveBay(path / "drives" / str(number)) for number in range(layout.drives)
        ]

    def close(self) -> None:
        """Let go of the files."""
        for bay in self._bays:
            bay.close()
        os.close(self._lock)

    @contextmanager
    def locked(self) -> Iterator[Inventory]:
        """Hold the library, with its inventory as it is; `save` it after a change."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            inventory = self.inventory.load()
            self._power_on(inventory)
            self._reconcile(inventory)
            yield inventory
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _power_on(self, inventory: Inventory) -> None:
        for bay in self._bays:
            bay.power_on()
        boot = boot_hash()
        if inventory.boot != boot:
            inventory.boot, inventory.prevented = boot, False
            inventory.attentions = [(0x29, 0x00)]
            inventory.save()

    def _reconcile(self, inventory: Inventory) -> None:
        """Finish what a crash in the middle of a move left half done."""
        for address, bay in self._drives():
            place = inventory.places.get(address)
            barcode = place.barcode if place else ""
            if bay.load().barcode == barcode:
                continue
            with bay.locked() as state:
                _take_out(state)
                if barcode:
                    self._put_in(state, barcode)
                bay.save()

    def _drives(self) -> Iterator[tuple[int, DriveBay]]:
        return zip(self.layout.addresses(ElementKind.DRIVE), self._bays, strict=True)

    def removable(self, address: int) -> bool:
        """Whether the arm may take a cartridge out of a drive."""
        return not self._bay(address).load().prevented

    def _bay(self, address: int) -> DriveBay:
        return self._bays[address - FIRST_DRIVE]

    def move(self, source: int, destination: int) -> None:
        """Move a cartridge; raises CheckCondition when a rule forbids it. Hold the library."""
        places = self.inventory.places
        kinds = [self.layout.kind(address) for address in (source, destination)]
        if None in kinds or ElementKind.TRANSPORT in kinds:
            raise refuse(*INVALID_ELEMENT)
        place = places.get(source)
        if place is None:
            raise refuse(*SOURCE_EMPTY)
        if source == destination:
            return
        if destination in places:
            raise refuse(*DESTINATION_FULL)
        if kinds[0] is ElementKind.DRIVE:
            self._remove(source)
        elif kinds[0] is ElementKind.SLOT:
            place = replace(place, source=source)
        del places[source]
        places[destination] = Place(place.barcode, place.source)
        self.inventory.save()
        if kinds[1] is ElementKind.DRIVE:
            self._insert(destination, place.barcode)

    def _remove(self, address: int) -> None:
        bay = self._bay(address)
        with bay.locked() as state:
            if state.prevented:
                raise refuse(*REMOVAL_PREVENTED)
            if state.loaded is not Loaded.EMPTY:
                settle_unthreaded(bay, self._media)
            _take_out(state)
            bay.save()

    def _insert(self, address: int, barcode: str) -> None:
        bay = self._bay(address)
        with bay.locked() as state:
            self._put_in(state, barcode)
            bay.save()

    def _put_in(self, state: DriveState, barcode: str) -> None:
        state.loaded, state.barcode = Loaded.READY, barcode
        state.insertions += 1
        state.object = state.written = state.read = 0
        state.attend(0x28, 0x00)
        try:
            self._count_load(state, self._media / barcode / "attributes.json")
        except LibraryDamaged:
            # The drive tells when it is asked to read the cartridge.
            return

    def _count_load(self, state: DriveState, path: Path) -> None:
        attributes = Attributes.load(path)
        if attributes.cleaning:
            _clean(state, expired=attributes.cleanings == 0)
        left = max(0, attributes.cleanings - attributes.cleaning)
        replace(attributes, loads=attributes.loads + 1, cleanings=left).save(path)


def _take_out(state: DriveState) -> None:
    state.loaded, state.barcode, state.object = Loaded.EMPTY, "", 0
    state.alerts &= ~_alerts(_ALERT_CLEANING_MEDIUM, _ALERT_EXPIRED)
    state.insertions += 1


def _clean(state: DriveState, *, expired: bool) -> None:
    if expired:
        state.alerts |= _alerts(_ALERT_CLEANING_MEDIUM, _ALERT_EXPIRED)
        return
    state.alerts &= ~_alerts(_ALERT_CLEAN_NOW, _ALERT_CLEAN_PERIODIC)
    state.alerts |= _alerts(_ALERT_CLEANING_MEDIUM)


def _alerts(*flags: int) -> int:
    return sum(1 << (flag - 1) for flag in flags)
