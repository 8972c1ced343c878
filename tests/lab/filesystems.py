"""Small real file systems on loop devices."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024
_MAKE = {
    "btrfs": ["mkfs.btrfs", "-q", "-n", "64k"],
    "ext4": ["mkfs.ext4", "-q", "-F"],
}


@contextmanager
def mounted(kind: str, place: Path, *, size: int = 512 * MIB) -> Iterator[Path]:
    """Make a file system (`btrfs` or `ext4`) of `size` bytes below `place` and mount it.

    Gives its mount point; unmounted and detached at the end. Needs root.
    Raises subprocess.CalledProcessError when the machine cannot.
    """
    image, point = place / f"{kind}.img", place / kind
    with image.open("wb") as file:
        file.truncate(size)
    _run([*_MAKE[kind], str(image)])
    point.mkdir()
    _run(["mount", "-o", "loop", str(image), str(point)])
    try:
        yield point
    finally:
        _run(["umount", str(point)])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
