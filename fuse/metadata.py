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

import errno
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

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


Target = int | str | bytes | Path
"""An object: a descriptor, also one opened with O_PATH, or a path, which is not followed."""


class MalformedMetadata(ValueError):
    """The attribute's bytes are not what this table says."""


def _thaw(value: Any) -> Any:
    """Give JSON's lists as the tuples that frozen records hold."""
    return tuple(value) if isinstance(value, list) else value


def _fits(value: object, hint: Any) -> bool:
    """Say whether a value is what a field's annotation says; a bool is no int here."""
    if hint == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return type(value) in (get_args(hint) or (hint,))


@dataclass(frozen=True, slots=True)
class _Record:
    def encode(self) -> bytes:
        """Give the attribute's value."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read an attribute's value; unknown keys are ignored, so that newer roots stay readable.

        Raises MalformedMetadata when it is no JSON object, lacks a key, or a key's value has
        another type than the field.
        """
        try:
            data: Any = json.loads(value)
            hints = get_type_hints(cls)
            record = cls(**{k: _thaw(v) for k, v in data.items() if k in hints})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MalformedMetadata(f"{cls.__name__}: {error}") from error
        for item in fields(cls):
            if not _fits(getattr(record, item.name), hints[item.name]):
                raise MalformedMetadata(f"{cls.__name__}: {item.name} has the wrong type")
        return record


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


def _place(target: Target) -> tuple[str | bytes | Path, bool]:
    """Give the path to work on and whether to follow it.

    The entry of /proc reaches the object itself, also for a descriptor opened with O_PATH.
    """
    if isinstance(target, int):
        return f"/proc/self/fd/{target}", True
    return target, False


def get_attribute(target: Target, name: str) -> bytes | None:
    """Give an attribute of an object, None when it has none. Raises OSError."""
    path, follow = _place(target)
    try:
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def set_attribute(target: Target, name: str, value: bytes) -> None:
    """Set an attribute of an object. Raises OSError."""
    path, follow = _place(target)
    os.setxattr(path, name, value, follow_symlinks=follow)


def remove_attribute(target: Target, name: str) -> None:
    """Remove an attribute of an object, if it has it. Raises OSError."""
    path, follow = _place(target)
    try:
        os.removexattr(path, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
