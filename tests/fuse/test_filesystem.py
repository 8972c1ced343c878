"""The mount does what native btrfs does: the same operations on both, results compared."""

# The system calls themselves are what is tested.

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fuse.mounting import Stand, as_user, mounted
from tests.fuse.scenarios import (
    attributes,
    creating,
    data,
    directories,
    extended,
    kit,
    naming,
    programs,
)
from tests.fuse.scenarios.kit import GROUP, STRANGER, SUPPLEMENTARY, USER, Scenario, attempt

pytestmark = pytest.mark.root

MODULES = (creating, naming, data, attributes, extended, directories, programs)
"""Importing them registers their scenarios."""


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with mounted() as stand:
        yield stand


def outcome(scenario: Scenario, directory: Path) -> Any:
    """Give what the scenario gives, or how it fails, which is no comparison if both do."""
    try:
        return scenario(directory)
    except Exception as error:
        return error


def name_of(scenario: Scenario) -> str:
    return scenario.__name__


@pytest.mark.parametrize("scenario", kit.ROOT_SCENARIOS, ids=name_of)
def test_root_sees_what_native_shows(stand: Stand, scenario: Scenario) -> None:
    results = []
    for top in (stand.native, stand.mount):
        directory = top / f"root {scenario.__name__}"
        directory.mkdir()
        results.append(as_user(outcome, scenario, directory))
    assert not isinstance(results[0], Exception), results[0]
    assert results[1] == results[0]


@pytest.mark.parametrize("scenario", kit.USER_SCENARIOS, ids=name_of)
def test_a_user_sees_what_native_shows(stand: Stand, scenario: Scenario) -> None:
    results = []
    for top in (stand.native, stand.mount):
        directory = top / f"user {scenario.__name__}"
        directory.mkdir()
        os.chown(directory, USER, GROUP)
        furnish(directory, scenario.__name__)
        results.append(
            as_user(outcome, scenario, directory, uid=USER, gid=GROUP, groups=[SUPPLEMENTARY])
        )
    assert not isinstance(results[0], Exception), results[0]
    assert results[1] == results[0]


def furnish(d: Path, scenario: str) -> None:
    """Put what others own into a user's directory."""
    furniture = {
        "chmod_drops_setgid_of_a_foreign_group": _foreign_file,
        "setfacl_drops_setgid_of_a_foreign_group": _foreign_setgid_file,
        "setgid_directory_of_a_foreign_group": _foreign_setgid_directory,
        "sticky_directory": _sticky,
        "permissions": _access,
        "search_permission": _closed,
        "acls_decide": _acls,
    }
    if scenario in furniture:
        furniture[scenario](d)


def _foreign_file(d: Path) -> None:
    (d / "foreign group").write_text("")
    os.chown(d / "foreign group", USER, STRANGER)


def _foreign_setgid_file(d: Path) -> None:
    path = d / "foreign setgid file"
    path.write_text("")
    os.chown(path, USER, STRANGER)
    path.chmod(0o2755)


def _foreign_setgid_directory(d: Path) -> None:
    path = d / "foreign setgid"
    path.mkdir()
    os.chown(path, USER, STRANGER)
    path.chmod(0o2777)


def _sticky(d: Path) -> None:
    sticky = d / "sticky"
    sticky.mkdir()
    (sticky / "theirs").write_text("")
    (sticky / "their directory").mkdir()
    for path in (sticky / "theirs", sticky / "their directory", sticky):
        os.chown(path, STRANGER, STRANGER)
    sticky.chmod(0o1777)


def _access(d: Path) -> None:
    (d / "access").mkdir()
    owners = ((USER, STRANGER), (STRANGER, GROUP), (STRANGER, SUPPLEMENTARY), (STRANGER, STRANGER))
    for uid, gid in owners:
        for mode in (0o000, 0o400, 0o200, 0o040, 0o020, 0o004, 0o002, 0o070, 0o777):
            path = d / "access" / f"{uid}-{gid}-{mode:03o}"
            path.write_text("content")
            os.chown(path, uid, gid)
            path.chmod(mode)


def _closed(d: Path) -> None:
    for name, mode in (("closed", 0o700), ("search only", 0o711), ("list only", 0o744)):
        (d / name).mkdir()
        (d / name / "f").write_text("x")
        (d / name).chmod(mode)


def _acls(d: Path) -> None:
    entries = {
        "acl read": f"u:{USER}:r",
        "acl write": f"u:{USER}:rw",
        "acl group": f"g:{SUPPLEMENTARY}:r",
        "acl denied": f"u:{USER}:-,o:r",
    }
    for name, entry in entries.items():
        path = d / name
        path.write_text("content")
        path.chmod(0o600)
        subprocess.run(["setfacl", "-m", entry, path], check=True)


def test_the_root_directory_behaves(stand: Stand) -> None:
    assert stand.mount.stat().st_ino == 1
    assert attempt(os.rmdir, stand.mount) == "EBUSY"
    assert attempt(os.rename, stand.mount, stand.mount / "x") == "EXDEV"
    names = os.listdir(stand.mount)
    assert names.count(".snapshot") == 1


def test_a_limit_on_inodes_is_shown(stand: Stand) -> None:
    assert os.statvfs(stand.mount).f_files == 0
    stand.volume.modify(files=100_000)
    figures = os.statvfs(stand.mount)
    assert figures.f_files == 100_000
    assert 0 < figures.f_ffree < 100_000
    stand.volume.modify(files=0)


def fill(path: Path) -> None:
    """Write until something forbids it."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(os.urandom(1 << 20))


def test_statistics_are_those_of_the_volume(stand: Stand) -> None:
    size = stand.volume.usage().used + (40 << 20)
    stand.volume.modify(size=size)
    figures = os.statvfs(stand.mount)
    assert figures.f_blocks * figures.f_frsize <= size
    assert figures.f_namemax == 255
    assert 0 < figures.f_bavail <= figures.f_bfree <= figures.f_blocks
    full = stand.mount / "full"
    with pytest.raises(OSError, match="No space left"):
        fill(full)
    full.unlink()
    stand.volume.modify(size=0)
