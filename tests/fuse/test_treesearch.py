"""Tree searches on a real btrfs: everything comes, once, whatever the size of the buffer."""

import os
from pathlib import Path

import pytest

from fuse.treesearch import (
    INODE,
    LAST_INODE,
    Item,
    TreeSearch,
    Type,
    parse_entries,
    parse_references,
)
from fuse.volume import Volume

pytestmark = pytest.mark.root


def found(volume: Volume, size: int, *key: int) -> list[tuple[Item, bytes]]:
    os.sync()
    fd = os.open(volume.path, os.O_RDONLY)
    try:
        search = TreeSearch(fd, volume.subvolid, size)
        return [
            (item, bytes(search.buffer[item.start : item.start + item.size]))
            for item in search.items(*key)
        ]
    finally:
        os.close(fd)


def test_small_buffers_bring_what_large_ones_bring(volume: Volume) -> None:
    for number in range(600):
        path = volume.path / f"file{number}"
        path.write_bytes(b"x" * 1500)
        os.setxattr(path, "user.large", b"v" * (number * 50))
    small, large = (found(volume, size, 256, LAST_INODE) for size in (0, 16 << 20))
    assert [(i[:3], data) for i, data in small] == [(i[:3], data) for i, data in large]
    keys = [item[:3] for item, _ in small]
    assert keys == sorted(set(keys))
    inodes = [item.objectid for item, _ in small if item.type == Type.INODE]
    assert inodes == [256, *sorted(p.stat().st_ino for p in volume.path.iterdir())]


def test_ranges(volume: Volume) -> None:
    numbers = []
    for number in range(5):
        path = volume.path / str(number)
        path.touch()
        numbers.append(path.stat().st_ino)
    items = found(volume, 0, numbers[1], numbers[3], Type.INODE, Type.INODE)
    assert [i.objectid for i, _ in items if i.type == Type.INODE] == numbers[1:4]
    assert items[-1][0].type == Type.INODE


def test_inode_fields(volume: Volume) -> None:
    path = volume.path / "file"
    path.write_text("123")
    os.chown(path, 7, 8)
    path.chmod(0o640)
    os.utime(path, ns=(-5_000_000_001, 6_000_000_007))
    number = path.stat().st_ino
    (data,) = [d for i, d in found(volume, 0, number, number) if i.type == Type.INODE]
    fields = INODE.unpack(data)
    assert (fields[2], *fields[5:9]) == (3, 1, 7, 8, 0o100640)
    assert fields[12:14] == (-6, 999_999_999)
    assert fields[16:18] == (6, 7)


def test_names_and_attributes(volume: Volume) -> None:
    path = volume.path / "file"
    path.touch()
    directory = volume.path / "directory"
    directory.mkdir()
    expected = {(256, b"file")}
    for number in range(700):  # more than one item holds, so that long references come
        name = f"{number:03}" + "n" * 200
        os.link(path, directory / name)
        expected.add((directory.stat().st_ino, name.encode()))
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "user.b", b"")
    number = path.stat().st_ino
    items = found(volume, 0, number, number)
    names, xattrs = set(), {}
    for item, data in items:
        if item.type in (Type.REFERENCE, Type.LONG_REFERENCE):
            moved = item._replace(start=0)
            names |= set(parse_references(bytearray(data), moved))
        elif item.type == Type.XATTR:
            xattrs |= dict(parse_entries(bytearray(data), 0, len(data)))
    assert {item.type for item, _ in items} > {Type.REFERENCE, Type.LONG_REFERENCE}
    assert names == expected
    assert xattrs == {b"user.a": b"1", b"user.b": b""}


def test_a_tree_that_is_not_there(volume: Volume, tmp_path: Path) -> None:
    fd = os.open(volume.path, os.O_RDONLY)
    try:
        with pytest.raises(FileNotFoundError):
            list(TreeSearch(fd, 1 << 40).items(256, LAST_INODE))
    finally:
        os.close(fd)
