"""Aggregates: file systems that hold volumes.

An aggregate NAME of the root directory ROOT is mounted at ROOT/aggregates/NAME; the file
ROOT/aggregates/NAME.json says what it lies on. `Aggregate.open` serves one that is mounted,
`Aggregate.find` and `attach` one that may have to be mounted first.
"""

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from fuse import libc, metadata
from fuse.database import Database
from fuse.descriptors import directory, exclusive
from fuse.engine import BtrfsEngine, Capacity, Engine
from fuse.errors import (
    AlreadyExists,
    Busy,
    NotFound,
    Refused,
    StorageError,
    StorageFailed,
    failing,
)
from fuse.layout import Layout
from fuse.libc import RENAME_NOREPLACE, renameat2
from fuse.metadata import VolumeMetadata
from fuse.mounts import mount_at
from fuse.names import check_aggregate_name, check_volume_name
from fuse.recovery import finish_delete, recover
from fuse.source import Source, source_of
from fuse.volume import Volume, check_metadata


def _mount_point(root: Path, name: str) -> Path:
    return root / "aggregates" / name


class Aggregate:
    """One aggregate; everything but attach and destroy needs it attached (mounted)."""

    def __init__(self, path: Path, name: str, identity: str, source: Source | None = None) -> None:
        """Use open, create, find or list instead. `source` is None for one that open gave."""
        self.path = path
        self.name = name
        self.uuid = identity
        self.source = source
        self.layout = Layout(path)
        self._engine: BtrfsEngine | None = None
        self._database: Database | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Aggregate({self.name!r}, {str(self.path)!r})"

    # -- finding ----------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Self:
        """Serve the aggregate that is mounted at `path`, by whomever. Raises NotFound."""
        identity = _read_identity(Layout(path))
        if identity is None:
            raise NotFound("aggregate", str(path))
        return cls(path, identity["name"], identity["uuid"])

    @classmethod
    def find(cls, root: Path, name: str) -> Self:
        """Give the aggregate `name` of `root`, attached or not. Raises NotFound."""
        check_aggregate_name(name)
        mount_point = _mount_point(root, name)
        path = mount_point.with_name(f"{name}.json")
        try:
            data = json.loads(path.read_text())
            return cls(mount_point, name, data["uuid"], source_of(data["kind"], data["path"]))
        except FileNotFoundError:
            raise NotFound("aggregate", name) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageFailed("read", str(path), f"it is damaged: {error}") from error

    @classmethod
    def list(cls, root: Path) -> tuple[Self, ...]:
        """Give the aggregates of `root` by name, attached or not."""
        names = sorted(path.stem for path in (root / "aggregates").glob("*.json"))
        return tuple(cls.find(root, name) for name in names)

    @classmethod
    def create(cls, root: Path, name: str, source: Source) -> Self:
        """Make an aggregate on `source` and attach it.

        Until it is complete nothing but an image with the suffix `.new` exists; the next
        creation replaces that.
        Raises InvalidName, AlreadyExists, NotFound, NotSupported, StorageFailed.
        """
        check_aggregate_name(name)
        aggregate = cls(_mount_point(root, name), name, str(uuid.uuid4()), source)
        with failing("create aggregate", name), _registry(root):
            if aggregate._descriptor.exists():
                raise AlreadyExists("aggregate", name)
            # What is mounted here without a descriptor was left by a creation that died.
            if mount_at(aggregate.path):
                libc.umount(aggregate.path)
            source.make(name)
            aggregate.path.mkdir(mode=0o700, exist_ok=True)
            source.mount(aggregate.path)
            try:
                aggregate._prepare()
                aggregate._register()
                source.finish()
            except BaseException:
                aggregate._take_back()
                raise
        return aggregate

    def _prepare(self) -> None:
        """Lay out a fresh file system."""
        self.path.chmod(0o700)
        self.layout.make()
        identity = {"name": self.name, "uuid": self.uuid, "created": int(time.time())}
        _write_file(self.layout.identity, json.dumps(identity))
        self._btrfs().enable_limits()
        self.database()
        self.engine.commit()

    def _take_back(self) -> None:
        """Remove what a failed creation has made."""
        assert self.source is not None
        self.close()
        self._descriptor.unlink(missing_ok=True)
        libc.umount(self.path)
        self.source.release()
        self.source.discard()
        with suppress(OSError):
            self.path.rmdir()

    @property
    def _descriptor(self) -> Path:
        return self.path.with_name(f"{self.name}.json")

    def _register(self) -> None:
        """Write the descriptor file, in one step."""
        assert self.source is not None
        source = {"kind": self.source.kind, "path": str(self.source.path.resolve())}
        _write_file(self._descriptor, json.dumps({"name": self.name, "uuid": self.uuid} | source))

    # -- attaching --------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether it is mounted at its place."""
        identity = _read_identity(self.layout)
        return identity is not None and identity["uuid"] == self.uuid

    def attach(self) -> tuple[str, ...]:
        """Mount the aggregate at its place, unless it is there already, and put it in order.

        A loop device or a mount that a crash has left is used again. Volumes half made or half
        deleted are finished with; gives a line for each thing done, for the log.
        Raises NotFound, NotSupported, StorageFailed.
        """
        if self.source is None:
            raise StorageFailed("attach aggregate", self.name, "it was opened by its path")
        with failing("attach aggregate", self.name), exclusive(self.path.parent):
            if not mount_at(self.path):
                self.path.mkdir(mode=0o700, exist_ok=True)
                self.source.mount(self.path)
            if not self.attached:
                libc.umount(self.path)
                reason = f"{self.source.path} holds something else"
                raise StorageFailed("attach aggregate", self.name, reason)
            self.source.finish()
            self.layout.make()
            self._btrfs().enable_limits()
            return recover(self)

    def detach(self) -> None:
        """Unmount the aggregate, and give back its loop device. Raises Busy, StorageFailed."""
        if self.source is None:
            raise StorageFailed("detach aggregate", self.name, "it was opened by its path")
        with failing("detach aggregate", self.name), exclusive(self.path.parent):
            if mount_at(self.path):
                holders = self._holders()
                self.close()
                try:
                    libc.umount(self.path)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    raise Busy("aggregate", self.name, holders or "an open file") from None
            self.source.release()

    def _holders(self) -> str:
        """Name who uses volumes; empty when that cannot be told."""
        users: set[str] = set()
        with suppress(StorageError):
            for volume in self.volumes():
                users.update(volume.users())
        return ", ".join(sorted(users))

    def destroy(self) -> None:
        """Remove an aggregate without volumes for good, with its image.

        Raises Busy while it has volumes or is in use, StorageFailed.
        """
        if self.source is None:
            raise StorageFailed("destroy aggregate", self.name, "it was opened by its path")
        # Where the image is gone, only the descriptor file is left to remove.
        with suppress(NotFound):
            self.attach()
            volumes = [volume.name for volume in self.volumes()]
            if volumes:
                raise Busy("aggregate", self.name, f"volume {', '.join(volumes)}")
        self.detach()
        self.source.discard()
        with failing("destroy aggregate", self.name):
            self.path.rmdir()
            self._descriptor.unlink(missing_ok=True)

    def close(self) -> None:
        """Give back descriptors and the database; they are opened again when needed."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
            if self._database is not None:
                self._database.close()
            self._engine = self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _btrfs(self) -> BtrfsEngine:
        with self._lock:
            if self._engine is None:
                if not self.attached:
                    raise Refused("aggregate", self.name, "it is not attached")
                with failing("open aggregate", self.name):
                    self._engine = BtrfsEngine(self.path)
            return self._engine

    @property
    def engine(self) -> Engine:
        """The file system below. Raises Refused while the aggregate is not attached."""
        return self._btrfs()

    @property
    def fd(self) -> int:
        """A descriptor of the aggregate's top, for fuse.handle.open_inode; not to be closed."""
        return self._btrfs().fd

    def database(self) -> Database:
        """The database of the aggregate. Raises Refused while it is not attached."""
        self._btrfs()
        with self._lock:
            if self._database is None:
                self._database = Database(self.layout.database)
            return self._database

    # -- what it holds ----------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """Tell the space of the aggregate in bytes."""
        with failing("read the capacity of aggregate", self.name):
            return self.engine.capacity()

    def health(self) -> dict[str, int]:
        """Count the errors of its device since it was made, by kind."""
        with failing("read the health of aggregate", self.name):
            return self.engine.health()

    def volumes(self) -> tuple[Volume, ...]:
        """List the volumes by name."""
        found = []
        with failing("list the volumes of aggregate", self.name):
            for name in sorted(os.listdir(self._layout().volumes)):
                with suppress(NotFound):  # deleted since it was listed
                    found.append(Volume(self, name))
        return tuple(found)

    def _layout(self) -> Layout:
        """Give the layout, when there is one. Raises Refused while it is not attached."""
        self._btrfs()
        return self.layout

    def volume(self, name: str) -> Volume:
        """Find a volume. Raises InvalidName, NotFound."""
        check_volume_name(name)
        with failing("open volume", name):
            return Volume(self, name)

    def create_volume(
        self,
        name: str,
        size: int = 0,
        files: int = 0,
        security_style: str = "unix",
        comment: str = "",
    ) -> Volume:
        """Make a volume of at most `size` bytes and `files` inodes, 0 for no limit.

        It appears at once, complete. Raises InvalidName, AlreadyExists, StorageFailed.
        """
        check_volume_name(name)
        data = VolumeMetadata(
            str(uuid.uuid4()), size, files, security_style=security_style, comment=comment
        )
        check_metadata(name, data)
        layout = self._layout()
        with failing("create volume", name), exclusive(layout.volumes) as volumes:
            if os.path.lexists(layout.volumes / name):
                raise AlreadyExists("volume", name)
            path = layout.creating / data.uuid
            self.engine.create_tree(path)
            try:
                self._furnish(path, data)
                with directory(layout.creating) as creating:
                    renameat2(creating, path.name, volumes, name, RENAME_NOREPLACE)
            except BaseException:
                self.engine.delete_tree(path)
                raise
            self.engine.commit()
        return self.volume(name)

    def _furnish(self, path: Path, data: VolumeMetadata) -> None:
        """Make a fresh tree a volume."""
        tree_id = self.engine.info(path).tree_id
        path.chmod(0o755)
        metadata.set_attribute(path, metadata.VOLUME, data.encode())
        self.engine.set_limit(tree_id, data.size)
        (self.layout.snapshots / str(tree_id)).mkdir(mode=0o755, exist_ok=True)

    def delete_volume(self, name: str) -> None:
        """Delete a volume with its snapshots; once begun, it is finished at the next attach.

        Raises InvalidName, NotFound, Busy while something uses it or holds one of its snapshots.
        """
        layout = self._layout()
        with failing("delete volume", name), exclusive(layout.volumes) as volumes:
            volume = self.volume(name)
            volume.refuse_while_used()
            with volume.snapshots.exclusive():
                for lock in volume.snapshots.all_locks():
                    raise Busy("snapshot", f"{lock.snapshot} of volume {name}", lock.owner)
                with directory(layout.deleting) as deleting:
                    target = str(volume.subvolid)
                    renameat2(volumes, name, deleting, target, RENAME_NOREPLACE)
            self.engine.commit()
            finish_delete(self, volume.subvolid)

    def rename_volume(self, old: str, new: str) -> Volume:
        """Rename a volume. Raises InvalidName, NotFound, AlreadyExists, Busy while it is used."""
        check_volume_name(new)
        with failing("rename volume", old), exclusive(self._layout().volumes) as volumes:
            self.volume(old).refuse_while_used()
            try:
                renameat2(volumes, old, volumes, new, RENAME_NOREPLACE)
            except FileExistsError:
                raise AlreadyExists("volume", new) from None
            self.engine.commit()
        return self.volume(new)


@contextmanager
def _registry(root: Path) -> Iterator[None]:
    """Keep all others from attaching and making aggregates of `root`."""
    place = root / "aggregates"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(place):
        yield


def _read_identity(layout: Layout) -> dict[str, Any] | None:
    """Give the identity of what is mounted, None when it is no aggregate."""
    try:
        data = json.loads(layout.identity.read_text())
        return {"name": str(data["name"]), "uuid": str(data["uuid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_file(path: Path, text: str) -> None:
    """Write a file in one step, on disk on return. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    with directory(path.parent) as fd:
        os.fsync(fd)
