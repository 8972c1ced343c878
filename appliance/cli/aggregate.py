"""`snapreel aggregate`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, key, show, size
from appliance.sizes import format_size

app = typer.Typer(name="aggregate", help="Aggregates: what volumes are made of.")

Name = Annotated[str, typer.Argument(help="Name of the aggregate.")]


@app.command()
def create(
    name: Name,
    size: Annotated[str | None, typer.Option(help="Make a sparse image of this size.")] = None,
    device: Annotated[str | None, typer.Option(help="Use this block device, whole.")] = None,
    directory: Annotated[
        str | None, typer.Option(help="Use this empty directory of a mounted btrfs.")
    ] = None,
) -> None:
    """Make an aggregate on an image, a block device or an existing btrfs."""
    made = call("aggregate.create", name=name, size=size, device=device, directory=directory)
    show(made, _facts)


@app.command("list")
def list_() -> None:
    """List the aggregates."""
    show(call("aggregate.list"), _table)


@app.command("show")
def show_(name: Name) -> None:
    """Show one aggregate and its volumes."""
    show(call("aggregate.show", name=name), _facts)


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Name", key("name")),
        ("State", key("state")),
        ("Size", size("size")),
        ("Used", size("used")),
        ("Avail", size("available")),
        empty="no aggregates",
    )


def _facts(found: dict[str, Any]) -> str:
    return facts(
        ("Name", found["name"]),
        ("State", found["state"]),
        ("UUID", found["uuid"]),
        ("Size", format_size(found["size"])),
        ("Used", format_size(found["used"])),
        ("Available", format_size(found["available"])),
        ("Volumes", found.get("volumes")),
    )
