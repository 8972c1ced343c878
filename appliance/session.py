"""A session: one dump or restore, from the moment it is asked for, and what became of it.

starting ──► running ──► done
    │           ├──────► failed      with the reason
    │           └──► aborting ──► aborted
    └──────────────────► failed      refused before a worker was started
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from appliance.processes import ProcessIdentity

ENDED = ("done", "failed", "aborted")
LIVE = ("starting", "running", "aborting")


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase that a session reached, in the engine's words, at `started` (seconds since 1970)."""

    number: int
    text: str
    started: float


@dataclass(frozen=True, slots=True)
class Session:
    """One session's record; times in seconds since 1970, `rate` in bytes a second.

    `level` and `target` are as the operator gave them, so that a refused request is recorded
    as it was. `error` is the error document of `appliance.errors.describe`, or empty.
    """

    id: int
    kind: str
    path: str
    target: str
    started: float
    level: str = ""
    state: str = "starting"
    reason: str = ""
    error: dict[str, Any] = field(default_factory=dict)
    ended: float | None = None
    phases: tuple[Phase, ...] = ()
    files: int = 0
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    rate: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    aggregate: str = ""
    volume: str = ""
    snapshot: str = ""
    drive: str = ""
    log: str = ""
    worker: ProcessIdentity | None = None

    @property
    def owner(self) -> str:
        """The name under which the session locks snapshots and holds drives."""
        return f"session:{self.id}"

    @property
    def ended_already(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def torn(self) -> bool:
        """Whether it is a dump that ended without its end on the tape."""
        return self.kind == "dump" and self.ended_already and self.state != "done"

    def progressed(self, event: dict[str, Any], at: float) -> "Session":
        """Give the record after a progress event of the worker."""
        changed: dict[str, Any] = {}
        for name in ("files", "bytes", "total_files", "total_bytes", "rate"):
            if isinstance(event.get(name), int | float):
                changed[name] = event[name]
        number, text = int(event.get("phase") or 0), str(event.get("text", ""))
        if number and (not self.phases or self.phases[-1].number != number):
            changed["phases"] = (*self.phases, Phase(number, text, at))
        return replace(self, **changed)

    def finished(self, outcome: dict[str, Any]) -> "Session":
        """Give the record after the worker's result.

        Progress counts by phase; the result counts everything, and all of it is done.
        """
        changed: dict[str, Any] = {"result": outcome}
        for name in ("files", "bytes"):
            if name in outcome:
                changed[name] = changed[f"total_{name}"] = outcome[name]
        return replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """Give the record as the control API shows it."""
        document = asdict(self)
        document["seconds"] = round(self.ended - self.started, 3) if self.ended else None
        return document


def encode_phases(phases: tuple[Phase, ...]) -> str:
    """Give phases as the state database keeps them."""
    return json.dumps([asdict(phase) for phase in phases])


def decode_phases(text: str) -> tuple[Phase, ...]:
    """Read what `encode_phases` gave."""
    return tuple(Phase(**phase) for phase in json.loads(text))
