"""Files that clients hold open: their descriptors, and which node each belongs to."""

import os
from dataclasses import dataclass

import pyfuse3

BULK = 64 << 20
"""Closing a removed file of this many bytes frees so much that it is done off the loop."""


@dataclass(slots=True)
class OpenFile:
    """A file that a client holds open. `fd` serves its I/O; `node` is what it is.

    `unseen_writer` is a user whose writes clear setuid and setgid bits only if we do it.
    """

    fd: int
    node: int
    unseen_writer: pyfuse3.RequestContext | None


class OpenFiles:
    """Open files by handle; the handle is the descriptor's number."""

    def __init__(self) -> None:
        self._files: dict[int, OpenFile] = {}
        self._by_node: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, handle: int) -> OpenFile:
        return self._files[handle]

    def add(self, file: OpenFile) -> int:
        """Register `file`; give its handle."""
        self._files[file.fd] = file
        self._by_node.setdefault(file.node, set()).add(file.fd)
        return file.fd

    def remove(self, handle: int) -> OpenFile:
        """Take `handle` out; the caller closes its descriptor."""
        file = self._files.pop(handle)
        handles = self._by_node[file.node]
        handles.discard(handle)
        if not handles:
            del self._by_node[file.node]
        return file

    def of(self, node: int) -> int | None:
        """Give a descriptor of `node` if a client holds it open."""
        handles = self._by_node.get(node)
        return next(iter(handles)) if handles else None

    def close(self) -> None:
        """Close all of them."""
        for handle in list(self._files):
            os.close(self.remove(handle).fd)
