"""The symbol table of an increment chain: which object of the target each tape inode is.

    "SNPRSYMT" | u32 version | u32 length of the JSON | u64 count | JSON
    | count x u32 tape inode | count x u64 target inode | u32 crc32c of all before

Little-endian, tape inodes ascending. A complete restore leaves it as `restore_symboltable` in
the directory that it restored to; an incremental restore needs it, and writes the next one.
"""

import json
import os
import stat
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from crc32c import crc32c

FILE_NAME = b"restore_symboltable"
MAGIC = b"SNPRSYMT"
VERSION = 1
_HEAD = struct.Struct("<8sIIQ")
_NEW = b"restore_symboltable.new"


class MalformedTable(ValueError):
    """The file is no symbol table, of a later version, or damaged."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far an increment chain has been restored into a directory.

    Dates are seconds since 1970 as in headers, `snapshot_time` ns where the tape tells.
    `dump_uuid` and `volume_uuid` are hex, of the last tape; `tree` is the identity of the
    subvolume, `root` the inode of the directory in it.
    """

    date: int
    base_date: int
    level: int
    snapshot_time: int = 0
    dump_uuid: str = ""
    volume_uuid: str = ""
    dump_path: str = ""
    tree: str = ""
    root: int = 0


def encode(state: ChainState, targets: Mapping[int, int]) -> bytes:
    """Give the bytes of a table."""
    numbers = sorted(targets)
    keys = array("I", numbers)
    values = array("Q", (targets[number] for number in numbers))
    _to_little(keys)
    _to_little(values)
    meta = json.dumps(asdict(state), sort_keys=True).encode()
    head = _HEAD.pack(MAGIC, VERSION, len(meta), len(keys))
    body = b"".join((head, meta, keys.tobytes(), values.tobytes()))
    return body + struct.pack("<I", crc32c(body))


def _to_little(numbers: "array[int]") -> None:
    if sys.byteorder == "big":
        numbers.byteswap()


def decode(content: bytes) -> tuple[ChainState, dict[int, int]]:
    """Read a table; raises MalformedTable."""
    if len(content) < _HEAD.size + 4 or content[:8] != MAGIC:
        raise MalformedTable("it is no symbol table")
    _, version, length, count = _HEAD.unpack_from(content)
    if version != VERSION:
        raise MalformedTable(f"it has version {version}, this program reads {VERSION}")
    body, total = content[:-4], struct.unpack("<I", content[-4:])[0]
    if len(body) != _HEAD.size + length + 12 * count or crc32c(body) != total:
        raise MalformedTable("its checksum is wrong")
    start = _HEAD.size + length
    state = _decode_state(content[_HEAD.size : start])
    keys, values = array("I"), array("Q")
    keys.frombytes(body[start : start + 4 * count])
    values.frombytes(body[start + 4 * count :])
    _to_little(keys)
    _to_little(values)
    return state, dict(zip(keys, values, strict=True))


def _decode_state(meta: bytes) -> ChainState:
    try:
        data = json.loads(meta)
        known = {f.name for f in fields(ChainState)}
        return ChainState(**{name: value for name, value in data.items() if name in known})
    except (ValueError, TypeError, AttributeError) as problem:
        raise MalformedTable(f"its description is damaged: {problem}") from None


def load(directory: int) -> tuple[ChainState, dict[int, int]] | None:
    """Read the table in a directory, given as a descriptor; None when there is none.

    Raises MalformedTable, OSError.
    """
    try:
        fd = os.open(FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_uid != 0 or status.st_mode & 0o077 or not stat.S_ISREG(status.st_mode):
            raise MalformedTable("it is not root's alone, so anybody may have written it")
        return decode(file.read())


def prepare(directory: int, state: ChainState, targets: Mapping[int, int]) -> None:
    """Write a table beside the present one, safe on disk. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_NEW, flags, 0o600, dir_fd=directory)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(encode(state, targets))
        file.flush()
        os.fsync(fd)


def publish(directory: int) -> None:
    """Put the prepared table in the place of the present one, in one step. Raises OSError."""
    os.rename(_NEW, FILE_NAME, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def remove(directory: int) -> None:
    """Remove the table of an earlier chain. Raises OSError."""
    for name in (FILE_NAME, _NEW):
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            continue
