import os
from pathlib import Path

import pytest

from fuse import loop

pytestmark = pytest.mark.root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image with a space"
    path.touch()
    os.truncate(path, 16 << 20)
    return path


def test_attach_and_find(image: Path) -> None:
    assert loop.find(image) == []
    device, fd = loop.attach(image)
    try:
        assert loop.find(image) == [device]
        other_name = image.with_name("link")
        os.link(image, other_name)
        assert loop.find(other_name) == [device]
        os.pwrite(fd, b"through the device", 0)
        os.fsync(fd)
        assert image.read_bytes().startswith(b"through the device")
    finally:
        os.close(fd)
    assert loop.find(image) == []


def test_a_device_goes_with_its_last_user(image: Path) -> None:
    device, fd = loop.attach(image)
    second = os.open(device, os.O_RDONLY)
    os.close(fd)
    assert loop.find(image) == [device]
    os.close(second)
    assert loop.find(image) == []


def test_detach_is_idempotent(image: Path) -> None:
    device, fd = loop.attach(image)
    loop.detach(device)
    os.close(fd)
    loop.detach(device)
    assert loop.find(image) == []


def test_growth_is_seen(image: Path) -> None:
    device, fd = loop.attach(image)
    try:
        os.truncate(image, 32 << 20)
        loop.refresh_capacity(device)
        assert os.lseek(fd, 0, os.SEEK_END) == 32 << 20
    finally:
        os.close(fd)


def test_two_images_get_two_devices(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    os.truncate(other, 16 << 20)
    first, first_fd = loop.attach(image)
    second, second_fd = loop.attach(other)
    assert first != second
    os.close(first_fd)
    assert loop.find(other) == [second]
    os.close(second_fd)
