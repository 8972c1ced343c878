"""The life of a file system process: start, stop, crash, restart."""

# The system calls themselves are what is tested.

import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.mounting import Stand, mounted
from tests.lab import leftovers

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def standing() -> Iterator[Stand]:
    with mounted() as stand:
        yield stand


@pytest.fixture
def stand(standing: Stand) -> Stand:
    if standing.process.popen.poll() is not None:
        standing.restart()
    return standing


def mounts_at(path: Path) -> list[str]:
    return leftovers.mounts(path)


def test_the_lifeline_ends_it(stand: Stand) -> None:
    assert mounts_at(stand.mount)
    assert stand.process.stop() == 0
    assert not mounts_at(stand.mount)
    assert not stand.process.socket.exists()
    assert stand.process.log() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(stand: Stand, number: signal.Signals) -> None:
    stand.process.popen.send_signal(number)
    assert stand.process.popen.wait(20) == 0
    assert not mounts_at(stand.mount)


def test_the_channel_ends_it(stand: Stand) -> None:
    with stand.channel as channel:
        channel.unmount()
    assert stand.process.popen.wait(20) == 0
    assert not mounts_at(stand.mount)


def test_umount_ends_it(stand: Stand) -> None:
    subprocess.run(["umount", stand.mount], check=True)
    assert stand.process.popen.wait(20) == 0
    assert not mounts_at(stand.mount)


def test_a_busy_mount_is_detached(stand: Stand) -> None:
    """Clients inside keep nothing alive that a new process would stumble over."""
    (stand.mount / "f").write_text("x")
    fd = os.open(stand.mount / "f", os.O_RDWR)
    assert stand.process.stop() == 0
    assert not mounts_at(stand.mount)
    with pytest.raises(OSError, match="not connected"):
        os.pread(fd, 1, 0)
    os.close(fd)
    assert "in use" in stand.process.log()
    stand.restart()
    assert (stand.mount / "f").read_text() == "x"


def test_nothing_synced_is_lost_by_kill(stand: Stand) -> None:
    fd = os.open(stand.mount / "durable", os.O_CREAT | os.O_RDWR, 0o640)
    os.write(fd, b"kept" * 100_000)
    os.fsync(fd)
    os.write(fd, b"written, too")
    stand.process.kill()
    with pytest.raises(OSError, match="not connected"):
        (stand.mount / "durable").stat()
    os.close(fd)
    stand.restart()
    assert (stand.mount / "durable").read_bytes() == b"kept" * 100_000 + b"written, too"


def test_a_client_of_a_killed_process_does_not_hang(stand: Stand) -> None:
    fd = os.open(stand.mount / "f", os.O_CREAT | os.O_RDWR)
    stand.process.kill()
    with pytest.raises(OSError, match="not connected"):
        os.write(fd, b"x")
    os.close(fd)


def test_handles_survive_a_restart(stand: Stand) -> None:
    """What an NFS server holds of a file still opens it when the process was restarted."""
    (stand.mount / "a" / "b").mkdir(parents=True)
    (stand.mount / "a" / "b" / "f").write_text("by handle")
    handles = {path: handle_of(stand.mount / path) for path in ("a/b/f", "a/b", "a")}
    stand.process.kill()
    stand.restart()
    top = os.open(stand.mount, os.O_RDONLY)
    fd = open_handle(top, handles["a/b/f"], os.O_RDONLY)
    assert os.read(fd, 99) == b"by handle"
    directory = open_handle(top, handles["a/b"], os.O_RDONLY)
    assert os.listdir(directory) == ["f"]
    assert os.stat("..", dir_fd=directory).st_ino == (stand.mount / "a").stat().st_ino
    for each in (fd, directory, top):
        os.close(each)


def test_a_handle_of_a_deleted_file_opens_no_other() -> None:
    """btrfs gives the highest inode number again when it was mounted afresh."""
    with mounted() as stand:
        old = stand.mount / "old"
        old.write_text("deleted")
        handle, inode = handle_of(old), stand.inode(old)
        old.unlink()
        stand.process.stop()
        stand.aggregate.detach()
        stand.aggregate.attach()
        stand.restart()
        new = stand.mount / "new"
        new.write_text("not to be found by that handle")
        assert stand.inode(new) == inode
        top = os.open(stand.mount, os.O_RDONLY)
        try:
            drop_kernel_caches()
            fd = open_handle(top, handle_of(new), os.O_RDONLY)
            os.close(fd)
            with pytest.raises(AssertionError, match="Stale file handle"):
                open_handle(top, handle, os.O_RDONLY)
        finally:
            os.close(top)


def drop_kernel_caches() -> None:
    """Make the kernel forget names and inodes that nobody uses."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path: Path) -> bytes:
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)
    mount_id = ctypes.c_int()
    done = libc.name_to_handle_at(-100, os.fsencode(path), buffer, ctypes.byref(mount_id), 0)
    assert done == 0, os.strerror(ctypes.get_errno())
    return buffer.raw


def open_handle(top: int, handle: bytes, flags: int) -> int:
    fd = libc.open_by_handle_at(top, handle, flags)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return int(fd)


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuse.process", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=20
    )


def test_what_cannot_be_served_is_one_line(stand: Stand, short_root: Path) -> None:
    wanted = ["--mount", short_root, "--channel", short_root / "s"]
    aggregate = stand.aggregate.path
    done = run_process("--aggregate", aggregate, "--volume", "nope", *wanted)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "nope" in done.stderr
    done = run_process("--aggregate", short_root, "--volume", "vol1", *wanted)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    missing = ["--mount", short_root / "missing", "--channel", short_root / "s"]
    done = run_process("--aggregate", aggregate, "--volume", "native", *missing)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert run_process("--aggregate", aggregate).returncode == 2
    assert not mounts_at(short_root)


def test_a_second_process_is_refused(stand: Stand, short_root: Path) -> None:
    aggregate = ["--aggregate", stand.aggregate.path, "--volume", "vol1"]
    same = ["--mount", stand.mount, "--channel", stand.process.socket]
    done = run_process(*aggregate, *same)
    assert (done.returncode, done.stdout) == (3, "")
    assert "another file system process" in done.stderr
    elsewhere = ["--mount", short_root, "--channel", short_root / "s"]
    done = run_process(*aggregate, *elsewhere)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"in use by the mount at {stand.mount}" in done.stderr
    aggregate[-1] = "native"
    done = run_process(*aggregate, "--mount", stand.mount, "--channel", short_root / "s")
    assert done.returncode == 1
    assert "mounted there already" in done.stderr
    assert stand.process.socket.exists()
    assert os.listdir(stand.mount)


def test_the_volume_cannot_be_deleted_while_mounted(stand: Stand) -> None:
    assert stand.volume.users() == [f"the mount at {stand.mount}"]


def test_few_descriptors_are_enough_for_many_inodes(stand: Stand) -> None:
    """With 128 descriptors, 3,000 files can be known and 60 of them open."""
    stand.process.stop()
    stand.restart(["prlimit", "--nofile=128:128"])
    many = stand.mount / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{number}").touch()
    for number in range(3000):
        (many / f"{number}").chmod(0o600)
    removed = os.open(many / "0", os.O_PATH)
    (many / "0").unlink()
    held = [os.open(many / f"{number}", os.O_RDWR) for number in range(1, 61)]
    for number, fd in enumerate(held, 1):
        os.write(fd, b"%d" % number)
    found = [(many / f"{number}").read_text() for number in range(1, 61)]
    assert os.fstat(removed).st_nlink == 0
    os.close(removed)
    assert found == [str(number) for number in range(1, 61)]
    for fd in held:
        os.close(fd)
    with stand.channel as channel:
        status = channel.status()
    assert status is not None
    assert status["cached_descriptors"] <= 64
    stand.process.stop()


def test_without_descriptors_it_says_so(stand: Stand) -> None:
    """Too many open files are EMFILE, never a file that is gone; and it recovers."""
    paths = [stand.mount / f"open{number}" for number in range(80)]
    for path in paths:
        path.touch()
    stand.process.stop()
    stand.restart(["prlimit", "--nofile=64:64"])
    held: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            held.extend(os.open(path, os.O_RDONLY) for path in paths)
        with pytest.raises(OSError, match="Too many open files"):
            paths[-1].chmod(0o600)
    finally:
        for fd in held:
            os.close(fd)
    paths[-1].chmod(0o600)
    stand.process.stop()


def test_unmounting_under_load(stand: Stand) -> None:
    """Requests in flight get an answer or an error, and the process ends."""
    script = f"i=0; while echo x > {stand.mount}/load$i; do i=$((i+1)); done"
    clients = [subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL) for _ in range(3)]
    try:
        while not (stand.mount / "load20").exists():
            pass
        assert stand.process.stop() == 0
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert "Traceback" not in stand.process.log()
