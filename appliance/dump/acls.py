"""Phase V: Windows access control lists, each written once with the inodes that have it.

They travel in one unnamed file behind all others: a chain of private records with ACL items.
Only digests and inode numbers are kept meanwhile; a descriptor is read again when it is written.
"""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.dump import private
from appliance.dump.attributes import NTACL
from appliance.dump.private import Item
from appliance.dump.scan import Scan, Want

CHAIN_PIECE = 256 << 10
"""Bytes of items after which a private record of the chain is closed."""


@dataclass(slots=True)
class _Group:
    """The inodes of one descriptor: `first` a file system number, `inodes` those on tape."""

    first: int
    size: int
    inodes: "array[int]" = field(default_factory=lambda: array("I"))

    @property
    def item_size(self) -> int:
        return 4 + 4 * len(self.inodes) + self.size


class AccessControlLists:
    """Collects the descriptors of a dump while its inodes are written."""

    def __init__(self) -> None:
        self._groups: dict[bytes, _Group] = {}
        self.inodes = 0

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, number: int, tape: int, descriptor: bytes) -> None:
        """Note that an inode (number in the file system, on tape) has `descriptor`."""
        digest = hashlib.blake2b(descriptor, digest_size=24).digest()
        group = self._groups.get(digest)
        if group is None:
            group = self._groups[digest] = _Group(number, len(descriptor))
        group.inodes.append(tape)
        self.inodes += 1

    def _pieces(self) -> Iterator[list[_Group]]:
        piece: list[_Group] = []
        size = 0
        for group in sorted(self._groups.values(), key=lambda g: g.first):
            piece.append(group)
            size += group.item_size
            if size >= CHAIN_PIECE:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    def size(self) -> int:
        """Give the bytes of the ACL file."""
        return sum(
            private.encoded_size([group.item_size for group in piece]) for piece in self._pieces()
        )

    def chain(self, scan: Scan) -> Iterator[bytes]:
        """Yield the ACL file's private records. Raises OSError when the snapshot cannot be read."""
        for piece in self._pieces():
            wanted = {group.first: group for group in piece}
            items: list[Item] = []
            for inode in scan.inodes(Want.XATTRS, sorted(wanted)):
                group = wanted[inode.number]
                items.append(private.encode_acl(group.inodes, inode.xattrs[NTACL]))
            yield private.encode(items)
