"""`.snapshot`: there at once, in every directory, and nobody can change anything in it."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH104

import errno
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuse.mounting import Stand, as_user, mounted
from tests.fuse.scenarios.kit import attempt, renameat2

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with mounted() as stand:
        yield stand


@pytest.fixture
def tree(stand: Stand, request: pytest.FixtureRequest) -> Path:
    """Give a directory on the mount with a file, a link and a deep directory in it."""
    top = stand.mount / request.node.name
    (top / "deep" / "deeper").mkdir(parents=True)
    (top / "file").write_text("then")
    os.setxattr(top / "file", "user.x", b"then")
    (top / "link").symlink_to("file")
    os.link(top / "file", top / "deep" / "same")
    return top


def test_a_snapshot_appears_in_every_directory_and_vanishes(stand: Stand, tree: Path) -> None:
    name = tree.name
    deep = tree / "deep" / ".snapshot"
    assert name not in os.listdir(deep)
    assert not (deep / name).exists()
    stand.volume.snapshots.create(name)
    assert name in os.listdir(deep)
    assert (deep / name / "same").read_text() == "then"
    assert (stand.mount / ".snapshot" / name / name / "file").read_text() == "then"
    assert sorted(os.listdir(tree / ".snapshot" / name)) == ["deep", "file", "link"]
    stand.volume.snapshots.delete(name)
    assert name not in os.listdir(deep)
    assert not (deep / name).exists()


def test_only_the_root_lists_it(stand: Stand, tree: Path) -> None:
    assert ".snapshot" in os.listdir(stand.mount)
    assert ".snapshot" not in os.listdir(tree)
    assert (tree / ".snapshot").is_dir()
    stand.volume.snapshots.create(tree.name)
    inside = tree / ".snapshot" / tree.name
    assert not (inside / ".snapshot").exists()
    stand.volume.snapshots.delete(tree.name)


def test_a_directory_that_a_snapshot_lacks(stand: Stand, tree: Path) -> None:
    stand.volume.snapshots.create(tree.name)
    (tree / "later").mkdir()
    assert tree.name not in os.listdir(tree / "later" / ".snapshot")
    assert not (tree / "later" / ".snapshot" / tree.name).exists()
    os.rename(tree / "deep", tree / "later" / "moved")
    assert (tree / "later" / "moved" / ".snapshot" / tree.name / "same").read_text() == "then"
    stand.volume.snapshots.delete(tree.name)


def test_content_and_attributes_are_those_of_then(stand: Stand, tree: Path) -> None:
    before = (tree / "file").stat()
    stand.volume.snapshots.create(tree.name)
    (tree / "file").write_text("now, and longer")
    (tree / "file").chmod(0o600)
    os.setxattr(tree / "file", "user.x", b"now")
    (tree / "link").unlink()
    old = tree / ".snapshot" / tree.name
    after = (old / "file").stat()
    for field in (
        "st_mode",
        "st_nlink",
        "st_uid",
        "st_gid",
        "st_size",
        "st_mtime_ns",
        "st_ctime_ns",
    ):
        assert getattr(after, field) == getattr(before, field)
    assert after.st_ino & (1 << 40) - 1 == before.st_ino & (1 << 40) - 1
    assert after.st_ino != before.st_ino
    assert (old / "file").read_text() == "then"
    assert os.getxattr(old / "file", "user.x") == b"then"
    assert (old / "link").readlink() == Path("file")
    stand.volume.snapshots.delete(tree.name)


CHANGES = {
    "write": lambda p: os.open(p / "file", os.O_WRONLY),
    "read-write": lambda p: os.open(p / "file", os.O_RDWR),
    "truncate on open": lambda p: os.open(p / "file", os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda p: os.truncate(p / "file", 0),
    "create": lambda p: os.open(p / "new", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda p: (p / "new").mkdir(),
    "mknod": lambda p: os.mkfifo(p / "new"),
    "symlink": lambda p: (p / "new").symlink_to("x"),
    "link within": lambda p: os.link(p / "file", p / "new"),
    "unlink": lambda p: (p / "file").unlink(),
    "rmdir": lambda p: (p / "deep" / "deeper").rmdir(),
    "rename within": lambda p: os.rename(p / "file", p / "new"),
    "rename out": lambda p: os.rename(p / "file", p.parent.parent / "out"),
    "rename in": lambda p: os.rename(p.parent.parent / "file", p / "in"),
    "exchange": lambda p: renameat2(p / "file", p / "link", 2),
    "chmod": lambda p: (p / "file").chmod(0o777),
    "chown": lambda p: os.chown(p / "file", 5, 5),
    "utimes": lambda p: os.utime(p / "file"),
    "setxattr": lambda p: os.setxattr(p / "file", "user.y", b""),
    "removexattr": lambda p: os.removexattr(p / "file", "user.x"),
    "chmod of the snapshot": lambda p: p.chmod(0o777),
    "rmdir of the snapshot": lambda p: p.rmdir(),
    "rename of the snapshot": lambda p: os.rename(p, p.parent / "renamed"),
    "new snapshot": lambda p: (p.parent / "new").mkdir(),
    "chmod of .snapshot": lambda p: p.parent.chmod(0o777),
    "utimes of .snapshot": lambda p: os.utime(p.parent),
    "setxattr of .snapshot": lambda p: os.setxattr(p.parent, "user.x", b""),
    "rmdir of .snapshot": lambda p: p.parent.rmdir(),
    "rename of .snapshot": lambda p: os.rename(p.parent, p.parent.parent / "x"),
}


def test_nothing_in_it_can_be_changed_not_even_by_root(stand: Stand, tree: Path) -> None:
    stand.volume.snapshots.create(tree.name)
    inside = tree / ".snapshot" / tree.name
    results = {name: attempt(change, inside) for name, change in CHANGES.items()}
    assert results == dict.fromkeys(CHANGES, "EROFS")
    assert attempt(os.link, inside / "file", tree / "linked") == "EXDEV"
    assert attempt(os.mkdir, tree / ".snapshot") == "EEXIST"
    assert attempt(os.rename, tree / "deep", tree / ".snapshot") in ("EROFS", "ENOTEMPTY")
    stand.volume.snapshots.delete(tree.name)


def test_a_user_may_read_what_he_might_then(stand: Stand, tree: Path) -> None:
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0o600)
    stand.volume.snapshots.create(tree.name)
    (tree / "secret").chmod(0o644)
    inside = tree / ".snapshot" / tree.name
    assert as_user(attempt, (inside / "file").read_text, uid=64001, gid=64001) == "then"
    assert as_user(attempt, (inside / "secret").read_text, uid=64001, gid=64001) == "EACCES"
    stand.volume.snapshots.delete(tree.name)


def test_a_shell_inside_sees_it_vanish(stand: Stand, tree: Path) -> None:
    stand.volume.snapshots.create(tree.name)
    shell = subprocess.Popen(
        [
            "sh",
            "-c",
            "cd .snapshot/$0 && cat file && echo && read x && cat file; ls; echo end",
            tree.name,
        ],
        cwd=tree,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "then\n"
    stand.volume.snapshots.delete(tree.name)
    out, err = shell.communicate("\n")
    assert out == "end\n"
    assert err.count("tale file handle") + err.count("No such file") >= 2


def test_an_open_file_stays_readable_and_forget_lets_go(stand: Stand, tree: Path) -> None:
    snapshot = stand.volume.snapshots.create(tree.name)
    with (tree / ".snapshot" / tree.name / "file").open() as file, stand.channel as channel:
        stand.volume.snapshots.delete(tree.name)
        channel.forget(snapshot.subvolid)
        assert file.read() == "then"
    with pytest.raises(FileNotFoundError):
        (tree / ".snapshot" / tree.name / "file").open()


def test_rename_of_a_snapshot_shows_at_once(stand: Stand, tree: Path) -> None:
    stand.volume.snapshots.create(tree.name)
    assert (tree / ".snapshot" / tree.name / "file").exists()
    stand.volume.snapshots.rename(tree.name, "renamed")
    assert not (tree / ".snapshot" / tree.name).exists()
    assert (tree / ".snapshot" / "renamed" / "file").read_text() == "then"
    stand.volume.snapshots.delete("renamed")


def test_one_directory_reached_by_two_paths(stand: Stand, tree: Path) -> None:
    """The same directory of a snapshot is found from the root and from its own `.snapshot`."""
    stand.volume.snapshots.create(tree.name)
    paths = [
        tree / "deep" / ".snapshot" / tree.name / "same",
        stand.mount / ".snapshot" / tree.name / tree.name / "deep" / "same",
    ]

    def read(path: Path) -> set[str]:
        return {path.read_text() for _ in range(150)}

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(read, paths * 2)) == [{"then"}] * 4
    stand.volume.snapshots.delete(tree.name)


def test_copying_out_of_it(stand: Stand, tree: Path) -> None:
    (tree / "deep" / "data").write_bytes(os.urandom(3 << 20))
    stand.volume.snapshots.create(tree.name)
    inside = tree / ".snapshot" / tree.name
    (tree / "deep" / "data").write_text("destroyed")
    out = stand.mount / "restored"
    subprocess.run(["cp", "-a", inside, out], check=True)
    subprocess.run(["diff", "-r", inside, out], check=True)
    found = subprocess.run(["find", inside, "-type", "f"], check=True, capture_output=True)
    assert len(found.stdout.splitlines()) == 3
    assert (out / "deep" / "data").stat().st_size == 3 << 20
    stand.volume.snapshots.delete(tree.name)


def test_visibility_is_the_volumes_choice() -> None:
    with mounted() as stand:
        stand.volume.modify(snapdir=False)
        stand.process.stop()
        stand.restart()
        assert os.listdir(stand.mount) == []
        assert (stand.mount / ".snapshot").is_dir()
        stand.volume.modify(type="dp")
        stand.process.stop()
        stand.restart()
        with pytest.raises(OSError, match="Read-only") as refused:
            (stand.mount / "f").write_text("")
        assert refused.value.errno == errno.EROFS
