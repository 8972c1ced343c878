"""The sample tree has what it promises, is the same every time, and its changes all show."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import filesystems, mutation, oddities, sampletree
from tests.lab.treecompare import Manifest, Tolerance, differences

pytestmark = pytest.mark.root

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with filesystems.mounted("btrfs", tmp_path_factory.mktemp("disk"), size=1024 * MIB) as point:
        yield point


@pytest.fixture
def top(disk: Path) -> Iterator[Path]:
    place = disk / "top"
    place.mkdir()
    yield place
    shutil.rmtree(place)


def build(top: Path) -> sampletree.Copied:
    return sampletree.copy_real(top, files=1500, budget=20 * MIB)


def test_real_files_are_copied_with_their_attributes(top: Path) -> None:
    copied = build(top)
    manifest = Manifest.of(top)
    assert copied.files == 1500
    assert copied.bytes == manifest.bytes <= 20 * MIB
    assert copied.directories == sum(e.kind == "directory" for e in manifest.entries.values()) - 1
    path, entry = next(
        (p, e) for p, e in manifest.entries.items() if p.startswith("share/") and e.content
    )
    original = Path("/usr") / path
    assert original.read_bytes() == (top / path).read_bytes()
    assert original.stat().st_mtime_ns == entry.mtime_ns


def test_the_tree_is_the_same_on_every_run(top: Path) -> None:
    for name in ("one", "two"):
        (top / name).mkdir()
        build(top / name)
        (top / name / "odd").mkdir()
        oddities.make(top / name / "odd", sparse_size=64 * MIB)
    one, two = Manifest.of(top / "one"), Manifest.of(top / "two")
    fresh = Tolerance(fields=frozenset({"mtime_ns"}))
    assert differences(one, two, ignore=fresh) == []
    assert mutation.mutate(top / "one") == mutation.mutate(top / "two")
    assert mutation.mutate_oddities(top / "one/odd") == mutation.mutate_oddities(top / "two/odd")
    assert differences(Manifest.of(top / "one"), Manifest.of(top / "two"), ignore=fresh) == []


def test_a_machine_with_few_files_still_gives_as_many_as_asked(top: Path) -> None:
    source = top / "few"
    source.mkdir()
    for number in range(7):
        (source / f"file{number}").write_bytes(os.urandom(10_000))
    (top / "made").mkdir()
    copied = sampletree.copy_real(top / "made", files=100, budget=MIB, sources=[str(source)])
    manifest = Manifest.of(top / "made")
    assert copied.files == 100
    contents = {entry.content for entry in manifest.entries.values() if entry.content}
    assert len(contents) == 100


def test_no_files_at_all_is_an_error(top: Path) -> None:
    with pytest.raises(ValueError, match="no files"):
        sampletree.copy_real(top, files=1, budget=MIB, sources=[str(top)])


def test_oddities_are_all_there(top: Path) -> None:
    oddities.make(top, sparse_size=64 * MIB)
    manifest = Manifest.of(top)
    entries = manifest.entries
    kinds = {entry.kind for entry in entries.values()}
    assert kinds == {
        "file", "directory", "symlink", "fifo", "socket", "character device", "block device",
    }  # fmt: skip
    assert entries["links/a/first"].links == 4
    assert entries["links/b/pointer-too"].links == 2
    assert max(len(os.fsencode(Path(path).name)) for path in entries) == 255
    assert max(len(path) for path in entries) > 2_700
    assert any("\n" in path for path in entries)
    assert any("\udce9" in path for path in entries)
    assert len(entries["symlinks/4000"].target) == 4000
    assert entries["attributes/file"].xattrs["user.thirty-kib"].startswith("30720:")
    assert entries["attributes/windows"].xattrs["security.NTACL"].startswith("36956:")
    assert "security.capability" in entries["attributes/capable"].xattrs
    assert entries["acls/large"].xattrs["system.posix_acl_access"].startswith("996:")
    assert "system.posix_acl_default" in entries["acls/default/child"].xattrs
    assert {entry.mode for entry in entries.values()} >= {0o4755, 0o2755, 0o1777, 0o7777, 0}
    assert entries["times/before-1970"].mtime_ns < 0
    assert entries["times/after-2106"].mtime_ns > 2**32 * 10**9
    assert entries["sparse"].size == 64 * MIB > 10 * entries["sparse"].allocated > 0
    assert entries["special/disk"].device == os.makedev(259, 70000)


def test_every_change_shows(top: Path) -> None:
    (top / "real").mkdir()
    (top / "odd").mkdir()
    build(top / "real")
    oddities.make(top / "odd", sparse_size=64 * MIB)
    before = Manifest.of(top)

    changes = mutation.mutate(top / "real")
    mutation.mutate_oddities(top / "odd")

    assert min(changes.values()) >= 1
    assert len(changes) == 20
    found = {d.what for d in differences(before, Manifest.of(top))}
    assert found >= {
        "missing", "extra", "content", "size", "mode", "uid", "gid", "mtime_ns", "kind", "links",
        "target", "xattrs[user.note]", "xattrs[user.text]", "xattrs[system.posix_acl_access]",
    }  # fmt: skip


def test_too_few_files_to_change_is_an_error(top: Path) -> None:
    (top / "file").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="only 1 files"):
        mutation.mutate(top)
