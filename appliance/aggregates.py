"""The aggregates of a root, attached while `serve` runs; one storage call at a time.

Storage calls block, so they run in a thread; they run one after the other, so that no two of
them meet in an aggregate's database or in the middle of a change of several steps.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import trio

from appliance.errors import Refused
from appliance.root import Root
from fuse.aggregate import Aggregate
from fuse.errors import AlreadyExists, NotFound, StorageError
from fuse.source import DeviceSource, DirectorySource, ImageSource
from fuse.volume import Volume

log = logging.getLogger(__name__)

Source = ImageSource | DeviceSource | DirectorySource
P = ParamSpec("P")
T = TypeVar("T")


class Aggregates:
    """Every aggregate of `root`; `failures` says why one could not be attached."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._attached: dict[str, Aggregate] = {}
        self._limiter = trio.CapacityLimiter(1)
        self.failures: dict[str, str] = {}

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a storage call in a thread, after those before it; never cut in the middle."""
        return await trio.to_thread.run_sync(
            functools.partial(call, *args, **kwargs), limiter=self._limiter
        )

    async def attach_all(self) -> None:
        """Attach what the root lists; one that fails is noted, and the others go on."""
        for aggregate in await self.run(Aggregate.list, self._root.path):
            try:
                await self.run(aggregate.attach)
            except (StorageError, OSError) as error:
                log.error("aggregate %s: %s", aggregate.name, error)
                self.failures[aggregate.name] = str(error)
            else:
                self._attached[aggregate.name] = aggregate

    async def detach_all(self) -> None:
        """Detach every aggregate; what is still in use is logged and left to the kernel."""
        for aggregate in self._attached.values():
            try:
                await self.run(aggregate.detach)
            except (StorageError, OSError) as error:
                log.error("aggregate %s: %s", aggregate.name, error)
        self._attached.clear()

    async def create(self, name: str, source: Source) -> Aggregate:
        """Make and attach an aggregate."""
        if name in self.failures:
            raise AlreadyExists("aggregate", name)
        aggregate = await self.run(Aggregate.create, self._root.path, name, source)
        self._attached[name] = aggregate
        return aggregate

    def all(self) -> list[Aggregate]:
        """Give the attached aggregates by name."""
        return [self._attached[name] for name in sorted(self._attached)]

    def get(self, name: str) -> Aggregate:
        """Give an attached aggregate; NotFound, or Refused when it could not be attached."""
        if name in self.failures:
            raise Refused(f"aggregate {name}", f"it is not attached: {self.failures[name]}")
        try:
            return self._attached[name]
        except KeyError:
            raise NotFound("aggregate", name) from None

    def default(self, name: str) -> Aggregate:
        """Give the aggregate that is meant when none is named: the only one there is."""
        if name:
            return self.get(name)
        if len(self._attached) != 1:
            names = ", ".join(sorted(self._attached)) or "none"
            raise Refused("aggregate", f"say which one with --aggregate; there are: {names}")
        return next(iter(self._attached.values()))

    async def volumes(self) -> list[Volume]:
        """Give every volume of every aggregate."""
        return await self.run(self.volumes_blocking)

    def volumes_blocking(self) -> list[Volume]:
        """The same, for use within one storage call."""
        return [volume for aggregate in self.all() for volume in aggregate.volumes()]

    def volume_blocking(self, name: str) -> Volume:
        """Give a volume by name, within one storage call; NotFound when no aggregate has it."""
        for aggregate in self.all():
            try:
                return aggregate.volume(name)
            except NotFound:
                continue
        raise NotFound("volume", name)

    async def volume(self, name: str) -> Volume:
        """Give a volume by name, which is unique among all aggregates."""
        return await self.run(self.volume_blocking, name)

    async def on_volume(self, name: str, call: Callable[[Volume], T]) -> T:
        """Run `call(volume)` as one storage call."""
        return await self.run(lambda: call(self.volume_blocking(name)))


def image_source(root: Root, name: str, size: int) -> ImageSource:
    """Give the sparse image that stands behind an aggregate by default."""
    return ImageSource(Path(root.image(name)), size)
