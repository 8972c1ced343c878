"""A volume that is mounted for real, with a plain btrfs directory beside it to compare with."""

# The system calls themselves are what is tested.

import os
import pickle
import select
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fuse.aggregate import Aggregate
from fuse.channel import VolumeChannel
from fuse.source import ImageSource
from fuse.volume import Volume

T = TypeVar("T")

READY_WITHIN = 20.0


class FileSystemProcess:
    """A running fuse.process; its standard input is the lifeline."""

    def __init__(
        self, aggregate: Path, volume: str, mount: Path, socket: Path, prefix: Sequence[str] = ()
    ) -> None:
        self.mount = mount
        self.socket = socket
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        command: list[str | Path] = [
            *prefix,
            sys.executable,
            "-m",
            "fuse.process",
            "--aggregate",
            aggregate,
        ]
        command += ["--volume", volume, "--mount", mount, "--channel", socket]
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
        )

    def wait_ready(self) -> "FileSystemProcess":
        assert self.popen.stdout is not None
        readable, _, _ = select.select([self.popen.stdout], [], [], READY_WITHIN)
        line = self.popen.stdout.readline() if readable else b""
        if line != b"READY\n":
            self.kill()
            raise AssertionError(f"not ready: {line!r} {self.log()}")
        return self

    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def stop(self) -> int:
        """Let the lifeline go; give the exit code."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        return self.popen.wait(20)

    def kill(self) -> None:
        """End it at once, as a crash would, and leave the dead mount."""
        self.popen.kill()
        self.popen.wait(20)

    def reap(self) -> None:
        """Close what it leaves to its parent; a dead mount stays."""
        for stream in (self.popen.stdin, self.popen.stdout, self.errors):
            if stream is not None:
                stream.close()

    def close(self) -> None:
        """See to it that nothing is left, whatever happened."""
        try:
            if self.popen.poll() is None:
                self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            self.reap()
            subprocess.run(["umount", "-l", self.mount], check=False, capture_output=True)


@dataclass(slots=True)
class Stand:
    """A mounted volume: `mount` is what clients see, `native` a btrfs directory beside it."""

    root: Path
    aggregate: Aggregate
    volume: Volume
    mount: Path
    native: Path
    process: FileSystemProcess

    @property
    def channel(self) -> VolumeChannel:
        return VolumeChannel(self.process.socket)

    def restart(self, prefix: Sequence[str] = ()) -> None:
        """Start a process in place of one that ended, however it did."""
        assert self.process.popen.poll() is not None
        self.process.reap()
        self.process = start(self.root, self.aggregate, self.volume.name, prefix)

    def inode(self, path: Path) -> int:
        """Give the inode number in the volume of a path on the mount."""
        return path.lstat().st_ino & (1 << 40) - 1

    def beneath(self, path: Path) -> Path:
        """Give the engine's path of a path on the mount."""
        return self.volume.path / path.relative_to(self.mount)


def start(
    root: Path, aggregate: Aggregate, volume: str, prefix: Sequence[str] = ()
) -> FileSystemProcess:
    mount = root / "vol" / volume
    with suppress(OSError):  # a dead mount answers nothing, not even that it is there
        mount.mkdir(parents=True)
    socket = root / f"volume-{volume}.sock"
    return FileSystemProcess(aggregate.path, volume, mount, socket, prefix).wait_ready()


@contextmanager
def mounted(size: int = 1 << 30, **volume_options: Any) -> Iterator[Stand]:
    """Make an aggregate with one volume, mount it, and take all away again."""
    root = Path(tempfile.mkdtemp(prefix="fs"))
    root.chmod(0o755)
    try:
        (root / "aggregates").mkdir()
        source = ImageSource(root / "aggr.img", size)
        with Aggregate.create(root, "aggr0", source) as aggregate:
            try:
                volume = aggregate.create_volume("vol1", **volume_options)
                native = aggregate.create_volume("native").path
                _open_up(native)
                stand = Stand(
                    root,
                    aggregate,
                    volume,
                    root / "vol/vol1",
                    native,
                    start(root, aggregate, "vol1"),
                )
                try:
                    yield stand
                finally:
                    stand.process.close()
            finally:
                aggregate.detach()
    finally:
        shutil.rmtree(root)


def _open_up(native: Path) -> None:
    """Let ordinary users reach the comparison directory in the private aggregate."""
    for directory in (native, native.parent, native.parent.parent):
        directory.chmod(0o755)
    native.parent.parent.parent.chmod(0o755)


def as_user(
    function: Callable[..., T],
    *arguments: Any,
    uid: int = 0,
    gid: int = 0,
    groups: Sequence[int] = (),
) -> T:
    """Call `function` in a child process with these ids; what it raises is raised here."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.umask(0o022)
            result: tuple[bool, Any] = (True, function(*arguments))
        except BaseException as error:
            error.__traceback__ = None
            error.__context__ = None
            result = (False, error)
        try:
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(result, stream)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    done, value = pickle.loads(data)
    if not done:
        raise value
    return value
