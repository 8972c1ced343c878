"""The DUMP item: what a stream says about its dump, as JSON in the directory file."""

import json
import uuid
from typing import Any

from appliance.dump.dumpdates import FORMAT, DumpDate
from appliance.dump.private import Item, Tag
from appliance.dump.request import DumpRequest
from fuse.metadata import VolumeMetadata
from fuse.snapshot import Snapshot


def describe_dump(
    request: DumpRequest,
    volume: VolumeMetadata,
    snapshot: Snapshot,
    root_kind: str,
    dump_uuid: uuid.UUID,
    base: DumpDate | None,
) -> Item:
    """Give the item; docs/stream-format.md lists its keys. Times are ns since 1970."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "dump_uuid": str(dump_uuid),
        "level": request.level,
        "path": request.path,
        "root_kind": root_kind,
        "qtree": request.relative.partition("/")[0] if root_kind == "qtree" else None,
        "volume": request.volume,
        "volume_uuid": volume.uuid,
        "security_style": volume.security_style,
        "vm_align_sector": volume.vm_align_sector,
        "volume_type": volume.type,
        "snapshot": snapshot.name,
        "snapshot_time": snapshot.created_ns,
        "base": None,
        "exclude": list(request.exclude),
        "acls": request.acls,
    }
    if base is not None:
        document["base"] = {
            "level": base.level,
            "dump_uuid": base.dump_uuid,
            "snapshot_time": base.snapshot_ns,
        }
    return Item(Tag.DUMP, json.dumps(document, sort_keys=True).encode())
