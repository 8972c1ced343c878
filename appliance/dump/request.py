"""What a worker is told to dump: one JSON object, read strictly into dataclasses.

Paths and names that are not UTF-8 travel as JSON strings with surrogateescape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from appliance.dump.excludes import Excludes
from appliance.dump.sink import LARGEST_FACTOR, SMALLEST_FACTOR
from appliance.errors import UsageError

VERSION = 1
MAX_LEVEL = 31
MAX_LABEL = 15
ON_CLOSE = ("none", "rewind", "unload")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file by its absolute path."""

    path: Path

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class FdPlace:
    """A descriptor that the worker inherits."""

    fd: int
    name: str


@dataclass(frozen=True, slots=True)
class DrivePlace:
    """A tape drive: `device` is for tape.opening, `on_close` one of ON_CLOSE."""

    name: str
    device: Mapping[str, Any]
    on_close: str = "none"


Place = FilePlace | FdPlace | DrivePlace


@dataclass(frozen=True, slots=True)
class DumpRequest:
    """A dump of `relative`, a path in `volume` (empty for all of it).

    `aggregate` is where it is mounted, `path` what the operator said, `owner` holds the
    snapshot's lock. Without `snapshot` one is made and deleted at the end. `verify` has the
    target read back before the dump counts as done.
    """

    session: int
    owner: str
    aggregate: Path
    volume: str
    subvolid: int
    path: str
    relative: str
    target: Place
    snapshot: str | None = None
    level: int = 0
    blocking_factor: int = 63
    exclude: tuple[str, ...] = ()
    acls: bool = True
    update: bool = True
    label: str = ""
    verify: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DumpRequest":
        """Read the request document. Raises UsageError for what is missing or makes no sense."""
        request = cls(
            session=take(data, "session", int),
            owner=take(data, "owner", str),
            aggregate=Path(take(data, "aggregate", str)),
            volume=take(data, "volume", str),
            subvolid=take(data, "subvolid", int),
            path=take(data, "path", str),
            relative=take(data, "relative", str),
            target=place_from_json(take(data, "target", dict)),
            snapshot=take(data, "snapshot", str) if data.get("snapshot") is not None else None,
            level=take(data, "level", int, 0),
            blocking_factor=take(data, "blocking_factor", int, 63),
            exclude=tuple(take(data, "exclude", list, [])),
            acls=take(data, "acls", bool, True),
            update=take(data, "update", bool, True),
            label=take(data, "label", str, ""),
            verify=take(data, "verify", bool, False),
        )
        request.check()
        return request

    def check(self) -> None:
        """Raise UsageError for values outside their limits."""
        if not 0 <= self.level <= MAX_LEVEL:
            raise UsageError(f"level {self.level}", f"it must be from 0 to {MAX_LEVEL}")
        if not SMALLEST_FACTOR <= self.blocking_factor <= LARGEST_FACTOR:
            reason = f"it must be from {SMALLEST_FACTOR} to {LARGEST_FACTOR}"
            raise UsageError(f"blocking factor {self.blocking_factor}", reason)
        if len(self.label.encode(errors="surrogateescape")) > MAX_LABEL:
            raise UsageError(f"label {self.label!r}", f"it is longer than {MAX_LABEL} bytes")
        self.excludes()

    def excludes(self) -> Excludes:
        """Give the names to leave out."""
        for name in self.exclude:
            if not isinstance(name, str):
                raise UsageError("exclude list", "it must be a list of names")
        return Excludes.parse([name.encode(errors="surrogateescape") for name in self.exclude])


def take(data: Mapping[str, Any], key: str, kind: type[_T], *default: _T) -> _T:
    """Give the value of `key`, which must be of `kind`; without a default it must be there."""
    if key not in data and default:
        return default[0]
    value = data.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"worker request: {key}", f"{value!r} is no {kind.__name__}")
    return value


def place_from_json(data: Mapping[str, Any]) -> Place:
    """Read a target or source. Raises UsageError."""
    kind = take(data, "kind", str)
    if kind == "file":
        path = Path(take(data, "path", str))
        if not path.is_absolute():
            raise UsageError(str(path), "it must be an absolute path")
        return FilePlace(path)
    if kind == "fd":
        return FdPlace(take(data, "fd", int), take(data, "name", str, "-"))
    if kind == "drive":
        on_close = take(data, "on_close", str, "none")
        if on_close not in ON_CLOSE:
            raise UsageError(f"on_close {on_close!r}", f"choose one of {', '.join(ON_CLOSE)}")
        return DrivePlace(take(data, "name", str), take(data, "device", dict), on_close)
    raise UsageError(f"worker request: kind {kind!r}", "choose one of file, fd, drive")
