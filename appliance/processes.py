"""Processes by identity: a pid means nothing without the time its process started."""

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

# Of /proc/PID/stat, counted after the command's closing parenthesis.
_STATE, _STARTTIME = 0, 19


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process: its pid and start time in clock ticks since boot; `boot` is the boot's id.

    Pids come around again, and so do start times after a reboot; the three together do not.
    """

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """Give the identity of a process that lives or waits to be reaped, else None."""
        fields = _stat(pid)
        return cls(pid, int(fields[_STARTTIME]), boot_id()) if fields else None

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; one that waits to be reaped does not."""
        fields = _stat(self.pid)
        running = bool(fields) and fields[_STATE] not in "ZX"
        return running and int(fields[_STARTTIME]) == self.start and boot_id() == self.boot

    def kill(self, timeout: float) -> bool:
        """SIGKILL this very process and its group; wait up to `timeout` seconds for its end.

        False when it was gone. A pidfd is taken before the identity is checked, so that no
        other process can be hit.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.alive:
                return False
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, signal.SIGKILL)
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [], timeout)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for it to end; True when it has."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return True
        try:
            return not self.alive or bool(select.select([fd], [], [], timeout)[0])
        finally:
            os.close(fd)


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def boot_id() -> str:
    """Give the kernel's id of the running boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
