"""Media: every cartridge that is known, wherever it is."""

from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.libraries import Library
from tape.errors import DeviceNotFound


@method("media.list")
async def list_(appliance: Appliance) -> list[dict[str, Any]]:
    """List every cartridge: in drives, slots and mail slots, and on the shelf."""
    return [
        cartridge
        for library in appliance.tapes.libraries.values()
        for cartridge in await _cartridges(library)
    ]


@method("media.show")
async def show(appliance: Appliance, *, barcode: str) -> dict[str, Any]:
    """Show one cartridge."""
    for cartridge in await list_(appliance):
        if cartridge["barcode"] == barcode:
            return cartridge
    raise DeviceNotFound("cartridge", barcode)


async def _cartridges(library: Library) -> list[dict[str, Any]]:
    elements = await library.elements()
    places = {p.element.barcode: p.name for p in elements.all if p.element.full}
    stored = await library.by_hand(lambda virtual: virtual.cartridges())
    return [
        {
            "barcode": cartridge.attributes.barcode,
            "library": library.name,
            "place": places.get(cartridge.attributes.barcode, "shelf"),
            "kind": "cleaning" if cartridge.attributes.cleaning else "data",
            "capacity": cartridge.attributes.capacity,
            "used": cartridge.size,
            "write_protected": cartridge.attributes.write_protected,
            "loads": cartridge.attributes.loads,
            "cleanings": cartridge.attributes.cleanings,
        }
        for cartridge in stored
    ]
