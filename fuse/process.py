"""The file system process of one volume: mounts it, serves it, unmounts it.

    python -m fuse.process --aggregate DIR --volume NAME --mount DIR --channel SOCKET

prints `READY` once clients can use the mount. It unmounts and ends with exit code 0 when its
standard input reaches EOF, on SIGTERM or SIGINT, when the channel says `unmount`, and when
somebody unmounts it. Trouble goes to standard error, a line each. What clients did not fsync
is in the kernel's page cache of the aggregate, so killing this process loses nothing written.
"""

import argparse
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from fuse import mountpoint
from fuse.aggregate import Aggregate
from fuse.caller import keep_capabilities
from fuse.channel import VolumeChannel
from fuse.channel_server import ChannelServer
from fuse.errors import Busy, StorageError
from fuse.handshake import Connection
from fuse.mounted import MountedVolume
from fuse.operations import Operations

log = logging.getLogger("fuse.process")

_MOST_CACHED = 1024
_CONCURRENT_REQUESTS = 256


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the process is to do: `aggregate` is where the aggregate is mounted."""

    aggregate: Path
    volume: str
    mount: Path
    channel: Path


def parse(arguments: Sequence[str]) -> Assignment:
    """Read the command line; ends the process with code 2 when it is wrong."""
    parser = argparse.ArgumentParser(prog="fuse.process", description="Serve one volume.")
    parser.add_argument(
        "--aggregate", type=Path, required=True, help="mount point of the aggregate"
    )
    parser.add_argument("--volume", required=True, help="name of the volume")
    parser.add_argument("--mount", type=Path, required=True, help="where clients see the volume")
    parser.add_argument("--channel", type=Path, required=True, help="socket for the engine")
    given = parser.parse_args(arguments)
    return Assignment(given.aggregate, given.volume, given.mount.absolute(), given.channel)


def descriptor_budget() -> int:
    """Raise the descriptor limit as far as allowed; give how many may be cached ones.

    The rest is for what clients hold open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(16, min(_MOST_CACHED, soft // 4))


async def serve(mounted: MountedVolume, assignment: Assignment) -> None:
    """Serve requests until the volume is unmounted."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        channel = ChannelServer(mounted, assignment.mount, stop.set)
        await nursery.start(channel.serve, assignment.channel)
        await nursery.start(_wait_for_signal, stop)
        nursery.start_soon(_wait_for_lifeline, stop)
        nursery.start_soon(_unmount_after, stop, assignment.mount)
        nursery.start_soon(_announce, assignment.mount)
        await pyfuse3.main(max_tasks=_CONCURRENT_REQUESTS)
        nursery.cancel_scope.cancel()


async def _announce(mount: Path) -> None:
    """Say READY once the mount answers."""
    await trio.to_thread.run_sync(mountpoint.set_read_ahead, mount)
    with suppress(BrokenPipeError):
        print("READY", flush=True)  # noqa: T201


async def _wait_for_signal(stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            stop.set()


async def _wait_for_lifeline(stop: trio.Event) -> None:
    """Wait for the end of standard input, which comes at the latest with our parent's end."""
    stdin = sys.stdin.fileno()
    while True:
        try:
            await trio.lowlevel.wait_readable(stdin)
            data = os.read(stdin, 4096)
        except PermissionError:  # a plain file or /dev/null is not to be waited for
            return
        if not data:
            stop.set()
            return


async def _unmount_after(stop: trio.Event, mount: Path) -> None:
    """Unmount when told to; the request loop ends when the kernel closes the connection."""
    await stop.wait()
    await trio.to_thread.run_sync(mountpoint.detach, mount)
    pyfuse3.terminate()


def _refuse_second(assignment: Assignment) -> None:
    """Raise Busy when another process serves the volume."""
    with VolumeChannel(assignment.channel) as channel:
        if channel.available:
            raise Busy("volume", assignment.volume, "another file system process")


def run(assignment: Assignment) -> None:
    """Mount, serve, unmount. Raises StorageError, OSError when it cannot be mounted."""
    with ExitStack() as stack:
        capacity = descriptor_budget()
        keep_capabilities()
        aggregate = stack.enter_context(Aggregate.open(assignment.aggregate))
        volume = aggregate.volume(assignment.volume)
        _refuse_second(assignment)
        stack.enter_context(volume.use(f"the mount at {assignment.mount}", role="mount"))
        mounted = MountedVolume(volume, volume.snapshots.directory, capacity)
        stack.callback(mounted.close)
        connection = Connection(mountpoint.attach(assignment.mount, f"snapreel:{volume.name}"))
        stack.callback(connection.close)
        stack.callback(mountpoint.detach, assignment.mount)
        pyfuse3.init(Operations(mounted), connection.name, set())
        stack.callback(pyfuse3.close, unmount=False)
        connection.settle()
        trio.run(serve, mounted, assignment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; give its exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    assignment = parse(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()
    try:
        run(assignment)
    except StorageError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error("volume %s cannot be served: %s", assignment.volume, error)
        return 1
    except Exception:
        log.exception("volume %s is served no longer", assignment.volume)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
