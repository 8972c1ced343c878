"""Negotiating with the kernel what pyfuse3 cannot ask for.

The first request of a FUSE connection, INIT, settles its features. libfuse answers it, and
pyfuse3 gives no say in the answer. So libfuse first talks to a socket, over which INIT is
passed on to it and its answer is completed with the features below; then the descriptor that
libfuse holds is replaced by the connection itself, and it never knows.

| feature              | effect                                                             |
|----------------------|--------------------------------------------------------------------|
| EXPLICIT_INVAL_DATA  | cached data is dropped when we say so, not at each change of mtime |
| HANDLE_KILLPRIV_V2   | writes are not preceded by a getxattr each; we clear setuid bits   |
| CACHE_SYMLINKS       | targets of symbolic links are cached                               |
| PARALLEL_DIROPS      | lookups in one directory do not wait for each other                |

Layouts are those of <linux/fuse.h>. A kernel that lacks a feature goes without it.
"""

import logging
import os
import socket
import struct

import pyfuse3
import trio

log = logging.getLogger(__name__)

AUTO_INVAL_DATA = 1 << 12
PARALLEL_DIROPS = 1 << 18
CACHE_SYMLINKS = 1 << 23
EXPLICIT_INVAL_DATA = 1 << 25
HANDLE_KILLPRIV_V2 = 1 << 28

WANTED = PARALLEL_DIROPS | CACHE_SYMLINKS | EXPLICIT_INVAL_DATA | HANDLE_KILLPRIV_V2

_INIT = 26
_REQUEST = struct.Struct("=IIQQIIIHH")
_OFFER = struct.Struct("=IIII")
_REPLY = struct.Struct("=IiQ")
_FLAGS_IN_ANSWER = _REPLY.size + 12
_LARGEST_REQUEST = 2 << 20


class Connection:
    """A mounted connection `fd` to the kernel, and the descriptor that libfuse is given.

    Use: make it, pyfuse3.init() with `name`, then settle(), then pyfuse3.main().
    """

    def __init__(self, fd: int) -> None:
        self._kernel = fd
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._given = theirs.detach()

    @property
    def name(self) -> str:
        """The mount point to name to pyfuse3.init()."""
        return f"/dev/fd/{self._given}"

    def settle(self) -> None:
        """Let libfuse answer INIT, complete its answer, and connect it to the kernel.

        Raises OSError ENODEV when the file system was unmounted meanwhile.
        """
        offer = os.read(self._kernel, _LARGEST_REQUEST)
        answer = trio.run(self._ask, offer)
        os.write(self._kernel, complete(offer, answer))
        os.dup2(self._kernel, self._given, inheritable=False)

    async def _ask(self, offer: bytes) -> bytes:
        """Have libfuse answer `offer`: its request loop runs just for that."""
        ours = trio.socket.from_stdlib_socket(self._ours)
        await ours.send(offer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            answer = await ours.recv(4096)
            nursery.cancel_scope.cancel()
        return answer

    def close(self) -> None:
        """Close our descriptors; libfuse closes the one it was given."""
        self._ours.close()
        if self._kernel >= 0:
            os.close(self._kernel)
            self._kernel = -1


def complete(offer: bytes, answer: bytes) -> bytes:
    """Add the wanted features that the kernel offers to libfuse's answer.

    What is not an accepted INIT is given back as it is.
    """
    if len(offer) < _REQUEST.size + _OFFER.size or len(answer) < _FLAGS_IN_ANSWER + 4:
        return answer
    _, opcode, *_ = _REQUEST.unpack_from(offer)
    _, error, _ = _REPLY.unpack_from(answer)
    if opcode != _INIT or error:
        return answer
    offered = _OFFER.unpack_from(offer, _REQUEST.size)[3]
    (flags,) = struct.unpack_from("=I", answer, _FLAGS_IN_ANSWER)
    flags |= WANTED & offered
    if flags & EXPLICIT_INVAL_DATA:
        flags &= ~AUTO_INVAL_DATA
    completed = bytearray(answer)
    struct.pack_into("=I", completed, _FLAGS_IN_ANSWER, flags)
    return bytes(completed)
