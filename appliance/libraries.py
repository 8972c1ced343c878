"""A tape library as operators see it: elements by short names, cartridges by barcode.

    slot1 slot2 ...   storage        mail1 mail2 ...   import and export
    rst0 rst1 ...     drives         every other name is a barcode

A cartridge moves only while nobody else uses the drive that it moves into or out of: the
drive is leased for the time of the move.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio

from appliance.errors import Refused
from tape.actor import ChangerActor, DriveActor
from tape.changer import Changer, Inventory
from tape.drive import Drive
from tape.elements import Element, ElementKind
from tape.errors import DeviceNotFound
from tape.virtual.library import VirtualLibrary

T = TypeVar("T")

_READY_SECONDS = 600.0
_PREFIX = {ElementKind.SLOT: "slot", ElementKind.MAILSLOT: "mail", ElementKind.TRANSPORT: "arm"}


@dataclass(frozen=True, slots=True, eq=False)
class TapeDrive:
    """A drive under its plain name (`rst0`); `serial` tells its element in the library."""

    name: str
    serial: str
    library: str
    actor: DriveActor

    def to_json(self) -> dict[str, Any]:
        """Give what can be said without asking the drive."""
        status = self.actor.status()
        return {
            "name": self.name,
            "library": self.library,
            "serial": self.serial,
            "state": "in use" if status.state == "leased" else status.state,
            "holder": status.holder,
            "since": status.since,
            "waiting": status.waiting,
        }


@dataclass(frozen=True, slots=True)
class Placed:
    """An element with its name, and the drive that it is, if it is one."""

    name: str
    element: Element
    drive: TapeDrive | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the element as the API shows it."""
        return {
            "element": self.name,
            "kind": self.element.kind.name.lower(),
            "address": self.element.address,
            "barcode": self.element.barcode if self.element.full else None,
            "full": self.element.full,
            "access": self.element.access,
            "exception": self.element.exception,
        }


class Elements:
    """An inventory with names."""

    def __init__(self, inventory: Inventory, drives: dict[str, TapeDrive], library: str) -> None:
        self._library = library
        self.all = [*self._drives(inventory, drives)]
        for elements in (inventory.slots, inventory.mailslots):
            self.all += [
                Placed(f"{_PREFIX[element.kind]}{number}", element)
                for number, element in enumerate(elements, 1)
            ]

    def _drives(self, inventory: Inventory, drives: dict[str, TapeDrive]) -> list[Placed]:
        by_serial = {drive.serial: drive for drive in drives.values()}
        found = []
        for number, element in enumerate(inventory.drives):
            drive = by_serial.get(element.serial)
            found.append(Placed(drive.name if drive else f"drive{number}", element, drive))
        return found

    def named(self, name: str) -> Placed:
        """Give an element by its name, or by the barcode in it; DeviceNotFound."""
        for placed in self.all:
            if name == placed.name or (placed.element.full and name == placed.element.barcode):
                return placed
        raise DeviceNotFound("cartridge or element", f"{name} in library {self._library}")

    def full(self, name: str) -> Placed:
        """The same, for an element that must hold a cartridge."""
        placed = self.named(name)
        if not placed.element.full:
            raise Refused(placed.name, "it holds no cartridge")
        return placed

    def empty(self, name: str) -> Placed:
        """The same, for one that must be empty."""
        placed = self.named(name)
        if placed.element.full:
            raise Refused(placed.name, f"it holds {placed.element.barcode or 'a cartridge'}")
        return placed

    def at(self, address: int | None) -> Placed | None:
        """Give the element at an address, if it is one that has a name."""
        return next((p for p in self.all if p.element.address == address), None)

    def of(self, kind: ElementKind) -> list[Placed]:
        """Give the elements of a kind."""
        return [placed for placed in self.all if placed.element.kind is kind]

    def free(self, kind: ElementKind) -> Placed:
        """Give the first empty element of a kind; Refused when all are full."""
        for placed in self.of(kind):
            if not placed.element.full:
                return placed
        noun = "mail slot" if kind is ElementKind.MAILSLOT else "slot"
        raise Refused(f"library {self._library}", f"no {noun} is free")


class Library:
    """One library with its changer and its drives."""

    def __init__(self, name: str, path: Path, changer: ChangerActor) -> None:
        self.name = name
        self.path = path
        self.changer = changer
        self.drives: dict[str, TapeDrive] = {}

    async def ask(self, work: Callable[[Changer], T], what: str) -> T:
        """Let the changer do something, after a look at what has changed meanwhile."""

        def fresh(changer: Changer) -> T:
            changer.clear_attentions()
            return work(changer)

        return await self.changer.call(fresh, what)

    async def elements(self, *, force: bool = False) -> Elements:
        """Take an inventory; with `force` the changer looks into every element anew."""

        def take(changer: Changer) -> Inventory:
            if force:
                changer.initialize()
            return changer.inventory()

        return Elements(await self.ask(take, "inventory"), self.drives, self.name)

    async def move(self, source: Placed, destination: Placed) -> None:
        """Move a cartridge; DeviceBusy when a drive in it is used by somebody else."""
        what = f"move of {source.element.barcode} to {destination.name}"
        async with AsyncExitStack() as stack:
            for drive in (source.drive, destination.drive):
                if drive is not None:
                    await stack.enter_async_context(drive.actor.lease(what))
            await self.ask(
                lambda changer: changer.move(source.element.address, destination.element.address),
                what,
            )
        if destination.drive is not None:
            await destination.drive.actor.call(wait_ready, "load")

    async def by_hand(self, act: Callable[[VirtualLibrary], T]) -> T:
        """Do what an operator would do by hand at a library that is not virtual."""
        return await trio.to_thread.run_sync(lambda: act(VirtualLibrary.open(self.path)))


def wait_ready(drive: Drive) -> None:
    """Wait until a drive can work; NotReady when an operator must do something."""
    drive.wait_ready(_READY_SECONDS)
