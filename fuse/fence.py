"""Which files clients may not touch, and what the marks on a file say.

The mark on the file is the truth and survives everything; the table beside it serves reads
and writes on descriptors that were opened before the mark was set. A restriction is in force
when changes that threads were already making have ended.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fuse.metadata import LUN, PREFIX, RESTRICTED


def marks(path: str) -> frozenset[str]:
    """Give the names of our own attributes of what `path` (in /proc/self/fd) leads to."""
    names = os.listxattr(path)
    if not names:
        return frozenset()
    return frozenset(name for name in names if name.startswith(PREFIX))


def is_lun(found: frozenset[str]) -> bool:
    """Say whether the marks are those of a LUN."""
    return LUN in found


class Fence:
    """The nodes that clients may not read, write, truncate, change, remove or rename."""

    def __init__(self) -> None:
        self._sessions: dict[int, str] = {}
        self._changes: Counter[int] = Counter()
        self._waiting: dict[int, trio.Event] = {}

    def __contains__(self, node: int) -> bool:
        return node in self._sessions

    def table(self) -> dict[int, str]:
        """Give the session that restricts each node."""
        return dict(self._sessions)

    def raise_for(self, node: int, session: str) -> None:
        """Restrict `node` for `session`."""
        self._sessions[node] = session

    def lift(self, node: int) -> None:
        """Let clients at `node` again; nothing happens when they already may."""
        self._sessions.pop(node, None)

    def check(self, node: int) -> None:
        """Refuse I/O on an open file: raises OSError EBUSY while `node` is restricted."""
        if self._sessions and node in self._sessions:
            raise _busy()

    @contextmanager
    def change(self, node: int) -> Iterator[None]:
        """Surround a change to the content of `node` that a thread makes; see settled()."""
        self._changes[node] += 1
        try:
            yield
        finally:
            self._changes[node] -= 1
            if not self._changes[node]:
                del self._changes[node]
                event = self._waiting.pop(node, None)
                if event is not None:
                    event.set()

    async def settled(self, node: int) -> None:
        """Wait for the end of changes to `node` that were admitted before it was restricted."""
        while self._changes[node]:
            await self._waiting.setdefault(node, trio.Event()).wait()

    def admit(self, node: int, path: str) -> frozenset[str]:
        """Refuse a restricted object by table and by mark; else give its marks.

        `path` leads to it. Raises OSError EBUSY. A mark that the table lacks was set before
        this process started.
        """
        self.check(node)
        found = marks(path)
        if RESTRICTED in found:
            raise _busy()
        return found


def _busy() -> OSError:
    return OSError(errno.EBUSY, os.strerror(errno.EBUSY))
