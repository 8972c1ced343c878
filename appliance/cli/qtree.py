"""`snapreel qtree`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, key, show

app = typer.Typer(name="qtree", help="Qtrees: parts of a volume with a style of their own.")

Path = Annotated[str, typer.Argument(help="The qtree, as VOLUME/QTREE.")]


@app.command()
def create(
    path: Path,
    security_style: Annotated[
        str | None, typer.Option(help="unix, ntfs or mixed; without it, the volume's.")
    ] = None,
    oplocks: Annotated[bool, typer.Option(help="Let SMB clients cache.")] = True,
) -> None:
    """Make a qtree."""
    made = call("qtree.create", path=path, security_style=security_style, oplocks=oplocks)
    show(made, _facts)


@app.command("list")
def list_(
    volume: Annotated[str | None, typer.Argument(help="Of one volume; of all without it.")] = None,
) -> None:
    """List qtrees."""
    show(call("qtree.list", volume=volume), _table)


@app.command()
def delete(path: Path) -> None:
    """Delete a qtree and all that is in it."""
    show(call("qtree.delete", path=path), lambda done: f"{done['path']} deleted")


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Volume", key("volume")),
        ("Qtree", key("name")),
        ("Id", key("id")),
        ("Style", key("security_style")),
        ("Oplocks", key("oplocks")),
        empty="no qtrees",
    )


def _facts(found: dict[str, Any]) -> str:
    return facts(
        ("Path", found["path"]),
        ("Id", found["id"]),
        ("Style", found["security_style"]),
        ("Oplocks", found["oplocks"]),
    )
