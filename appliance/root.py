"""The directory that holds everything of one installation, and the lock on it.

<root>/snapreel.db            state of the control process
<root>/run/control.sock       control API
<root>/run/lock               held by `serve` (and by `init` while it works)
<root>/run/volume-<V>.sock    channel of a volume's file system process
<root>/images/<A>.img         image behind an aggregate
<root>/aggregates/<A>/        the aggregate's btrfs, for the appliance alone
<root>/vol/<V>/               where clients see a volume
<root>/libraries/<L>/         virtual library
<root>/sessions/<N>.log       log of a session
"""

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import AlreadyRunning, NotInitialised, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_ROOT = Path("/var/lib/snapreel")

_LONGEST_CHANNEL = 64
_NEEDS_ROOT = "this needs root; try it with sudo"


@dataclass(frozen=True, slots=True)
class Root:
    """Paths below one root; nothing here touches the disk but `make` and `lock`."""

    path: Path

    @classmethod
    def at(cls, path: Path | str) -> "Root":
        """Give the root at `path`, absolute; symbolic links stay as given."""
        return cls(Path(os.path.abspath(path)))  # noqa: PTH100

    @property
    def database(self) -> Path:
        """State of the control process."""
        return self.path / "snapreel.db"

    @property
    def run(self) -> Path:
        """Sockets and the lock."""
        return self.path / "run"

    @property
    def control_socket(self) -> Path:
        """The control API."""
        return self.run / "control.sock"

    @property
    def lock_file(self) -> Path:
        """Locked by whoever works on this root; its content says who."""
        return self.run / "lock"

    @property
    def unfinished(self) -> Path:
        """There while `init` works: what else is there then may be removed by the next."""
        return self.run / "initialising"

    def channel(self, volume: str) -> Path:
        """Socket of a volume's file system process.

        A long name is replaced by its digest: a socket's address is at most 107 bytes. The dot
        keeps it apart from the names of volumes, which have none.
        """
        if len(volume) > _LONGEST_CHANNEL:
            volume = f".{hashlib.sha256(volume.encode()).hexdigest()[:40]}"
        return self.run / f"volume-{volume}.sock"

    @property
    def images(self) -> Path:
        """Image files behind aggregates."""
        return self.path / "images"

    def image(self, aggregate: str) -> Path:
        """The image file behind an aggregate."""
        return self.images / f"{aggregate}.img"

    @property
    def aggregates(self) -> Path:
        """Where aggregates are mounted."""
        return self.path / "aggregates"

    def aggregate(self, name: str) -> Path:
        """Where one aggregate is mounted."""
        return self.aggregates / name

    @property
    def volumes(self) -> Path:
        """Where clients see volumes."""
        return self.path / "vol"

    def mount(self, volume: str) -> Path:
        """Where clients see one volume."""
        return self.volumes / volume

    @property
    def libraries(self) -> Path:
        """Virtual libraries."""
        return self.path / "libraries"

    def library(self, name: str) -> Path:
        """One virtual library."""
        return self.libraries / name

    @property
    def sessions(self) -> Path:
        """Logs of sessions."""
        return self.path / "sessions"

    def session_log(self, session: int) -> Path:
        """The log of one session."""
        return self.sessions / f"{session}.log"

    @property
    def initialised(self) -> bool:
        """Whether `init` has finished here: the database is what it makes last."""
        return self.database.exists()

    def require_superuser(self) -> None:
        """Raise Refused to a user for whom the kernel makes no mounts and loop devices."""
        if os.geteuid():
            raise Refused(str(self.path), _NEEDS_ROOT)

    def require_initialised(self) -> None:
        """Raise NotInitialised when this is no root yet."""
        if not self.initialised:
            reason = "it has no state database" if self.path.is_dir() else "it does not exist"
            raise NotInitialised(str(self.path), reason)

    def make_directories(self) -> None:
        """Create the directories; all but the clients' mounts are for root's eyes only."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for private in (self.run, self.images, self.aggregates, self.libraries, self.sessions):
            private.mkdir(mode=0o700, exist_ok=True)
        self.volumes.mkdir(mode=0o755, exist_ok=True)

    @contextmanager
    def lock(self, purpose: str) -> "Iterator[None]":
        """Hold the root for this process; AlreadyRunning says who has it.

        The kernel drops the lock with the process, however it ends.
        """
        fd = self._open_lock()
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"
                raise AlreadyRunning(str(self.path), f"by {holder}") from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"snapreel {purpose}, process {os.getpid()}\n".encode(), 0)
            yield
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def _open_lock(self) -> int:
        try:
            self.run.mkdir(mode=0o700, exist_ok=True)
            return os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Refused(str(self.path), _NEEDS_ROOT) from None
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotInitialised(str(self.path), error.strerror or "not there") from None
            raise
