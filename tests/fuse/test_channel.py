"""The channel between the engine and a file system process."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuse.channel import VolumeChannel
from fuse.errors import StorageFailed
from tests.fuse.mounting import FileSystemProcess, Stand, mounted

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


def test_malformed_requests_do_no_harm(stand: Stand) -> None:
    lines = [
        *(b"", b"nonsense", b"[]", b"1", b"{}", b"\xff\xfe"),
        *(b'{"method":"nope"}', b'{"method":"restrict"}', b'{"method":"lift","inode":"x"}'),
        b'{"method":"invalidate","entries":[[1]]}',
    ]
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(stand.process.socket))
        raw.sendall(b"\n".join(lines) + b"\n")
        stream = raw.makefile("rb")
        for _ in lines:
            assert b"error" in stream.readline()
        raw.sendall(b'{"method":"stat')
    with stand.channel as channel:
        assert channel.available
        status = channel.status()
    assert status is not None
    assert status["volume"] == "vol1"


def test_no_process_means_nothing_to_tell(stand: Stand) -> None:
    stand.process.stop()
    with VolumeChannel(stand.process.socket) as channel:
        assert not channel.available
        assert channel.status() is None
        channel.restrict(300, "x")
        channel.invalidate([300], [(256, b"x")])
        channel.forget(999)
        channel.unmount()


def test_a_channel_outlives_the_process(stand: Stand) -> None:
    with stand.channel as channel:
        assert channel.status() is not None
        stand.process.kill()
        assert channel.status() is None
        stand.restart()
        assert channel.status() is not None


def test_a_long_socket_path(stand: Stand, short_root: Path) -> None:
    stand.process.stop()
    deep = short_root / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    process = FileSystemProcess(stand.aggregate.path, "vol1", stand.mount, deep / "s").wait_ready()
    try:
        with VolumeChannel(deep / "s") as channel:
            assert channel.status() is not None
    finally:
        process.close()
    assert not (deep / "s").exists()


def test_an_error_is_told(stand: Stand) -> None:
    with stand.channel as channel, pytest.raises(StorageFailed, match="volume itself"):
        channel.forget(stand.volume.subvolid)


def test_many_changes_in_one_call(stand: Stand) -> None:
    for number in range(3000):
        (stand.volume.path / f"f{number}").touch()
    names = [(256, b"f%d" % number) for number in range(3000)]
    with stand.channel as channel:
        channel.invalidate(range(257, 3257), names)
    assert (stand.mount / "f2999").exists()


def test_several_channels_at_once(stand: Stand) -> None:
    channels = [stand.channel for _ in range(20)]
    assert all(channel.status() for channel in channels)
    for channel in channels:
        channel.close()


def test_an_answer_that_never_comes(short_root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(short_root / "s"))
        silent.listen()
        channel = VolumeChannel(short_root / "s", timeout=0.05)
        with pytest.raises(StorageFailed, match="no answer"):
            channel.status()
