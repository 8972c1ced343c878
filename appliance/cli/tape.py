"""`snapreel tape`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, key, show
from appliance.sizes import format_size

app = typer.Typer(name="tape", help="Tape drives.")

Device = Annotated[str, typer.Argument(help="A tape device, such as nrst0a.")]


@app.command("show")
def show_(
    device: Annotated[str | None, typer.Argument(help="One drive; all without it.")] = None,
) -> None:
    """List the drives, what they hold and who uses them."""
    show(call("tape.show", device=device), _table)


@app.command()
def status(device: Device) -> None:
    """Ask a drive how it is and where its tape stands."""
    show(call("tape.status", device=device), _facts)


@app.command()
def position(
    device: Device,
    operation: Annotated[
        str, typer.Argument(help="rewind eod load unload offline fsf bsf fsr bsr")
    ],
    count: Annotated[int, typer.Argument(help="How many files or blocks.")] = 1,
) -> None:
    """Move the tape."""
    show(call("tape.position", device=device, operation=operation, count=count), _facts)


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Device", key("name")),
        ("Library", key("library")),
        ("Serial", key("serial")),
        ("Cartridge", key("cartridge")),
        ("State", key("state")),
        ("Used by", key("holder")),
        empty="no tape drives",
    )


def _facts(found: dict[str, Any]) -> str:
    if not found["loaded"]:
        return facts(("Device", found["name"]), ("Cartridge", found["reason"]))
    where = f"block {found['block']}, file {found['file']}"
    where += ", beginning of tape" if found["beginning"] else ""
    where += ", near the end of tape" if found["end"] else ""
    block = found["block_size"]
    return facts(
        ("Device", found["name"]),
        ("Position", where),
        ("Block size", f"{block} bytes" if block else "variable"),
        ("Density", f"0x{found['density']:02x}"),
        ("Write protected", found["write_protected"]),
        ("Compression", found["compression"]),
        ("Capacity", format_size(found["capacity"])),
        ("Remaining", format_size(found["remaining"])),
        ("TapeAlert", found["alerts"]),
    )
