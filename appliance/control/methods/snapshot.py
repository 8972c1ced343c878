"""Snapshots and the locks that keep them."""

from dataclasses import asdict
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from fuse.snapshot import Snapshot
from fuse.volume import Volume


@method("snapshot.create")
async def create(appliance: Appliance, *, volume: str, name: str) -> dict[str, Any]:
    """Freeze a volume as it is."""

    def make(found: Volume) -> dict[str, Any]:
        return describe(found, found.snapshots.create(name))

    return await appliance.aggregates.on_volume(volume, make)


@method("snapshot.list")
async def list_(appliance: Appliance, *, volume: str) -> list[dict[str, Any]]:
    """List the snapshots of a volume, oldest first, with who locks them."""
    return await appliance.aggregates.on_volume(
        volume, lambda found: [describe(found, snapshot) for snapshot in found.snapshots.list()]
    )


@method("snapshot.rename")
async def rename(appliance: Appliance, *, volume: str, name: str, new: str) -> dict[str, Any]:
    """Rename a snapshot that nobody locks."""

    def change(found: Volume) -> dict[str, Any]:
        found.snapshots.rename(name, new)
        return describe(found, found.snapshots.get(new))

    return await appliance.aggregates.on_volume(volume, change)


@method("snapshot.delete")
async def delete(appliance: Appliance, *, volume: str, name: str) -> dict[str, Any]:
    """Delete a snapshot that nobody locks."""

    def change(found: Volume) -> int:
        subvolid = found.snapshots.get(name).subvolid
        found.snapshots.delete(name)
        return subvolid

    subvolid = await appliance.aggregates.on_volume(volume, change)
    await appliance.forget_snapshot(volume, subvolid)
    return {"volume": volume, "name": name, "deleted": True}


@method("snapshot.locks")
async def locks(
    appliance: Appliance, *, volume: str, name: str | None = None
) -> list[dict[str, Any]]:
    """List who keeps which snapshot of a volume since when."""

    def collect(found: Volume) -> list[dict[str, Any]]:
        if name is not None:
            found.snapshots.get(name)
        return [
            asdict(lock)
            for lock in found.snapshots.all_locks()
            if name is None or lock.snapshot == name
        ]

    return await appliance.aggregates.on_volume(volume, collect)


def describe(volume: Volume, snapshot: Snapshot) -> dict[str, Any]:
    """Give a snapshot as the API shows it; `created` in seconds since 1970."""
    return {
        "volume": volume.name,
        "name": snapshot.name,
        "created": snapshot.created_ns / 1e9,
        "subvolid": snapshot.subvolid,
        "generation": snapshot.generation,
        "uuid": snapshot.uuid,
        "locked_by": list(volume.snapshots.locks(snapshot.name)),
    }
