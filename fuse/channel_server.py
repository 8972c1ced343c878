"""The file system process's end of its channel: what the engine tells and asks it."""

import errno
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from fuse.channel import listen
from fuse.mounted import MountedVolume

log = logging.getLogger(__name__)

_LONGEST_LINE = 16 << 20

Request = dict[str, Any]


class ChannelServer:
    """Answers requests, each connection's in order. `unmount` is called to end the process."""

    def __init__(self, mounted: MountedVolume, mount: Path, unmount: Callable[[], None]) -> None:
        self._mounted = mounted
        self._mount = mount
        self._unmount = unmount
        self._methods: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "status": self._status,
            "restrict": self._restrict,
            "lift": self._lift,
            "invalidate": self._invalidate,
            "forget": self._forget,
            "unmount": self._end,
        }

    async def serve(self, path: Path, task_status: trio.TaskStatus[None]) -> None:
        """Listen at `path` until cancelled; the socket is removed then."""
        listener = trio.socket.from_stdlib_socket(listen(path))
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    connection, _ = await listener.accept()
                    nursery.start_soon(self._answer, trio.SocketStream(connection))
        finally:
            listener.close()
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - too quick to hand to a thread

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            try:
                async for piece in stream:
                    *lines, received = (received + piece).split(b"\n")
                    for line in lines:
                        await stream.send_all(await self._reply(line))
                    if len(received) > _LONGEST_LINE:
                        await stream.send_all(_error("the request is too long", errno.EMSGSIZE))
                        return
            except trio.BrokenResourceError:
                return

    async def _reply(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
            result = await self._methods[request["method"]](request)
        except (ValueError, KeyError, TypeError) as error:
            return _error(f"malformed request: {error!r}", errno.EINVAL)
        except OSError as error:
            log.warning("channel: %s", error)
            return _error(error.strerror or str(error), error.errno or errno.EIO)
        except Exception:
            log.exception("channel: request failed")
            return _error("internal error", errno.EIO)
        return json.dumps({"result": result}).encode() + b"\n"

    # -- methods ------------------------------------------------------------------------------

    async def _status(self, _: Request) -> Request:
        mounted = self._mounted
        table = mounted.fence.table()
        return {
            "pid": os.getpid(),
            "volume": mounted.volume.name,
            "mount": str(self._mount),
            "open_files": len(mounted.files),
            "open_directories": len(mounted.listings),
            "cached_descriptors": len(mounted.handles),
            "restricted": {str(mounted.ids.inode(node)): table[node] for node in table},
        }

    async def _restrict(self, request: Request) -> None:
        node = self._node(request["inode"])
        self._mounted.fence.raise_for(node, str(request["session"]))
        await self._mounted.fence.settled(node)
        await _drop_inode(node)

    async def _lift(self, request: Request) -> None:
        node = self._node(request["inode"])
        self._mounted.fence.lift(node)
        await _drop_inode(node)

    async def _invalidate(self, request: Request) -> int:
        """Drop many at once: a thread for each would cost a restore more than its writing."""
        entries = [
            (self._node(parent), bytes.fromhex(name)) for parent, name in request.get("entries", ())
        ]
        nodes = [self._node(inode) for inode in request.get("inodes", ())]
        for node in nodes:
            self._mounted.release(node)
        return await trio.to_thread.run_sync(_drop_all, entries, nodes, limiter=_threads)

    async def _forget(self, request: Request) -> None:
        subvolid = int(request["subvolid"])
        if subvolid == self._mounted.ids.active:
            raise ValueError("this is the volume itself")
        self._mounted.forget_subvolume(subvolid)

    async def _end(self, _: Request) -> None:
        self._unmount()

    def _node(self, inode: Any) -> int:
        ids = self._mounted.ids
        return ids.node(ids.active, int(inode))


def _error(text: str, code: int) -> bytes:
    return json.dumps({"error": text, "errno": code}).encode() + b"\n"


async def _drop_inode(node: int) -> None:
    """Drop data and attributes of `node` from the kernel's caches.

    The kernel may first write back mapped pages, through this very process: hence the thread.
    """
    await trio.to_thread.run_sync(_drop_all, (), (node,), limiter=_threads)


_threads = trio.CapacityLimiter(8)
"""Apart from the threads of reads and writes, for which the kernel may make these wait."""


def _drop_all(entries: Iterable[tuple[int, bytes]], nodes: Iterable[int]) -> int:
    """Make the kernel look names up again and drop what it knows of nodes.

    Gives how many of them it knew. Raises OSError.
    """
    count = 0
    for parent, name in entries:
        count += _known(pyfuse3.invalidate_entry, parent, name)
    for node in nodes:
        count += _known(pyfuse3.invalidate_inode, node)
    return count


def _known(notify: Callable[..., None], *arguments: Any) -> bool:
    try:
        notify(*arguments)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True
