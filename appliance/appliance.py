"""The appliance as one object: what every method of the control API works on."""

import os
import time
from dataclasses import dataclass, field

import trio

from appliance.aggregates import Aggregates
from appliance.mounts import Mounts
from appliance.paths import VolumePath
from appliance.recovery import Recovered, recover
from appliance.root import Root
from appliance.sessions import Sessions
from appliance.state import State
from appliance.sysconfig import Sysconfig
from appliance.tapes import Tapes
from fuse.volume import Volume

_STOPPED = "the control process was stopped"


@dataclass(slots=True, eq=False)
class Appliance:
    """A root that is being served; `started` in seconds since 1970."""

    root: Root
    state: State
    aggregates: Aggregates
    mounts: Mounts
    tapes: Tapes
    sessions: Sessions
    sysconfig: Sysconfig
    started: float = field(default_factory=time.time)
    recovered: Recovered = field(default_factory=Recovered)
    _changing: dict[str, trio.Lock] = field(default_factory=dict)

    @classmethod
    def assemble(cls, root: Root, state: State, tasks: trio.Nursery) -> "Appliance":
        """Put the parts together; nothing is touched before `start`."""
        aggregates, sysconfig = Aggregates(root), Sysconfig.read()
        tapes = Tapes(root)
        sessions = Sessions(root, state, aggregates, tapes, tasks, sysconfig.session_limit)
        mounts = Mounts(root, state, tasks)
        return cls(root, state, aggregates, mounts, tapes, sessions, sysconfig)

    async def start(self) -> None:
        """Bring the root into order, find the devices, mount the volumes that are online."""
        self.recovered = await recover(self.root, self.state, self.aggregates)
        await self.tapes.open(self.recovered.torn)
        async with trio.open_nursery() as nursery:
            for volume in await self.aggregates.run(self._online):
                nursery.start_soon(self._mount, volume)

    def _online(self) -> list[Volume]:
        volumes = self.aggregates.volumes_blocking()
        return [volume for volume in volumes if volume.metadata().state == "online"]

    async def _mount(self, volume: Volume) -> None:
        await self.mounts.mount(volume.name, volume.aggregate.path, insist=True)

    async def stop(self) -> None:
        """End sessions, unmount volumes, let go of devices, detach aggregates: in this order."""
        await self.sessions.abort_all(_STOPPED)
        await self.mounts.unmount_all()
        await self.tapes.close()
        await self.aggregates.detach_all()

    def changing(self, volume: str) -> trio.Lock:
        """Give the lock under which a volume is made, mounted, unmounted and deleted."""
        return self._changing.setdefault(volume, trio.Lock())

    async def forget_name(self, place: VolumePath, *inodes: int) -> None:
        """Make clients see that something beneath the mount gave or took a name."""

        def parent(volume: Volume) -> int:
            return (volume.path / place.relative).parent.stat().st_ino

        entry = await self.aggregates.on_volume(place.volume, parent)
        name = os.fsencode(place.relative.rpartition("/")[2])
        await self.mounts.tell(
            place.volume, lambda channel: channel.invalidate([*inodes, entry], [(entry, name)])
        )

    async def forget_snapshot(self, volume: str, subvolid: int) -> None:
        """Let go of a snapshot that was deleted."""
        await self.mounts.tell(volume, lambda channel: channel.forget(subvolid))

    async def lift(self, volume: str, inode: int) -> None:
        """Let clients at an inode again whose mark is gone."""
        await self.mounts.tell(volume, lambda channel: channel.lift(inode))
