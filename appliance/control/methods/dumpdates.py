"""Dumpdates: what was dumped when, which later levels build on."""

import os
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from appliance.dump.dumpdates import DumpDate, DumpDates
from appliance.jobs import LEVELS, number
from appliance.paths import VolumePath
from fuse.volume import Volume


@method("dumpdates.list")
async def list_(appliance: Appliance, *, path: str | None = None) -> list[dict[str, Any]]:
    """List what was dumped when, of one dump path or of all."""
    place = None if path is None else VolumePath.parse(path)

    def collect() -> list[dict[str, Any]]:
        volumes = appliance.aggregates.volumes_blocking()
        if place is not None:
            volumes = [appliance.aggregates.volume_blocking(place.volume)]
        within = None if place is None else os.fsencode(place.relative)
        return [
            _describe(volume, entry)
            for volume in volumes
            for entry in _dates(volume).entries(within)
        ]

    return await appliance.aggregates.run(collect)


@method("dumpdates.forget")
async def forget(appliance: Appliance, *, path: str, level: int | None = None) -> dict[str, Any]:
    """Forget the dumps of a path, or one level: later levels start from what is left."""
    place = VolumePath.parse(path)
    if level is not None:
        number(level, "level", *LEVELS)
    count = await appliance.aggregates.on_volume(
        place.volume, lambda volume: _dates(volume).forget(os.fsencode(place.relative), level)
    )
    return {"path": str(place), "level": level, "forgotten": count}


def _dates(volume: Volume) -> DumpDates:
    return DumpDates(volume.aggregate.database(), volume.uuid)


def _describe(volume: Volume, entry: DumpDate) -> dict[str, Any]:
    return {
        "path": str(VolumePath(volume.name, os.fsdecode(entry.path))),
        "level": entry.level,
        "when": entry.snapshot_ns / 1e9,
        "recorded": entry.recorded,
        "snapshot": entry.snapshot,
        "generation": entry.generation,
        "dump_uuid": entry.dump_uuid,
        "format": entry.format,
    }
