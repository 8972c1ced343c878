"""What the appliance forbids clients: across qtrees, on restricted files, its own attributes."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH104

import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuse import metadata
from fuse.metadata import RestrictionMark
from tests.fuse.mounting import Stand, as_user, mounted
from tests.fuse.scenarios.kit import attempt, renameat2

pytestmark = pytest.mark.root

SESSION = "0a1b2c3d"


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with mounted() as stand:
        for name in ("q1", "q2"):
            stand.volume.qtrees.create(name)
        with stand.channel as channel:
            channel.invalidate([256], [(256, b"q1"), (256, b"q2")])
        yield stand


@pytest.fixture
def file(stand: Stand, request: pytest.FixtureRequest) -> Path:
    """Give a file of 64 KiB on the mount."""
    path = stand.mount / request.node.name
    path.write_bytes(b"old!" * 16384)
    return path


# -- qtrees -----------------------------------------------------------------------------------


def test_renames_and_links_do_not_cross_qtrees(stand: Stand) -> None:
    m = stand.mount
    (m / "plain" / "sub").mkdir(parents=True)
    (m / "other").mkdir()
    (m / "q1" / "sub").mkdir()
    for place in ("plain", "q1", "q1/sub"):
        (m / place / "f").write_text(place)
    (m / "top").write_text("top")
    crossing = [
        ("q1/f", "q2/f"),
        ("q1/f", "f"),
        ("q1/sub/f", "plain/sub/f2"),
        ("plain/f", "q1/f2"),
        ("plain/sub", "q2/sub"),
        ("top", "q1/top"),
    ]
    for old, new in crossing:
        assert attempt(os.rename, m / old, m / new) == "EXDEV", (old, new)
        if old != "plain/sub":
            assert attempt(os.link, m / old, m / new) == "EXDEV", (old, new)
    assert attempt(renameat2, m / "q1" / "f", m / "plain" / "f", 2) == "EXDEV"
    for old, new in [
        ("q1/f", "q1/sub/g"),
        ("q1/sub/g", "q1/f"),
        ("plain/f", "other/f"),
        ("top", "other/t"),
    ]:
        os.rename(m / old, m / new)
    os.link(m / "q1" / "f", m / "q1" / "sub" / "linked")
    os.link(m / "other" / "t", m / "plain" / "t")
    os.rename(m / "plain", m / "renamed")
    os.rename(m / "renamed", m / "other" / "inside")


def test_a_qtree_itself_is_not_the_clients_to_move_or_remove(stand: Stand) -> None:
    m = stand.mount
    assert attempt(os.rmdir, m / "q2") == "EPERM"
    assert attempt(os.rename, m / "q2", m / "q3") == "EPERM"
    (m / "empty").mkdir()
    assert attempt(os.rename, m / "empty", m / "q2") == "EPERM"
    assert attempt(renameat2, m / "empty", m / "q2", 2) == "EPERM"
    assert (m / "q2").is_dir()
    (m / "q2").chmod(0o700)


# -- attributes of the appliance --------------------------------------------------------------


def test_its_attributes_are_hidden_and_refused(stand: Stand) -> None:
    q1 = stand.mount / "q1"
    assert metadata.QTREE in os.listxattr(stand.beneath(q1))
    assert not [name for name in os.listxattr(q1) if "snapreel" in name]
    assert attempt(os.getxattr, q1, metadata.QTREE) == "ENODATA"
    assert attempt(os.removexattr, q1, metadata.QTREE) == "EPERM"
    assert attempt(os.setxattr, q1, metadata.QTREE, b"{}") == "EPERM"
    assert attempt(os.setxattr, q1, "trusted.snapreel.new", b"") == "EPERM"
    assert not [name for name in os.listxattr(stand.mount) if "snapreel" in name]


# -- restriction ------------------------------------------------------------------------------


def restrict(stand: Stand, path: Path) -> int:
    """Restrict as the engine does: first the mark, then the word to the process."""
    inode = stand.inode(path)
    stand.volume.restrictions.restrict(inode, SESSION)
    with stand.channel as channel:
        channel.restrict(inode, SESSION)
    return inode


def lift(stand: Stand, inode: int) -> None:
    stand.volume.restrictions.lift(inode)
    with stand.channel as channel:
        channel.lift(inode)


def test_every_way_in_is_shut(stand: Stand, file: Path) -> None:
    (stand.mount / "newer").write_text("x")
    reader = os.open(file, os.O_RDWR)
    os.pread(reader, 4096, 0)
    direct = os.open(file, os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    inode = restrict(stand, file)
    ways: dict[str, Callable[[], Any]] = {
        "read on an old descriptor": lambda: os.pread(reader, 4096, 0),
        "write on an old descriptor": lambda: os.pwrite(reader, b"x", 0),
        "direct read": lambda: os.preadv(direct, [page], 0),
        "direct write": lambda: os.pwritev(direct, [page], 0),
        "open": lambda: os.open(file, os.O_RDONLY),
        "open to write": lambda: os.open(file, os.O_WRONLY | os.O_TRUNC),
        "ftruncate": lambda: os.ftruncate(reader, 0),
        "truncate": lambda: os.truncate(file, 0),
        "chmod": lambda: file.chmod(0o777),
        "chown": lambda: os.chown(file, 3, 3),
        "utimes": lambda: os.utime(file),
        "unlink": file.unlink,
        "rename": lambda: file.rename(stand.mount / "elsewhere"),
        "rename over it": lambda: os.rename(stand.mount / "newer", file),
        "exchange": lambda: renameat2(stand.mount / "newer", file, 2),
        "link": lambda: os.link(file, stand.mount / "linked"),
        "setxattr": lambda: os.setxattr(file, "user.x", b""),
    }
    try:
        assert {name: attempt(way) for name, way in ways.items()} == dict.fromkeys(ways, "EBUSY")
        assert file.stat().st_size == 65536
        assert file.name in os.listdir(stand.mount)
    finally:
        lift(stand, inode)
    assert os.pread(reader, 4, 0) == b"old!"
    assert os.pwrite(reader, b"x", 0) == 1
    os.close(reader)
    os.close(direct)
    file.unlink()


def test_what_was_written_beneath_is_seen_when_it_lifts(stand: Stand, file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    with mmap.mmap(fd, 4096, prot=mmap.PROT_READ) as mapped:
        assert mapped[:4] == b"old!"
        inode = restrict(stand, file)
        stand.beneath(file).write_bytes(b"new?" * 50)
        os.utime(stand.beneath(file), ns=(5, 6))
        lift(stand, inode)
        assert mapped[:4] == b"new?"
    assert os.pread(fd, 9999, 0) == b"new?" * 50
    os.close(fd)
    assert file.stat().st_size == 200
    assert file.stat().st_mtime_ns == 6


def test_a_mark_from_before_a_crash_is_honoured(stand: Stand, file: Path) -> None:
    inode = restrict(stand, file)
    stand.process.kill()
    stand.restart()
    assert attempt(os.open, file, os.O_RDONLY) == "EBUSY"
    assert attempt(file.unlink) == "EBUSY"
    with stand.channel as channel:
        status = channel.status()
    assert status is not None
    assert status["restricted"] == {str(inode): SESSION}
    lift(stand, inode)
    assert file.read_bytes()[:4] == b"old!"


def test_a_mark_in_a_snapshot_stays(stand: Stand, file: Path) -> None:
    inode = restrict(stand, file)
    stand.volume.snapshots.create("meanwhile")
    lift(stand, inode)
    torn = stand.mount / ".snapshot" / "meanwhile" / file.name
    assert attempt(os.open, torn, os.O_RDONLY) == "EBUSY"
    assert file.read_bytes()[:4] == b"old!"
    stand.volume.snapshots.delete("meanwhile")


def test_readers_at_work_meet_it_and_come_back(stand: Stand, file: Path) -> None:
    """Readers never see a mixture: old content, EBUSY, then the new content."""
    stop = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        fd = os.open(file, os.O_RDONLY)
        while not stop.is_set():
            data = attempt(os.pread, fd, 65536, 0)
            seen.append(
                data if isinstance(data, str) else data[:4] * (len(data) // 4) == data and data[:4]
            )
        os.close(fd)

    reader = threading.Thread(target=read)
    reader.start()
    for content in (b"1111", b"2222", b"3333"):
        inode = restrict(stand, file)
        stand.beneath(file).write_bytes(content * 16384)
        lift(stand, inode)
    stop.set()
    reader.join()
    assert set(seen) <= {"EBUSY", b"old!", b"1111", b"2222", b"3333"}
    assert file.read_bytes() == b"3333" * 16384


def test_writers_at_work_change_nothing_afterwards(stand: Stand, file: Path) -> None:
    """Once the word is given, not one byte of a client's reaches the file."""
    stop = threading.Event()

    def write() -> None:
        fd = os.open(file, os.O_WRONLY)
        while not stop.is_set():
            attempt(os.pwrite, fd, b"client" * 100_000, 0)
            attempt(os.ftruncate, fd, 100 << 20)
            attempt(os.ftruncate, fd, 5)
        os.close(fd)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        for content in (b"1111" * 5000, b"2222" * 100_000):
            inode = restrict(stand, file)
            stand.beneath(file).write_bytes(content)
            for _ in range(20):
                assert stand.beneath(file).read_bytes() == content
            lift(stand, inode)
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_luns_bypass_the_page_cache(stand: Stand) -> None:
    lun = stand.mount / "q1" / "lun0"
    stand.volume.luns.create("q1/lun0", 8 << 20)
    with stand.channel as channel:
        channel.invalidate(
            [stand.beneath(lun.parent).stat().st_ino], [(stand.inode(lun.parent), b"lun0")]
        )
    fd = os.open(lun, os.O_RDWR)
    assert os.pread(fd, 512, 0) == bytes(512)
    with stand.beneath(lun).open("r+b") as beneath:
        beneath.write(b"B" * 512)
    assert os.pread(fd, 512, 0) == b"B" * 512
    inode = restrict(stand, lun)
    with pytest.raises(OSError, match="busy") as refused:
        os.pread(fd, 512, 0)
    assert refused.value.errno == errno.EBUSY
    lift(stand, inode)
    assert os.pread(fd, 512, 0) == b"B" * 512
    os.close(fd)


def test_the_engine_says_what_it_changed(stand: Stand, file: Path) -> None:
    made = stand.mount / "made"
    assert not made.exists()
    stand.beneath(made).write_text("by the engine")
    file.stat()
    stand.beneath(file).chmod(0o600)
    stand.beneath(stand.mount / "newer").unlink(missing_ok=True)
    with stand.channel as channel:
        channel.invalidate(
            [stand.inode(file)], [(256, b"made"), (256, b"newer"), (256, b"unknown")]
        )
    assert made.read_text() == "by the engine"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not (stand.mount / "newer").exists()


def test_what_the_engine_made_meanwhile_is_not_opened_unasked(stand: Stand) -> None:
    """A name the kernel believes free is no way around the permissions of the file there."""
    made = stand.mount / "private"
    stand.mount.chmod(0o777)
    assert not made.exists()
    beneath = stand.beneath(made)
    beneath.write_text("secret")
    beneath.chmod(0o600)

    def create() -> bytes:
        return os.read(os.open(made, os.O_RDWR | os.O_CREAT, 0o644), 99)

    assert as_user(attempt, create, uid=64001, gid=64001) == "EACCES"
    assert attempt(create) == b"secret"


def test_the_mark_is_what_the_engine_writes(stand: Stand, file: Path) -> None:
    inode = restrict(stand, file)
    mark = stand.volume.restrictions.get(inode)
    assert isinstance(mark, RestrictionMark)
    assert mark.session == SESSION
    lift(stand, inode)
