"""`snapreel library`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, key, show

app = typer.Typer(name="library", help="Tape libraries: what lies where, and moving it.")

Library = Annotated[
    str | None, typer.Argument(help="The library, by name or changer; the first without it.")
]
InLibrary = Annotated[
    str | None, typer.Option("--library", help="By name or changer; the first without it.")
]
Cartridge = Annotated[str, typer.Argument(help="A barcode, or an element such as slot3.")]
Drive = Annotated[str, typer.Argument(help="A tape device, such as rst0.")]


@app.command("list")
def list_() -> None:
    """List the libraries."""
    show(call("library.list"), _libraries)


@app.command("show")
def show_(library: Library = None) -> None:
    """Show what lies in each element."""
    show(call("library.show", library=library), _table)


@app.command()
def inventory(library: Library = None) -> None:
    """Let the changer look into every element anew, and show what lies where."""
    show(call("library.inventory", library=library), _table)


@app.command()
def load(cartridge: Cartridge, drive: Drive) -> None:
    """Load a cartridge into a drive."""
    show(call("library.load", cartridge=cartridge, drive=drive), _moved)


@app.command()
def unload(
    drive: Drive,
    slot: Annotated[str | None, typer.Argument(help="Where to; else where it came from.")] = None,
) -> None:
    """Unload a drive's cartridge to a slot."""
    show(call("library.unload", drive=drive, slot=slot), _moved)


@app.command()
def transfer(
    source: Cartridge,
    destination: Annotated[str, typer.Argument(help="An empty element, such as slot3.")],
    library: InLibrary = None,
) -> None:
    """Move a cartridge from one element to another."""
    moved = call("library.transfer", source=source, destination=destination, library=library)
    show(moved, _moved)


@app.command("import")
def import_(
    library: Library = None,
    insert: Annotated[
        str | None,
        typer.Option(help="First put this cartridge from the shelf into a virtual mail slot."),
    ] = None,
) -> None:
    """Move what lies in the mail slots into free slots."""
    moved = call("library.import", library=library, insert=insert)
    show(moved, lambda rows: "\n".join(map(_moved, rows)))


@app.command()
def export(
    cartridge: Cartridge,
    library: InLibrary = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Then take it out of a virtual library.")
    ] = False,
) -> None:
    """Move a cartridge to a free mail slot."""
    moved = call("library.export", cartridge=cartridge, library=library, remove=remove)
    show(moved, _moved)


def _moved(found: dict[str, Any]) -> str:
    return f"{found['barcode']} moved from {found['from']} to {found['to']}"


def _libraries(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Name", key("name")),
        ("Changer", key("changer")),
        ("Kind", key("kind")),
        ("Elements", lambda row: len(row["elements"])),
        ("Cartridges", lambda row: sum(element["full"] for element in row["elements"])),
        empty="no libraries",
    )


def _table(found: dict[str, Any]) -> str:
    return columns(
        found["elements"],
        ("Element", key("element")),
        ("Address", key("address")),
        ("Cartridge", key("barcode")),
        ("State", key("state")),
        ("Used by", key("holder")),
    )
