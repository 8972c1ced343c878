"""Tape drives and libraries of a root, by the names that operators use.

Drives are numbered through all libraries: `rst0`, `rst1` ... with the prefix saying what
closing does (r rewinds, nr leaves the tape, ur unloads) and an optional density letter.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import trio

from appliance.libraries import Library, TapeDrive, wait_ready
from appliance.root import Root
from tape.actor import ChangerActor, DriveActor
from tape.drive import Drive
from tape.errors import DeviceNotFound, TapeError
from tape.names import MalformedName, OnClose, parse_drive
from tape.virtual.library import VirtualLibrary

log = logging.getLogger(__name__)

_ON_CLOSE = {OnClose.REWIND: "rewind", OnClose.NOTHING: "none", OnClose.UNLOAD: "unload"}


class Tapes:
    """The libraries below a root; `problems` says which could not be opened."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._drives: dict[str, TapeDrive] = {}
        self.libraries: dict[str, Library] = {}
        self.problems: list[str] = []

    async def open(self, torn: Collection[str] = ()) -> None:
        """Find the libraries, and close off the tapes in the drives `torn`, of killed dumps."""
        for path in sorted(self._root.libraries.iterdir()):
            try:
                found = await trio.to_thread.run_sync(VirtualLibrary.open, path)
            except TapeError as error:
                log.error("library %s: %s", path.name, error)
                self.problems.append(f"library {path.name}: {error}")
                continue
            self._add(path.name, found)
        plain = {self.drive(name).name for name in torn if self._known(name)}
        for drive in self._drives.values():
            await self._free(drive, torn=drive.name in plain)

    def _known(self, name: str) -> bool:
        try:
            return bool(self.drive(name))
        except DeviceNotFound:
            return False

    def _add(self, name: str, found: VirtualLibrary) -> None:
        path = str(found.path)
        changer = ChangerActor(
            f"mc{len(self.libraries)}", {"kind": "virtual", "library": path, "changer": 0}
        )
        library = self.libraries[name] = Library(name, found.path, changer)
        for number in range(found.config.drives):
            own = f"rst{len(self._drives)}"
            actor = DriveActor(own, {"kind": "virtual", "library": path, "drive": number})
            drive = TapeDrive(own, found.drive_serial(number), name, actor)
            self._drives[own] = library.drives[own] = drive

    async def close(self) -> None:
        """Let go of every device."""
        for drive in self._drives.values():
            await drive.actor.aclose()
        for library in self.libraries.values():
            await library.changer.aclose()

    def drives(self) -> list[TapeDrive]:
        """Give the drives in the order of their numbers."""
        return list(self._drives.values())

    def drive(self, name: str) -> TapeDrive:
        """Give a drive by any of its names; DeviceNotFound."""
        try:
            return self._drives[f"rst{parse_drive(name).number}"]
        except (MalformedName, KeyError):
            raise DeviceNotFound("tape device", name) from None

    def library(self, name: str | None) -> Library:
        """Give a library by its name or its changer's; the first one when none is named."""
        if name is None and self.libraries:
            return next(iter(self.libraries.values()))
        for library in self.libraries.values():
            if name in (library.name, library.changer.name):
                return library
        raise DeviceNotFound("library", name or "")

    def library_with(self, drive: TapeDrive) -> Library:
        """Give the library that a drive is in."""
        return self.libraries[drive.library]

    @asynccontextmanager
    async def lease(
        self, name: str, holder: str, torn: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[dict[str, Any]]:
        """Lend a drive with a cartridge in it to a worker process.

        Gives `device`, the description to open it from, and `on_close` as the name says. When
        `torn` says at the end that a writer did not finish, the tape is closed off. Raises
        DeviceNotFound, DeviceBusy, NoCartridge. The worker must have ended when the context
        is left.
        """
        drive = self.drive(name)
        await drive.actor.call(wait_ready, f"check for {holder}")
        async with drive.actor.lease(holder) as spec:
            yield {"device": spec, "on_close": _ON_CLOSE[parse_drive(name).on_close]}
        with trio.CancelScope(shield=True):
            await self._free(drive, torn=torn())

    async def _free(self, drive: TapeDrive, *, torn: bool) -> None:
        """Let the cartridge go: a worker that was killed may have left it held fast."""
        try:
            await drive.actor.call(_allow_removal, "release")
            if torn and await drive.actor.call(Drive.close_off, "close off a torn dump"):
                log.warning("drive %s: a filemark was written behind a torn dump", drive.name)
        except TapeError as error:
            log.warning("drive %s: %s", drive.name, error)


def _allow_removal(drive: Drive) -> None:
    drive.clear_attentions()
    drive.allow_removal()
