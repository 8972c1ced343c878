"""The tree of the appliance's own errors; storage and tape bring trees of the same shape.

    ApplianceError
    ├── UsageError          the request makes no sense as it stands (exit 2)
    ├── Refused             a rule said no (exit 3)
    ├── NeedsOperator       somebody has to do something at the library (exit 4)
    ├── SessionError        sessions: unknown, failed, aborted
    │   ├── NoSuchSession   no session of this number
    │   ├── SessionAborted  an operator ended it
    │   └── Interrupted     the control process ended while it ran
    ├── StateFailed         the state database cannot be read or written
    ├── MountFailed         a volume's file system process did not come up
    ├── StreamError         a dump stream that is torn, foreign or out of order
    ├── RestoreStopped      a restore that could not go on; says how far it came
    ├── LocalFailure        the system refused the command itself something
    ├── ErrorDocument       an error that is known by its document only, as a client gets it
    └── ServerError         the control socket: not running, already running, lost
        ├── NotRunning      nobody serves this root
        ├── AlreadyRunning  somebody serves this root already
        ├── NotInitialised  this directory is no root yet
        └── ProtocolError   a line on the control socket that is no request

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
class LocalFailure(ApplianceError):
    """The system refused what the command itself tried on `what`."""

    code = "failed"
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
class StateFailed(ApplianceError):
    """The state database of a root cannot be read or written; `reason` says why."""

    code = "state.failed"
    template = "the state database cannot be used: {reason}"
    advice = "make room on the file system of the root, and try again"
    reason: str


@dataclass(eq=False)
class MountFailed(ApplianceError):
    """A volume's file system process did not come up; `reason` says how it ended."""

    code = "volume.mount_failed"
    template = "volume {volume} cannot be mounted: {reason}"
    advice = "see the messages of snapreel serve, then: snapreel volume mount {volume}"
    volume: str
    reason: str


@dataclass(eq=False)
class StreamError(ApplianceError):
    """A dump stream that cannot be read on; `offset` in bytes from its start."""

    code = "stream.damaged"
    template = "dump stream {source} at byte {offset}: {reason}"
    advice = "see what can be read with: snapreel restore --from SOURCE --list, or use another copy"
    source: str
    offset: int
    reason: str


@dataclass(eq=False)
class RestoreStopped(ApplianceError):
    """A restore that could not go on; `files` and `bytes` are complete, up to `last`."""

    code = "restore.stopped"
    template = "restore stopped after {files} files and {bytes} bytes: {reason}"
    advice = "make room (snapreel volume modify, or delete snapshots), then start it again"
    reason: str
    files: int
    bytes: int
    last: str


@dataclass(eq=False)
class TargetFailed(ApplianceError):
    """What a dump is written to cannot be opened or written; `reason` says why."""

    code = "target.failed"
    template = "cannot write the dump to {target}: {reason}"
    advice = "make room or choose another target, and start the dump again"
    target: str
    reason: str


@dataclass(eq=False)
class SourceDamaged(ApplianceError):
    """The stream is whole, but zeroes stand for what could not be read of `files` files."""

    code = "dump.source_damaged"
    template = "{files} file(s) could not be read whole, the first is {first}: {reason}"
    advice = "restore these files from an earlier dump, then dump again; dumpdates is unchanged"
    files: int
    first: str
    reason: str


@dataclass(eq=False)
class NoSuchSession(SessionError):
    """No session has this number."""

    code = "session.not_found"
    template = "session {session} does not exist"
    advice = "list what is there with: snapreel session list"
    reason: str = "does not exist"


@dataclass(eq=False)
class SessionAborted(SessionError):
    """An operator ended the session; `reason` says who or how."""

    code = "session.aborted"
    template = "session {session} was aborted: {reason}"
    advice = "start it again when you are ready"
    reason: str = "aborted by operator"


@dataclass(eq=False)
class Interrupted(SessionError):
    """The session's process or the control process ended under it."""

    code = "session.interrupted"
    template = "session {session} was interrupted: {reason}"
    advice = "start it again"


@dataclass(eq=False)
class ServerError(ApplianceError):
    """The control process is not there, or there already."""

    code = "server"
    template = "{root}: {reason}"
    root: str
    reason: str


class ErrorDocument(ApplianceError):
    """An error known by its document: what a client raises, and what wraps a session's failure."""

    code: str  # type: ignore[misc] # the document's own, of one error and not of the class
    exit_code: int  # type: ignore[misc]
    advice: str  # type: ignore[misc]

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.document = document
        self.code = str(document.get("code", "internal"))
        self.exit_code = int(document.get("exit_code", 1))
        self.advice = str(document.get("advice", ""))

    def __str__(self) -> str:
        return str(self.document.get("message", "failed"))


@dataclass(eq=False)
class NotRunning(ServerError):
    """Nobody listens on the control socket of this root."""

    code = "server.not_running"
    template = "nothing serves {root}: {reason}"
    advice = "start it with: snapreel --root {root} serve"


@dataclass(eq=False)
class AlreadyRunning(ServerError):
    """Another process holds the lock of this root; `reason` says which."""

    code = "server.already_running"
    exit_code = 3
    template = "{root} is in use: {reason}"
    advice = "use the one that runs, or stop it first"


@dataclass(eq=False)
class NotInitialised(ServerError):
    """The directory is not a root yet."""

    code = "server.not_initialised"
    template = "{root} is not a Snapreel root: {reason}"
    advice = "make one with: snapreel --root {root} init"


@dataclass(eq=False)
class ProtocolError(ServerError):
    """What came over the control socket is no request or no answer."""

    code = "server.protocol"
    exit_code = 2
    template = "control protocol: {reason}"
    advice = "send one JSON object a line: id, method, params"
    root: str = ""
    reason: str = "malformed"


def describe(error: BaseException) -> dict[str, Any]:
    """Give the JSON form of an error: code, message, advice, exit_code and its data.

    An exception of none of the three trees is reported as `internal`.
    """
    if isinstance(error, ErrorDocument):
        return error.document
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
