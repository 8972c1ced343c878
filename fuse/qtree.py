"""Qtrees: top-level directories of a volume with an id and a style of their own."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fuse import metadata
from fuse.descriptors import directory
from fuse.errors import AlreadyExists, Busy, InvalidName, NotFound, Refused, StorageFailed, failing
from fuse.libc import RENAME_NOREPLACE, renameat2
from fuse.metadata import SECURITY_STYLES, MalformedMetadata, QtreeMetadata
from fuse.names import check_qtree_name
from fuse.removal import remove_tree

if TYPE_CHECKING:
    from fuse.volume import Volume

MAX_QTREES = 4994
"""Qtrees a volume."""


@dataclass(frozen=True, slots=True)
class Qtree:
    """A qtree; `inode` is that of its top directory, `path` where the volume's tree has it."""

    name: str
    path: Path
    inode: int
    metadata: QtreeMetadata

    @property
    def id(self) -> int:
        """Its id, from 1, never given twice in a volume."""
        return self.metadata.id


def read_metadata(target: int | str | bytes | Path) -> QtreeMetadata | None:
    """Read the qtree attribute of a directory, None for an ordinary one.

    Takes a path, which is not followed, or a descriptor. Raises StorageFailed when it is
    damaged, OSError.
    """
    value = metadata.get_attribute(target, metadata.QTREE)
    if value is None:
        return None
    try:
        return QtreeMetadata.decode(value)
    except MalformedMetadata as error:
        raise StorageFailed("read qtree", str(target), str(error)) from error


class Qtrees:
    """The qtrees of one volume."""

    def __init__(self, volume: "Volume") -> None:
        self._volume = volume

    def list(self) -> tuple[Qtree, ...]:
        """List the qtrees by id. Raises StorageFailed."""
        found = []
        with (
            failing("list the qtrees of volume", self._volume.name),
            os.scandir(self._volume.path) as entries,
        ):
            for entry in entries:
                # A client may remove a directory while it is looked at.
                with suppress(FileNotFoundError):
                    data = None
                    if entry.is_dir(follow_symlinks=False):
                        data = read_metadata(entry.path)
                    if data is not None:
                        path = Path(entry.path)
                        found.append(Qtree(entry.name, path, entry.inode(), data))
        return tuple(sorted(found, key=lambda qtree: qtree.id))

    def get(self, name: str) -> Qtree:
        """Find a qtree. Raises NotFound."""
        check_qtree_name(name)
        path = self._volume.path / name
        try:
            data = read_metadata(path)
            status = path.lstat()
        except OSError:
            data = None
        if data is None or not stat.S_ISDIR(status.st_mode):
            raise NotFound("qtree", f"{self._volume.name}/{name}")
        return Qtree(name, path, status.st_ino, data)

    def create(
        self,
        name: str,
        security_style: str | None = None,
        oplocks: bool = True,
        mode: int = 0o755,
    ) -> Qtree:
        """Make an empty qtree; without a style it has the volume's.

        Raises InvalidName, AlreadyExists, Refused beyond MAX_QTREES.
        """
        check_qtree_name(name)
        _check_style(security_style)
        full_name = f"{self._volume.name}/{name}"
        if len(self.list()) >= MAX_QTREES:
            reason = f"it has {MAX_QTREES} qtrees, the most a volume can have"
            raise Refused("volume", self._volume.name, reason)
        with self._changing(full_name) as root:
            if _exists(root, name):
                raise AlreadyExists("qtree", full_name)
            data = QtreeMetadata(self._volume.allocate_qtree_id(), security_style, oplocks)
            os.mkdir(name, mode, dir_fd=root)
            try:
                with directory(name, root) as fd:
                    os.fchmod(fd, mode)
                    os.setxattr(fd, metadata.QTREE, data.encode())
                    os.fsync(fd)
            except BaseException:
                os.rmdir(name, dir_fd=root)
                raise
        return self.get(name)

    def modify(
        self, name: str, security_style: str | None = None, oplocks: bool | None = None
    ) -> Qtree:
        """Change a qtree's style or oplocks mode; None leaves it. Raises as get, InvalidName."""
        _check_style(security_style)
        qtree = self.get(name)
        data = replace(
            qtree.metadata,
            security_style=security_style or qtree.metadata.security_style,
            oplocks=qtree.metadata.oplocks if oplocks is None else oplocks,
        )
        with self._changing(name) as root, directory(name, root) as fd:
            os.setxattr(fd, metadata.QTREE, data.encode())
            os.fsync(fd)
        return self.get(name)

    def rename(self, old: str, new: str) -> Qtree:
        """Rename a qtree; it keeps its id. Raises NotFound, AlreadyExists, InvalidName."""
        check_qtree_name(new)
        self.get(old)
        with self._changing(old) as root:
            try:
                renameat2(root, old, root, new, RENAME_NOREPLACE)
            except FileExistsError:
                raise AlreadyExists("qtree", f"{self._volume.name}/{new}") from None
            os.fsync(root)
        return self.get(new)

    def delete(self, name: str) -> None:
        """Delete a qtree with all it holds. When it is interrupted, the rest is still the qtree.

        Raises NotFound, Busy while a session restricts one of its LUNs.
        """
        self.get(name)
        for lun in self._volume.luns.list():
            if lun.qtree == name and lun.restricted_by:
                raise Busy("qtree", f"{self._volume.name}/{name}", lun.restricted_by)
        with self._changing(name) as root:
            remove_tree(root, name)
            os.fsync(root)

    @contextmanager
    def _changing(self, name: str) -> Iterator[int]:
        with failing("change qtree", name), directory(self._volume.path) as root:
            yield root


def _exists(dir_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _check_style(style: str | None) -> None:
    if style is not None and style not in SECURITY_STYLES:
        choices = ", ".join(SECURITY_STYLES)
        raise InvalidName("security_style", style, f"choose one of {choices}")
