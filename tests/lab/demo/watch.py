"""Clients that look at the mount while the engine works: one at a snapshot, one at a LUN."""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_PAUSE = 0.002
BLOCK = 1024 * 1024


class _Watcher(threading.Thread):
    """A thread that runs `look` over and over until the `with` block ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.error: BaseException | None = None

    def look(self) -> None:
        """Do one observation."""
        raise NotImplementedError

    def run(self) -> None:
        """Look until told to stop; keep what went wrong for the one who waits."""
        try:
            while not self._over.wait(_PAUSE):
                self.look()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self.join()
        if error is None and self.error is not None:
            raise self.error


class SnapshotWatch(_Watcher):
    """Waits for a snapshot to appear in `.snapshot` and then tries to change it, once."""

    def __init__(self, volume: Path, prefix: str, file: str) -> None:
        super().__init__()
        self._directory = volume / ".snapshot"
        self._prefix = prefix
        self._file = file
        self.names: set[str] = set()
        self.refusals: dict[str, str] = {}
        """What was tried, and the name of the errno that came back (empty: it was done)."""

    def look(self) -> None:
        """List the snapshots; try to change the first of a name not seen before."""
        for name in os.listdir(self._directory):
            if name.startswith(self._prefix) and name not in self.names:
                self.names.add(name)
                self._attack(self._directory / name)

    def _attack(self, snapshot: Path) -> None:
        file = snapshot / self._file
        attempts: dict[str, Callable[[], object]] = {
            "create": lambda: (snapshot / "new").touch(),
            "write": lambda: os.close(os.open(file, os.O_WRONLY)),
            "truncate": lambda: os.truncate(file, 0),
            "delete": file.unlink,
            "rename": lambda: file.rename(file.with_name("other")),
            "link": lambda: os.link(file, snapshot / "other"),
            "mkdir": lambda: (snapshot / "directory").mkdir(),
            "chmod": lambda: file.chmod(0o777),
            "chown": lambda: os.chown(file, 1, 1),
            "utime": lambda: os.utime(file, (1, 1)),
            "setxattr": lambda: os.setxattr(file, "user.x", b"x"),
            "remove the snapshot": snapshot.rmdir,
        }
        for what, attempt in attempts.items():
            self.refusals[what] = _outcome(attempt)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


class LunReader(_Watcher):
    """Reads blocks of a LUN that may not be there yet, may be restricted, or must be right.

    `right` judges a block by its number. With `hold` the LUN is opened once, as a host that
    uses it has done; else for each block.
    """

    def __init__(
        self, lun: Path, right: Callable[[int, bytes], bool], blocks: int, *, hold: bool = False
    ) -> None:
        super().__init__()
        self._lun = lun
        self._right = right
        self._blocks = blocks
        self._held = os.open(lun, os.O_RDONLY) if hold else None
        self._turn = 0
        self.outcomes: Counter[str] = Counter()
        """How often a read ended in ENOENT, EBUSY ..., `right` or `wrong`."""

    def look(self) -> None:
        """Read the next block."""
        block = self._turn % self._blocks
        self._turn += 7
        try:
            data = self._read(block * BLOCK)
        except OSError as error:
            self.outcomes[errno.errorcode.get(error.errno or 0, str(error))] += 1
            return
        self.outcomes["right" if self._right(block, data) else "wrong"] += 1

    def run(self) -> None:
        """Look until told to stop, and let go of the LUN."""
        try:
            super().run()
        finally:
            if self._held is not None:
                os.close(self._held)

    def _read(self, offset: int) -> bytes:
        if self._held is not None:
            return _read_whole(self._held, offset)
        fd = os.open(self._lun, os.O_RDONLY)
        try:
            return _read_whole(fd, offset)
        finally:
            os.close(fd)


def _read_whole(fd: int, offset: int) -> bytes:
    """Read a block; the kernel may cut a read in two, and only the second part be refused."""
    data = os.pread(fd, BLOCK, offset)
    while len(data) < BLOCK and (more := os.pread(fd, BLOCK - len(data), offset + len(data))):
        data += more
    return data
