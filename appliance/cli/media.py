"""`snapreel media`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, key, show, size
from appliance.sizes import format_size

app = typer.Typer(name="media", help="Cartridges, wherever they are.")


@app.command("list")
def list_() -> None:
    """List every cartridge."""
    show(call("media.list"), _table)


@app.command("show")
def show_(barcode: Annotated[str, typer.Argument(help="The cartridge.")]) -> None:
    """Show one cartridge."""
    show(call("media.show", barcode=barcode), _facts)


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Barcode", key("barcode")),
        ("Library", key("library")),
        ("Place", key("place")),
        ("Kind", key("kind")),
        ("Size", size("capacity")),
        ("Used", size("used")),
        empty="no cartridges",
    )


def _facts(found: dict[str, Any]) -> str:
    cleaning = found["kind"] == "cleaning"
    return facts(
        ("Barcode", found["barcode"]),
        ("Library", found["library"]),
        ("Place", found["place"]),
        ("Kind", found["kind"]),
        ("Capacity", format_size(found["capacity"])),
        ("Used", format_size(found["used"])),
        ("Write protected", found["write_protected"]),
        ("Loads", found["loads"]),
        ("Cleanings left", found["cleanings"] if cleaning else None),
    )
