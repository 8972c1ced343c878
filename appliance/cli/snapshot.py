"""`snapreel snapshot`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, key, show, time

app = typer.Typer(name="snapshot", help="Snapshots: a volume as it was.")

Volume = Annotated[str, typer.Argument(help="Name of the volume.")]
Name = Annotated[str, typer.Argument(help="Name of the snapshot.")]


@app.command()
def create(volume: Volume, name: Name) -> None:
    """Freeze a volume as it is."""
    show(call("snapshot.create", volume=volume, name=name), lambda made: f"{made['name']} created")


@app.command("list")
def list_(volume: Volume) -> None:
    """List the snapshots of a volume, oldest first."""
    show(call("snapshot.list", volume=volume), _table)


@app.command()
def rename(
    volume: Volume, name: Name, new: Annotated[str, typer.Argument(help="Its new name.")]
) -> None:
    """Rename a snapshot."""
    renamed = call("snapshot.rename", volume=volume, name=name, new=new)
    show(renamed, lambda made: f"{name} is {made['name']} now")


@app.command()
def delete(volume: Volume, name: Name) -> None:
    """Delete a snapshot that nobody locks."""
    show(call("snapshot.delete", volume=volume, name=name), lambda done: f"{done['name']} deleted")


@app.command()
def locks(
    volume: Volume,
    name: Annotated[str | None, typer.Argument(help="Of one snapshot; of all without it.")] = None,
) -> None:
    """List who keeps which snapshot since when."""
    show(call("snapshot.locks", volume=volume, name=name), _locks)


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Name", key("name")),
        ("Created", time("created")),
        ("Locked by", key("locked_by")),
        empty="no snapshots",
    )


def _locks(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Snapshot", key("snapshot")),
        ("Owner", key("owner")),
        ("Since", time("since")),
        empty="no locks",
    )
