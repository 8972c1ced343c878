"""Opening a device from a description that travels between processes as JSON.

    {"kind": "virtual", "library": DIRECTORY, "drive": N}      a drive of a virtual library
    {"kind": "virtual", "library": DIRECTORY, "changer": 0}    its changer
    {"kind": "sg", "path": "/dev/sgN"}                         a real device

`name`, when given, is what messages call the device.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tape.errors import DeviceNotFound, InvalidRequest
from tape.transport import Transport
from tape.virtual.library import VirtualLibrary


def open_transport(spec: Mapping[str, Any]) -> Transport:
    """Open the device; raises DeviceNotFound, DeviceBusy, InvalidRequest, LibraryDamaged."""
    kind = spec.get("kind")
    if kind == "virtual":
        return _open_virtual(spec)
    if kind == "sg":
        raise InvalidRequest(str(spec.get("path")), "this build drives virtual devices only")
    raise InvalidRequest(f"device {spec}", "its kind is neither virtual nor sg")


def _open_virtual(spec: Mapping[str, Any]) -> Transport:
    name = str(spec.get("name", ""))
    try:
        library = VirtualLibrary.open(Path(spec["library"]))
        if "drive" in spec:
            return library.drive_transport(int(spec["drive"]), name)
        number = int(spec["changer"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"device {dict(spec)}", f"it lacks {error}") from error
    if number:
        raise DeviceNotFound("changer", name or f"{library.config.name}:changer{number}")
    return library.changer_transport(name)
