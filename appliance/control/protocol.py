"""The lines of the control API: one JSON object a line over a Unix stream socket.

    request   {"id": 1, "method": "volume.create", "params": {"name": "vol1"}}
              {"id": 2, "method": "dump.start", "params": {...}, "fds": 1}
    answer    {"id": 1, "result": ...}
              {"id": 1, "error": {"code", "message", "advice", "exit_code", "data"}}
    event     {"id": 3, "event": {...}}          streaming methods, before their answer

`fds` says how many file descriptors came with the line (SCM_RIGHTS, in order). Names that
are not UTF-8 travel with surrogate escapes, as `os.fsdecode` makes them.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import ProtocolError

MAX_LINE = 4 << 20
MAX_DESCRIPTORS = 8


@dataclass(frozen=True, slots=True)
class Request:
    """A call; `fds` is how many descriptors belong to it."""

    id: int | str | None
    method: str
    params: dict[str, Any] = field(default_factory=dict)
    fds: int = 0


@dataclass(slots=True)
class LineSplitter:
    """Cuts a byte stream into lines of at most `limit` bytes; ProtocolError beyond."""

    limit: int = MAX_LINE
    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come, give the lines that they complete, without newlines."""
        scanned = len(self._pending)
        self._pending += data
        if b"\n" not in data:
            self._check(len(self._pending))
            return []
        end = self._pending.rindex(b"\n", scanned)
        lines = bytes(self._pending[:end]).split(b"\n")
        del self._pending[: end + 1]
        self._check(max(len(self._pending), *map(len, lines)))
        return lines

    def _check(self, length: int) -> None:
        if length > self.limit:
            raise ProtocolError(reason=f"a line of more than {self.limit} bytes")


def encode(message: dict[str, Any]) -> bytes:
    """Give a message's line, newline included."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Read a line; ProtocolError when it is no JSON object."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(reason=f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError(reason=f"not a JSON object but {type(message).__name__}")
    return message


def decode_request(line: bytes) -> Request:
    """Read a request; ProtocolError when it is none."""
    message = decode(line)
    unknown = message.keys() - {"id", "method", "params", "fds"}
    if unknown:
        raise ProtocolError(reason=f"unknown key {min(unknown)!r}")
    identity = request_id(message)
    method, params, fds = message.get("method"), message.get("params", {}), message.get("fds", 0)
    if not isinstance(method, str):
        raise ProtocolError(reason="method is missing or no string")
    if not isinstance(params, dict):
        raise ProtocolError(reason="params is no object")
    if not isinstance(fds, int) or isinstance(fds, bool) or not 0 <= fds <= MAX_DESCRIPTORS:
        raise ProtocolError(reason=f"fds is no number from 0 to {MAX_DESCRIPTORS}")
    return Request(identity, method, params, fds)


def request_id(message: dict[str, Any]) -> int | str | None:
    """Give a message's id; ProtocolError when it is of a type that cannot be one."""
    identity = message.get("id")
    if identity is None or (isinstance(identity, int | str) and not isinstance(identity, bool)):
        return identity
    raise ProtocolError(reason="id is neither a number nor a string")
