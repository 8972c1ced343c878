"""Where the btrfs of an aggregate lies: an image file, a block device, or a directory.

A source knows how to make the file system and how to mount it at the aggregate's place, and
leaves no loop device behind in any case (see fuse.loop).
"""

import errno
import os
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fuse import btrfs, libc, loop
from fuse.descriptors import directory
from fuse.errors import (
    AlreadyExists,
    InvalidName,
    NotSupported,
    Refused,
    SourceNotFound,
    StorageFailed,
    failing,
)
from fuse.layout import Layout

NODE_SIZE = 65536
"""Bytes of a metadata node: an extended attribute of 1,024 ACEs fits into this only."""
MIN_IMAGE_SIZE = 256 << 20

_MOUNT_FLAGS = libc.MS_NOATIME | libc.MS_NODEV | libc.MS_NOSUID
_MKFS_SECONDS = 600


class Source(Protocol):
    """Where an aggregate lies; `kind` and `path` are what a descriptor file keeps."""

    kind: ClassVar[str]

    @property
    def path(self) -> Path:
        """The image, the device or the directory."""

    def make(self, name: str) -> None:
        """Make the file system for aggregate `name`. Raises StorageError."""

    def mount(self, target: Path) -> None:
        """Mount it at `target`. Raises StorageError."""

    def finish(self) -> None:
        """Keep what was made: the aggregate is complete. Can be repeated."""

    def release(self) -> None:
        """Give back devices after the unmount."""

    def discard(self) -> None:
        """Remove the file system for good, as far as it was made here."""


def _make_btrfs(device: Path, label: str) -> None:
    command = ["mkfs.btrfs", "--quiet", "--nodesize", str(NODE_SIZE), "--label", label]
    try:
        done = subprocess.run(
            [*command, str(device)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MKFS_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        reason = "mkfs.btrfs is not installed (package btrfs-progs)"
        raise NotSupported("an aggregate on btrfs", reason) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or [f"mkfs.btrfs ended with {done.returncode}"])[0]
        raise StorageFailed("make btrfs on", str(device), reason.removeprefix("ERROR: "))


def _mount_btrfs(device: Path, target: Path) -> None:
    try:
        libc.mount(device, target, "btrfs", _MOUNT_FLAGS, "subvolid=5")
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise NotSupported("an aggregate on btrfs", "this kernel has no btrfs") from None
        reason = error.strerror or str(error)
        raise StorageFailed("mount", str(device), reason, error.errno or 0) from error


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A sparse file of `size` bytes, behind a loop device while it is mounted."""

    kind: ClassVar[str] = "image"
    path: Path
    size: int = 0

    @property
    def _unfinished(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def make(self, name: str) -> None:
        """Make the image under a temporary name, so that none is ever half-made."""
        if self.path.exists():
            raise AlreadyExists("image", str(self.path))
        if self.size < MIN_IMAGE_SIZE:
            reason = f"an aggregate needs at least {MIN_IMAGE_SIZE} bytes"
            raise InvalidName("size", str(self.size), reason)
        with failing("create image", self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._unfinished.unlink(missing_ok=True)
            fd = os.open(self._unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.ftruncate(fd, self.size)
            finally:
                os.close(fd)
        _make_btrfs(self._unfinished, name)

    def mount(self, target: Path) -> None:
        """Mount the image; the loop device that has it already, if any, is used again."""
        image = self._unfinished if self._unfinished.exists() else self.path
        if not image.exists():
            raise SourceNotFound("image", str(self.path))
        with failing("attach", image):
            devices = loop.find(image)
            if devices:
                _mount_btrfs(devices[0], target)
                return
            device, fd = loop.attach(image)
            try:
                _mount_btrfs(device, target)
            finally:
                os.close(fd)

    def finish(self) -> None:
        """Give the image its name; nothing to do for one that has it."""
        if not self._unfinished.exists():
            return
        with failing("create image", self.path):
            self._unfinished.rename(self.path)
            with directory(self.path.parent) as fd:
                os.fsync(fd)

    def release(self) -> None:
        """Detach loop devices that were there before us and so did not go by themselves."""
        with failing("detach", self.path), suppress(FileNotFoundError):
            for device in loop.find(self.path):
                loop.detach(device)

    def discard(self) -> None:
        """Remove the image."""
        with failing("remove image", self.path):
            self.path.unlink(missing_ok=True)
            self._unfinished.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class DeviceSource:
    """A block device that is the aggregate's alone."""

    kind: ClassVar[str] = "device"
    path: Path

    def make(self, name: str) -> None:
        """Make the file system; one that is there already is not overwritten."""
        try:
            if not stat.S_ISBLK(self.path.stat().st_mode):
                raise InvalidName("device", str(self.path), "it is no block device")
        except FileNotFoundError:
            raise SourceNotFound("device", str(self.path)) from None
        _make_btrfs(self.path, name)

    def mount(self, target: Path) -> None:
        """Mount the device."""
        if not self.path.exists():
            raise SourceNotFound("device", str(self.path))
        _mount_btrfs(self.path, target)

    def finish(self) -> None:
        """Nothing is left to do."""

    def release(self) -> None:
        """A device needs no giving back."""

    def discard(self) -> None:
        """Wipe the file system's first superblock, so that the device can be used again."""
        with failing("wipe", self.path):
            fd = os.open(self.path, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
            try:
                os.pwrite(fd, bytes(4096), 64 << 10)
                os.fsync(fd)
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory, or the mount point, of a btrfs that somebody else mounts."""

    kind: ClassVar[str] = "directory"
    path: Path

    def make(self, name: str) -> None:  # noqa: ARG002 - a Source
        """Check the directory: on btrfs, and empty."""
        with failing("use directory", self.path):
            try:
                with directory(self.path) as fd:
                    if not btrfs.is_btrfs(fd):
                        raise InvalidName("directory", str(self.path), "it is not on btrfs")
                    if os.listdir(fd):
                        raise Refused("directory", str(self.path), "it is not empty")
            except FileNotFoundError:
                raise SourceNotFound("directory", str(self.path)) from None

    def mount(self, target: Path) -> None:
        """Bind the directory to the aggregate's place."""
        if not self.path.is_dir():
            raise SourceNotFound("directory", str(self.path))
        with failing("mount", self.path):
            libc.mount(self.path, target, "none", libc.MS_BIND)

    def finish(self) -> None:
        """Nothing is left to do."""

    def release(self) -> None:
        """A directory needs no giving back."""

    def discard(self) -> None:
        """Remove what the aggregate has made, and leave the directory."""
        with failing("clear directory", self.path):
            Layout(self.path).remove()


SOURCES: dict[str, Any] = {
    source.kind: source for source in (ImageSource, DeviceSource, DirectorySource)
}


def source_of(kind: str, path: str) -> Source:
    """Give the source that a descriptor file names. Raises InvalidName."""
    if kind not in SOURCES:
        raise InvalidName("kind of aggregate", kind, f"choose one of {', '.join(SOURCES)}")
    source: Source = SOURCES[kind](Path(path))
    return source
