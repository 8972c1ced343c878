"""Where a dump goes and a restore comes from, as operators name it.

file:PATH     a file (absolute by the time it gets here)
-             the standard output or input of the command: a descriptor
nrst0a        a tape device
"""

from dataclasses import dataclass

from appliance.errors import UsageError


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A file at an absolute path."""

    path: str


@dataclass(frozen=True, slots=True)
class StandardTarget:
    """The caller's standard output or input."""


@dataclass(frozen=True, slots=True)
class DeviceTarget:
    """A tape device by its name."""

    name: str


Target = FileTarget | StandardTarget | DeviceTarget


def parse_target(text: str) -> Target:
    """Read a TARGET or SOURCE; UsageError when it is none."""
    if text == "-":
        return StandardTarget()
    kind, colon, rest = text.partition(":")
    if not colon:
        return _device(text)
    if kind != "file":
        raise UsageError(
            f"target {text!r}", f"no kind {kind!r}; give file:PATH, - or a tape device"
        )
    if not rest.startswith("/") or "\0" in rest:
        raise UsageError(f"target {text!r}", "give an absolute path, as in file:/backup/vol1.dump")
    return FileTarget(rest)


def _device(text: str) -> DeviceTarget:
    if not text or "/" in text:
        raise UsageError(f"target {text!r}", "give file:PATH, - or a tape device such as nrst0a")
    return DeviceTarget(text)
