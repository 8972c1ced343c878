"""Qtrees."""

from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.paths import parse_qtree
from fuse.qtree import Qtree
from fuse.volume import Volume


@method("qtree.create")
async def create(
    appliance: Appliance, *, path: str, security_style: str | None = None, oplocks: bool = True
) -> dict[str, Any]:
    """Make a qtree, VOLUME/QTREE; without a style it has the volume's."""
    place = parse_qtree(path)

    def make(volume: Volume) -> dict[str, Any]:
        return describe(volume, volume.qtrees.create(place.relative, security_style, oplocks))

    found = await appliance.aggregates.on_volume(place.volume, make)
    await appliance.forget_name(place)
    return found


@method("qtree.list")
async def list_(appliance: Appliance, *, volume: str | None = None) -> list[dict[str, Any]]:
    """List the qtrees of a volume, or of all."""

    def collect() -> list[dict[str, Any]]:
        volumes = appliance.aggregates.volumes_blocking()
        if volume is not None:
            volumes = [appliance.aggregates.volume_blocking(volume)]
        return [describe(each, qtree) for each in volumes for qtree in each.qtrees.list()]

    return await appliance.aggregates.run(collect)


@method("qtree.delete")
async def delete(appliance: Appliance, *, path: str) -> dict[str, Any]:
    """Delete a qtree and all that is in it."""
    place = parse_qtree(path)
    await appliance.aggregates.on_volume(
        place.volume, lambda volume: volume.qtrees.delete(place.relative)
    )
    await appliance.forget_name(place)
    return {"path": str(place), "deleted": True}


def describe(volume: Volume, qtree: Qtree) -> dict[str, Any]:
    """Give a qtree as the API shows it."""
    style = qtree.metadata.security_style
    return {
        "volume": volume.name,
        "name": qtree.name,
        "path": f"/vol/{volume.name}/{qtree.name}",
        "id": qtree.id,
        "security_style": style or volume.metadata().security_style,
        "style_inherited": style is None,
        "oplocks": qtree.metadata.oplocks,
        "inode": qtree.inode,
    }
