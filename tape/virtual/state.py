"""What a virtual drive remembers between commands, shared by every process that opens it.

The file `state` of a drive has two slots of 512 bytes. A change is written to the older
slot with a higher generation and a checksum, through a shared mapping: a process that is
killed half way leaves the other slot as it was, and a process that looks sees one of the
two. Changes are made while holding the drive's command lock.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import crc32c

from tape.virtual.boot import boot_hash

SLOT = 512
_MAGIC = b"SRdrive1"
_STATE = struct.Struct("<8sQBBBxIIIQQ32sQQQQ16s")
_MAX_ATTENTIONS = 8


class Loaded(IntEnum):
    """Where the cartridge of a drive is: nowhere, in its mouth, threaded."""

    EMPTY = 0
    UNLOADED = 1
    READY = 2


@dataclass(slots=True)
class DriveState:
    """A drive's state; `object` is the logical object number of the tape position.

    `insertions` counts cartridges put in and taken out, so that an opener sees a change.
    `attentions` are unit attentions that wait, (ASC, ASCQ). `alerts` has TapeAlert flag n
    in bit n-1. `written` and `read` count payload bytes since the cartridge was loaded.
    `boot` tells under which boot of the machine the drive was used last.
    """

    loaded: Loaded = Loaded.EMPTY
    prevented: bool = False
    compression: bool = True
    block_length: int = 0
    insertions: int = 0
    barcode: str = ""
    object: int = 0
    alerts: int = 0
    written: int = 0
    read: int = 0
    boot: int = 0
    attentions: list[tuple[int, int]] = field(default_factory=list)

    def attend(self, asc: int, ascq: int) -> None:
        """Let a unit attention wait, once."""
        if (asc, ascq) not in self.attentions and len(self.attentions) < _MAX_ATTENTIONS:
            self.attentions.append((asc, ascq))

    def encode(self, generation: int) -> bytes:
        """Give a slot's content."""
        codes = bytes(code for pair in self.attentions for code in pair)
        body = _STATE.pack(
            _MAGIC,
            generation,
            self.loaded,
            self.prevented,
            self.compression,
            self.block_length,
            self.insertions,
            len(self.attentions),
            self.object,
            self.alerts,
            self.barcode.encode("ascii"),
            self.written,
            self.read,
            self.boot,
            0,
            codes,
        )
        return body + crc32c.crc32c(body).to_bytes(4, "little")

    @classmethod
    def decode(cls, data: bytes) -> tuple[int, "DriveState"] | None:
        """Read a slot: its generation and state, or None when it was never written whole."""
        body = data[: _STATE.size]
        check = int.from_bytes(data[_STATE.size : _STATE.size + 4], "little")
        if len(body) < _STATE.size or body[:8] != _MAGIC or crc32c.crc32c(body) != check:
            return None
        values = _STATE.unpack(body)
        codes = values[15][: 2 * values[7]]
        return values[1], cls(
            loaded=Loaded(values[2]),
            prevented=bool(values[3]),
            compression=bool(values[4]),
            block_length=values[5],
            insertions=values[6],
            object=values[8],
            alerts=values[9],
            barcode=values[10].rstrip(b"\0").decode("ascii"),
            written=values[11],
            read=values[12],
            boot=values[13],
            attentions=list(zip(codes[::2], codes[1::2], strict=True)),
        )


class DriveBay:
    """The state of one drive in a directory, with the lock that orders commands on it."""

    def __init__(self, path: Path) -> None:
        """Open or make the state in the directory `path`."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = os.open(path / "command.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fd = os.open(path / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < 2 * SLOT:
                os.ftruncate(fd, 2 * SLOT)
            self._map = mmap.mmap(fd, 2 * SLOT)
        finally:
            os.close(fd)
        self._generation = -1
        self._state = DriveState()

    def close(self) -> None:
        """Let go of the files."""
        self._map.close()
        os.close(self._lock)

    @contextmanager
    def locked(self) -> Iterator[DriveState]:
        """Hold the drive for one command; the state given may be changed, then `save`d."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield self.load()
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def power_on(self) -> None:
        """Reset the drive when it was used last before the machine started anew."""
        boot = boot_hash()
        if self.load().boot == boot:  # a look needs no lock: a long command holds nobody up
            return
        with self.locked() as state:
            if state.boot == boot:
                return
            state.boot, state.object, state.block_length = boot, 0, 0
            state.prevented, state.compression = False, True
            state.attentions = [(0x29, 0x00)]
            self.save()

    def acquire(self) -> DriveState:
        """Hold the drive, as `locked` does; `release` lets go."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self.load()

    def release(self) -> None:
        """Let go of the drive."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def load(self) -> DriveState:
        """Give the newest state; the same object as before when nobody else changed it."""
        if self._generation >= 0 and self._newest() == self._generation:
            return self._state
        slots = [DriveState.decode(self._map[start : start + SLOT]) for start in (0, SLOT)]
        found = max((s for s in slots if s is not None), key=lambda s: s[0], default=None)
        self._generation, self._state = found or (0, DriveState())
        return self._state

    def _newest(self) -> int:
        start = SLOT * (self._generation & 1)
        mine = int.from_bytes(self._map[start + 8 : start + 16], "little")
        other = int.from_bytes(self._map[SLOT - start + 8 : SLOT - start + 16], "little")
        return max(mine, other)

    def save(self) -> None:
        """Write the state that `load` gave, as it has become."""
        self._generation += 1
        data = self._state.encode(self._generation)
        start = SLOT * (self._generation & 1)
        self._map[start : start + len(data)] = data
