"""How the extended attributes of an inode travel: sorted by the place they take in the stream.

| attribute                            | place                                             |
|--------------------------------------|---------------------------------------------------|
| `security.NTACL`                     | phase V, once for all inodes that share it        |
| `trusted.snapreel.crtime`            | the header's creation time                        |
| `trusted.snapreel.volume`            | the DUMP item on the root                         |
| `trusted.snapreel.restricted`        | none: such an object is not dumped                |
| `trusted.snapreel.junction`          | none: the directory travels as a symbolic link    |
| others below `trusted.snapreel.`     | the private record                                |
| POSIX ACLs, user, trusted, security  | records that restore(8) reads, where they fit     |
| anything else                        | the private record                                |
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.dump import extattr, private
from appliance.dump.private import Item
from appliance.dump.record import Part
from fuse import metadata
from fuse.metadata import LunMetadata, MalformedMetadata

NTACL = b"security.NTACL"
LUN = metadata.LUN.encode()
JUNCTION = metadata.JUNCTION.encode()
RESTRICTED = metadata.RESTRICTED.encode()
_CRTIME = metadata.CRTIME.encode()
_PREFIX = metadata.PREFIX.encode()
_ELSEWHERE = (metadata.VOLUME.encode(), RESTRICTED, JUNCTION)


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of one inode: `records` for restore(8), `items` for the private record.

    `descriptor` is the value of security.NTACL; `created` in ns, None where nothing is stored.
    """

    records: tuple[bytes, ...] = ()
    items: tuple[Item, ...] = ()
    descriptor: bytes | None = None
    created: int | None = None
    part: int = 0


NONE = Attributes()


def sort_attributes(xattrs: Mapping[bytes, bytes]) -> Attributes:
    """Sort the attributes of an inode."""
    if not xattrs:
        return NONE
    plain: dict[bytes, bytes] = {}
    items: list[Item] = []
    descriptor: bytes | None = None
    created: int | None = None
    for name, value in xattrs.items():
        if name in _ELSEWHERE:
            continue
        if name == NTACL:
            descriptor = value
        elif name == _CRTIME and (decimal := _decimal(value)) is not None:
            created = decimal
        elif name.startswith(_PREFIX):
            items.append(private.encode_xattr(name, _independent(name, value)))
        else:
            plain[name] = value
    records, left = extattr.encode(plain)
    items.extend(private.encode_xattr(name, value) for name, value in left.items())
    part = int(Part.LUN) if LUN in xattrs else 0
    return Attributes(tuple(records), tuple(items), descriptor, created, part)


def _decimal(value: bytes) -> int | None:
    try:
        return int(value)
    except ValueError:
        return None


def _independent(name: bytes, value: bytes) -> bytes:
    """Make a LUN clone's attribute that of an independent LUN."""
    lun = read_lun(value) if name == LUN else None
    if lun is None or not lun.backing_snapshot:
        return value
    return replace(lun, backing_snapshot="").encode()


def read_lun(value: bytes) -> LunMetadata | None:
    """Read a LUN's attribute; None when it is damaged, it travels as it is then."""
    try:
        return LunMetadata.decode(value)
    except MalformedMetadata:
        return None
