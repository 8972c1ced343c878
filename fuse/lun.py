"""LUNs: files that hosts use as disks, at the root of a volume or of a qtree."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse import metadata
from fuse.descriptors import directory
from fuse.errors import (
    AlreadyExists,
    Busy,
    InvalidName,
    NotFound,
    OutOfSpace,
    Refused,
    StorageFailed,
    failing,
)
from fuse.metadata import LunMetadata, MalformedMetadata, Target
from fuse.names import check_lun_name
from fuse.restriction import restricted

if TYPE_CHECKING:
    from fuse.volume import Volume

SECTOR = 512
MIN_SIZE = 4096
MAX_SIZE = 128 << 40
"""Bytes of the smallest and of the largest LUN."""
OSTYPES = (
    *("linux", "windows", "windows_2008", "windows_gpt", "hyper_v"),
    *("vmware", "xen", "aix", "hpux", "solaris", "solaris_efi", "openvms", "netware", "image"),
)
STATES = ("online", "offline")

_SERIAL_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%&*+-/<=>?@[]^~"
_SERIAL_LENGTH = 12
_FIXED = ("serial", "size")


@dataclass(frozen=True, slots=True)
class Lun:
    """A LUN: `name` is its path in the volume, `used` the bytes its data take.

    `restricted_by` names the session that keeps clients off it, or is empty. A clone whose
    backing snapshot is gone is not `consistent`.
    """

    name: str
    path: Path
    inode: int
    used: int
    metadata: LunMetadata
    restricted_by: str
    consistent: bool

    @property
    def qtree(self) -> str:
        """The qtree it is in, or empty."""
        return self.name.rpartition("/")[0]


def make_serial() -> str:
    """Make up a serial number: 12 printable characters."""
    return "".join(secrets.choice(_SERIAL_ALPHABET) for _ in range(_SERIAL_LENGTH))


def read_metadata(target: Target) -> LunMetadata | None:
    """Read the LUN attribute of a file, None for an ordinary one.

    Raises StorageFailed when it is damaged, OSError.
    """
    value = metadata.get_attribute(target, metadata.LUN)
    if value is None:
        return None
    try:
        return LunMetadata.decode(value)
    except MalformedMetadata as error:
        raise StorageFailed("read lun", str(target), str(error)) from error


class Luns:
    """The LUNs of one volume."""

    def __init__(self, volume: "Volume") -> None:
        self._volume = volume

    def list(self) -> tuple[Lun, ...]:
        """List the LUNs by name: those at the root, and those in qtrees. Raises StorageFailed."""
        places = [""] + [qtree.name for qtree in self._volume.qtrees.list()]
        with failing("list the LUNs of volume", self._volume.name):
            found = [lun for place in places for lun in self._list_at(place)]
        return tuple(sorted(found, key=lambda lun: lun.name))

    def _list_at(self, place: str) -> Iterator[Lun]:
        """Yield the LUNs of a qtree, or of the root. Raises OSError."""
        # The qtree, or a file in it, may go away while it is looked at.
        with suppress(FileNotFoundError), os.scandir(self._volume.path / place) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        data = read_metadata(entry.path)
                        if data is not None:
                            name = f"{place}/{entry.name}" if place else entry.name
                            yield self._describe(name, data)

    def get(self, name: str) -> Lun:
        """Find the LUN at `name`, a path in the volume. Raises NotFound, Refused."""
        place, base = self._split(name)
        path = self._volume.path / place / base
        try:
            data = read_metadata(path) if stat.S_ISREG(path.lstat().st_mode) else None
            if data is not None:
                return self._describe(f"{place}/{base}" if place else base, data)
        except (FileNotFoundError, NotADirectoryError):
            pass
        raise NotFound("lun", self._full(name))

    def create(
        self,
        name: str,
        size: int,
        ostype: str = "linux",
        reserved: bool = False,
        comment: str = "",
    ) -> Lun:
        """Make a LUN of `size` bytes that reads as zeros; a `reserved` one owns its space.

        It appears at once, complete. Raises InvalidName, AlreadyExists, NotFound for the qtree,
        Refused elsewhere than at the root of the volume or a qtree, OutOfSpace.
        """
        _check_size(size)
        data = LunMetadata(make_serial(), size, ostype, reserved=reserved, comment=comment)
        _check(data)
        with self._unnamed(name) as fd:
            os.ftruncate(fd, size)
            if reserved:
                self._reserve(fd, size)
            os.setxattr(fd, metadata.LUN, data.encode())
        return self.get(name)

    def clone(
        self, source: str, name: str, snapshot: str | None = None, backed: bool = False
    ) -> Lun:
        """Make LUN `name` with the data of LUN `source` as it is, or was in `snapshot`.

        Takes no time and no space until either is written. It has a serial number of its own
        and no maps, and lives on when source and snapshot are deleted; only one that is to be
        `backed` by its snapshot is inconsistent without it.
        Raises as create, NotFound for the source, Busy while it is restricted.
        """
        path, data = self._clone_source(source, snapshot)
        copy = replace(
            data,
            serial=make_serial(),
            state="online",
            reserved=False,
            backing_snapshot=(snapshot or "") if backed else "",
            maps=(),
        )
        source_fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with self._unnamed(name) as fd:
                self._volume.aggregate.engine.clone_file(source_fd, fd)
                os.setxattr(fd, metadata.LUN, copy.encode())
        finally:
            os.close(source_fd)
        return self.get(name)

    def _clone_source(self, source: str, snapshot: str | None) -> tuple[Path, LunMetadata]:
        place, base = self._split(source)
        root = self._volume.path
        if snapshot is not None:
            root = self._volume.snapshots.get(snapshot).path
        path = root / place / base
        try:
            data = read_metadata(path)
            mark = restricted(path)
        except (FileNotFoundError, NotADirectoryError):
            data = None
        if data is None:
            raise NotFound("lun", self._full(source))
        if mark is not None:
            raise Busy("lun", self._full(source), f"session {mark.session}")
        return path, data

    def resize(self, name: str, size: int, shrink: bool = False) -> Lun:
        """Give a LUN another size; to `shrink` it, which cuts off data, must be asked for.

        Raises NotFound, InvalidName, Refused, Busy while it is restricted, OutOfSpace.
        """
        _check_size(size)
        lun = self._unrestricted(name)
        if size < lun.metadata.size and not shrink:
            reason = f"it has {lun.metadata.size} bytes; to cut off data say --shrink"
            raise Refused("lun", self._full(name), reason)
        with self._opened(lun) as fd:
            if lun.metadata.reserved and size > lun.metadata.size:
                self._reserve(fd, size)
            os.ftruncate(fd, size)
            os.setxattr(fd, metadata.LUN, replace(lun.metadata, size=size).encode())
        return self.get(name)

    def modify(self, name: str, **changes: Any) -> Lun:
        """Change fields of a LUN's metadata: state, comment, ostype, maps.

        Raises NotFound, InvalidName.
        """
        lun = self.get(name)
        fixed = [field for field in changes if field in _FIXED]
        if fixed:
            raise InvalidName("field", fixed[0], "it cannot be changed")
        try:
            data = replace(lun.metadata, **changes)
        except TypeError as error:
            raise InvalidName("lun", name, str(error)) from None
        _check(data)
        with self._opened(lun) as fd:
            self._volume.with_headroom(lambda: os.setxattr(fd, metadata.LUN, data.encode()))
        return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a LUN. Raises NotFound, Busy while it is mapped or restricted."""
        lun = self._unrestricted(name)
        if lun.metadata.maps and lun.metadata.state == "online":
            raise Busy("lun", self._full(name), f"maps {', '.join(lun.metadata.maps)}")
        with self._place(name) as (parent, base):
            os.unlink(base, dir_fd=parent)
            os.fsync(parent)

    # -- within -----------------------------------------------------------------------------

    def _full(self, name: str) -> str:
        return f"/vol/{self._volume.name}/{name.strip('/')}"

    def _split(self, name: str) -> tuple[str, str]:
        """Give qtree and base name of a LUN's path; raises Refused where none can be."""
        place, _, base = name.strip("/").rpartition("/")
        check_lun_name(base)
        if "/" in place:
            reason = "a LUN can only be at the root of a volume or of a qtree"
            raise Refused("lun", self._full(name), reason)
        if place:
            try:
                self._volume.qtrees.get(place)
            except NotFound:
                if not (self._volume.path / place).is_dir():
                    raise
                reason = f"{place} is no qtree; a LUN can only be at the root of a volume or qtree"
                raise Refused("lun", self._full(name), reason) from None
        return place, base

    def _describe(self, name: str, data: LunMetadata) -> Lun:
        path = self._volume.path / name
        status = path.lstat()
        mark = restricted(path)
        snapshot = self._volume.snapshots.directory / data.backing_snapshot
        return Lun(
            name=name,
            path=path,
            inode=status.st_ino,
            used=status.st_blocks * 512,
            metadata=data,
            restricted_by=f"session {mark.session}" if mark else "",
            consistent=not data.backing_snapshot or snapshot.is_dir(),
        )

    def _unrestricted(self, name: str) -> Lun:
        lun = self.get(name)
        if lun.restricted_by:
            raise Busy("lun", self._full(name), lun.restricted_by)
        return lun

    @contextmanager
    def _place(self, name: str) -> Iterator[tuple[int, str]]:
        """Hold the directory of a LUN; gives it with the base name."""
        place, base = self._split(name)
        with (
            failing("change lun", self._full(name)),
            directory(self._volume.path) as root,
            directory(place or ".", root) as parent,
        ):
            yield parent, base

    @contextmanager
    def _opened(self, lun: Lun) -> Iterator[int]:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._place(lun.name) as (parent, base):
            fd = os.open(base, flags, dir_fd=parent)
            try:
                yield fd
                os.fsync(fd)
            finally:
                os.close(fd)

    @contextmanager
    def _unnamed(self, name: str) -> Iterator[int]:
        """Give a new file that gets its name at the end of the block, or vanishes."""
        with self._place(name) as (parent, base):
            fd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=parent)
            try:
                yield fd
                os.fsync(fd)
                os.link(f"/proc/self/fd/{fd}", base, dst_dir_fd=parent, follow_symlinks=True)
                os.fsync(parent)
            except FileExistsError:
                raise AlreadyExists("lun", self._full(name)) from None
            finally:
                os.close(fd)

    def _reserve(self, fd: int, size: int) -> None:
        missing = size - os.fstat(fd).st_blocks * 512
        available = self._volume.usage().available
        if missing > available:
            raise OutOfSpace("volume", self._volume.name, missing, available, "bytes")
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OutOfSpace("volume", self._volume.name, missing, available, "bytes") from None


def _check_size(size: int) -> None:
    if size % SECTOR:
        raise InvalidName("size", str(size), f"it is no multiple of {SECTOR} bytes")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InvalidName("size", str(size), f"a LUN has {MIN_SIZE} to {MAX_SIZE} bytes")


def _check(data: LunMetadata) -> None:
    if data.ostype not in OSTYPES:
        raise InvalidName("ostype", data.ostype, f"choose one of {', '.join(OSTYPES)}")
    if data.state not in STATES:
        raise InvalidName("state", data.state, f"choose one of {', '.join(STATES)}")
