"""LUNs: made, shown, cloned, resized, deleted, and set free after an interrupted restore."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.errors import Refused, UsageError
from appliance.paths import VolumePath
from appliance.sizes import parse_size
from fuse.lun import Lun
from fuse.volume import Volume


@method("lun.create")
async def create(
    appliance: Appliance,
    *,
    path: str,
    size: str | int,
    ostype: str = "linux",
    reserved: bool = False,
    comment: str = "",
) -> dict[str, Any]:
    """Make a LUN at /vol/VOLUME[/QTREE]/NAME; sparse unless reserved."""
    place, length = _place(path), parse_size(size)
    return await _change(
        appliance,
        place,
        lambda volume: volume.luns.create(place.relative, length, ostype, reserved, comment),
    )


@method("lun.list")
async def list_(appliance: Appliance, *, volume: str | None = None) -> list[dict[str, Any]]:
    """List the LUNs of a volume, or of all."""

    def collect() -> list[dict[str, Any]]:
        volumes = appliance.aggregates.volumes_blocking()
        if volume is not None:
            volumes = [appliance.aggregates.volume_blocking(volume)]
        return [describe(each.name, lun) for each in volumes for lun in each.luns.list()]

    return await appliance.aggregates.run(collect)


@method("lun.show")
async def show(appliance: Appliance, *, path: str) -> dict[str, Any]:
    """Show one LUN."""
    place = _place(path)
    return await appliance.aggregates.on_volume(
        place.volume, lambda volume: describe(volume.name, volume.luns.get(place.relative))
    )


@method("lun.clone")
async def clone(
    appliance: Appliance, *, source: str, path: str, snapshot: str | None = None
) -> dict[str, Any]:
    """Make a LUN with the data of another of the same volume, as it is or was in a snapshot."""
    origin, place = _place(source), _place(path)
    if origin.volume != place.volume:
        raise UsageError("lun clone", "both LUNs must be in the same volume")
    return await _change(
        appliance,
        place,
        lambda volume: volume.luns.clone(origin.relative, place.relative, snapshot),
    )


@method("lun.resize")
async def resize(
    appliance: Appliance, *, path: str, size: str | int, shrink: bool = False
) -> dict[str, Any]:
    """Give a LUN another size; cutting off data must be asked for with shrink."""
    place, length = _place(path), parse_size(size)
    return await _change(
        appliance, place, lambda volume: volume.luns.resize(place.relative, length, shrink)
    )


@method("lun.delete")
async def delete(appliance: Appliance, *, path: str) -> dict[str, Any]:
    """Delete a LUN."""
    place = _place(path)
    await appliance.aggregates.on_volume(
        place.volume, lambda volume: volume.luns.delete(place.relative)
    )
    await appliance.forget_name(place)
    return {"path": str(place), "deleted": True}


@method("lun.unrestrict")
async def unrestrict(appliance: Appliance, *, path: str, confirmed: bool) -> dict[str, Any]:
    """Give a LUN back to its clients although the restore that wrote it did not end.

    Its data may be part old and part restored, so the operator must confirm; refused while
    the session still runs.
    """
    place = _place(path)
    found = await appliance.aggregates.on_volume(
        place.volume, lambda volume: volume.luns.get(place.relative)
    )
    _require_stale(appliance, place, found)
    if not confirmed:
        raise Refused(
            f"lun {place}", f"it was half restored by {found.restricted_by}; confirm with --yes"
        )
    await appliance.aggregates.on_volume(
        place.volume, lambda volume: volume.restrictions.lift(found.inode)
    )
    await appliance.lift(place.volume, found.inode)
    return await show(appliance, path=path)


def _require_stale(appliance: Appliance, place: VolumePath, lun: Lun) -> None:
    if not lun.restricted_by:
        raise Refused(f"lun {place}", "it is not restricted")
    for session in appliance.sessions.on_volume(place.volume):
        if lun.restricted_by == f"session {session.id}":
            raise Refused(f"lun {place}", f"session {session.id} is still restoring it")


def _place(path: str) -> VolumePath:
    return VolumePath.parse(path).inside("LUN")


async def _change(
    appliance: Appliance, place: VolumePath, call: Callable[[Volume], Lun]
) -> dict[str, Any]:
    lun = await appliance.aggregates.on_volume(place.volume, call)
    await appliance.forget_name(place, lun.inode)
    return describe(place.volume, lun)


def describe(volume: str, lun: Lun) -> dict[str, Any]:
    """Give a LUN as the API shows it; `size` and `used` in bytes."""
    return asdict(lun.metadata) | {
        "volume": volume,
        "name": lun.name,
        "path": f"/vol/{volume}/{lun.name}",
        "inode": lun.inode,
        "used": lun.used,
        "restricted_by": lun.restricted_by,
        "consistent": lun.consistent,
        "advice": _advice(volume, lun),
    }


def _advice(volume: str, lun: Lun) -> str:
    if not lun.restricted_by:
        return ""
    return f"restore it again, or lift with: snapreel lun unrestrict /vol/{volume}/{lun.name} --yes"
