"""The tree of the appliance's own errors; storage and tape bring trees of the same shape.

    ApplianceError
    ├── UsageError          the request makes no sense as it stands (exit 2)
    ├── Refused             a rule said no (exit 3)
    ├── NeedsOperator       somebody has to do something at the library (exit 4)
    ├── SessionError        sessions: unknown, failed, aborted
    ├── StreamError         a dump stream that is torn, foreign or out of order
    └── ServerError         the control socket: not running, already running, lost

`fuse.errors.StorageError` and `tape.errors.TapeError` have the same attributes:
`code`, `exit_code`, `template`, `advice`; `Fault` is that shape.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Protocol


class Fault(Protocol):
    """What every error of the three trees offers."""

    code: ClassVar[str]
    exit_code: ClassVar[int]
    advice: ClassVar[str]


class ApplianceError(Exception):
    """Root of the appliance's errors: `code` is stable, `str()` is one line for an operator."""

    code: ClassVar[str] = "appliance.error"
    exit_code: ClassVar[int] = 1
    template: ClassVar[str] = "error"
    advice: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.template.format_map(vars(self))


@dataclass(eq=False)
class UsageError(ApplianceError):
    """A value that cannot be used; `reason` says why and what would do."""

    code = "usage"
    exit_code = 2
    template = "{what}: {reason}"
    what: str
    reason: str


@dataclass(eq=False)
class Refused(ApplianceError):
    """A rule forbids it; `reason` names the rule."""

    code = "refused"
    exit_code = 3
    template = "{what}: {reason}"
    what: str
    reason: str


@dataclass(eq=False)
class NeedsOperator(ApplianceError):
    """Somebody has to act before this can go on."""

    code = "needs_operator"
    exit_code = 4
    template = "{what}: {reason}"
    what: str
    reason: str


@dataclass(eq=False)
class SessionError(ApplianceError):
    """A session that is unknown, or ended without doing its work."""

    code = "session.failed"
    template = "session {session}: {reason}"
    advice = "see its log with: snapreel session show"
    session: str
    reason: str


@dataclass(eq=False)
class StreamError(ApplianceError):
    """A dump stream that cannot be read on; `offset` in bytes from its start."""

    code = "stream.damaged"
    template = "dump stream {source} at byte {offset}: {reason}"
    source: str
    offset: int
    reason: str


@dataclass(eq=False)
class ServerError(ApplianceError):
    """The control process is not there, or there already."""

    code = "server"
    template = "{root}: {reason}"
    root: str
    reason: str


def describe(error: BaseException) -> dict[str, Any]:
    """Give the JSON form of an error: code, message, advice, exit_code and its data.

    An exception of none of the three trees is reported as `internal`.
    """
    data: dict[str, Any] = {}
    if is_dataclass(error):
        data = {f.name: getattr(error, f.name) for f in fields(error)}
    advice = str(getattr(error, "advice", ""))
    return {
        "code": str(getattr(error, "code", "internal")),
        "message": str(error) or type(error).__name__,
        "advice": advice.format_map(data) if data else advice,
        "exit_code": int(getattr(error, "exit_code", 1)),
        "data": data,
    }
