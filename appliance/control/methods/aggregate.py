"""Aggregates: what volumes are made of."""

from pathlib import Path
from typing import Any

from appliance.aggregates import Source, image_source
from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.errors import UsageError
from appliance.sizes import parse_size
from fuse.aggregate import Aggregate
from fuse.source import DeviceSource, DirectorySource


@method("aggregate.create")
async def create(
    appliance: Appliance,
    *,
    name: str,
    size: str | int | None = None,
    device: str | None = None,
    directory: str | None = None,
) -> dict[str, Any]:
    """Make an aggregate on a sparse image of `size`, a block device, or an existing btrfs."""
    source = _source(appliance, name, size, device, directory)
    aggregate = await appliance.aggregates.create(name, source)
    return await appliance.aggregates.run(describe, aggregate)


def _source(
    appliance: Appliance,
    name: str,
    size: str | int | None,
    device: str | None,
    directory: str | None,
) -> Source:
    if [size, device, directory].count(None) != 2:
        raise UsageError("aggregate", "give one of size, device and directory")
    if size is not None:
        return image_source(appliance.root, name, parse_size(size))
    path = Path(device or directory or "")
    if not path.is_absolute():
        raise UsageError(f"path {path}", "give an absolute path")
    return DeviceSource(path) if device is not None else DirectorySource(path)


@method("aggregate.list")
async def list_(appliance: Appliance) -> list[dict[str, Any]]:
    """List the aggregates with their capacity."""
    aggregates = appliance.aggregates
    attached = [await aggregates.run(describe, aggregate) for aggregate in aggregates.all()]
    return attached + [
        {"name": name, "state": "failed", "reason": reason}
        for name, reason in sorted(aggregates.failures.items())
    ]


@method("aggregate.show")
async def show(appliance: Appliance, *, name: str) -> dict[str, Any]:
    """Show one aggregate and the volumes in it."""
    aggregate = appliance.aggregates.get(name)
    found = await appliance.aggregates.run(describe, aggregate)
    volumes = await appliance.aggregates.run(aggregate.volumes)
    return found | {"volumes": [volume.name for volume in volumes]}


def describe(aggregate: Aggregate) -> dict[str, Any]:
    """Give an aggregate as the API shows it; sizes in bytes."""
    capacity = aggregate.capacity()
    return {
        "name": aggregate.name,
        "state": "online",
        "uuid": aggregate.uuid,
        "path": str(aggregate.path),
        "size": capacity.total,
        "used": capacity.used,
        "available": capacity.available,
    }
