"""Where an aggregate keeps what.

```
volumes/NAME                  the tree of a volume
snapshots/SUBVOLID/NAME       snapshots of the volume whose tree has this subvolume id
.snapreel/aggregate.json      identity: name, uuid, created (seconds since 1970)
.snapreel/aggregate.db        locks, numbers, restrictions (fuse.database)
.snapreel/creating/UUID       a volume that is being made
.snapreel/deleting/SUBVOLID   a volume that is being deleted
.snapreel/users/SUBVOLID/ID   a locked file for each process that uses a volume
```
"""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The places below the top `path` of an aggregate."""

    path: Path

    @property
    def volumes(self) -> Path:
        """The volumes, by name."""
        return self.path / "volumes"

    @property
    def snapshots(self) -> Path:
        """Directories of snapshots, by subvolume id of the volume."""
        return self.path / "snapshots"

    @property
    def state(self) -> Path:
        """What the aggregate knows of itself."""
        return self.path / ".snapreel"

    @property
    def identity(self) -> Path:
        """The identity file."""
        return self.state / "aggregate.json"

    @property
    def database(self) -> Path:
        """The database."""
        return self.state / "aggregate.db"

    @property
    def creating(self) -> Path:
        """Volumes that are being made."""
        return self.state / "creating"

    @property
    def deleting(self) -> Path:
        """Volumes that are being deleted, by subvolume id."""
        return self.state / "deleting"

    @property
    def users(self) -> Path:
        """Who uses which volume."""
        return self.state / "users"

    def make(self) -> None:
        """Make the directories, where they are not there yet. Raises OSError."""
        self.state.mkdir(mode=0o700, exist_ok=True)
        for path in (self.volumes, self.snapshots, self.creating, self.deleting, self.users):
            path.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Remove the directories, of an aggregate without volumes. Raises OSError."""
        for path in (self.volumes, self.snapshots, self.state):
            if path.exists():
                shutil.rmtree(path)
