"""Talking to the file system process of a volume: JSON lines over a Unix socket.

Request `{"method": NAME, ...}`, answer `{"result": ...}` or `{"error": TEXT, "errno": N}`.

| method     | parameters                             | result                              |
|------------|----------------------------------------|-------------------------------------|
| status     |                                        | pid, volume, mount, counts of tables |
| restrict   | inode, session                         | null, once no cached data is left   |
| lift       | inode                                  | null, once no stale data is left    |
| invalidate | inodes, entries [[parent, name hex]]   | count of what the kernel had        |
| forget     | subvolid                               | null: snapshot may be cleaned       |
| unmount    |                                        | null, then the process ends         |
"""

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from fuse.errors import StorageFailed

_TIMEOUT = 60.0


class VolumeChannel:
    """The client's end. One connection, opened at the first call, for one thread.

    When nothing listens the volume is not mounted, so nothing is cached and there is nobody
    to restrict: every call then does nothing.
    """

    def __init__(self, path: Path | str, timeout: float = _TIMEOUT) -> None:
        self._path = Path(path)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def available(self) -> bool:
        """Say whether the file system process listens."""
        return self._connect() is not None

    def status(self) -> dict[str, Any] | None:
        """Ask how the process is; None when it does not run."""
        result: dict[str, Any] | None = self._call("status")
        return result

    def restrict(self, inode: int, session: str) -> None:
        """Keep clients away from `inode`, whose mark is set already.

        On return no client can read or write it, not even what was cached.
        """
        self._call("restrict", inode=inode, session=session)

    def lift(self, inode: int) -> None:
        """Let clients at `inode` again; its mark is taken away already."""
        self._call("lift", inode=inode)

    def invalidate(
        self, inodes: Iterable[int] = (), entries: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        """Say what was changed beneath the mount: inodes, and names as (parent inode, name)."""
        named = [[parent, name.hex()] for parent, name in entries]
        self._call("invalidate", inodes=list(inodes), entries=named)

    def forget(self, subvolid: int) -> None:
        """Say that a snapshot was deleted, so that nothing of it is held open needlessly."""
        self._call("forget", subvolid=subvolid)

    def unmount(self) -> None:
        """Ask the process to unmount and end."""
        self._call("unmount")

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._received = b""

    def _connect(self) -> socket.socket | None:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(self._timeout)
            try:
                connect(connection, self._path)
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                return None
            except BaseException:
                connection.close()
                raise
            self._socket = connection
        return self._socket

    def _call(self, method: str, **parameters: Any) -> Any:
        if self._connect() is None:
            return None
        request = json.dumps({"method": method, **parameters}).encode() + b"\n"
        try:
            line = self._exchange(request)
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        except TimeoutError:
            self.close()
            raise StorageFailed("ask", str(self._path), "no answer in time") from None
        if not line:  # the process ended: with it went every cache
            self.close()
            return None
        answer = json.loads(line)
        if "error" in answer:
            raise StorageFailed(method, str(self._path), answer["error"], answer.get("errno", 0))
        return answer.get("result")

    def _exchange(self, request: bytes) -> bytes:
        assert self._socket is not None
        self._socket.sendall(request)
        while b"\n" not in self._received:
            piece = self._socket.recv(65536)
            if not piece:
                return b""
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return line


def connect(connection: socket.socket, path: Path) -> None:
    """Connect to the Unix socket at `path`, however long the path is."""
    with _short(path) as name:
        connection.connect(name)


def listen(path: Path) -> socket.socket:
    """Listen at `path`, however long it is, in place of a dead predecessor, for root only."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            listener.bind(name)
        path.chmod(0o600)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    return listener


class _short:  # noqa: N801
    """A name of `path` that fits the 107 bytes of a socket address."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 107:
            return str(self._path)
        self._fd = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
