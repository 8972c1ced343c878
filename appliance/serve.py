"""`snapreel serve`: the control process of a root, from its lock to its last unmount."""

import logging
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import trio

import appliance.control.methods  # noqa: F401 - fills the method table
from appliance.appliance import Appliance
from appliance.control.server import ControlServer
from appliance.notify import sd_notify
from appliance.root import Root
from appliance.state import State

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(root: Root) -> None:
    """Serve a root until SIGTERM, SIGINT or SIGHUP; AlreadyRunning when somebody does."""
    root.require_initialised()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _raise_descriptor_limit()
    with root.lock("serve"):
        root.make_directories()
        trio.run(_serve, root)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(root: Root) -> None:
    """Live until a signal; signals are caught from here on, so that any stop is in order."""
    state = State(root.database)
    try:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as tasks:
                served = Appliance.assemble(root, state, tasks)
                try:
                    with trio.CancelScope() as life:
                        tasks.start_soon(_stop_at_signal, signals, life)
                        await _live(served)
                finally:
                    sd_notify("STOPPING=1")
                    with trio.CancelScope(shield=True):
                        await served.stop()
                tasks.cancel_scope.cancel()
    finally:
        state.close()


async def _live(served: Appliance) -> None:
    await served.start()
    async with trio.open_nursery() as serving:
        await serving.start(ControlServer(served).serve, served.root.control_socket)
        print("READY", flush=True)  # noqa: T201 - the promise to whoever started us
        sd_notify("READY=1")


async def _stop_at_signal(signals: AsyncIterator[int], life: trio.CancelScope) -> None:
    async for number in signals:
        log.info("%s: stopping", signal.Signals(number).name)
        life.cancel()
