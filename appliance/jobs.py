"""What an operator asks of a dump or a restore, checked, and as a worker is told it.

The control process takes the operator's values as they come and records them, so that a
refused request leaves a session that says what was asked; the checks are here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.control.method import conform
from appliance.errors import UsageError
from appliance.paths import VolumePath
from appliance.targets import DeviceTarget, FileTarget, StandardTarget, Target, parse_target

LEVELS = (0, 31)
BLOCKING_FACTORS = (4, 256)
DEFAULT_BLOCKING_FACTOR = 63


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request: `volume` is where it reads (dump) or writes (restore), if anywhere.

    `details` are the keys of the worker's request that only the operator decides.
    `entries`: the caller passed a pipe that takes the list of a restore's names.
    """

    kind: str
    volume: VolumePath | None
    target: Target
    details: dict[str, Any]
    entries: bool = False

    @property
    def descriptors(self) -> int:
        """How many file descriptors must come with it."""
        return isinstance(self.target, StandardTarget) + self.entries

    @property
    def end_name(self) -> str:
        """The request's key for where the stream goes or comes from."""
        return "target" if self.kind == "dump" else "source"

    def stream(self, fds: Sequence[int], device: dict[str, Any] | None) -> dict[str, Any]:
        """Give the worker's form of the target: a file, an inherited descriptor, a drive."""
        if isinstance(self.target, FileTarget):
            return {"kind": "file", "path": self.target.path}
        if isinstance(self.target, DeviceTarget):
            return {"kind": "drive", "name": self.target.name} | (device or {})
        return {"kind": "fd", "fd": fds[0], "name": "-"}


def dump_job(params: dict[str, Any]) -> Job:
    """Check the parameters of `dump.start`; UsageError says which one is wrong."""
    path = VolumePath.parse(conform(params["path"], str, "path"))
    details = {
        "level": number(params["level"], "level", *LEVELS),
        "blocking_factor": number(params["blocking_factor"], "blocking factor", *BLOCKING_FACTORS),
        "snapshot": conform(params["snapshot"], str | None, "snapshot"),
        "exclude": conform(params["exclude"], list[str], "exclude"),
        "label": conform(params["label"], str, "label"),
    }
    details |= {name: conform(params[name], bool, name) for name in ("acls", "update", "verify")}
    target = parse_target(conform(params["to"], str, "to"))
    return Job("dump", path, target, details)


def restore_job(params: dict[str, Any]) -> Job:
    """Check the parameters of `restore.start`; UsageError says which one is wrong."""
    listing = conform(params["list"], bool, "list")
    source = parse_target(conform(params["source"], str, "source"))
    path = _restore_path(conform(params["path"], str | None, "path"), listing)
    to = conform(params["to"], str | None, "to")
    place = VolumePath.parse(to) if to is not None else path
    details = {
        "source_path": str(path) if path else None,
        "files": [_member(name) for name in conform(params["files"], list[str], "files")],
        "rename": [_rename(pair) for pair in conform(params["rename"], list[str], "rename")],
    }
    for name in ("list", "incremental", "force", "acls"):
        details[name] = conform(params[name], bool, name)
    details["blocking_factor"] = None
    return Job("restore", place, source, details, entries=listing)


def number(value: Any, what: str, lowest: int, highest: int) -> int:
    """Give a number within limits, from a number or its digits; UsageError otherwise."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UsageError(f"{what} {value!s:.40}", f"must be a number from {lowest} to {highest}")
    return value


def _restore_path(text: str | None, listing: bool) -> VolumePath | None:
    if text is None:
        if listing:
            return None
        raise UsageError("restore", "say where to, as in /vol/vol1")
    return VolumePath.parse(text)


def _member(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in name:
        raise UsageError(f"file {name!r}", "give a path within the dump, without '..'")
    return "/".join(parts)


def _rename(pair: str) -> list[str]:
    old, equals, new = pair.partition("=")
    if not equals:
        raise UsageError(f"rename {pair!r}", "give it as OLD=NEW")
    return [_member(old), _member(new)]
