"""Descriptors held for a while: directories, and locks on them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def directory(path: str | bytes | Path, dir_fd: int | None = None) -> Iterator[int]:
    """Hold a descriptor of a directory; a symbolic link at its end is refused. Raises OSError."""
    fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold a directory for this thread alone, among all processes; gives its descriptor.

    The lock goes with the process, however it ends. Raises OSError.
    """
    with directory(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
