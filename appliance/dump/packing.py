"""Headers of inodes packed fast: everything that is the same in a whole dump is packed once.

Gives byte for byte what `record.encode` gives. Only the words that change are summed, those of
the constant part and of the common address maps having been summed before.
"""

import struct

from appliance.dump.record import (
    BLOCK,
    CHECKSUM,
    EXTENSION_MAGIC,
    EXTENSION_VERSION,
    MAGIC,
    MAX_SEGMENT,
    UNKNOWN_TIME,
    Extent,
    Flag,
    Header,
    Part,
    RecordType,
    checksum,
    encode,
    encode_device,
)
from appliance.dump.scan import ScannedInode

_HEAD = struct.Struct("<iIIiIIiIHHHHQIIIIIII56xIIIII8xI")  # bytes 0 to 164
_EXTENSION = struct.Struct("<4sHHQqqqqQ64x")  # bytes 904 to 1024
_CONSTANT = slice(676, 904)
_LOW_LANES = int.from_bytes((b"\xff" * 4 + bytes(4)) * 32, "little")
_LANE = (1 << 64) - 1
_LATEST = (1 << 63) - 1

FULL = tuple((b"\1" * n).ljust(MAX_SEGMENT, b"\0") for n in range(MAX_SEGMENT + 1))
"""Address maps of n blocks without a hole, by n."""
HOLES = FULL[0]
"""An address map of holes only."""


def _sum(words: bytes) -> int:
    """Add up to 256 bytes of 32-bit words; pairwise in lanes of 64 bits, see record.checksum."""
    number = int.from_bytes(words, "little")
    lanes = (number & _LOW_LANES) + (number >> 32 & _LOW_LANES)
    return lanes % _LANE


def _sum_addresses(addresses: bytes) -> int:
    return _sum(addresses[:256]) + _sum(addresses[256:])


_FULL_SUMS = {addresses: _sum_addresses(addresses) for addresses in FULL}


class HeaderPacker:
    """Packs INODE and ADDR headers of one dump; `template` tells dates, level, names and so on.

    `far_times` are the tape inodes with a time that 64 bits of ns cannot say, before 1677 or
    after 2262: they get the nearest that can be said.
    """

    def __init__(self, template: Header) -> None:
        self._template = template
        self.far_times: set[int] = set()
        self._constants = {
            extent: self._constant(extent)
            for extent in (Extent.REGULAR, Extent.XATTR, Extent.PRIVATE)
        }

    def _constant(self, extent: Extent) -> tuple[bytes, int]:
        t = self._template
        flags = t.flags if extent is Extent.REGULAR else t.flags | Flag.EXTENDED_ATTRIBUTES
        block = encode(
            Header(
                type=RecordType.INODE, label=t.label, level=t.level, filesystem=t.filesystem,
                device=t.device, host=t.host, flags=flags, first_record=t.first_record,
                blocking_factor=t.blocking_factor, extended=extent,
            )
        )  # fmt: skip
        part = block[_CONSTANT]
        return part, checksum(part.ljust(BLOCK, b"\0"))

    def pack(
        self,
        kind: RecordType,
        tapea: int,
        number: int,
        inode: ScannedInode,
        count: int,
        addresses: bytes,
        *,
        size: int | None = None,
        extent: Extent = Extent.REGULAR,
        part: Part | int = 0,
        created: int | None = None,
    ) -> bytes:
        """Give the header of tape inode `number` that announces `count` blocks.

        `addresses` has 512 bytes; `size` and `created` stand in for the inode's.
        """
        t = self._template
        accessed, modified, changed = inode.accessed, inode.modified, inode.changed
        atime, atime_ns = divmod(accessed, 1_000_000_000)
        mtime, mtime_ns = divmod(modified, 1_000_000_000)
        ctime, ctime_ns = divmod(changed, 1_000_000_000)
        links, uid, gid = min(inode.links, 0xFFFF), inode.uid, inode.gid
        values = (
            t.base_date, t.volume, tapea & 0xFFFFFFFF, number, MAGIC, 0,
            inode.mode, links, uid & 0xFFFF, gid & 0xFFFF,
            inode.size if size is None else size,
            atime & 0xFFFFFFFF, atime_ns // 1000, mtime & 0xFFFFFFFF, mtime_ns // 1000,
            ctime & 0xFFFFFFFF, ctime_ns // 1000,
            encode_device(inode.device) if inode.device else 0,
            inode.flags, max(inode.blocks, 0) & 0xFFFFFFFF, inode.generation & 0xFFFFFFFF,
            uid, gid, count,
        )  # fmt: skip
        head = _HEAD.pack(kind, t.date, *values)
        born = inode.created if created is None else created
        times = (accessed, modified, changed, born or UNKNOWN_TIME)
        fixed = (EXTENSION_MAGIC, EXTENSION_VERSION, part, tapea)
        try:
            extension = _EXTENSION.pack(*fixed, *times, inode.number)
        except struct.error:
            self.far_times.add(number)
            extension = _EXTENSION.pack(*fixed, *map(_nearest, times), inode.number)
        constant, total = self._constants[extent]
        map_sum = _FULL_SUMS.get(addresses)
        total += _sum_addresses(addresses) if map_sum is None else map_sum
        total += _sum(head) + _sum(extension)
        word = (CHECKSUM - total) & 0xFFFFFFFF
        return b"".join(
            (head[:28], word.to_bytes(4, "little"), head[32:], addresses, constant, extension)
        )


def _nearest(time: int) -> int:
    if time == UNKNOWN_TIME:
        return time
    return max(min(time, _LATEST), -_LATEST)
