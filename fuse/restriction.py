"""Client I/O restriction: marks on files and LUNs that a session is writing.

The mark is an attribute of the object: it outlives a crash, a snapshot taken meanwhile has
it too, and only the end of the session's work or an operator's word takes it away. The
aggregate's database lists the marked inodes, so that they are found without a search; the row
is written before the mark and removed after it, so every mark has its row.
"""

import errno
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuse import metadata
from fuse.errors import Busy, failing
from fuse.handle import open_inode
from fuse.metadata import MalformedMetadata, RestrictionMark, Target

if TYPE_CHECKING:
    from fuse.volume import Volume


@dataclass(frozen=True, slots=True)
class RestrictedObject:
    """A marked inode of a volume."""

    inode: int
    mark: RestrictionMark


def restrict(target: Target, session: str, reason: str = "restore") -> RestrictionMark:
    """Mark an object for `session`; to repeat it is no error.

    Raises Busy when another session has it, OSError.
    """
    mark = restricted(target)
    if mark is None:
        mark = RestrictionMark(session, int(time.time()), reason)
        metadata.set_attribute(target, metadata.RESTRICTED, mark.encode())
    elif mark.session != session:
        raise Busy("file", str(target), f"session {mark.session}")
    return mark


def lift(target: Target) -> None:
    """Take the mark away, if there is one. Raises OSError."""
    metadata.remove_attribute(target, metadata.RESTRICTED)


def restricted(target: Target) -> RestrictionMark | None:
    """Read the mark of an object of a volume or a snapshot.

    A mark that cannot be read restricts for a session named `unknown`. Raises OSError.
    """
    value = metadata.get_attribute(target, metadata.RESTRICTED)
    if value is None:
        return None
    try:
        return RestrictionMark.decode(value)
    except MalformedMetadata:
        return RestrictionMark("unknown", 0)


class Restrictions:
    """The marks of one volume."""

    def __init__(self, volume: "Volume") -> None:
        self._volume = volume

    def restrict(self, inode: int, session: str, reason: str = "restore") -> RestrictionMark:
        """Mark an inode for `session`. Raises Busy when another session has it, StorageFailed."""
        with failing("restrict client I/O on inode", str(inode)):
            fd = self._open(inode)
            try:
                return self._mark(fd, inode, session, reason)
            finally:
                os.close(fd)

    def _mark(self, fd: int, inode: int, session: str, reason: str) -> RestrictionMark:
        standing = restricted(fd)
        if standing is not None and standing.session != session:
            name = f"inode {inode} of volume {self._volume.name}"
            raise Busy("file", name, f"session {standing.session}")
        with self._volume.aggregate.database().transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO restriction VALUES (?, ?, ?)",
                (self._volume.uuid, inode, session),
            )
        mark = self._volume.with_headroom(lambda: restrict(fd, session, reason))
        os.fsync(fd)
        return mark

    def lift(self, inode: int) -> None:
        """Take the mark of an inode away, if it has one. Raises StorageFailed."""
        with failing("lift the restriction of inode", str(inode)):
            try:
                fd = self._open(inode)
            except OSError as error:
                if error.errno not in (errno.ESTALE, errno.ENOENT):
                    raise
            else:
                try:
                    self._volume.with_headroom(lambda: lift(fd))
                    os.fsync(fd)
                finally:
                    os.close(fd)
        self._forget(inode)

    def list(self, session: str | None = None) -> tuple[RestrictedObject, ...]:
        """List the marked inodes, all or those of `session`. Raises StorageFailed."""
        found = []
        for inode in self._inodes():
            mark = self.get(inode)
            if mark is not None and session in (None, mark.session):
                found.append(RestrictedObject(inode, mark))
        return tuple(found)

    def get(self, inode: int) -> RestrictionMark | None:
        """Read the mark of an inode; None also when the inode is gone. Raises StorageFailed."""
        with failing("read the restriction of inode", str(inode)):
            try:
                fd = self._open(inode)
            except OSError as error:
                if error.errno in (errno.ESTALE, errno.ENOENT):
                    return None
                raise
            try:
                return restricted(fd)
            finally:
                os.close(fd)

    def _inodes(self) -> tuple[int, ...]:
        query = "SELECT inode FROM restriction WHERE volume = ? ORDER BY inode"
        rows = self._volume.aggregate.database().rows(query, (self._volume.uuid,))
        return tuple(int(str(inode)) for (inode,) in rows)

    def _forget(self, inode: int) -> None:
        with self._volume.aggregate.database().transaction() as connection:
            statement = "DELETE FROM restriction WHERE volume = ? AND inode = ?"
            connection.execute(statement, (self._volume.uuid, inode))

    def _open(self, inode: int) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return open_inode(self._volume.aggregate.fd, self._volume.subvolid, inode, flags)
