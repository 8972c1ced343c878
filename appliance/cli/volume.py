"""`snapreel volume`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, key, limit, show, size
from appliance.sizes import format_size

app = typer.Typer(name="volume", help="Volumes: what clients mount, and what is dumped.")

Name = Annotated[str, typer.Argument(help="Name of the volume.")]
Size = Annotated[str | None, typer.Option(help="Limit in bytes (K M G T); 0 for none.")]
Files = Annotated[int | None, typer.Option(help="Limit in inodes; 0 for none.")]
Style = Annotated[str | None, typer.Option(help="unix, ntfs or mixed.")]
Comment = Annotated[str | None, typer.Option(help="A remark.")]


@app.command()
def create(
    name: Name,
    aggregate: Annotated[str, typer.Option(help="Where, when there are several.")] = "",
    size: Size = None,
    files: Files = None,
    security_style: Style = None,
    comment: Comment = None,
) -> None:
    """Make a volume and mount it."""
    asked = {"size": size, "files": files, "security_style": security_style, "comment": comment}
    given = {field: value for field, value in asked.items() if value is not None}
    show(call("volume.create", name=name, aggregate=aggregate, **given), _facts)


@app.command("list")
def list_() -> None:
    """List the volumes."""
    show(call("volume.list"), _table)


@app.command("show")
def show_(name: Name) -> None:
    """Show one volume."""
    show(call("volume.show", name=name), _facts)


@app.command()
def modify(
    name: Name,
    size: Size = None,
    files: Files = None,
    security_style: Style = None,
    comment: Comment = None,
    snapdir: Annotated[
        bool | None, typer.Option("--snapdir/--no-snapdir", help="Let clients see .snapshot.")
    ] = None,
    vm_align_sector: Annotated[int | None, typer.Option(help="Sector of vm-align.")] = None,
) -> None:
    """Change a volume's limits, style, comment, .snapshot visibility or vm-align sector."""
    asked = {
        "size": size,
        "files": files,
        "security_style": security_style,
        "comment": comment,
        "snapdir": snapdir,
        "vm_align_sector": vm_align_sector,
    }
    given = {field: value for field, value in asked.items() if value is not None}
    show(call("volume.modify", name=name, **given), _facts)


@app.command()
def offline(name: Name) -> None:
    """Take a volume from its clients, until it is brought online."""
    show(call("volume.offline", name=name), _facts)


@app.command()
def online(name: Name) -> None:
    """Give a volume back to its clients."""
    show(call("volume.online", name=name), _facts)


@app.command()
def mount(name: Name) -> None:
    """Mount a volume that was unmounted."""
    show(call("volume.mount", name=name), _facts)


@app.command()
def unmount(name: Name) -> None:
    """Unmount a volume, until it is mounted or the next start."""
    show(call("volume.unmount", name=name), _facts)


@app.command()
def delete(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even while it is online.")] = False,
) -> None:
    """Delete a volume, all that is in it, and its snapshots."""
    show(call("volume.delete", name=name, force=force), lambda done: f"{done['name']} deleted")


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Name", key("name")),
        ("Aggregate", key("aggregate")),
        ("State", key("state")),
        ("Mount", lambda row: row["mount"]["state"]),
        ("Style", key("security_style")),
        ("Size", limit("size")),
        ("Used", size("used")),
        ("Avail", size("available")),
        ("Snapshots", key("snapshots")),
        empty="no volumes",
    )


def _facts(found: dict[str, Any]) -> str:
    mount, files = found["mount"], found["files"] or "no limit"
    if found["files_used"] >= 0:
        files = f"{found['files_used']} of {files}"
    return facts(
        ("Name", found["name"]),
        ("Path", found["path"]),
        ("Aggregate", found["aggregate"]),
        ("State", f"{found['state']}, {mount['state']}"),
        ("Reason", mount["reason"]),
        ("Mounted at", mount["path"]),
        ("Type", found["type"]),
        ("Style", found["security_style"]),
        ("Size", format_size(found["size"]) if found["size"] else "no limit"),
        ("Used", format_size(found["used"])),
        ("Available", format_size(found["available"])),
        ("Files", files),
        ("Snapshots", found["snapshots"]),
        (".snapshot", "visible" if found["snapdir"] else "hidden"),
        ("vm-align", found["vm_align_sector"] or None),
        ("Comment", found["comment"]),
        ("UUID", found["uuid"]),
    )
