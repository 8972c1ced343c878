"""Volumes: made, shown, changed, taken offline and back, mounted, deleted."""

from dataclasses import asdict
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.errors import Refused, UsageError
from appliance.sizes import parse_size
from fuse.errors import AlreadyExists, Busy, NotFound
from fuse.volume import Volume


@method("volume.create")
async def create(
    appliance: Appliance,
    *,
    name: str,
    aggregate: str = "",
    size: str | int = 0,
    files: int = 0,
    security_style: str = "unix",
    comment: str = "",
) -> dict[str, Any]:
    """Make a volume and mount it; size and files are limits, 0 for none."""
    where = appliance.aggregates.default(aggregate)
    limit = parse_size(size)

    def make() -> Volume:
        # Clients see all volumes side by side, so a name is taken whatever aggregate has it.
        try:
            appliance.aggregates.volume_blocking(name)
        except NotFound:
            return where.create_volume(name, limit, files, security_style, comment)
        raise AlreadyExists("volume", name)

    async with appliance.changing(name):
        volume = await appliance.aggregates.run(make)
        await appliance.mounts.mount(name, where.path)
        return await _describe(appliance, volume)


@method("volume.list")
async def list_(appliance: Appliance) -> list[dict[str, Any]]:
    """List the volumes with their use and state."""
    return [await _describe(appliance, v) for v in await appliance.aggregates.volumes()]


@method("volume.show")
async def show(appliance: Appliance, *, name: str) -> dict[str, Any]:
    """Show one volume."""
    return await _describe(appliance, await appliance.aggregates.volume(name))


@method("volume.modify")
async def modify(
    appliance: Appliance,
    *,
    name: str,
    size: str | int | None = None,
    files: int | None = None,
    security_style: str | None = None,
    comment: str | None = None,
    snapdir: bool | None = None,
    vm_align_sector: int | None = None,
) -> dict[str, Any]:
    """Change a volume's limits, style, comment, .snapshot visibility or vm-align sector."""
    asked: dict[str, Any] = {
        "size": None if size is None else parse_size(size),
        "files": files,
        "security_style": security_style,
        "comment": comment,
        "snapdir": snapdir,
        "vm_align_sector": vm_align_sector,
    }
    changes = {field: value for field, value in asked.items() if value is not None}
    if not changes:
        raise UsageError("volume modify", "say what to change")
    async with appliance.changing(name):
        await appliance.aggregates.on_volume(name, lambda volume: volume.modify(**changes))
        return await show(appliance, name=name)


@method("volume.offline")
async def offline(appliance: Appliance, *, name: str) -> dict[str, Any]:
    """Take a volume from its clients until `volume.online`; refused while a session uses it."""
    async with appliance.changing(name):
        await appliance.aggregates.volume(name)
        with appliance.sessions.kept_off(name, "volume offline"):
            await appliance.mounts.unmount(name)
            await appliance.aggregates.on_volume(
                name, lambda volume: volume.modify(state="offline")
            )
        return await show(appliance, name=name)


@method("volume.online")
async def online(appliance: Appliance, *, name: str) -> dict[str, Any]:
    """Give a volume back to its clients."""
    async with appliance.changing(name):
        await appliance.aggregates.on_volume(name, lambda volume: volume.modify(state="online"))
        return await _mount(appliance, name)


@method("volume.mount")
async def mount(appliance: Appliance, *, name: str) -> dict[str, Any]:
    """Mount a volume that is online and was unmounted."""
    async with appliance.changing(name):
        state = await _state(appliance, name)
        if state != "online":
            raise Refused(f"volume {name}", f"it is {state}; bring it online instead")
        return await _mount(appliance, name)


async def _state(appliance: Appliance, name: str) -> str:
    return await appliance.aggregates.on_volume(name, lambda volume: volume.metadata().state)


async def _mount(appliance: Appliance, name: str) -> dict[str, Any]:
    volume = await appliance.aggregates.volume(name)
    await appliance.mounts.mount(name, volume.aggregate.path)
    return await _describe(appliance, volume)


@method("volume.unmount")
async def unmount(appliance: Appliance, *, name: str) -> dict[str, Any]:
    """Unmount a volume until `volume.mount` or the next start; dumps of it go on."""
    async with appliance.changing(name):
        volume = await appliance.aggregates.volume(name)
        await appliance.mounts.unmount(name)
        return await _describe(appliance, volume)


@method("volume.delete")
async def delete(appliance: Appliance, *, name: str, force: bool = False) -> dict[str, Any]:
    """Delete a volume and its snapshots; refused while anything uses it.

    Unless forced, the volume must be offline first, so that no slip of the hand destroys one
    that clients work with.
    """
    async with appliance.changing(name):
        volume = await appliance.aggregates.volume(name)
        with appliance.sessions.kept_off(name, "volume delete"):
            if not force and await _state(appliance, name) == "online":
                raise Refused(
                    f"volume {name}",
                    "it is online; take it offline first, or say --force to delete it",
                )
            await _require_unlocked(appliance, volume)
            await appliance.mounts.unmount(name)
            await appliance.aggregates.run(volume.aggregate.delete_volume, name)
    return {"name": name, "deleted": True}


async def _require_unlocked(appliance: Appliance, volume: Volume) -> None:
    for lock in await appliance.aggregates.run(volume.snapshots.all_locks):
        raise Busy("volume", volume.name, f"snapshot {lock.snapshot}, locked by {lock.owner}")


async def _describe(appliance: Appliance, volume: Volume) -> dict[str, Any]:
    found = await appliance.aggregates.run(_describe_blocking, volume)
    return found | {"mount": appliance.mounts.describe(volume.name)}


def _describe_blocking(volume: Volume) -> dict[str, Any]:
    data, usage = volume.metadata(), volume.usage()
    found = asdict(data) | asdict(usage)
    found.pop("next_qtree_id")
    return found | {
        "name": volume.name,
        "aggregate": volume.aggregate.name,
        "path": f"/vol/{volume.name}",
        "subvolid": volume.subvolid,
        "snapshots": len(volume.snapshots.list()),
    }
