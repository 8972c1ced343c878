"""How files are cut into headers' worth, what is excluded, and files that cannot be read."""

import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import emitter
from appliance.dump.dumpdates import DumpDates
from appliance.dump.emitter import Emitter, StreamStart
from appliance.dump.excludes import Excludes
from appliance.dump.record import Origin
from appliance.dump.sink import FileSink
from appliance.dump.writing import segments
from appliance.errors import SourceDamaged, UsageError
from fuse.source import ImageSource
from fuse.volume import Volume
from tests.appliance.dump.dumplab import Heard, dump
from tests.appliance.dump.streamcheck import check_stream

K = 1024


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    size = draw(st.integers(1, 3000 * K))
    cuts = sorted(draw(st.sets(st.integers(0, size + 9000), max_size=12)))
    return size, list(zip(cuts[::2], cuts[1::2], strict=False))


@given(layouts())
def test_segments_hold_all_data_and_no_more(layout: tuple[int, list[tuple[int, int]]]) -> None:
    size, extents = layout
    blocks = -(-size // K)
    expected = bytearray(blocks)
    for start, end in extents:
        for block in range(start // K, -(-min(end, size) // K) if start < size else 0):
            expected[block] = 1
    found, position = bytearray(), 0
    for segment in segments(size, extents):
        assert len(segment.addresses) == 512
        assert not any(segment.addresses[segment.count :])
        found += segment.addresses[: segment.count]
        runs = bytearray(blocks)
        for start, length in segment.runs:
            assert position * K <= start < start + length <= size
            assert start % K == 0
            runs[start // K : -(-(start + length) // K)] = b"\1" * -(-length // K)
        assert runs[position : position + segment.count] == segment.addresses[: segment.count]
        position += segment.count
    assert found == expected


@given(st.integers(1, 4000 * K), st.integers(0, 10_000))
def test_files_without_holes(size: int, beyond: int) -> None:
    found = list(segments(size, [(0, size + beyond)]))
    assert sum(s.count for s in found) == -(-size // K)
    assert [s.runs for s in found] == [
        ((start, min(512 * K, size - start)),) for start in range(0, size, 512 * K)
    ]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (b"core", [b"core"], [b"core.1", b"score"]),
        (b"*.o", [b"a.o", b".o"], [b"a.oo"]),
        (b"tmp*", [b"tmp", b"tmp1"], [b"atmp"]),
        (b"*tmp*", [b"tmp", b"atmpb"], [b"tm"]),
        (b"\xff*", [b"\xffx"], [b"x"]),
    ],
)
def test_excludes(pattern: bytes, yes: list[bytes], no: list[bytes]) -> None:
    excludes = Excludes.parse([pattern])
    assert all(excludes.match(name) for name in yes)
    assert not any(excludes.match(name) for name in no)


@pytest.mark.parametrize("pattern", [b"", b"*", b"**", b"a*b", b"*a*b*", b"a/b", b"a\0"])
def test_impossible_excludes(pattern: bytes) -> None:
    with pytest.raises(UsageError):
        Excludes.parse([pattern])


def test_at_most_32_excludes() -> None:
    assert Excludes.parse([b"%d" % n for n in range(32)])
    assert not Excludes.parse([])
    with pytest.raises(UsageError, match="at most 32"):
        Excludes.parse([b"%d" % n for n in range(33)])


def test_the_reason_of_damage_outlasts_what_can_be_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = FileSink(Path("/dev/null"), 64)
    start = StreamStart(0, 0, 0, b"", b"", b"", b"", Origin())
    reasons = iter(["", "bad", ""])
    monkeypatch.setattr(emitter, "_read", lambda *_: 0)
    monkeypatch.setattr(emitter, "_salvage", lambda *_: next(reasons))
    writer = Emitter(sink, start, lambda _: None, lambda: None)
    assert writer.copy(-1, 0, 3 << 20) == "bad"
    sink.abandon()


def _spoil(image: Path, content: bytes) -> None:
    """Damage what is on the disk under a file, without the file system's knowledge."""
    with image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as disk:
        place = disk.find(content)
        assert place > 0
        disk[place + 5000 : place + 5100] = bytes(100)
        disk.flush()


@pytest.mark.root
def test_a_file_that_cannot_be_read_whole(volume: Volume, tmp_path: Path) -> None:
    source = volume.aggregate.source
    assert isinstance(source, ImageSource)
    content = os.urandom(200_000)
    (volume.path / "bad").write_bytes(content)
    (volume.path / "good").write_bytes(content[::-1])
    os.sync()
    _spoil(source.path, content[:8192])
    Path("/proc/sys/vm/drop_caches").write_text("1")
    heard = Heard()
    with pytest.raises(SourceDamaged, match=r"1 file\(s\) could not be read whole.*bad") as caught:
        dump(volume, tmp_path / "dump", heard=heard)
    assert caught.value.exit_code == 1
    assert "bad could not be read whole: Input/output error at byte 4096" in heard.text
    checked = check_stream(tmp_path / "dump", 64)
    expected = content[:4096] + bytes(4096) + content[8192:]
    assert checked.member(checked.find(b"bad")).data == expected
    assert checked.member(checked.find(b"good")).data == content[::-1]
    dates = DumpDates(volume.aggregate.database(), volume.metadata().uuid)
    assert not dates.entries()
    assert not volume.snapshots.list()
