"""Inode bitmaps of a dump stream: bit i - 1, least significant first, stands for inode i.

CLRI holds every inode in use, BITS every inode that is on the tape. Padded to 1 KiB.
Source: dump 0.4b, `dumpmap` and `usedinomap`.
"""

from collections.abc import Iterable, Iterator

BLOCK = 1024


class InodeMap:
    """A growing set of inode numbers from 1."""

    __slots__ = ("_bits",)

    def __init__(self, inodes: Iterable[int] = ()) -> None:
        self._bits = bytearray()
        for inode in inodes:
            self.add(inode)

    @classmethod
    def from_bytes(cls, data: bytes) -> "InodeMap":
        """Read a map as it stands on tape."""
        inodemap = cls()
        inodemap._bits = bytearray(data.rstrip(b"\0"))
        return inodemap

    def to_bytes(self, highest: int | None = None) -> bytes:
        """Give the map padded to 1 KiB, wide enough for inode `highest`; at least 1 KiB."""
        bits = bytes(self._bits.rstrip(b"\0"))
        size = max(len(bits), (max(highest or 1, 1) + 7) // 8)
        return bits.ljust(-(-size // BLOCK) * BLOCK, b"\0")

    def add(self, inode: int) -> None:
        """Put an inode in; raises ValueError below 1."""
        if inode < 1:
            raise ValueError(f"inode numbers start at 1, not {inode}")
        byte, bit = divmod(inode - 1, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(max(byte + 1 - len(self._bits), len(self._bits) // 2)))
        self._bits[byte] |= 1 << bit

    def discard(self, inode: int) -> None:
        """Take an inode out, if it is in."""
        byte, bit = divmod(inode - 1, 8)
        if 0 <= byte < len(self._bits):
            self._bits[byte] &= ~(1 << bit)

    def __contains__(self, inode: int) -> bool:
        byte, bit = divmod(inode - 1, 8)
        return 0 <= byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def __iter__(self) -> Iterator[int]:
        for byte, value in enumerate(self._bits):
            while value:
                low = value & -value
                yield byte * 8 + low.bit_length()
                value ^= low

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "little").bit_count()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InodeMap):
            return NotImplemented
        return self._bits.rstrip(b"\0") == other._bits.rstrip(b"\0")

    __hash__ = None  # type: ignore[assignment]

    @property
    def highest(self) -> int:
        """The highest inode in the map, 0 when it is empty."""
        bits = self._bits.rstrip(b"\0")
        return (len(bits) - 1) * 8 + bits[-1].bit_length() if bits else 0
