"""Volumes: bounded trees of an aggregate, with snapshots, qtrees and LUNs."""

import errno
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fuse import metadata
from fuse.descriptors import directory, exclusive
from fuse.errors import Busy, InvalidName, NotFound, OutOfSpace, Refused, StorageFailed, failing
from fuse.lun import Luns
from fuse.metadata import MalformedMetadata, VolumeMetadata
from fuse.qtree import Qtrees
from fuse.restriction import Restrictions
from fuse.snapshot import Snapshots

if TYPE_CHECKING:
    from fuse.aggregate import Aggregate

MIN_SIZE = 20 << 20
"""Bytes of the smallest volume."""
MIN_FILES = 96
"""Inodes of the smallest inode limit."""
MAX_COMMENT = 1023

_CHOICES = {
    "security_style": metadata.SECURITY_STYLES,
    "state": metadata.VOLUME_STATES,
    "type": metadata.VOLUME_TYPES,
}
_FIXED = ("uuid", "next_qtree_id")
_HEADROOM = 4 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes and inodes of a volume; `size` and `files` are its limits, 0 for none.

    `available` and `files_available` are what can be added still; without a limit on inodes
    `files_available` is -1.
    """

    size: int
    used: int
    available: int
    files: int
    files_used: int
    files_available: int


def check_metadata(name: str, data: VolumeMetadata) -> None:
    """Refuse values that a volume cannot have. Raises InvalidName."""
    for field, choices in _CHOICES.items():
        value = getattr(data, field)
        if value not in choices:
            raise InvalidName(field, str(value), f"choose one of {', '.join(choices)}")
    if data.size and data.size < MIN_SIZE:
        raise InvalidName("size", str(data.size), f"volume {name} needs at least {MIN_SIZE} bytes")
    if data.files and data.files < MIN_FILES:
        raise InvalidName("files", str(data.files), f"volume {name} needs at least {MIN_FILES}")
    if data.size < 0 or data.files < 0 or data.vm_align_sector < 0:
        raise InvalidName("volume", name, "sizes cannot be negative")
    if len(data.comment) > MAX_COMMENT:
        raise InvalidName("comment", data.comment[:16], f"it is longer than {MAX_COMMENT}")


class Volume:
    """One volume of an attached aggregate; `path` is the top directory of its tree."""

    def __init__(self, aggregate: "Aggregate", name: str) -> None:
        """Find volume `name`. Raises NotFound."""
        self.aggregate = aggregate
        self.name = name
        self.path: Path = aggregate.layout.volumes / name
        try:
            self.subvolid = aggregate.engine.info(self.path).tree_id
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("volume", name) from None

    def __repr__(self) -> str:
        return f"Volume({self.name!r})"

    # -- what it is -------------------------------------------------------------------------

    def metadata(self) -> VolumeMetadata:
        """Read what the volume is. Raises NotFound, StorageFailed."""
        return read_metadata(self.path, self.name)

    @cached_property
    def uuid(self) -> str:
        """The identity of the volume, kept when it is renamed or moved."""
        return self.metadata().uuid

    def modify(self, **changes: Any) -> VolumeMetadata:
        """Change fields of the metadata, `size` and `files` with effect at once.

        Raises InvalidName, Refused when more is in use than the new limits allow.
        """
        fixed = [field for field in changes if field in _FIXED]
        if fixed:
            raise InvalidName("field", fixed[0], "it cannot be changed")
        with self._exclusive():
            try:
                data = replace(self.metadata(), **changes)
            except TypeError as error:
                raise InvalidName("volume", self.name, str(error)) from None
            check_metadata(self.name, data)
            if "size" in changes:
                self._apply_size(data.size)
            if changes.get("files"):
                self._check_files(data.files)
            self._write(data)
            return data

    def resize(self, size: int) -> None:
        """Set the limit of the volume to `size` bytes, 0 for none. Raises as modify."""
        self.modify(size=size)

    def allocate_qtree_id(self) -> int:
        """Give an id that no qtree of this volume ever had."""
        with self._exclusive():
            data = self.metadata()
            self._write(replace(data, next_qtree_id=data.next_qtree_id + 1))
            return data.next_qtree_id

    def reserve_qtree_id(self, qtree_id: int) -> None:
        """See to it that `qtree_id`, taken by a restored qtree, is not given again."""
        with self._exclusive():
            data = self.metadata()
            if qtree_id >= data.next_qtree_id:
                self._write(replace(data, next_qtree_id=qtree_id + 1))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            with exclusive(self.path):
                yield
        except FileNotFoundError:
            raise NotFound("volume", self.name) from None

    def _write(self, data: VolumeMetadata) -> None:
        """Write the metadata, for a caller that holds the lock; also on a full volume."""
        with failing("change volume", self.name), directory(self.path) as fd:
            try:
                os.setxattr(fd, metadata.VOLUME, data.encode())
            except OSError as error:
                if error.errno != errno.EDQUOT:
                    raise
                with self._headroom(data.size):
                    os.setxattr(fd, metadata.VOLUME, data.encode())
            os.fsync(fd)

    def with_headroom(self, action: Callable[[], T]) -> T:
        """Do `action`, which changes a little metadata, even when the volume is full.

        Volumes must not be stuck because a mark cannot be set or taken away. Raises what
        `action` raises, save EDQUOT.
        """
        try:
            return action()
        except OSError as error:
            if error.errno != errno.EDQUOT:
                raise
        with self._exclusive(), self._headroom(self.metadata().size):
            return action()

    @contextmanager
    def _headroom(self, size: int) -> Iterator[None]:
        """Lift the limit a little; attaching the aggregate sets it again after a crash."""
        engine = self.aggregate.engine
        engine.set_limit(self.subvolid, size + _HEADROOM if size else 0)
        try:
            yield
        finally:
            engine.set_limit(self.subvolid, size)

    def _apply_size(self, size: int) -> None:
        with failing("resize volume", self.name):
            used = self.aggregate.engine.usage(self.subvolid).used
            if size and size < used:
                reason = f"{used} bytes are in use, more than the size of {size} asked for"
                raise Refused("volume", self.name, reason)
            self.aggregate.engine.set_limit(self.subvolid, size)

    def _check_files(self, files: int) -> None:
        used = self.count_inodes(exact=True)
        if files < used:
            reason = f"{used} inodes are in use, more than the {files} asked for"
            raise Refused("volume", self.name, reason)

    # -- what is in it ----------------------------------------------------------------------

    @cached_property
    def snapshots(self) -> Snapshots:
        """The snapshots of the volume."""
        return Snapshots(self)

    @cached_property
    def qtrees(self) -> Qtrees:
        """The qtrees of the volume."""
        return Qtrees(self)

    @cached_property
    def luns(self) -> Luns:
        """The LUNs of the volume."""
        return Luns(self)

    @cached_property
    def restrictions(self) -> Restrictions:
        """The files and LUNs of the volume that clients may not touch."""
        return Restrictions(self)

    def usage(self) -> Usage:
        """Tell what the volume uses: bytes at once, inodes as of the last commit.

        Inodes are counted once a commit in which the volume changed (see count_inodes), but
        only for a volume that limits them; else `files_used` is -1. Raises StorageFailed.
        """
        data = self.metadata()
        with failing("read the usage of volume", self.name):
            tree = self.aggregate.engine.usage(self.subvolid)
            available = self.aggregate.engine.capacity().available
        if data.size:
            available = max(0, min(available, data.size - tree.used))
        files_used = self.count_inodes() if data.files else -1
        files_available = max(0, data.files - files_used) if data.files else -1
        return Usage(data.size, tree.used, available, data.files, files_used, files_available)

    def count_inodes(self, exact: bool = False) -> int:
        """Count the inodes of the volume, its top directory included.

        The count of the last commit is kept in the aggregate's database, so that it costs
        nothing while the volume rests, else one pass over its metadata; `exact` always makes
        that pass.
        """
        with failing("count the inodes of volume", self.name):
            generation = self.aggregate.engine.info(self.path).last_generation
            database = self.aggregate.database()
            query = "SELECT files FROM inode_count WHERE volume = ? AND generation = ?"
            rows = [] if exact else database.rows(query, (self.uuid, generation))
            for (files,) in rows:
                return int(str(files))
            count = self.aggregate.engine.count_inodes(self.path)
        with database.transaction() as connection:
            statement = "INSERT OR REPLACE INTO inode_count VALUES (?, ?, ?)"
            connection.execute(statement, (self.uuid, generation, count))
        return count

    def require(self, size: int, files: int = 0) -> None:
        """Refuse at once what would not fit: `size` bytes and `files` inodes more.

        Raises OutOfSpace.
        """
        usage = self.usage()
        if size > usage.available:
            raise OutOfSpace("volume", self.name, size, usage.available, "bytes")
        if usage.files and files > usage.files_available:
            raise OutOfSpace("volume", self.name, files, usage.files_available, "inodes")

    # -- who uses it ------------------------------------------------------------------------

    @contextmanager
    def use(self, holder: str, role: str = "") -> Iterator[None]:
        """Keep the volume from being deleted or renamed; `holder` is named to who tries.

        Of those with a `role` there is one at a time.
        Ends with the process, however it ends. Raises NotFound, Busy while another has the role.
        """
        users = self.aggregate.layout.users / str(self.subvolid)
        path = users / (role or uuid.uuid4().hex)
        with failing("use volume", self.name), exclusive(self.aggregate.layout.volumes):
            if not self.path.exists():
                raise NotFound("volume", self.name)
            users.mkdir(parents=True, exist_ok=True)
            other = _live_holder(path)
            if other is not None:
                raise Busy("volume", self.name, other)
            path.unlink(missing_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.write(fd, holder.encode())
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(fd)

    def users(self) -> list[str]:
        """List who uses the volume."""
        volumes = self.aggregate.layout.volumes
        with failing("list the users of volume", self.name), exclusive(volumes):
            return self.users_locked()

    def users_locked(self) -> list[str]:
        """List who uses the volume, for a caller that holds the lock of all volumes.

        Entries whose process is gone are removed.
        """
        directory_of_users = self.aggregate.layout.users / str(self.subvolid)
        if not directory_of_users.exists():
            return []
        found = []
        for path in sorted(directory_of_users.iterdir()):
            holder = _live_holder(path)
            if holder is None:
                path.unlink(missing_ok=True)
            else:
                found.append(holder)
        return found

    def refuse_while_used(self) -> None:
        """Raise Busy when something uses the volume; the lock of all volumes is held."""
        users = self.users_locked()
        if users:
            raise Busy("volume", self.name, ", ".join(users))


def _live_holder(path: Path) -> str | None:
    """Give the text of a user's file while its process lives."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 4096, 0).decode(errors="replace")
    else:
        return None
    finally:
        os.close(fd)


def read_metadata(path: Path, name: str) -> VolumeMetadata:
    """Read what the tree at `path` is as a volume. Raises NotFound, StorageFailed."""
    try:
        return VolumeMetadata.decode(os.getxattr(path, metadata.VOLUME, follow_symlinks=False))
    except FileNotFoundError:
        raise NotFound("volume", name) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageFailed("read volume", name, reason, error.errno or 0) from error
    except MalformedMetadata as error:
        raise StorageFailed("read volume", name, str(error)) from error
