"""Removal of a directory with all that is in it, whatever that is and however deep."""

import errno
import os
from dataclasses import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Level:
    """A directory being emptied: its name, what its parent is, directories left in it."""

    name: str
    parent: tuple[int, int]
    pending: list[str]


def remove_tree(parent_fd: int, name: str) -> None:
    """Remove the directory `name` of `parent_fd` and everything below it.

    Symbolic links are removed, never followed, and no path is ever looked up, so that nothing
    outside can be reached, also when others rename within. Holds one descriptor at any depth.
    Raises OSError: ESTALE when a directory was moved away meanwhile, ENOTEMPTY when something
    was put into one.
    """
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        levels = [_Level(name, _identity(parent_fd), _remove_files(fd))]
        while levels:
            level = levels[-1]
            if level.pending:
                child = level.pending.pop()
                above = _identity(fd)
                fd = _swap(fd, os.open(child, _DIRECTORY, dir_fd=fd))
                levels.append(_Level(child, above, _remove_files(fd)))
                continue
            levels.pop()
            fd = _swap(fd, os.open("..", _DIRECTORY, dir_fd=fd))
            if _identity(fd) != level.parent:
                raise OSError(errno.ESTALE, "a directory was moved away", level.name)
            os.rmdir(level.name, dir_fd=fd)
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _swap(old: int, new: int) -> int:
    os.close(old)
    return new


def _remove_files(fd: int) -> list[str]:
    """Remove what is no directory; give the names of the directories."""
    directories = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=fd)
    return directories
