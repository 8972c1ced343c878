"""What programs do to a directory, as functions whose results can be compared.

Each takes an empty directory and gives something comparable: what holds natively must hold on
the mount. `USER` scenarios run as an ordinary user with supplementary groups, who owns the
directory; `ROOT` ones as root. Names of the functions say what they try.
"""

# The system calls themselves are what is tested.

import ctypes
import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Scenario = Callable[[Path], Any]

USER = 64001
GROUP = 64001
SUPPLEMENTARY = 64005
STRANGER = 64009

ROOT_SCENARIOS: list[Scenario] = []
USER_SCENARIOS: list[Scenario] = []

libc = ctypes.CDLL(None, use_errno=True)


def root(function: Scenario) -> Scenario:
    ROOT_SCENARIOS.append(function)
    return function


def user(function: Scenario) -> Scenario:
    USER_SCENARIOS.append(function)
    return function


def both(function: Scenario) -> Scenario:
    return root(user(function))


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Give what `function` gives, or the name of the errno that it raises."""
    try:
        value = function(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return value if isinstance(value, (bytes, str, bool, list, tuple)) else None


def look(path: Path | int) -> tuple[Any, ...]:
    """Give the attributes that are the same wherever the same was done."""
    status = path.lstat() if isinstance(path, Path) else os.fstat(path)
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return (
        oct(status.st_mode),
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        size,
        status.st_rdev,
    )


def renameat2(old: Path, new: Path, flags: int) -> None:
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def run(*command: str | Path, **named: Any) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **named)
    return done.returncode, done.stdout


def changed(path: Path, function: Callable[[], Any]) -> tuple[bool, bool, bool]:
    """Say which of atime, mtime and ctime `function` moves on."""
    old = path.lstat()
    time.sleep(0.012)
    function()
    new = path.lstat()
    return (
        new.st_atime_ns != old.st_atime_ns,
        new.st_mtime_ns != old.st_mtime_ns,
        new.st_ctime_ns != old.st_ctime_ns,
    )
