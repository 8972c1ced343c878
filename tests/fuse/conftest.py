"""A real btrfs on a loop image, made once a run; every test gets a volume of its own."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuse.aggregate import Aggregate
from fuse.source import ImageSource
from fuse.volume import Volume

_numbers = itertools.count()


@pytest.fixture(scope="session")
def storage_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="session")
def aggregate(storage_root: Path) -> Iterator[Aggregate]:
    image = storage_root / "images" / "aggr0.img"
    aggregate = Aggregate.create(storage_root, "aggr0", ImageSource(image, 4 << 30))
    yield aggregate
    aggregate.detach()


@pytest.fixture
def volume(aggregate: Aggregate) -> Iterator[Volume]:
    name = f"vol{next(_numbers)}"
    yield aggregate.create_volume(name)
    for left in aggregate.volumes():
        if left.name == name:
            for lock in left.snapshots.all_locks():
                left.snapshots.expire_owner(lock.owner)
            aggregate.delete_volume(name)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Aggregate]:
    """Give an aggregate of the test's own, to detach and to crash."""
    image = tmp_path / "images" / "fresh.img"
    aggregate = Aggregate.create(tmp_path, "fresh", ImageSource(image, 512 << 20))
    yield aggregate
    aggregate.detach()
