"""Libraries: what lies where, and cartridges moved between elements, drives and mail slots."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.errors import Refused
from appliance.libraries import Elements, Library, Placed
from tape.elements import ElementKind


@method("library.list")
async def list_(appliance: Appliance) -> list[dict[str, Any]]:
    """List the libraries."""
    return [await _show(library) for library in appliance.tapes.libraries.values()]


@method("library.show")
async def show(appliance: Appliance, *, library: str | None = None) -> dict[str, Any]:
    """Show what lies in each element of a library."""
    return await _show(appliance.tapes.library(library))


@method("library.inventory")
async def inventory(appliance: Appliance, *, library: str | None = None) -> dict[str, Any]:
    """Let the changer look into every element anew, and show what lies where."""
    return await _show(appliance.tapes.library(library), force=True)


async def _show(library: Library, *, force: bool = False) -> dict[str, Any]:
    elements = await library.elements(force=force)
    return {
        "name": library.name,
        "changer": library.changer.name,
        "kind": "virtual",
        "path": str(library.path),
        "elements": [placed.to_json() | _use(placed) for placed in elements.all],
    }


def _use(placed: Placed) -> dict[str, Any]:
    if placed.drive is None:
        return {"state": "full" if placed.element.full else "empty", "holder": ""}
    drive = placed.drive.to_json()
    idle = "loaded" if placed.element.full else "empty"
    return {"state": "in use" if drive["holder"] else idle, "holder": drive["holder"]}


@contextmanager
def _recorded(appliance: Appliance, kind: str, what: str, where: str) -> Iterator[None]:
    """Leave a session record of a move that was refused or failed."""
    try:
        yield
    except Exception as error:
        raise appliance.sessions.record_failure(kind, what, where, error) from error


@method("library.load")
async def load(appliance: Appliance, *, cartridge: str, drive: str) -> dict[str, Any]:
    """Move a cartridge, named by barcode or slot, into a drive and wait until it is ready."""
    with _recorded(appliance, "load", cartridge, drive):
        into = appliance.tapes.drive(drive)
        library = appliance.tapes.library_with(into)
        elements = await library.elements()
        return await _move(library, elements.full(cartridge), elements.empty(into.name))


@method("library.unload")
async def unload(appliance: Appliance, *, drive: str, slot: str | None = None) -> dict[str, Any]:
    """Move a drive's cartridge to a slot: the one named, the one it came from, or a free one."""
    with _recorded(appliance, "unload", drive, slot or ""):
        out_of = appliance.tapes.drive(drive)
        library = appliance.tapes.library_with(out_of)
        elements = await library.elements()
        source = elements.full(out_of.name)
        return await _move(library, source, _home(elements, source, slot))


def _home(elements: Elements, source: Placed, slot: str | None) -> Placed:
    if slot is not None:
        return elements.empty(slot)
    home = elements.at(source.element.source)
    if home is not None and not home.element.full and home.element.kind is ElementKind.SLOT:
        return home
    return elements.free(ElementKind.SLOT)


@method("library.transfer")
async def transfer(
    appliance: Appliance, *, source: str, destination: str, library: str | None = None
) -> dict[str, Any]:
    """Move a cartridge from one element to another."""
    with _recorded(appliance, "transfer", source, destination):
        within = appliance.tapes.library(library)
        elements = await within.elements()
        return await _move(within, elements.full(source), elements.empty(destination))


@method("library.import")
async def import_(
    appliance: Appliance, *, library: str | None = None, insert: str | None = None
) -> list[dict[str, Any]]:
    """Move what lies in the mail slots into free slots.

    With `insert` a cartridge from the shelf of a virtual library is put into a mail slot
    first, as an operator would do by hand.
    """
    with _recorded(appliance, "import", insert or "", library or ""):
        within = appliance.tapes.library(library)
        if insert is not None:
            await within.by_hand(lambda virtual: virtual.insert_cartridge(insert))
        return await _empty_mail_slots(within)


async def _empty_mail_slots(within: Library) -> list[dict[str, Any]]:
    moved = []
    for placed in (await within.elements()).of(ElementKind.MAILSLOT):
        if placed.element.full:
            elements = await within.elements()
            moved.append(await _move(within, placed, elements.free(ElementKind.SLOT)))
    if not moved:
        raise Refused(f"library {within.name}", "there is no cartridge in its mail slots")
    return moved


@method("library.export")
async def export(
    appliance: Appliance, *, cartridge: str, library: str | None = None, remove: bool = False
) -> dict[str, Any]:
    """Move a cartridge to a free mail slot.

    With `remove` it is taken out of a virtual library then, as an operator would do by hand.
    """
    with _recorded(appliance, "export", cartridge, library or ""):
        return await _export(appliance.tapes.library(library), cartridge, remove=remove)


async def _export(within: Library, cartridge: str, *, remove: bool) -> dict[str, Any]:
    elements = await within.elements()
    source = elements.full(cartridge)
    if source.element.kind is ElementKind.MAILSLOT and remove:
        moved = source.to_json() | {"from": source.name, "to": source.name}
    else:
        moved = await _move(within, source, elements.free(ElementKind.MAILSLOT))
    if remove:
        await within.by_hand(lambda virtual: virtual.remove_cartridge(source.element.barcode))
        moved["to"] = "shelf"
    return moved


async def _move(library: Library, source: Placed, destination: Placed) -> dict[str, Any]:
    await library.move(source, destination)
    return {
        "library": library.name,
        "barcode": source.element.barcode,
        "from": source.name,
        "to": destination.name,
    }
