"""A synchronous client of the control API: what the command line talks through."""

import errno
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from appliance.control.protocol import LineSplitter, decode, encode
from appliance.errors import ErrorDocument, NotRunning, ProtocolError, Refused
from fuse.channel import connect

_CHUNK = 1 << 16


class ControlClient:
    """One connection to a control socket; calls one after the other, from one thread."""

    def __init__(self, connection: socket.socket, root: str) -> None:
        self._connection = connection
        self._root = root
        self._splitter = LineSplitter(limit=1 << 30)
        self._lines: list[bytes] = []
        self._next_id = 1

    @classmethod
    def connect(cls, path: Path, root: str) -> Self:
        """Connect; NotRunning when nobody listens, Refused when this user may not."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connect(connection, path)
        except OSError as error:
            connection.close()
            if error.errno in (errno.EACCES, errno.EPERM):
                raise Refused(root, "this needs root; try it with sudo") from None
            reason = "no control socket" if error.errno == errno.ENOENT else "nobody answers"
            raise NotRunning(root, reason) from None
        return cls(connection, root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        descriptors: Sequence[int] = (),
    ) -> Any:
        """Call a method and give its result; `on_event` sees the events before it.

        Raises ErrorDocument with the server's own words, NotRunning when it goes away.
        """
        identity, self._next_id = self._next_id, self._next_id + 1
        request = {"id": identity, "method": method, "params": params or {}}
        self._send(request, descriptors)
        while True:
            answer = self._receive()
            if answer.get("id") not in (identity, None):
                continue
            if "event" in answer:
                if on_event is not None:
                    on_event(answer["event"])
            elif "error" in answer:
                raise ErrorDocument(answer["error"])
            else:
                return answer.get("result")

    def _send(self, request: dict[str, Any], descriptors: Sequence[int]) -> None:
        if descriptors:
            request["fds"] = len(descriptors)
        line = encode(request)
        try:
            sent = socket.send_fds(self._connection, [line], descriptors) if descriptors else 0
            self._connection.sendall(line[sent:])
        except OSError:
            raise self._lost() from None

    def _receive(self) -> dict[str, Any]:
        while not self._lines:
            try:
                data = self._connection.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                raise self._lost()
            self._lines = self._splitter.feed(data)
        answer = decode(self._lines.pop(0))
        if not answer.keys() & {"event", "error", "result"}:
            raise ProtocolError(reason="an answer without result, error or event")
        return answer

    def _lost(self) -> NotRunning:
        return NotRunning(self._root, "the control process went away in mid-call")
