"""What a worker is told to restore: one JSON object, read strictly into a dataclass.

Paths and names that are not UTF-8 travel as JSON strings with surrogateescape.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.dump.request import Place, place_from_json, take
from appliance.errors import UsageError


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """A restore of `source` to `relative`, a path in `volume` (empty for its root).

    `files` are names relative to the root of the dump, none for everything. With `list` only
    the names are told, to `entries_fd` or as events, and the volume may be missing.
    """

    session: int
    source: Place
    aggregate: Path | None = None
    volume: str = ""
    path: str = ""
    relative: bytes = b""
    files: tuple[bytes, ...] = ()
    renames: tuple[tuple[bytes, bytes], ...] = ()
    list: bool = False
    incremental: bool = False
    force: bool = False
    acls: bool = True
    channel: Path | None = None
    entries_fd: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RestoreRequest":
        """Read the request document. Raises UsageError for what is missing or makes no sense."""
        given = {key: value for key, value in data.items() if value is not None}
        aggregate, channel = take(given, "aggregate", str, ""), take(given, "channel", str, "")
        request = cls(
            session=take(given, "session", int),
            source=place_from_json(take(given, "source", dict)),
            aggregate=Path(aggregate) if aggregate else None,
            volume=take(given, "volume", str, ""),
            path=take(given, "path", str, ""),
            relative=os.fsencode(take(given, "relative", str, "")),
            files=tuple(_name(item) for item in take(given, "files", list, [])),
            renames=tuple(_pair(item) for item in take(given, "rename", list, [])),
            list=take(given, "list", bool, False),
            incremental=take(given, "incremental", bool, False),
            force=take(given, "force", bool, False),
            acls=take(given, "acls", bool, True),
            channel=Path(channel) if channel else None,
            entries_fd=take(given, "entries_fd", int) if "entries_fd" in given else None,
        )
        request.check()
        return request

    def check(self) -> None:
        """Raise UsageError for what does not go together."""
        if not self.list and (self.aggregate is None or not self.volume):
            raise UsageError("restore", "it needs a volume to restore to")
        if self.incremental and (self.files or self.renames):
            reason = "an incremental restore brings everything to the state of the tape; no names"
            raise UsageError("--incremental", reason)


def _name(item: object) -> bytes:
    if not isinstance(item, str) or "\0" in item:
        raise UsageError(f"name {item!r}", "it is no name of a file")
    return os.fsencode(item)


def _pair(item: object) -> tuple[bytes, bytes]:
    if not isinstance(item, list | tuple) or len(item) != 2:
        raise UsageError(f"rename {item!r}", "write it as OLD=NEW")
    return _name(item[0]), _name(item[1])
