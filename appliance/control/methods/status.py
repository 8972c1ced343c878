"""What runs, and on what machine."""

import os
import time
from dataclasses import asdict
from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import method
from fuse.volume import Volume


@method("status")
async def status(appliance: Appliance) -> dict[str, Any]:
    """Say how the appliance does: volumes, devices, sessions, what the last start repaired."""
    volumes = await appliance.aggregates.run(_volumes, appliance)
    live = appliance.state.live_sessions()
    return {
        "root": str(appliance.root.path),
        "pid": os.getpid(),
        "started": appliance.started,
        "uptime": round(time.time() - appliance.started, 1),
        "aggregates": len(appliance.aggregates.all()),
        "volumes": volumes,
        "drives": [drive.to_json() for drive in appliance.tapes.drives()],
        "sessions": len(live),
        "session_limit": appliance.sysconfig.session_limit,
        "restricted": await appliance.aggregates.run(_restricted, appliance),
        "recovered": asdict(appliance.recovered),
    }


def _volumes(appliance: Appliance) -> list[dict[str, Any]]:
    return [_volume(appliance, each) for each in appliance.aggregates.volumes_blocking()]


def _volume(appliance: Appliance, volume: Volume) -> dict[str, Any]:
    mount = appliance.mounts.describe(volume.name)
    return {"name": volume.name, "state": volume.metadata().state, "mount": mount["state"]}


def _restricted(appliance: Appliance) -> list[str]:
    return [
        f"/vol/{volume.name}/{lun.name}"
        for volume in appliance.aggregates.volumes_blocking()
        for lun in volume.luns.list()
        if lun.restricted_by
    ]


@method("sysconfig")
async def sysconfig(appliance: Appliance) -> dict[str, Any]:
    """Describe the machine: memory, processors, and the session limit that follows."""
    return asdict(appliance.sysconfig)
