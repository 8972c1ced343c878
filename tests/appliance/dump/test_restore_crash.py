"""Restores killed at any change they make to the volume; the same command again ends them."""

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Refused
from fuse.aggregate import Aggregate
from fuse.volume import Volume
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.restorelab import (
    Ext4,
    Told,
    change,
    differences,
    evolve,
    fill,
    look,
    restore,
)

pytestmark = pytest.mark.root

_CHANGES = (
    "rename", "link", "unlink", "mkdir", "rmdir", "open", "pwrite", "ftruncate", "symlink",
    "mknod", "setxattr", "removexattr", "chown", "chmod", "utime", "fsync",
)  # fmt: skip


def _restore_in_child(die_at: int, *arguments: Any, **options: Any) -> bool:
    """Restore in a process that kills itself at its n-th system call; True when it ended."""
    child = os.fork()
    if not child:
        try:
            _arm(die_at)
            restore(*arguments, **options)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def _arm(die_at: int) -> None:
    left = [die_at]

    def arm(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, name, call)

    for name in _CHANGES:
        arm(name)


def _die_and_go_on(chance: random.Random, limit: int, *arguments: Any, **options: Any) -> int:
    """Kill the restore at random points until it gets through; gives how often it died."""
    deaths = 0
    while not _restore_in_child(chance.randrange(1, limit), *arguments, **options):
        deaths += 1
        limit += limit // 4
    return deaths


@pytest.mark.parametrize("seed", range(6))
def test_incremental_restore_converges(
    seed: int, aggregate: Aggregate, volume: Volume, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    with Ext4(tmp_path) as ext4:
        with ext4.mounted() as root:
            fill(root) if seed < 2 else evolve(root, seed + 50, 80)
        full = ext4.dump(0, tmp_path / "l0")
        with ext4.mounted() as root:
            change(root) if seed < 2 else evolve(root, seed)
        step = ext4.dump(1, tmp_path / "l1")
        with ext4.mounted() as root:
            expected = look(root, seconds=True)

    deaths = _die_and_go_on(chance, 400, volume, full)
    deaths += _die_and_go_on(chance, 120, volume, step, incremental=True)

    assert deaths
    assert differences(expected, look(volume.path, seconds=True)) == []
    again = Told()
    assert restore(volume, step, again, incremental=True).files == 0
    assert "has been restored here already" in again.text


def test_every_point_of_a_small_step(aggregate: Aggregate, tmp_path: Path) -> None:
    source = aggregate.create_volume("source")
    _small(source.path)
    full = _dump(source, 0, tmp_path / "l0")
    _small_change(source.path)
    step = _dump(source, 1, tmp_path / "l1")
    expected = look(source.path)
    point, done = 0, False
    while not done:
        point += 1
        target = aggregate.create_volume("target")
        restore(target, full)
        done = _restore_in_child(point, target, step, incremental=True)
        if not done:
            assert _restore_in_child(0, target, step, incremental=True)
        assert differences(expected, look(target.path)) == [], f"killed at {point}"
        aggregate.delete_volume("target")
    assert point > 60
    aggregate.delete_volume("source")


def _small(root: Path) -> None:
    for name in ("keep", "gone", "swap-a", "swap-b"):
        (root / name).mkdir()
        (root / name / name).write_bytes(name.encode())
    os.link(root / "keep" / "keep", root / "second")
    (root / "gone" / "saved").mkdir()
    (root / "gone" / "saved" / "file").write_bytes(b"saved")
    (root / "type").write_bytes(b"file")


def _small_change(root: Path) -> None:
    (root / "swap-a").rename(root / "x")
    (root / "swap-b").rename(root / "swap-a")
    (root / "x").rename(root / "swap-b")
    (root / "gone" / "saved").rename(root / "keep" / "saved")
    (root / "gone" / "gone").unlink()
    (root / "gone").rmdir()
    (root / "second").rename(root / "third")
    (root / "type").unlink()
    (root / "type").mkdir()
    (root / "type" / "new").write_bytes(b"new")
    (root / "keep" / "keep").write_bytes(b"rewritten")
    os.setxattr(root / "keep", "user.a", b"b")


def _dump(volume: Volume, level: int, path: Path) -> Path:
    dump(volume, path, level=level)
    return path


def test_another_tape_is_refused_while_a_restore_is_unfinished(
    aggregate: Aggregate, volume: Volume, tmp_path: Path
) -> None:
    source = aggregate.create_volume("source")
    _small(source.path)
    full = _dump(source, 0, tmp_path / "l0")
    _small_change(source.path)
    step = _dump(source, 1, tmp_path / "l1")
    (source.path / "more").touch()
    other = _dump(source, 1, tmp_path / "other")
    restore(volume, full)
    assert not _restore_in_child(40, volume, step, incremental=True)

    with pytest.raises(Refused, match="an interrupted restore"):
        restore(volume, other, incremental=True)

    restore(volume, step, incremental=True)
    aggregate.delete_volume("source")
