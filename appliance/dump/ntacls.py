"""Stage 5 of a dump read back: NT ACLs, each stored once for all inodes that share it."""

import errno
import os

from appliance.dump import private
from appliance.dump.catalog import Catalog
from appliance.dump.destination import Destination
from appliance.dump.objectattributes import NTACL
from appliance.dump.private import Tag
from appliance.dump.stream import TapeObject, Warnings

_FULL = (errno.ENOSPC, errno.EDQUOT)


def restore(item: TapeObject, catalog: Catalog, target: Destination, warnings: Warnings) -> None:
    """Give all objects that were restored the ACLs that the ACL file holds for them.

    Raises StreamError for a file that is damaged, OSError when the volume is full.
    """
    content = item.read_packed()
    try:
        items = list(private.decode_chain(content))
        acls = [private.decode_acl(part.value) for part in items if part.tag == Tag.ACL]
    except private.MalformedPrivate as problem:
        raise catalog.error(f"the ACL file is damaged: {problem}") from None
    for part in items:
        if part.tag != Tag.ACL:
            warnings.add(f"tag {part.tag}", f"the ACL file has the unknown tag {part.tag}")
    for numbers, descriptor in acls:
        for number in numbers:
            _set(number, descriptor, catalog, target)


def _set(number: int, descriptor: bytes, catalog: Catalog, target: Destination) -> None:
    inode = target.known.get(number)
    if inode is None or number not in catalog.summary.dumped:
        return
    if number in catalog.directories:  # they get all their attributes at the end
        catalog.directories[number].attributes.xattrs[NTACL] = descriptor
        return
    names = target.selection.names_of(number)
    if not target.policy.keeps_acl(target.places.get(names[0].parent) if names else None):
        return
    try:
        fd = target.tree.open(inode, os.O_PATH | os.O_NOFOLLOW)
        try:
            os.setxattr(f"/proc/self/fd/{fd}", NTACL, descriptor)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _FULL and len(descriptor) < 4096:
            raise
        shown = os.fsdecode(catalog.path_of(number))
        target.files.lose("ntacl lost", f"{shown}: its NT ACL is lost: {error.strerror}")
    target.tree.invalidation.inode(inode)
