"""The engine over a scan of another kind: a tree in memory, with inode numbers of old volumes."""

import os
import stat
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from appliance.dump.emitter import Emitter, StreamStart
from appliance.dump.excludes import Excludes
from appliance.dump.mapping import DumpMap, Mapper
from appliance.dump.private import Item, Tag
from appliance.dump.progress import Progress
from appliance.dump.record import Origin, RecordType
from appliance.dump.scan import Scan, ScannedInode, Want
from appliance.dump.sink import FileSink
from appliance.dump.writing import StreamWriter
from appliance.errors import Refused
from tests.appliance.dump.dumplab import replay
from tests.appliance.dump.streamcheck import check_stream

ROOT = 256


class MemoryScan:
    """A root with files of given inode numbers, each holding its own number."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = list(numbers)

    def _root(self) -> ScannedInode:
        entries = [(n, b"file%d" % n, 8) for n in self.numbers]
        return self._inode(ROOT, stat.S_IFDIR | 0o755, entries, None)

    def _inode(
        self, number: int, mode: int, entries: list[tuple[int, bytes, int]], data: bytes | None
    ) -> ScannedInode:
        return ScannedInode(
            number, mode, 1, len(data or b""), 0, 0, 0, 0, 8, 1, 1, 0, 0, 0, 0,
            [(ROOT, b"..")], entries, {}, [], data,
        )  # fmt: skip

    def inodes(self, want: Want, numbers: Iterable[int] | None = None) -> Iterator[ScannedInode]:
        for number in [ROOT, *self.numbers] if numbers is None else numbers:
            if number == ROOT:
                yield self._root()
            else:
                yield self._inode(number, stat.S_IFREG | 0o644, [], b"%d" % number)

    def open(self, number: int) -> int:
        raise AssertionError

    def path(self, number: int) -> bytes:
        return b"file%d" % number

    def lookup(self, path: bytes) -> int:
        return ROOT


def _map(scan: Scan) -> DumpMap:
    progress = Progress(lambda event: None, lambda: False)
    mapper = Mapper(scan, ROOT, Excludes(), None, lambda name: True, progress)
    mapper.map_files()
    return mapper.map_directories()


def test_maps_of_more_than_512_blocks(tmp_path: Path) -> None:
    numbers = [257, 4_194_558, 4_194_559, 4_200_000, 9_000_000]
    scan = MemoryScan(numbers)
    found = _map(scan)
    sink = FileSink(tmp_path / "dump", 64)
    start = StreamStart(5, 0, 0, b"none", b"/vol/v", b"s", b"h", Origin())
    progress = Progress(lambda event: None, lambda: False)
    emitter = Emitter(sink, start, progress.moved, progress.check)
    writer = StreamWriter(scan, found, emitter, progress, Item(Tag.DUMP, b"{}"))
    emitter.tape()
    emitter.map(RecordType.CLRI, found.used, found.highest + 1, 0)
    emitter.map(RecordType.BITS, found.on_tape, found.highest + 1, 2)
    writer.directories()
    writer.files()
    emitter.end(found.highest + 1)
    sink.finish()
    checked = check_stream(tmp_path / "dump", 64)
    assert checked.used == {2, *(n - 254 for n in numbers)}
    replay([tmp_path / "dump"], tmp_path / "into")
    assert {
        name: (tmp_path / "into" / name).read_text() for name in os.listdir(tmp_path / "into")
    } == {f"file{n}": str(n) for n in numbers}


def test_an_inode_number_that_does_not_fit() -> None:
    with pytest.raises(Refused, match="no inode numbers above"):
        _map(MemoryScan([257, 1 << 33]))


def test_mapping_takes_less_than_100_bytes_an_inode() -> None:
    count = 100_000
    scan = MemoryScan(range(257, 257 + count))

    class Lean(MemoryScan):
        def __init__(self) -> None:
            self.root = scan._root()

        def _root(self) -> ScannedInode:
            return self.root

    lean = Lean()
    lean.numbers = range(257, 257 + count)  # type: ignore[assignment]
    tracemalloc.start()
    try:
        found = _map(lean)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.files) == count
    assert peak / count < 100
