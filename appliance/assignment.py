"""What a worker is told: the session, its job, and where in storage it works."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from appliance.jobs import Job
from appliance.root import Root
from appliance.session import Session
from appliance.targets import DeviceTarget

VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """The volume that a session reads or writes; all None for one that only lists a dump."""

    aggregate: str | None = None
    volume: str | None = None
    subvolume: str | None = None
    subvolid: int | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A session that is about to run; `fds` came with the request, in order."""

    session: Session
    job: Job
    place: Place
    fds: tuple[int, ...]

    def begun(self) -> Session:
        """Give the session's record as it is while it runs."""
        target = self.job.target
        return replace(
            self.session,
            state="running",
            volume=self.place.volume or "",
            aggregate=Path(self.place.aggregate or "").name,
            drive=target.name if isinstance(target, DeviceTarget) else "",
        )

    def request(self, root: Root, device: dict[str, Any] | None) -> dict[str, Any]:
        """Give the first line of the worker's input; `device` is the leased drive, if any."""
        job, path = self.job, self.job.volume
        return {
            "kind": job.kind,
            "version": VERSION,
            "session": self.session.id,
            "owner": self.session.owner,
            "root": str(root.path),
            "path": str(path) if path else None,
            "relative": path.relative if path else None,
            "entries_fd": self.fds[-1] if job.entries else None,
            job.end_name: job.stream(self.fds, device),
            **asdict(self.place),
            **job.details,
        }
