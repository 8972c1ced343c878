"""Mounts of volumes: one file system process each, supervised.

    unmounted ──mount──► starting ──READY──► mounted ──unmount──► unmounted
                            │                   │ the process ends by itself
                            └──► restarting ◄───┘
                                     └── after 0, or 0.2, 0.4 ... 30 s ──► starting

A process that ends by itself is started again: at once when it had lasted a minute, after a
pause that grows when it had not. Whatever it leaves mounted is detached first, so that clients
never see a dead mount for longer than that.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from appliance.children import Child, describe_end, spawn
from appliance.errors import MountFailed
from appliance.root import Root
from appliance.state import State
from fuse.channel import VolumeChannel
from fuse.errors import StorageError
from fuse.libc import MNT_DETACH, umount
from fuse.mounts import parse_mountinfo

log = logging.getLogger(__name__)

_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0
_MODULE = "fuse.process"


@dataclass(slots=True, eq=False)
class Mount:
    """One volume's mount; `state` as drawn above, `reason` why it is not simply mounted.

    With `insist` a failure of the first start is tried again like any other.
    """

    volume: str
    aggregate: Path
    point: Path
    channel: Path
    insist: bool = False
    state: str = "starting"
    reason: str = ""
    restarts: int = 0
    pid: int | None = None
    _announced: bool = False
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _gone: trio.Event = field(default_factory=trio.Event)

    @property
    def role(self) -> str:
        """Key of its process in the state database."""
        return f"volume:{self.volume}"

    def to_json(self) -> dict[str, Any]:
        """Give what `volume show` says about it."""
        return {
            "state": self.state,
            "path": str(self.point),
            "pid": self.pid,
            "restarts": self.restarts,
            "reason": self.reason,
        }

    def arguments(self) -> list[str]:
        """Give the file system process's command line."""
        pairs = {
            "--aggregate": self.aggregate,
            "--volume": self.volume,
            "--mount": self.point,
            "--channel": self.channel,
        }
        return [str(word) for pair in pairs.items() for word in pair]

    async def end(self) -> None:
        """Stop supervising, and wait until the process and the mount are gone."""
        self._scope.cancel()
        await self._gone.wait()

    async def supervise(
        self, state: State, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the volume mounted until `end`; without `insist` the first failure is raised."""
        try:
            with self._scope:
                await self._keep(state, task_status)
        finally:
            self.state, self.pid = "unmounted", None
            self._gone.set()

    async def _keep(self, state: State, task_status: trio.TaskStatus[None]) -> None:
        pause = 0.0
        while True:
            began = trio.current_time()
            try:
                await self._live(state, task_status)
            except MountFailed as error:
                if not (self._announced or self.insist):
                    raise
                self.reason = str(error)
                self._announce(task_status)
            log.error("volume %s: %s; starting it again", self.volume, self.reason)
            self.state, self.restarts = "restarting", self.restarts + 1
            steady = trio.current_time() - began > _STEADY_SECONDS
            pause = 0.0 if steady else min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)
            await trio.sleep(pause)

    def _announce(self, task_status: trio.TaskStatus[None]) -> None:
        if not self._announced:
            self._announced = True
            task_status.started()

    async def _live(self, state: State, task_status: trio.TaskStatus[None]) -> None:
        """One process from start to end; returns when it ended by itself."""
        self.state = "starting"
        try:
            await trio.to_thread.run_sync(self._prepare)
            child = await spawn(state, self.role, _MODULE, self.arguments(), log=2)
        except OSError as error:
            raise MountFailed(self.volume, f"{self.point}: {error.strerror}") from None
        self.pid = child.identity.pid
        try:
            await self._until_ready(child)
            self.state, self.reason = "mounted", ""
            self._announce(task_status)
            while (line := await child.line()) is not None:
                log.debug("volume %s: %s", self.volume, line)
            self.reason = f"file system process {describe_end(await child.ended())}"
        finally:
            with trio.CancelScope(shield=True):
                await child.stop(_STOP_SECONDS)
                await trio.to_thread.run_sync(self._clean)
            self.pid = None

    async def _until_ready(self, child: Child) -> None:
        with trio.move_on_after(_READY_SECONDS):
            while (line := await child.line()) is not None:
                if line.strip() == b"READY":
                    return
            raise MountFailed(
                self.volume, f"its file system process {describe_end(await child.ended())}"
            )
        raise MountFailed(self.volume, f"not ready within {_READY_SECONDS:.0f} seconds")

    def _prepare(self) -> None:
        detach(self.point)
        self.channel.unlink(missing_ok=True)
        self.point.mkdir(mode=0o755, exist_ok=True)

    def _clean(self) -> None:
        # Without its mount point nobody writes beneath where the volume should be.
        try:
            detach(self.point)
            self.channel.unlink(missing_ok=True)
            self.point.rmdir()
        except OSError as error:
            log.warning("mount point %s stays: %s", self.point, error.strerror)


class Mounts:
    """The mounts of a root's volumes."""

    def __init__(self, root: Root, state: State, nursery: trio.Nursery) -> None:
        self._root = root
        self._state = state
        self._nursery = nursery
        self._mounts: dict[str, Mount] = {}

    def get(self, volume: str) -> Mount | None:
        """Give a volume's mount, if it has one."""
        return self._mounts.get(volume)

    def describe(self, volume: str) -> dict[str, Any]:
        """Give what there is to say about a volume's mount."""
        mount = self._mounts.get(volume)
        return mount.to_json() if mount else {"state": "unmounted", "path": None, "reason": ""}

    async def mount(self, volume: str, aggregate: Path, *, insist: bool = False) -> Mount:
        """Mount a volume, and keep it mounted; MountFailed when it cannot be.

        With `insist` it is tried until it can be, and no failure is raised.
        """
        if found := self._mounts.get(volume):
            return found
        channel = self._root.channel(volume)
        mount = Mount(volume, aggregate, self._root.mount(volume), channel, insist)
        self._mounts[volume] = mount
        try:
            await self._nursery.start(mount.supervise, self._state)
        except RuntimeError:
            raise MountFailed(volume, "it was unmounted while it came up") from None
        finally:
            if mount.state == "unmounted":
                self._mounts.pop(volume, None)
        return mount

    async def unmount(self, volume: str) -> None:
        """Unmount a volume if it is mounted; clients' open files fail from then on."""
        mount = self._mounts.get(volume)
        if mount is not None:
            await mount.end()
            self._mounts.pop(volume, None)

    async def tell(self, volume: str, message: Callable[[VolumeChannel], None]) -> None:
        """Tell a volume's file system process something; nothing is told when there is none.

        What cannot be told is logged: what was done beneath is done, and clients may see it
        only when their caches end, at the latest after the mount is made anew.
        """
        path = self._root.channel(volume)

        def send() -> None:
            try:
                with VolumeChannel(path) as channel:
                    message(channel)
            except (StorageError, OSError) as error:
                log.error("volume %s: %s", volume, error)

        await trio.to_thread.run_sync(send)

    async def unmount_all(self) -> None:
        """Unmount every volume, all at once."""
        async with trio.open_nursery() as nursery:
            for volume in list(self._mounts):
                nursery.start_soon(self.unmount, volume)


def detach(point: Path) -> bool:
    """Detach whatever is mounted at `point`, dead or alive; False when nothing was."""
    found = False
    while str(point) in _targets():
        umount(point, MNT_DETACH)
        found = True
    return found


def mounted_below(directory: Path) -> list[Path]:
    """Give the mount points below a directory, the latest first."""
    return [Path(target) for target in reversed(_targets()) if target.startswith(f"{directory}/")]


def _targets() -> list[str]:
    text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    return [mount.target for mount in parse_mountinfo(text)]
