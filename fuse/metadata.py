"""Metadata that a snapshot must capture: extended attributes of the objects themselves.

| attribute                      | on                    | value                    |
|--------------------------------|-----------------------|--------------------------|
| `trusted.snapreel.volume`      | a volume's root       | VolumeMetadata           |
| `trusted.snapreel.qtree`       | a top-level directory | QtreeMetadata            |
| `trusted.snapreel.lun`         | a regular file        | LunMetadata              |
| `trusted.snapreel.junction`    | a directory           | the volume mounted there |
| `trusted.snapreel.vmalign`     | a regular file        | sectors, decimal         |
| `trusted.snapreel.restricted`  | a file or LUN         | RestrictionMark          |
| `trusted.snapreel.crtime`      | anything restored     | ns since 1970, decimal   |

Values are compact JSON objects in UTF-8 unless said otherwise. Clients never see,
set or remove attributes below `trusted.snapreel.`.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

PREFIX = "trusted.snapreel."
VOLUME = PREFIX + "volume"
QTREE = PREFIX + "qtree"
LUN = PREFIX + "lun"
JUNCTION = PREFIX + "junction"
VMALIGN = PREFIX + "vmalign"
RESTRICTED = PREFIX + "restricted"
CRTIME = PREFIX + "crtime"

SECURITY_STYLES = ("unix", "ntfs", "mixed")
VOLUME_STATES = ("online", "restricted", "offline")
VOLUME_TYPES = ("rw", "dp")


class MalformedMetadata(ValueError):
    """The attribute's bytes are not what this table says."""


@dataclass(frozen=True, slots=True)
class _Record:
    def encode(self) -> bytes:
        """Give the attribute's value."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read an attribute's value; unknown keys are ignored, so that newer roots stay readable.

        Raises MalformedMetadata when it is no JSON object or lacks a key.
        """
        try:
            data: Any = json.loads(value)
            known = {f.name for f in fields(cls)}
            return cls(**{k: v for k, v in data.items() if k in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise MalformedMetadata(f"{cls.__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class VolumeMetadata(_Record):
    """What a volume is: `size` in bytes (0 = no limit), `files` in inodes (0 = no limit)."""

    uuid: str
    size: int = 0
    files: int = 0
    security_style: str = "unix"
    type: str = "rw"
    state: str = "online"
    vm_align_sector: int = 0
    snapdir: bool = True
    comment: str = ""
    next_qtree_id: int = 1


@dataclass(frozen=True, slots=True)
class QtreeMetadata(_Record):
    """A qtree: `id` from 1, style None means the volume's."""

    id: int
    security_style: str | None = None
    oplocks: bool = True


@dataclass(frozen=True, slots=True)
class LunMetadata(_Record):
    """A LUN: `size` in bytes; `state` online or offline; `reserved` says whether space is."""

    serial: str
    size: int
    ostype: str = "linux"
    state: str = "online"
    reserved: bool = False
    comment: str = ""
    backing_snapshot: str = ""
    maps: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class RestrictionMark(_Record):
    """Client I/O is restricted by `session` since `since` (seconds since 1970)."""

    session: str
    since: int
    reason: str = "restore"
