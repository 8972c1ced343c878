"""What a run left on the machine: mounts, loop devices, processes and files below a directory.

A run keeps everything below one directory and starts every process with one marker in its
environment, so that what is found is its own, whatever else the machine is doing.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARKER = "SNAPREEL_RUN"
"""Environment variable that marks the processes of a run; children inherit it."""


def mounts(root: Path) -> list[str]:
    """Give the mount points at or below `root`, the innermost first."""
    found = [point for point in _mount_points() if _below(point, root)]
    return sorted(found, key=lambda point: point.count("/"), reverse=True)


def loops(root: Path) -> list[str]:
    """Give the loop devices whose backing file is below `root`, as `/dev/loopN`."""
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = entry.read_text().rstrip("\n")
        except OSError:  # detached meanwhile
            continue
        if _below(backing, root):
            found.append(f"/dev/{entry.parts[-3]}")
    return sorted(found)


def processes(marker: str, root: Path | None = None) -> dict[int, str]:
    """Give pid and command line of the processes that carry `marker` or are at work in `root`.

    `marker` is a prefix of the value of the MARKER variable. The caller, its ancestors and
    zombies do not count.
    """
    own = set(_ancestors(os.getpid()))
    found = {}
    for pid in _pids():
        if pid in own:
            continue
        try:
            mine = _carries(pid, marker) or (root is not None and _works_in(pid, root))
            if mine and not _is_zombie(pid):
                found[pid] = _command(pid)
        except OSError:  # ended meanwhile, or not ours to look at
            continue
    return found


def files(root: Path, expected: frozenset[str] = frozenset()) -> list[str]:
    """Give what lies directly in `root` and is not `expected`."""
    if not root.is_dir():
        return []
    return sorted(str(root / name) for name in os.listdir(root) if name not in expected)


def report(root: Path, marker: str) -> list[str]:
    """Give one line a left-over mount, loop device and process."""
    lines = [f"mount {point}" for point in mounts(root)]
    lines += [f"loop device {device}" for device in loops(root)]
    lines += [f"process {pid}: {text}" for pid, text in processes(marker, root).items()]
    return lines


def settled(root: Path, marker: str, seconds: float = 10.0) -> list[str]:
    """Give `report` once it is empty, or as it stands after `seconds`.

    A process told to end needs a moment, and so does the kernel to let go of a loop device.
    """
    deadline = time.monotonic() + seconds
    while (lines := report(root, marker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return lines


def sweep(root: Path, marker: str) -> None:
    """End the processes, unmount, detach and remove everything that `report` would name."""
    _end_processes(lambda: processes(marker, root))
    for point in mounts(root):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    for device in loops(root):
        subprocess.run(["losetup", "-d", device], check=False, capture_output=True)
    if not mounts(root):  # never remove files through a mount
        shutil.rmtree(root, ignore_errors=True)


def _end_processes(alive: Callable[[], dict[int, str]]) -> None:
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        for pid in alive():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + patience
        while alive() and time.monotonic() < deadline:
            time.sleep(0.05)


def _mount_points() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        yield re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[4])


def _below(path: str, root: Path) -> bool:
    return path == str(root) or path.startswith(f"{root}/")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        pid = _parent(pid)


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return 0


def _is_zombie(pid: int) -> bool:
    return _stat(pid)[0] == "Z"


def _carries(pid: int, marker: str) -> bool:
    wanted = f"{MARKER}={marker}".encode()
    return any(item.startswith(wanted) for item in _read(pid, "environ").split(b"\0"))


def _works_in(pid: int, root: Path) -> bool:
    cwd = str(Path(f"/proc/{pid}/cwd").readlink())
    return f"{root}/".encode() in _read(pid, "cmdline") or _below(cwd, root)


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()
