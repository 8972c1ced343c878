"""The directory file: what directories have that restore(8) does not know, and the DUMP item.

restore(8) loops for ever on a private record behind a directory, so all of them travel in one
unnamed file between directories and files, whose tape inode is 1: no file of a dump has that
number, and a file with a lower number than the one expected is passed over by restore(8).
Only numbers and sizes are kept while directories are written; attributes are read again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.dump import private
from appliance.dump.attributes import Attributes, sort_attributes
from appliance.dump.private import Item
from appliance.dump.scan import Numbering, Scan, Want

TAPE_INODE = 1
CHAIN_PIECE = 256 << 10
_INODE_ITEM_SIZE = 4


@dataclass(frozen=True, slots=True)
class _Owner:
    number: int
    sizes: tuple[int, ...]


class DirectoryFile:
    """Collects which directories have private items; `dump_item` comes first in the file."""

    def __init__(self, dump_item: Item, numbering: Numbering) -> None:
        self._dump_item = dump_item
        self._numbering = numbering
        self._owners: list[_Owner] = []

    def add(self, number: int, attributes: Attributes) -> None:
        """Note that a directory (its file system number) has `attributes`."""
        if attributes.items:
            sizes = tuple(len(item.value) for item in attributes.items)
            self._owners.append(_Owner(number, (_INODE_ITEM_SIZE, *sizes)))

    def _pieces(self) -> Iterator[list[_Owner]]:
        piece: list[_Owner] = []
        size = 0
        for owner in self._owners:
            piece.append(owner)
            size += sum(owner.sizes)
            if size >= CHAIN_PIECE:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    def size(self) -> int:
        """Give the bytes of the file."""
        total = private.encoded_size([len(self._dump_item.value)])
        for piece in self._pieces():
            total += private.encoded_size([size for owner in piece for size in owner.sizes])
        return total

    def chain(self, scan: Scan) -> Iterator[bytes]:
        """Yield the private records. Raises OSError when the snapshot cannot be read."""
        yield private.encode([self._dump_item])
        for piece in self._pieces():
            items: list[Item] = []
            for owner in piece:  # the root comes first, whatever its number
                for inode in scan.inodes(Want.XATTRS, [owner.number]):
                    items.append(private.encode_inode(self._numbering.tape(inode.number)))
                    items.extend(sort_attributes(inode.xattrs).items)
            yield private.encode(items)
