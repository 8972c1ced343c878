"""The control API's server: JSON lines over the Unix socket of a root.

A call that has begun is carried through even when its client goes away; only streams
(methods with `emit`) end with their client. Calls of one connection run concurrently, up to
a limit, beyond which nothing more is read from it; answers carry the request's id.
"""

import logging
import os
import socket as stdsocket
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from appliance.control import method as methods
from appliance.control.protocol import (
    MAX_DESCRIPTORS,
    LineSplitter,
    Request,
    decode,
    decode_request,
    encode,
    request_id,
)
from appliance.errors import ProtocolError, describe
from fuse.channel import listen

if TYPE_CHECKING:
    from appliance.appliance import Appliance

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_CALLS_AT_ONCE = 64
_CONNECTIONS = 256
_BACKLOG = 128


@dataclass(slots=True)
class _Connection:
    """One client. `fds` are descriptors that came and that no request has claimed yet.

    `users` counts the reader and the calls that still run: the last one closes the socket.
    """

    socket: trio.socket.SocketType
    fds: list[int] = field(default_factory=list)
    gone: bool = False
    users: int = 1
    sending: trio.Lock = field(default_factory=trio.Lock)
    calls: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(_CALLS_AT_ONCE)
    )

    def drop(self) -> None:
        """One user less."""
        self.users -= 1
        if not self.users:
            self.gone = True
            self.socket.close()
            _close(self.fds)

    async def send(self, message: dict[str, Any]) -> None:
        """Send one line; a client that went away is noted and otherwise ignored."""
        line = encode(message)
        async with self.sending:
            view = memoryview(line)
            while view and not self.gone:
                try:
                    view = view[await self.socket.send(view) :]
                except OSError:
                    self.gone = True

    async def receive(self) -> bytes:
        """Give the next bytes, or none at the end; descriptors go to `fds`."""
        try:
            data, ancillary, flags, _ = await self.socket.recvmsg(
                _CHUNK, stdsocket.CMSG_SPACE(4 * MAX_DESCRIPTORS), stdsocket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return b""
        self.fds += _descriptors(ancillary)
        if flags & stdsocket.MSG_CTRUNC or len(self.fds) > MAX_DESCRIPTORS:
            raise ProtocolError(reason=f"more than {MAX_DESCRIPTORS} file descriptors")
        return data

    def claim(self, count: int) -> list[int]:
        """Give a request its descriptors."""
        if count > len(self.fds):
            raise ProtocolError(reason=f"{count} file descriptors announced, {len(self.fds)} came")
        claimed, self.fds = self.fds[:count], self.fds[count:]
        return claimed


class ControlServer:
    """Serves the method table to whoever may open the socket; `calls` outlive their clients."""

    def __init__(self, appliance: "Appliance") -> None:
        self._appliance = appliance
        self._connections = 0

    async def serve(
        self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on `path` (made anew, mode 0600) until cancelled; then the socket is removed."""
        raw, identity = _listen(path)
        with raw:
            listener = trio.socket.from_stdlib_socket(raw)
            try:
                async with trio.open_nursery() as nursery:
                    task_status.started()
                    await self._accept(listener, nursery)
            finally:
                _unlink(path, identity)

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            client, _ = await listener.accept()
            if self._connections >= _CONNECTIONS:
                client.close()
                continue
            nursery.start_soon(self._attend, client, nursery)

    async def _attend(self, client: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        connection = _Connection(client)
        self._connections += 1
        try:
            async with trio.open_nursery() as streams:
                await self._read(connection, streams, nursery)
                streams.cancel_scope.cancel()
        finally:
            self._connections -= 1
            connection.drop()

    async def _read(
        self, connection: _Connection, streams: trio.Nursery, calls: trio.Nursery
    ) -> None:
        splitter = LineSplitter()
        try:
            while data := await connection.receive():
                for line in splitter.feed(data):
                    await self._dispatch(line, connection, streams, calls)
        except ProtocolError as error:
            # The stream itself is out of step: nothing after this point can be trusted.
            await connection.send({"id": None, "error": describe(error)})

    async def _dispatch(
        self, line: bytes, connection: _Connection, streams: trio.Nursery, calls: trio.Nursery
    ) -> None:
        if not line.strip():
            return
        try:
            request = decode_request(line)
        except ProtocolError as error:
            await connection.send({"id": _id_of(line), "error": describe(error)})
            return
        fds = connection.claim(request.fds)
        try:
            found = methods.find(request.method)
        except Exception as error:  # the answer says what it was
            _close(fds)
            await connection.send({"id": request.id, "error": describe(error)})
            return
        token = object()
        await connection.calls.acquire_on_behalf_of(token)
        connection.users += 1
        nursery = streams if found.streams else calls
        nursery.start_soon(self._call, found, request, fds, connection, token)

    async def _call(
        self,
        found: methods.Method,
        request: Request,
        fds: list[int],
        connection: _Connection,
        token: object,
    ) -> None:
        try:
            answer = await self._answer(found, request, fds, connection)
            await connection.send({"id": request.id, **answer})
        finally:
            connection.calls.release_on_behalf_of(token)
            connection.drop()

    async def _answer(
        self, found: methods.Method, request: Request, fds: list[int], connection: _Connection
    ) -> dict[str, Any]:
        async def emit(event: dict[str, Any]) -> None:
            await connection.send({"id": request.id, "event": event})

        extra: dict[str, Any] = {}
        if found.streams:
            extra["emit"] = emit
        if found.descriptors:
            extra["fds"] = fds
        try:
            return {"result": await found(self._appliance, request.params, **extra)}
        except Exception as error:  # a call's failure is its answer
            if not hasattr(error, "code"):
                log.exception("%s failed unexpectedly", request.method)
            return {"error": describe(error)}
        finally:
            _close(fds)


def _listen(path: Path) -> tuple[stdsocket.socket, tuple[int, int]]:
    # Whoever calls this holds the root's lock, so a socket that lies there belongs to nobody.
    listener = listen(path)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    status = path.lstat()
    return listener, (status.st_dev, status.st_ino)


def _unlink(path: Path, identity: tuple[int, int]) -> None:
    with suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISSOCK(status.st_mode) and (status.st_dev, status.st_ino) == identity:
            path.unlink()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (stdsocket.SOL_SOCKET, stdsocket.SCM_RIGHTS):
            usable = len(data) - len(data) % 4
            found += memoryview(data[:usable]).cast("i").tolist()
    return found


def _close(fds: list[int]) -> None:
    while fds:
        with suppress(OSError):
            os.close(fds.pop())


def _id_of(line: bytes) -> int | str | None:
    with suppress(ProtocolError):
        return request_id(decode(line))
    return None
