"""Tape drives: shown, asked, positioned."""

from collections.abc import Callable
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.errors import UsageError
from appliance.libraries import TapeDrive
from tape.drive import Drive
from tape.errors import CleaningCartridge, NoCartridge, NotLoaded
from tape.names import all_names

_MOST = 1_000_000


@method("tape.show")
async def show(appliance: Appliance, *, device: str | None = None) -> list[dict[str, Any]]:
    """List the drives with their names, what they hold and who uses them."""
    drives = appliance.tapes.drives()
    if device is not None:
        drives = [appliance.tapes.drive(device)]
    loaded: dict[str, str | None] = {}
    for library in appliance.tapes.libraries.values():
        for placed in (await library.elements()).all:
            loaded[placed.name] = placed.element.barcode if placed.element.full else None
    return [
        drive.to_json() | {"cartridge": loaded.get(drive.name), "aliases": _aliases(drive)}
        for drive in drives
    ]


def _aliases(drive: TapeDrive) -> list[str]:
    return [str(name) for name in all_names(drive.name.removeprefix("rst"))]


@method("tape.status")
async def status(appliance: Appliance, *, device: str) -> dict[str, Any]:
    """Ask a drive how it is: cartridge, position, block size, capacity, alerts."""
    drive = appliance.tapes.drive(device)
    return drive.to_json() | await drive.actor.call(_status, "status")


def _status(drive: Drive) -> dict[str, Any]:
    drive.clear_attentions()
    found: dict[str, Any] = {"loaded": True, "reason": ""}
    try:
        drive.wait_ready(0)
    except (NoCartridge, NotLoaded, CleaningCartridge) as error:
        found |= {"loaded": False, "reason": str(error)}
    else:
        position, settings, capacity = drive.position(), drive.settings(), drive.capacity()
        found |= {
            "block": position.object,
            "file": position.file,
            "beginning": position.beginning,
            "end": position.end,
            "block_size": settings.block_size,
            "density": settings.density,
            "write_protected": settings.write_protected,
            "compression": settings.compression,
            "capacity": capacity.maximum << 20,
            "remaining": capacity.remaining << 20,
        }
    return found | {"alerts": sorted(drive.tape_alerts())}


def _file_forward(drive: Drive, count: int) -> None:
    drive.space_filemarks(count)


def _file_backward(drive: Drive, count: int) -> None:
    drive.space_filemarks(-count)


def _block_forward(drive: Drive, count: int) -> None:
    drive.space_blocks(count)


def _block_backward(drive: Drive, count: int) -> None:
    drive.space_blocks(-count)


# What an operator says after `tape position DEVICE`, as mt(1) has it; those of the first table
# take a count.
_COUNTED: dict[str, Callable[[Drive, int], None]] = {
    "fsf": _file_forward,
    "bsf": _file_backward,
    "fsr": _block_forward,
    "bsr": _block_backward,
}
_PLAIN: dict[str, Callable[[Drive], None]] = {
    "rewind": Drive.rewind,
    "eod": Drive.space_end_of_data,
    "load": Drive.load,
    "unload": Drive.unload,
    "offline": Drive.unload,
}


@method("tape.position")
async def position(
    appliance: Appliance, *, device: str, operation: str, count: int = 1
) -> dict[str, Any]:
    """Move the tape: rewind, eod, load, unload, offline, or fsf, bsf, fsr, bsr by a count."""
    drive = appliance.tapes.drive(device)
    if operation not in _COUNTED | _PLAIN:
        known = ", ".join([*_PLAIN, *_COUNTED])
        raise UsageError(f"operation {operation!r}", f"choose one of {known}")
    if not 1 <= count <= _MOST:
        raise UsageError(f"count {count}", f"must be a number from 1 to {_MOST}")

    def move(found: Drive) -> None:
        found.clear_attentions()
        if operation in _COUNTED:
            _COUNTED[operation](found, count)
        else:
            _PLAIN[operation](found)

    await drive.actor.call(move, operation)
    return await status(appliance, device=device)
