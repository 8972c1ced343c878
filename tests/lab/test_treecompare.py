"""The comparison must see every kind of difference, and nothing where there is none."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import filesystems, oddities
from tests.lab.treecompare import Manifest, Tolerance, differences

pytestmark = pytest.mark.root

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with filesystems.mounted("btrfs", tmp_path_factory.mktemp("disk")) as point:
        yield point


@pytest.fixture
def tree(disk: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    top = disk / "tree"
    top.mkdir()
    (top / "file").write_bytes(b"content of a file")
    (top / "other").write_bytes(b"content of a file")
    (top / "large").write_bytes(os.urandom(3 * MIB))
    oddities.sparse(top / "sparse", 64 * MIB)
    (top / "dir").mkdir()
    (top / "dir" / "inside").write_bytes(b"inside")
    (top / "link").symlink_to("file")
    os.link(top / "file", top / "dir" / "hard")
    os.mkfifo(top / "fifo")
    os.mknod(top / "device", 0o600 | 0o020000, os.makedev(1, 3))
    os.setxattr(top / "file", "user.note", b"note")
    os.setxattr(top / "file", "user.long", b"l" * 5000)
    shutil.copy2(top / "file", top / "dir" / "twin")
    os.setxattr(top / "link", "trusted.on-link", b"1", follow_symlinks=False)
    os.setxattr(top / "other", "system.posix_acl_access", oddities.acl([(1001, 6)]))
    yield top
    shutil.rmtree(top)


def rewrite(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file and put its times back, so that only the change itself shows."""
    status = path.lstat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")
    os.setxattr(path, "trusted.on-link", b"1", follow_symlinks=False)


def poke(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def fill_holes(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def retype(path: Path) -> None:
    path.unlink()
    path.mkdir(0o644)


def relink(top: Path) -> None:
    """Make a name one of another inode that is alike in everything."""
    (top / "dir" / "hard").unlink()
    os.link(top / "dir" / "twin", top / "dir" / "hard")


def renode(path: Path, device: int) -> None:
    path.unlink()
    os.mknod(path, 0o600 | 0o020000, device)


CHANGES: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "nothing": (lambda top: None, set()),
    "a file is gone": (lambda top: (top / "large").unlink(), {("large", "missing")}),
    "a directory is gone": (
        lambda top: shutil.rmtree(top / "dir"),
        {
            ("dir", "missing"),
            ("dir/hard", "missing"),
            ("dir/inside", "missing"),
            ("dir/twin", "missing"),
            ("file", "links"),
            ("file", "first"),
        },
    ),
    "a file is there in addition": (
        lambda top: (top / "more").write_bytes(b""),
        {("more", "extra")},
    ),
    "a byte at the start": (
        lambda top: rewrite(top / "other", lambda p: poke(p, 0)),
        {("other", "content")},
    ),
    "a byte at the end": (
        lambda top: rewrite(top / "large", lambda p: poke(p, 3 * MIB - 1)),
        {("large", "content")},
    ),
    "a byte in a hole": (
        lambda top: rewrite(top / "sparse", lambda p: poke(p, 63 * MIB)),
        {("sparse", "content")},
    ),
    "data moved by a chunk": (
        lambda top: rewrite(
            top / "large",
            lambda p: p.write_bytes(p.read_bytes()[64 * 1024 :] + p.read_bytes()[: 64 * 1024]),
        ),
        {("large", "content")},
    ),
    "holes filled": (
        lambda top: rewrite(top / "sparse", fill_holes),
        {("sparse", "allocated")},
    ),
    "shorter by zeros": (
        lambda top: rewrite(top / "sparse", lambda p: os.truncate(p, 64 * MIB - 1)),
        {("sparse", "size")},
    ),
    "mode": (lambda top: (top / "large").chmod(0o4640), {("large", "mode")}),
    "mode of a directory": (lambda top: (top / "dir").chmod(0o1755), {("dir", "mode")}),
    "mode of the top": (lambda top: top.chmod(0o700), {(".", "mode")}),
    "owner": (lambda top: os.chown(top / "fifo", 5, -1), {("fifo", "uid")}),
    "group": (lambda top: os.lchown(top / "link", -1, 5), {("link", "gid")}),
    "a nanosecond": (
        lambda top: os.utime(top / "large", ns=(0, (top / "large").stat().st_mtime_ns + 1)),
        {("large", "mtime_ns")},
    ),
    "time of a symlink": (
        lambda top: os.utime(top / "link", ns=(1, 1), follow_symlinks=False),
        {("link", "mtime_ns")},
    ),
    "target of a symlink": (
        lambda top: rewrite(top / "link", retarget),
        {("link", "target")},
    ),
    "number of a device": (
        lambda top: rewrite(top / "device", lambda p: renode(p, os.makedev(1, 5))),
        {("device", "device")},
    ),
    "kind": (
        lambda top: rewrite(top / "fifo", retype),
        {("fifo", "kind")},
    ),
    "an attribute's value": (
        lambda top: os.setxattr(top / "file", "user.note", b"nota"),
        {("file", "xattrs[user.note]"), ("dir/hard", "xattrs[user.note]")},
    ),
    "a byte of a long attribute": (
        lambda top: os.setxattr(top / "file", "user.long", b"l" * 4999 + b"m"),
        {("file", "xattrs[user.long]"), ("dir/hard", "xattrs[user.long]")},
    ),
    "an attribute more": (
        lambda top: os.setxattr(top / "dir", "user.more", b""),
        {("dir", "xattrs[user.more]")},
    ),
    "an attribute of a symlink less": (
        lambda top: os.removexattr(top / "link", "trusted.on-link", follow_symlinks=False),
        {("link", "xattrs[trusted.on-link]")},
    ),
    "an ACL": (
        lambda top: os.setxattr(
            top / "other", "system.posix_acl_access", oddities.acl([(1001, 7)])
        ),
        {("other", "xattrs[system.posix_acl_access]")},
    ),
    "a link to another inode": (
        relink,
        {
            ("dir/twin", "first"),
            ("dir/twin", "links"),
            ("file", "first"),
            ("file", "links"),
        },
    ),
    "a link broken by a copy": (
        lambda top: break_link(top / "dir" / "hard"),
        {("dir/hard", "links"), ("dir/hard", "first"), ("file", "links"), ("file", "first")},
    ),
}


def break_link(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("name", CHANGES)
def test_every_kind_of_difference_is_seen_and_nothing_else(tree: Path, name: str) -> None:
    before = Manifest.of(tree)
    times = {path: path.stat() for path in (tree, tree / "dir")}
    change, expected = CHANGES[name]
    change(tree)
    for path, status in times.items():
        if path.exists():
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    found = {(d.path, d.what) for d in differences(before, Manifest.of(tree))}

    assert found == expected


def test_json_keeps_everything(tree: Path) -> None:
    (tree / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    manifest = Manifest.of(tree)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_holes_and_written_zeros_have_the_same_content(disk: Path, tmp_path: Path) -> None:
    oddities.sparse(disk / "holes", 8 * MIB)
    (disk / "filled").write_bytes((disk / "holes").read_bytes())
    entries = Manifest.of(disk).entries
    assert entries["holes"].content == entries["filled"].content
    assert entries["holes"].allocated < entries["filled"].allocated
    (disk / "holes").unlink()
    (disk / "filled").unlink()


def test_counts(tree: Path) -> None:
    manifest = Manifest.of(tree)
    assert manifest.files == 10
    assert manifest.bytes == 17 + 17 + 17 + 3 * MIB + 64 * MIB + 6


def test_parts_can_be_left_out(tree: Path) -> None:
    manifest = Manifest.of(tree, without=frozenset({"dir", "large"}))
    assert set(manifest.entries) == {".", "device", "fifo", "file", "link", "other", "sparse"}


def test_tolerances_allow_what_they_say_and_no_more(tree: Path) -> None:
    long = "n" * 255
    (tree / long).write_bytes(b"")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tree / "socket"))
    listener.close()
    before = Manifest.of(tree)
    top = tree.stat().st_mtime_ns
    (tree / long).unlink()
    (tree / "socket").unlink()
    os.removexattr(tree / "file", "user.long")
    os.utime(tree / "large", ns=(0, (tree / "large").stat().st_mtime_ns // 1000 * 1000 + 1))
    os.utime(tree, ns=(0, top))
    after = Manifest.of(tree)
    tolerance = Tolerance(time_ns=1000, name_max=254, xattr_max=4096, kinds=frozenset({"socket"}))
    assert len(differences(before, after)) >= 4
    assert differences(before, after, ignore=tolerance) == []

    os.removexattr(tree / "file", "user.note")
    (tree / "large").unlink()
    os.utime(tree, ns=(0, top))
    found = {d.path for d in differences(before, Manifest.of(tree), ignore=tolerance)}
    assert found == {"file", "dir/hard", "large"}


def test_a_name_may_stand_for_each_long_one_lost_in_a_directory(tree: Path) -> None:
    (tree / "dir" / ("n" * 255)).write_bytes(b"")
    before = Manifest.of(tree)
    (tree / "dir" / ("n" * 255)).rename(tree / "dir" / "mangled")
    tolerance = Tolerance(name_max=254, fields=frozenset({"mtime_ns"}))
    assert differences(before, Manifest.of(tree), ignore=tolerance) == []
    assert {d.what for d in differences(before, Manifest.of(tree))} == {
        "missing",
        "extra",
        "mtime_ns",
    }
    (tree / "dir" / "second").write_bytes(b"")
    (tree / "elsewhere").write_bytes(b"")
    found = {d.path for d in differences(before, Manifest.of(tree), ignore=tolerance)}
    assert found == {"dir/second", "elsewhere"}


def test_times_out_of_range_are_not_compared(tree: Path) -> None:
    os.utime(tree / "large", ns=(0, -5))
    before = Manifest.of(tree)
    os.utime(tree / "large", ns=(0, 7 * 10**9))
    after = Manifest.of(tree)
    assert [d.what for d in differences(before, after)] == ["mtime_ns"]
    assert differences(before, after, ignore=Tolerance(time_range=(0, 2**32))) == []
    assert differences(after, before, ignore=Tolerance(time_range=(0, 2**32)))


def test_a_difference_reads_in_one_line(tree: Path) -> None:
    before = Manifest.of(tree)
    (tree / "new\nline").write_bytes(b"")
    (tree / "dir").chmod(0o700)
    lines = [
        str(d) for d in differences(before, Manifest.of(tree), ignore=Tolerance(time_ns=10**12))
    ]
    assert lines == ["'dir': mode is 448, expected 493", "'new\\nline': extra"]
