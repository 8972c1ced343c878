"""The scan of a btrfs snapshot against what lstat, listdir and getxattr say of the same tree."""

import itertools
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump.btrfsscan import BtrfsScan, inode_ranges
from appliance.dump.directory import type_of_mode
from appliance.dump.scan import Numbering, ScannedInode, Want
from appliance.errors import Refused
from fuse.treesearch import EXTENT, EXTENT_PLACE, INODE, ExtentType, Item, Type
from fuse.volume import Volume
from tests.appliance.dump.dumplab import special_tree

ALL = Want.NAMES | Want.ENTRIES | Want.XATTRS | Want.DATA


@pytest.fixture
def scan(volume: Volume) -> Iterator[BtrfsScan]:
    special_tree(volume.path)
    snapshot = volume.snapshots.create("scanned")
    yield BtrfsScan(volume.aggregate.fd, snapshot.subvolid)
    volume.snapshots.delete("scanned")


def _check(inode: ScannedInode, path: Path) -> None:
    seen = path.lstat()
    assert (inode.mode, inode.uid, inode.gid) == (seen.st_mode, seen.st_uid, seen.st_gid)
    assert (inode.modified, inode.changed) == (seen.st_mtime_ns, seen.st_ctime_ns)
    assert inode.accessed == seen.st_atime_ns
    assert inode.created
    assert inode.device == os.major(seen.st_rdev) << 32 | os.minor(seen.st_rdev)
    assert inode.xattrs == {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    if not stat.S_ISDIR(inode.mode):
        assert (inode.size, inode.links) == (seen.st_size, seen.st_nlink)
    if stat.S_ISLNK(inode.mode):
        assert inode.data == os.fsencode(path.readlink())
    if stat.S_ISREG(inode.mode):
        _check_data(inode, path)


def _check_data(inode: ScannedInode, path: Path) -> None:
    content = path.read_bytes()
    ranges = [(0, len(inode.data))] if inode.data is not None else inode.extents
    assert all(a < b for a, b in ranges)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ranges))
    position = 0
    for start, end in [*ranges, (len(content), len(content))]:
        assert not content[position:start].strip(b"\0"), "data where the scan has a hole"
        position = end
    if inode.data is not None:
        assert inode.data == content[: len(inode.data)]


@pytest.mark.root
def test_everything_is_as_lstat_has_it(volume: Volume, scan: BtrfsScan) -> None:
    found = {inode.number: inode for inode in scan.inodes(ALL)}
    assert list(found) == sorted(found)
    paths: dict[int, set[Path]] = {256: {volume.path}}
    for inode in found.values():
        for path in paths[inode.number] if stat.S_ISDIR(inode.mode) else ():
            listed = {(name, kind) for _, name, kind in inode.entries}
            assert listed == {
                (os.fsencode(e.name), type_of_mode(e.stat(follow_symlinks=False).st_mode))
                for e in os.scandir(path)
            }
            for child, name, _ in inode.entries:
                paths.setdefault(child, set()).add(path / os.fsdecode(name))
    assert paths.keys() == found.keys()
    for number, places in paths.items():
        for path in places:
            _check(found[number], path)
        if number != 256:
            assert {name for _, name in found[number].names} == {
                os.fsencode(path.name) for path in places
            }
            assert volume.path / os.fsdecode(scan.path(number)) in places


@pytest.mark.root
def test_only_what_is_wanted_comes(scan: BtrfsScan) -> None:
    for inode in scan.inodes(Want.NOTHING):
        assert inode[-5:] == ([], [], {}, [], None)


@pytest.mark.root
def test_chosen_inodes(scan: BtrfsScan) -> None:
    whole = {inode.number: inode for inode in scan.inodes(ALL)}
    for chosen in (sorted(whole)[::3], sorted(whole)[::40], [256], [], [255, 260, 10**9]):
        got = list(scan.inodes(ALL, chosen))
        assert got == [whole[number] for number in chosen if number in whole]


@pytest.mark.root
def test_compressed_files_are_read_through_the_file(volume: Volume) -> None:
    subprocess.run(["btrfs", "property", "set", volume.path, "compression", "zlib"], check=True)
    (volume.path / "small").write_bytes(b"a" * 1500)
    (volume.path / "large").write_bytes(b"b" * 500_000)
    snapshot = volume.snapshots.create("scanned")
    scan = BtrfsScan(volume.aggregate.fd, snapshot.subvolid)
    for name, size in ((b"small", 1500), (b"large", 500_000)):
        (inode,) = scan.inodes(Want.DATA, [scan.lookup(name)])
        assert inode.data is None
        assert [start for start, _ in inode.extents] == [0]
        assert inode.extents[0][1] >= size
        fd = scan.open(inode.number)
        assert os.pread(fd, 1 << 20, 0) == name[:1].replace(b"s", b"a").replace(b"l", b"b") * size
        os.close(fd)


@pytest.mark.root
def test_a_hole_behind_compressed_inline_data_stays_one(volume: Volume) -> None:
    subprocess.run(["btrfs", "property", "set", volume.path, "compression", "zlib"], check=True)
    with (volume.path / "file").open("wb") as file:
        file.write(b"a" * 4096)
        os.fsync(file.fileno())
        file.truncate(1 << 40)
    snapshot = volume.snapshots.create("scanned")
    scan = BtrfsScan(volume.aggregate.fd, snapshot.subvolid)
    (inode,) = scan.inodes(Want.DATA, [scan.lookup(b"file")])
    assert (inode.size, inode.data, inode.extents) == (1 << 40, None, [(0, 4096)])


class _Items:
    """The items of one file: inline data, and an extent on disk behind it."""

    def __init__(self) -> None:
        inline = EXTENT.pack(7, 3, 0, 0, 0, ExtentType.INLINE) + b"abc"
        extent = EXTENT.pack(7, 4096, 0, 0, 0, ExtentType.REGULAR)
        extent += EXTENT_PLACE.pack(1 << 20, 4096, 0, 4096)
        self.buffer = bytearray(INODE.size) + inline + extent
        middle, end = INODE.size + len(inline), len(self.buffer)
        self._found = (
            Item(257, Type.INODE, 0, 0, INODE.size),
            Item(257, Type.EXTENT, 0, INODE.size, len(inline)),
            Item(257, Type.EXTENT, 8192, middle, end - middle),
        )

    def items(self, *_: object) -> Iterator[Item]:
        return iter(self._found)


def test_extents_behind_inline_data_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.dump.btrfsscan.TreeSearch", lambda *_: _Items())
    (inode,) = BtrfsScan(-1, 256).inodes(Want.DATA)
    assert (inode.data, inode.extents) == (None, [(0, 3), (8192, 12288)])


@pytest.mark.root
def test_lookups(volume: Volume, scan: BtrfsScan) -> None:
    assert scan.lookup(b"") == 256
    expected = (volume.path / "many" / "hard link").stat().st_ino
    assert scan.lookup(b"many//./hard link") == expected
    for path, error in ((b"no", FileNotFoundError), (b"inline/x", NotADirectoryError)):
        with pytest.raises(error):
            scan.lookup(path)


@pytest.mark.root
def test_a_nested_subvolume_is_no_part_of_the_tree(volume: Volume) -> None:
    nested: Path = volume.path / "nested"
    subprocess.run(["btrfs", "-q", "subvolume", "create", nested], check=True)
    try:
        snapshot = volume.snapshots.create("scanned")
        scan = BtrfsScan(volume.aggregate.fd, snapshot.subvolid)
        assert [inode.entries for inode in scan.inodes(ALL)] == [[]]
    finally:
        subprocess.run(["btrfs", "-q", "subvolume", "delete", nested], check=True)


@given(st.sets(st.integers(256, 3000), max_size=80))
def test_ranges_hold_what_is_wanted(numbers: set[int]) -> None:
    ranges = list(inode_ranges(sorted(numbers)))
    assert sorted(n for _, _, wanted in ranges for n in wanted) == sorted(numbers)
    for first, last, wanted in ranges:
        assert (first, last) == (min(wanted), max(wanted))


@given(st.integers(257, 1 << 32), st.integers(256, 1 << 32))
def test_tape_numbers(number: int, root: int) -> None:
    numbering = Numbering(root)
    assert numbering.source(numbering.tape(number)) == number
    assert (numbering.tape(number) == 2) == (number == root)


def test_numbers_beyond_the_format_are_refused() -> None:
    assert Numbering(256).tape((1 << 32) + 252) == (1 << 32) - 2
    with pytest.raises(Refused, match="no inode numbers above 4294967294"):
        Numbering(256).tape((1 << 32) + 253)
