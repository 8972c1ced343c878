"""`snapreel lun`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, key, show, size
from appliance.sizes import format_size

app = typer.Typer(name="lun", help="LUNs: files that hosts use as disks.")

Path = Annotated[str, typer.Argument(help="The LUN, as /vol/VOLUME[/QTREE]/NAME.")]
Size = Annotated[str, typer.Option(help="Size in bytes (K M G T).")]


@app.command()
def create(
    path: Path,
    size: Size,
    ostype: Annotated[str, typer.Option(help="What will use it.")] = "linux",
    reserved: Annotated[bool, typer.Option("--reserved", help="Set its space aside.")] = False,
    comment: Annotated[str, typer.Option(help="A remark.")] = "",
) -> None:
    """Make a LUN."""
    asked = {"size": size, "ostype": ostype, "reserved": reserved, "comment": comment}
    show(call("lun.create", path=path, **asked), _facts)


@app.command("list")
def list_(
    volume: Annotated[str | None, typer.Argument(help="Of one volume; of all without it.")] = None,
) -> None:
    """List LUNs."""
    show(call("lun.list", volume=volume), _table)


@app.command("show")
def show_(path: Path) -> None:
    """Show one LUN."""
    show(call("lun.show", path=path), _facts)


@app.command()
def clone(
    source: Annotated[str, typer.Argument(help="The LUN to take the data of.")],
    path: Annotated[str, typer.Argument(help="The LUN to make, in the same volume.")],
    snapshot: Annotated[str | None, typer.Option(help="Take the data as of it.")] = None,
) -> None:
    """Make a LUN with the data of another, at once."""
    show(call("lun.clone", source=source, path=path, snapshot=snapshot), _facts)


@app.command()
def resize(
    path: Path,
    size: Size,
    shrink: Annotated[bool, typer.Option("--shrink", help="Cut off data, if need be.")] = False,
) -> None:
    """Give a LUN another size."""
    show(call("lun.resize", path=path, size=size, shrink=shrink), _facts)


@app.command()
def delete(path: Path) -> None:
    """Delete a LUN."""
    show(call("lun.delete", path=path), lambda done: f"{done['path']} deleted")


@app.command()
def unrestrict(
    path: Path,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept that its data may be half restored.")
    ] = False,
) -> None:
    """Give a LUN back to its clients although the restore that wrote it did not end."""
    show(call("lun.unrestrict", path=path, confirmed=yes), _facts)


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Path", key("path")),
        ("Size", size("size")),
        ("Used", size("used")),
        ("State", _state),
        ("OS", key("ostype")),
        ("Serial", key("serial")),
        empty="no LUNs",
    )


def _state(row: dict[str, Any]) -> str:
    if row["restricted_by"]:
        return "restricted"
    return str(row["state"]) if row["consistent"] else "inconsistent"


def _facts(found: dict[str, Any]) -> str:
    return facts(
        ("Path", found["path"]),
        ("State", _state(found)),
        ("Restricted by", found["restricted_by"]),
        ("To do", found["advice"]),
        ("Size", format_size(found["size"])),
        ("Used", format_size(found["used"])),
        ("OS type", found["ostype"]),
        ("Serial", found["serial"]),
        ("Reserved", found["reserved"]),
        ("Clone of", found["backing_snapshot"]),
        ("Maps", list(found["maps"])),
        ("Comment", found["comment"]),
    )
