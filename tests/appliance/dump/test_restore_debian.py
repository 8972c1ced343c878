"""Tapes that Debian's dump wrote from ext4, restored and compared field by field."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import StreamError
from fuse.volume import Volume
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


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Ext4]:
    with Ext4(tmp_path) as made:
        yield made


def _state(ext4: Ext4) -> dict:
    with ext4.mounted() as root:
        return look(root, seconds=True)


def test_level_0_then_level_1(ext4: Ext4, volume: Volume, tmp_path: Path) -> None:
    with ext4.mounted() as root:
        fill(root)
    full = ext4.dump(0, tmp_path / "l0")
    before = _state(ext4)
    told = Told()

    result = restore(volume, full, told)

    assert differences(before, look(volume.path, seconds=True)) == []
    assert (result.damaged, result.warnings) == (0, 0)
    assert "RESTORE: RESTORE IS DONE" in told.lines

    with ext4.mounted() as root:
        change(root)
    step = ext4.dump(1, tmp_path / "l1")
    told = Told()

    result = restore(volume, step, told, incremental=True)

    assert differences(_state(ext4), look(volume.path, seconds=True)) == []
    assert result.damaged == 0, told.text
    assert not (volume.path / ".restore_staging").exists()
    assert stat.S_IMODE((volume.path / "restore_symboltable").lstat().st_mode) == 0o600


@pytest.mark.parametrize("seed", range(4))
def test_chain_of_random_changes(seed: int, ext4: Ext4, volume: Volume, tmp_path: Path) -> None:
    with ext4.mounted() as root:
        evolve(root, seed + 100, 80)
    restore(volume, ext4.dump(0, tmp_path / "l0"))
    for level in (1, 2, 3):
        with ext4.mounted() as root:
            evolve(root, seed * 10 + level)
        told = Told()
        restore(volume, ext4.dump(level, tmp_path / f"l{level}"), told, incremental=True)
        assert differences(_state(ext4), look(volume.path, seconds=True)) == [], told.text


def test_one_of_several_volumes(ext4: Ext4, volume: Volume, tmp_path: Path) -> None:
    with ext4.mounted() as root:
        fill(root)
    ext4.dump(0, tmp_path / "part", "-B", "1000", "-M")
    parts = sorted(tmp_path.glob("part0*"))
    assert len(parts) > 3
    with pytest.raises(StreamError, match="this is volume 2"):
        restore(volume, parts[1])
    (tmp_path / "all").write_bytes(b"".join(part.read_bytes() for part in parts))
    for stream in (parts[0], tmp_path / "all"):
        with pytest.raises(StreamError, match="files are complete"):
            restore(volume, stream)


def test_inline_data_is_reported(volume: Volume, tmp_path: Path) -> None:
    """Debian's dump saves such files without their data and says nothing."""
    with Ext4(tmp_path, options="-O inline_data -I 256") as ext4:
        with ext4.mounted() as root:
            (root / "inline").write_bytes(b"x" * 100)
            (root / "outside").write_bytes(b"y" * 10_000)
        ext4.dump(0, tmp_path / "tape")
    told = Told()
    result = restore(volume, tmp_path / "tape", told)
    assert result.damaged >= 1, told.text
    assert "inline" in told.text
    assert (volume.path / "outside").read_bytes() == b"y" * 10_000


@pytest.mark.parametrize("option", ["-z2", "-j2"])
def test_compressed_dumps_are_refused(
    option: str, ext4: Ext4, volume: Volume, tmp_path: Path
) -> None:
    with pytest.raises(StreamError, match="compressed"):
        restore(volume, ext4.dump(0, tmp_path / "tape", option))
    assert os.listdir(volume.path) == []
