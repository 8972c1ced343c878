"""What a virtual cartridge is, apart from what is on its tape: `attributes.json`."""

import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tape.errors import InvalidName, LibraryDamaged

_BARCODE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Attributes:
    """`capacity` in bytes; `cleaning`: a cleaning cartridge, with `cleanings` left.

    `loads` counts how often a drive has threaded it.
    """

    barcode: str
    capacity: int
    uuid: str
    cleaning: bool = False
    cleanings: int = 0
    write_protected: bool = False
    loads: int = 0

    def save(self, path: Path) -> None:
        """Write them to a file, all or nothing."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Attributes":
        """Read them; raises LibraryDamaged."""
        library = path.parents[2].name
        data = read_json(path, library)
        given = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        for name, value in given.items():
            if type(value) is not cls.__annotations__[name]:
                raise LibraryDamaged(library, f"{path}: {name} cannot be {value!r}")
        try:
            return cls(**given)
        except TypeError as error:
            raise LibraryDamaged(library, f"{path}: {error}") from error


def check_barcode(barcode: str) -> str:
    """Give the barcode back; raises InvalidName when no library could print or read it."""
    if not _BARCODE.fullmatch(barcode):
        raise InvalidName("barcode", barcode, "it has 1 to 32 of A-Z, 0-9 and -")
    return barcode


def write_json(path: Path, data: Any) -> None:
    """Replace a file by a JSON document: after a crash it holds the old or the new one."""
    draft = path.with_name(path.name + ".new")
    with draft.open("w") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.flush()
        os.fdatasync(file.fileno())
    draft.replace(path)


def read_json(path: Path, library: str = "") -> dict[str, Any]:
    """Read a JSON object; raises LibraryDamaged, of the library that `path` is in."""
    library = library or path.parent.name
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LibraryDamaged(library, f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise LibraryDamaged(library, f"{path}: it holds no JSON object")
    return data
