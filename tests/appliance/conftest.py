"""A served root, made once a module: for tests that do not break it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.serving import Filer, nothing_left


@pytest.fixture(scope="module")
def filer() -> Iterator[Filer]:
    """Give a root that is being served, with an empty volume vol1."""
    place = Path(tempfile.mkdtemp(prefix="r"))
    served = Filer(place / "root").init()
    served.start()
    try:
        served.ok("volume", "create", "vol1")
        yield served
    finally:
        served.end()
        print(served.log_text())
        nothing_left(place)
        shutil.rmtree(place)


@pytest.fixture
def fresh(short_root: Path) -> Iterator[Filer]:
    """Give a root of the test's own, initialised and not served yet."""
    served = Filer(short_root / "root").init("1G")
    try:
        yield served
    finally:
        served.end()
        print(served.log_text())
        nothing_left(served.path)
