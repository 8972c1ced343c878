"""Actors: the one owner that each drive and each changer has in the control process.

                 call                        lease
    closed ───────────────▶ working ─┐   idle ─────▶ leased ──▶ closed
      ▲                        ▲     │     ▲   (transport closed; a worker
      │ close                  └── idle ◀──┘    process opens the device)
      └───────────────────────────────┘

Requests queue in the order they came; one runs at a time, in a thread of the actor's
own, so that a drive that hangs holds up nobody else. A caller that is cancelled while
waiting leaves the queue; one that is cancelled while its request runs stops between two
commands, never in one, so that the position of the tape stays known. While a device is
leased every other request fails at once with DeviceBusy: who, and since when.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import trio
from typing_extensions import Buffer

from tape.changer import Changer
from tape.device import Device
from tape.drive import Drive
from tape.errors import DeviceBusy, TransportFailed
from tape.opening import open_transport
from tape.sense import Sense
from tape.transport import Completion, Transport

DeviceType = TypeVar("DeviceType", bound=Device)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ActorStatus:
    """What an actor does: `state` is closed, idle, working or leased.

    `holder` names the request or the leaseholder, `since` when it began (ISO time), both
    empty when there is none; `waiting` requests queue.
    """

    kind: str
    name: str
    state: str
    holder: str = ""
    since: str = ""
    waiting: int = 0


class _Interruptible:
    """A transport that lets a cancelled request end before its next command."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def name(self) -> str:
        return self._transport.name

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: Buffer | None = None,
        data_in: Buffer | None = None,
        timeout: float = 60.0,
    ) -> Completion:
        trio.from_thread.check_cancelled()
        return self._transport.execute(cdb, data_out=data_out, data_in=data_in, timeout=timeout)

    def abort(self) -> None:
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()


class DeviceActor(Generic[DeviceType]):
    """Owns one device: opens it when first needed, and lends it out."""

    kind = "device"

    def __init__(
        self, name: str, spec: Mapping[str, Any], make: Callable[[Transport], DeviceType]
    ) -> None:
        """Take the description of a device (see `tape.opening`); nothing is opened yet."""
        self.name = name
        self.spec: dict[str, Any] = {**spec, "name": name}
        self._make = make
        self._device: DeviceType | None = None
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._leased = False
        self._holder = ""
        self._since = ""
        self.attentions: list[Sense] = []
        """Unit attentions that waited when the device was opened last."""

    def status(self) -> ActorStatus:
        """Tell what the actor does, at once."""
        if self._leased:
            state = "leased"
        elif self._turn.locked():
            state = "working"
        else:
            state = "closed" if self._device is None else "idle"
        waiting = self._turn.statistics().tasks_waiting
        return ActorStatus(self.kind, self.name, state, self._holder, self._since, waiting)

    async def call(self, work: Callable[[DeviceType], Result], what: str = "") -> Result:
        """Do `work` with the device in a thread when it is this request's turn.

        `what` says what it is, for the status. Raises DeviceBusy while the device is
        leased, what opening it raises, and what `work` raises.
        """
        self._refuse_leased()
        async with self._turn:
            self._refuse_leased()
            self._hold(what or getattr(work, "__name__", "request"))
            try:
                return await self._in_thread(lambda: work(self._opened()))
            except TransportFailed:
                # The device may have gone and come back as another: open it anew.
                await self._shielded_close()
                raise
            finally:
                self._free()

    @asynccontextmanager
    async def lease(self, holder: str) -> AsyncIterator[dict[str, Any]]:
        """Lend the device to another process for the time of the context.

        Gives the description to open it from; the actor's own transport is closed. The
        holder's process must have ended when the context is left. Raises DeviceBusy.
        """
        self._refuse_leased()
        async with self._turn:
            self._refuse_leased()
            self._leased = True
            self._hold(holder)
            try:
                await self._shielded_close()
            except BaseException:
                self._return()
                raise
        try:
            yield dict(self.spec)
        finally:
            self._return()

    async def aclose(self) -> None:
        """Close the transport when the device is this actor's; it opens again when needed."""
        with trio.CancelScope(shield=True):
            async with self._turn:
                await self._in_thread(self._close_device)

    async def abort(self) -> None:
        """Break off the command that runs: its request fails with TransportFailed."""
        device = self._device
        if device is None:
            await trio.lowlevel.checkpoint()
        else:
            await trio.to_thread.run_sync(device.transport.abort)

    async def _shielded_close(self) -> None:
        with trio.CancelScope(shield=True):
            await self._in_thread(self._close_device)

    def _refuse_leased(self) -> None:
        if self._leased:
            raise DeviceBusy(self.kind, self.name, self._holder, self._since)

    def _hold(self, holder: str) -> None:
        self._holder = holder
        self._since = datetime.now(UTC).isoformat(timespec="seconds")

    def _free(self) -> None:
        self._holder = self._since = ""

    def _return(self) -> None:
        self._leased = False
        self._free()

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await trio.to_thread.run_sync(work, limiter=self._thread)

    def _opened(self) -> DeviceType:
        if self._device is None:
            # Kept before its first command, so that `abort` reaches that one too.
            self._device = device = self._make(_Interruptible(open_transport(self.spec)))
            try:
                self.attentions = device.clear_attentions()
                self._settle(device)
            except BaseException:
                self._close_device()
                raise
        return self._device

    def _settle(self, device: DeviceType) -> None:
        """Undo what a leaseholder that died has left; called whenever the device is opened."""

    def _close_device(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()


class DriveActor(DeviceActor[Drive]):
    """Owns a tape drive."""

    kind = "drive"

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        super().__init__(name, spec, Drive)

    def _settle(self, device: Drive) -> None:
        device.allow_removal()


class ChangerActor(DeviceActor[Changer]):
    """Owns a medium changer."""

    kind = "changer"

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        super().__init__(name, spec, Changer)
