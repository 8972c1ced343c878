"""Actors over the virtual library."""

from pathlib import Path

import pytest
import trio
import trio.testing

from tape.actor import ActorStatus, ChangerActor, DriveActor
from tape.drive import Drive
from tape.errors import DeviceBusy, NoCartridge, TransportFailed
from tape.opening import open_transport
from tape.virtual.faults import Fault, write_faults
from tape.virtual.library import VirtualLibrary

pytestmark = pytest.mark.trio
TEST_UNIT_READY, REWIND = 0x00, 0x01


class Room:
    """A library with a cartridge in drive 0, and its actors."""

    def __init__(self, path: Path) -> None:
        self.library = VirtualLibrary.create(path, cartridges=["SR0001L8"], durable=False)
        spec = {"kind": "virtual", "library": str(path)}
        self.drive = DriveActor("rst0", spec | {"drive": 0})
        self.other = DriveActor("rst1", spec | {"drive": 1})
        self.changer = ChangerActor("mc0", spec | {"changer": 0})

    async def close(self) -> None:
        for actor in (self.drive, self.other, self.changer):
            await actor.aclose()


@pytest.fixture
async def room(tmp_path: Path):
    room = Room(tmp_path / "lib0")
    await room.changer.call(lambda changer: changer.move(0x400, 0x100))
    yield room
    await room.close()


async def until_working(actor: DriveActor) -> None:
    with trio.fail_after(10):
        while actor.status().state != "working":
            await trio.lowlevel.checkpoint()


async def test_requests_run_in_order_one_at_a_time(room: Room) -> None:
    order: list[int] = []
    running = 0

    def work(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        order.append(number)
        running -= 1

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(room.drive.call, lambda _, n=number: work(n))
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert order == list(range(10))


async def test_results_and_errors_come_back(room: Room) -> None:
    assert (await room.drive.call(Drive.position)).beginning
    with pytest.raises(NoCartridge, match="rst1"):
        await room.other.call(Drive.rewind)
    assert [(s.asc, s.ascq) for s in room.drive.attentions] == [(0x28, 0x00)]


async def test_states(room: Room) -> None:
    assert room.drive.status() == ActorStatus("drive", "rst0", "closed")
    await room.drive.call(Drive.position)
    assert room.drive.status().state == "idle"
    write_faults(room.library.path, [Fault(opcode=REWIND, hang=True)])
    async with trio.open_nursery() as nursery:

        async def rewind() -> None:
            with pytest.raises(TransportFailed, match="aborted"):
                await room.drive.call(Drive.rewind, "rewind for the night")

        nursery.start_soon(rewind)
        await until_working(room.drive)
        nursery.start_soon(room.drive.call, Drive.position)
        await trio.testing.wait_all_tasks_blocked(0.01)
        status = room.drive.status()
        assert (status.state, status.holder, status.waiting) == (
            "working",
            "rewind for the night",
            1,
        )
        assert status.since
        with trio.fail_after(10):
            while room.drive.status().holder == "rewind for the night":
                await room.drive.abort()
    assert room.drive.status().state == "idle"


async def test_a_drive_that_hangs_when_it_is_opened_is_broken_off(room: Room) -> None:
    write_faults(room.library.path, [Fault(device="drive0", opcode=TEST_UNIT_READY, hang=True)])

    async def ask() -> None:
        with pytest.raises(TransportFailed, match="TEST UNIT READY did not complete: aborted"):
            await room.drive.call(Drive.position)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until_working(room.drive)
            while room.drive.status().state == "working":
                await room.drive.abort()
    assert room.drive.status().state == "closed"
    (room.library.path / "faults.json").unlink()
    assert (await room.drive.call(Drive.position)).beginning


async def test_a_hung_drive_holds_up_nobody_else(room: Room) -> None:
    await room.drive.call(Drive.position)
    write_faults(room.library.path, [Fault(device="drive0", opcode=REWIND, hang=True)])
    async with trio.open_nursery() as nursery:

        async def rewind() -> None:
            with pytest.raises(TransportFailed):
                await room.drive.call(Drive.rewind)

        nursery.start_soon(rewind)
        await until_working(room.drive)
        with trio.fail_after(10):
            assert (await room.changer.call(lambda c: c.inventory())).find("SR0001L8")
            await room.other.call(Drive.identify)
            while room.drive.status().state == "working":
                await room.drive.abort()


async def test_cancelling_ends_between_two_commands(room: Room) -> None:
    await room.drive.call(Drive.position)
    written = 0
    started = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def write_for_ever(drive: Drive) -> None:
        nonlocal written
        while True:
            drive.write_block(b"x" * 100)
            written += 1
            token.run_sync_soon(started.set)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.drive.call, write_for_ever)
            await started.wait()
            nursery.cancel_scope.cancel()
    position = await room.drive.call(Drive.position)
    assert position.object == written > 0


async def test_a_waiting_request_can_be_withdrawn(room: Room) -> None:
    done: list[str] = []
    release = trio.Event()
    entered = trio.Event()

    def hold(_: Drive) -> None:
        trio.from_thread.run_sync(entered.set)
        trio.from_thread.run(release.wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.drive.call, hold)
        await entered.wait()
        with trio.move_on_after(0.01):
            await room.drive.call(lambda _: done.append("never"))
        release.set()
    await room.drive.call(lambda _: done.append("later"))
    assert done == ["later"]


async def test_a_lease_lends_the_device(room: Room) -> None:
    await room.drive.call(lambda drive: drive.write_block(b"from serve"))
    async with room.drive.lease("session 12") as spec:
        status = room.drive.status()
        assert (status.state, status.holder) == ("leased", "session 12")
        with pytest.raises(DeviceBusy, match="drive rst0 is in use by session 12 since 20"):
            await room.drive.call(Drive.rewind)
        with pytest.raises(DeviceBusy):
            async with room.drive.lease("session 13"):
                pytest.fail("lent twice")
        with Drive(open_transport(spec)) as worker:
            assert worker.name == "rst0"
            worker.write_block(b"from the worker")
    assert room.drive.status() == ActorStatus("drive", "rst0", "closed")
    assert (await room.drive.call(Drive.position)).object == 2


async def test_requests_that_wait_for_a_turn_meet_the_lease(room: Room) -> None:
    release = trio.Event()
    entered = trio.Event()
    outcomes: list[str] = []

    def hold(_: Drive) -> None:
        trio.from_thread.run_sync(entered.set)
        trio.from_thread.run(release.wait)

    async def borrow() -> None:
        async with room.drive.lease("session 1"):
            outcomes.append("lent")
            await trio.testing.wait_all_tasks_blocked()

    async def ask() -> None:
        try:
            await room.drive.call(Drive.position)
        except DeviceBusy as error:
            outcomes.append(error.holder)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.drive.call, hold)
        await entered.wait()
        nursery.start_soon(borrow)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.01)
        release.set()
    assert outcomes == ["lent", "session 1"]


async def test_a_lease_comes_back_from_a_failure(room: Room) -> None:
    with pytest.raises(ZeroDivisionError):
        async with room.drive.lease("session 1"):
            raise ZeroDivisionError
    await room.drive.call(Drive.position)


async def test_a_holder_that_lives_on_is_told(room: Room) -> None:
    async with room.drive.lease("session 1") as spec:
        left_open = open_transport(spec)
    with pytest.raises(DeviceBusy, match="process"):
        await room.drive.call(Drive.position)
    left_open.close()
    await room.drive.call(Drive.position)


async def test_what_a_dead_holder_held_fast_is_let_go(room: Room) -> None:
    async with room.drive.lease("session 1") as spec:
        worker = Drive(open_transport(spec))
        worker.clear_attentions()
        worker.prevent_removal()
        worker.close()
    await room.drive.call(Drive.unload)


async def test_a_lost_device_is_opened_anew(room: Room) -> None:
    await room.drive.call(Drive.position)
    write_faults(room.library.path, [Fault(opcode=REWIND, transport="cable pulled")])
    with pytest.raises(TransportFailed, match="cable pulled"):
        await room.drive.call(Drive.rewind)
    assert room.drive.status().state == "closed"
    (room.library.path / "faults.json").unlink()
    await room.drive.call(Drive.rewind)
