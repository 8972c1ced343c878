"""Random sequences of operations leave the mount and native btrfs in the same state."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH102, PTH106, PTH108

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuse.mounting import Stand, mounted
from tests.fuse.scenarios.kit import attempt, look, renameat2

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with mounted() as stand:
        yield stand


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "d/a", "d/b", "e/a", "d/e", "d/e/a", "d/e/b"])
SLOTS = st.integers(0, 3)
OFFSETS = st.one_of(st.integers(0, 20_000), st.sampled_from([4096, 8192, 65536, 131072, 1 << 21]))
LENGTHS = st.one_of(st.integers(0, 9000), st.sampled_from([4096, 65536, 300_000]))
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0])
FLAGS = st.sampled_from(
    [
        os.O_RDWR,
        os.O_RDONLY,
        os.O_WRONLY,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_TRUNC,
        os.O_WRONLY | os.O_APPEND | os.O_CREAT,
        os.O_RDWR | os.O_CREAT | os.O_EXCL,
    ]
)


class World:
    """One of the two places: a directory and the descriptors open in it."""

    def __init__(self, top: Path) -> None:
        self.top = Path(tempfile.mkdtemp(dir=top))
        self.slots: dict[int, int] = {}

    def close(self) -> None:
        for fd in self.slots.values():
            os.close(fd)
        shutil.rmtree(self.top)

    def open(self, slot: int, name: str, flags: int, mode: int) -> Any:
        if slot in self.slots:
            os.close(self.slots.pop(slot))
        self.slots[slot] = os.open(self.top / name, flags, mode)
        return look(self.slots[slot])

    def fd(self, slot: int) -> int:
        return self.slots.get(slot, 999_999)

    def pwrite(self, slot: int, offset: int, length: int) -> Any:
        data = bytes(((offset + length) % 255 + 1,)) * length
        return str(os.pwrite(self.fd(slot), data, offset))

    def pread(self, slot: int, offset: int, length: int) -> Any:
        return os.pread(self.fd(slot), length, offset)

    def ftruncate(self, slot: int, size: int) -> Any:
        return os.ftruncate(self.fd(slot), size)

    def fstat(self, slot: int) -> Any:
        return look(self.fd(slot))

    def map_write(self, slot: int, offset: int, length: int) -> Any:
        fd = self.fd(slot)
        size = os.fstat(fd).st_size
        if offset + length > size or not length:
            return "beyond"
        with mmap.mmap(fd, size) as mapped:
            mapped[offset : offset + length] = b"M" * length
            mapped.flush()
        return bytes(os.pread(fd, length, offset)) == b"M" * length

    def fsync(self, slot: int) -> Any:
        return os.fsync(self.fd(slot))

    def release(self, slot: int) -> Any:
        os.close(self.slots.pop(slot, 999_999))

    def mkdir(self, name: str, mode: int) -> Any:
        return os.mkdir(self.top / name, mode | 0o700)

    def rmdir(self, name: str) -> Any:
        return os.rmdir(self.top / name)

    def unlink(self, name: str) -> Any:
        return os.unlink(self.top / name)

    def rename(self, old: str, new: str, flags: int) -> Any:
        return renameat2(self.top / old, self.top / new, flags)

    def link(self, old: str, new: str) -> Any:
        return os.link(self.top / old, self.top / new, follow_symlinks=False)

    def symlink(self, target: str, name: str) -> Any:
        return os.symlink(target, self.top / name)

    def chmod(self, name: str, mode: int) -> Any:
        return (self.top / name).chmod(mode | 0o400)

    def truncate(self, name: str, size: int) -> Any:
        return os.truncate(self.top / name, size)

    def utime(self, name: str, when: int) -> Any:
        return os.utime(self.top / name, ns=(when, when + 1), follow_symlinks=False)

    def setxattr(self, name: str, size: int) -> Any:
        return os.setxattr(self.top / name, "user.x", b"v" * (size % 3000))

    def removexattr(self, name: str) -> Any:
        return os.removexattr(self.top / name, "user.x")

    def lstat(self, name: str) -> Any:
        return look(self.top / name)

    def listdir(self, name: str) -> Any:
        return sorted(os.listdir(self.top / name))

    def whole(self) -> Any:
        return [self.describe(path) for path in sorted(self.top.rglob("*"))]

    def describe(self, path: Path) -> Any:
        content: Any = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        names = os.listxattr(path, follow_symlinks=False)
        values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        return str(path.relative_to(self.top)), look(path), content, values


def steps(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), st.tuples(*arguments))


STEPS = st.one_of(
    steps("open", SLOTS, NAMES, FLAGS, MODES),
    steps("open", SLOTS, NAMES, st.just(os.O_RDWR | os.O_CREAT), MODES),
    steps("pwrite", SLOTS, OFFSETS, LENGTHS),
    steps("pread", SLOTS, OFFSETS, LENGTHS),
    steps("ftruncate", SLOTS, OFFSETS),
    steps("fstat", SLOTS),
    steps("map_write", SLOTS, OFFSETS, LENGTHS),
    steps("fsync", SLOTS),
    steps("release", SLOTS),
    steps("mkdir", NAMES, MODES),
    steps("rmdir", NAMES),
    steps("unlink", NAMES),
    steps("rename", NAMES, NAMES, st.sampled_from([0, 0, 1, 2])),
    steps("link", NAMES, NAMES),
    steps("symlink", NAMES, NAMES),
    steps("chmod", NAMES, MODES),
    steps("truncate", NAMES, OFFSETS),
    steps("utime", NAMES, st.integers(0, 2**62)),
    steps("setxattr", NAMES, LENGTHS),
    steps("removexattr", NAMES),
    steps("lstat", NAMES),
    steps("listdir", NAMES),
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_random_operations(stand: Stand, sequence: list[tuple[str, tuple[Any, ...]]]) -> None:
    native, mount = World(stand.native), World(stand.mount)
    try:
        for name, arguments in sequence:
            results = [attempt_in(world, name, arguments) for world in (native, mount)]
            assert results[1] == results[0], (name, arguments)
        assert mount.whole() == native.whole()
    finally:
        native.close()
        mount.close()


def attempt_in(world: World, name: str, arguments: tuple[Any, ...]) -> Any:
    method: Callable[..., Any] = getattr(world, name)
    return attempt(method, *arguments)
