"""What the machine is, as far as limits depend on it."""

import os
from dataclasses import dataclass
from pathlib import Path

_GIB = 1 << 30
_ROUNDING = _GIB // 2

# Sessions at once by system memory; see "Scalability limits for dump backup and restore sessions".
SESSION_LIMITS = ((16 * _GIB, 4), (24 * _GIB, 16))
MOST_SESSIONS = 32


@dataclass(frozen=True, slots=True)
class Sysconfig:
    """`memory` in bytes, `session_limit` dumps and restores at once."""

    hostname: str
    kernel: str
    processors: int
    memory: int
    session_limit: int

    @classmethod
    def read(cls) -> "Sysconfig":
        """Look at this machine."""
        system, memory = os.uname(), total_memory()
        return cls(
            system.nodename, system.release, os.cpu_count() or 1, memory, session_limit(memory)
        )


def session_limit(memory: int) -> int:
    """Give how many dump and restore sessions run at once with `memory` bytes."""
    for below, limit in SESSION_LIMITS:
        if memory < below:
            return limit
    return MOST_SESSIONS


def total_memory() -> int:
    """Give the machine's memory in bytes: what the kernel manages, plus what it set aside.

    A machine with 16 GiB reports a little less, so the figure is rounded up to half a GiB.
    """
    text = Path("/proc/meminfo").read_text()
    reported = int(text.split("MemTotal:")[1].split()[0]) << 10
    return -(-reported // _ROUNDING) * _ROUNDING
