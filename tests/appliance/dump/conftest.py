"""A real btrfs aggregate, made once a run; every test gets a volume of its own."""

import itertools
from collections.abc import Iterator

import pytest

from fuse.aggregate import Aggregate
from fuse.source import ImageSource
from fuse.volume import Volume

_numbers = itertools.count()


@pytest.fixture(scope="session")
def aggregate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aggregate]:
    root = tmp_path_factory.mktemp("dumps")
    source = ImageSource(root / "images" / "aggr0.img", 4 << 30)
    aggregate = Aggregate.create(root, "aggr0", source)
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
