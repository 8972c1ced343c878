"""Which extended attributes of a tape an object gets in its place.

| attribute on tape             | what becomes of it                                          |
|-------------------------------|-------------------------------------------------------------|
| `security.NTACL`              | kept in `ntfs` and `mixed` places, dropped in `unix` ones   |
| `trusted.snapreel.vmalign`    | replaced by the destination volume's                        |
| `trusted.snapreel.lun`        | LunKeeper decides                                           |
| `trusted.snapreel.qtree`      | Placer decides                                              |
| others of the project         | dropped: they are about the volume the tape came from       |
| `trusted.snapreel.crtime`     | made from the creation time in the inode's header           |
| any other                     | kept                                                        |
"""

from appliance.dump.objectattributes import NTACL, created_value
from appliance.dump.placing import Place
from appliance.dump.private import Item, MalformedPrivate, Tag, decode_xattr
from appliance.dump.record import Inode
from appliance.dump.stream import Attributes, Warnings
from fuse.metadata import CRTIME, PREFIX, VMALIGN

_OWN = PREFIX.encode()


class AttributePolicy:
    """Sorts the attributes of a tape for one destination volume."""

    def __init__(self, warnings: Warnings, vm_align_sector: int, *, acls: bool) -> None:
        self._warnings = warnings
        self._vm_align = vm_align_sector
        self._acls = acls

    def collect(
        self, inode: Inode, found: Attributes, place: Place | None
    ) -> tuple[dict[bytes, bytes], bool]:
        """Give the attributes to set on an object in `place`, and whether some are lost."""
        xattrs = dict(found.xattrs)
        lost = found.lost
        for item in found.items:
            lost |= not self._take(item, xattrs)
        aligned = VMALIGN.encode() in xattrs
        kept = {name: v for name, v in xattrs.items() if not name.startswith(_OWN)}
        if NTACL in kept and not self.keeps_acl(place):
            del kept[NTACL]
        if aligned and self._vm_align:
            kept[VMALIGN.encode()] = b"%d" % self._vm_align
        created = created_value(inode)
        if created is not None:
            kept[CRTIME.encode()] = created
        return kept, lost

    def _take(self, item: Item, xattrs: dict[bytes, bytes]) -> bool:
        """Put an item of the private record among the attributes; False when it is lost."""
        if item.tag == Tag.XATTR:
            try:
                name, value = decode_xattr(item.value)
            except MalformedPrivate as problem:
                self._warnings.add("item", f"an attribute is lost: {problem}")
                return False
            xattrs[name] = value
        elif item.tag not in (Tag.DUMP, Tag.ACL):
            text = f"private items with the unknown tag {item.tag} are skipped"
            self._warnings.add(f"tag {item.tag}", text)
            return not item.required
        return True

    def keeps_acl(self, place: Place | None) -> bool:
        """Whether an object in `place` gets its NT ACL."""
        if not self._acls:
            return False
        if place is None or place.style != "unix":
            return True
        text = "NT ACLs are not restored where the security style is unix"
        self._warnings.add("ntacl", text)
        return False
