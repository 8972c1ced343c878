"""Node ids and the bounded cache of descriptors."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse import nodes
from fuse.nodes import ROOT_NODE, HandleCache, NodeIds

SUBVOLUMES = st.integers(256, 0xFFFFFE)
INODES = st.integers(256, (1 << 40) - 1)


@given(SUBVOLUMES, SUBVOLUMES, INODES)
def test_ids_go_both_ways(active: int, subvolid: int, inode: int) -> None:
    ids = NodeIds(active)
    node = ids.node(subvolid, inode)
    assert (ids.subvolid(node), ids.inode(node)) == (subvolid, inode)
    assert ids.is_active(node) == (subvolid == active)
    assert not ids.is_snapshot_directory(node)
    assert (node == ROOT_NODE) == (subvolid == active and inode == 256)


@given(SUBVOLUMES, INODES)
def test_snapshot_directories_know_their_owner(active: int, inode: int) -> None:
    ids = NodeIds(active)
    snapdir = ids.snapshot_directory(ids.node(active, inode))
    assert ids.is_snapshot_directory(snapdir)
    assert not ids.is_active(snapdir)
    assert ids.owner(snapdir) == ids.node(active, inode)
    assert snapdir < 1 << 64


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandleCache]:
    """Give a cache of three over a directory, whose inodes are names."""
    for number in range(300, 310):
        (tmp_path / str(number)).touch()

    def open_inode(mount_fd: int, subvolid: int, inode: int, flags: int) -> int:
        return os.open(tmp_path / str(inode), flags)

    monkeypatch.setattr(nodes, "open_inode", open_inode)
    cache = HandleCache(-1, NodeIds(256), capacity=3)
    yield cache
    cache.close()


def node(inode: int, subvolid: int = 256) -> int:
    return NodeIds(256).node(subvolid, inode)


def test_the_last_used_stay(cache: HandleCache) -> None:
    first = cache.fd(node(300))
    for inode in (301, 302):
        cache.fd(node(inode))
    assert cache.fd(node(300)) == first
    cache.fd(node(303))
    assert len(cache) == 3
    assert cache.fd(node(300)) == first


def test_removed_objects_stay_until_forgotten(cache: HandleCache, tmp_path: Path) -> None:
    fd = cache.fd(node(300))
    (tmp_path / "300").unlink()
    cache.removed(node(300))
    for inode in (301, 302, 303, 304):
        cache.fd(node(inode))
    assert cache.fd(node(300)) == fd
    assert cache.forget(node(300)) == fd
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        cache.fd(node(300))


def test_a_subvolume_is_dropped_as_a_whole(cache: HandleCache) -> None:
    cache.fd(node(300))
    cache.fd(node(301, subvolid=500))
    cache.fd(node(302, subvolid=500))
    cache.removed(node(302, subvolid=500))
    cache.drop_subvolume(500)
    assert len(cache) == 1


def test_relief_leaves_the_most_recent(cache: HandleCache) -> None:
    assert not cache.relieve()
    cache.fd(node(300))
    assert not cache.relieve()
    last = [cache.fd(node(inode)) for inode in (301, 302)][-1]
    assert cache.relieve()
    assert cache.fd(node(302)) == last
