import errno
import os
import resource
from pathlib import Path

import pytest

from fuse import removal
from fuse.descriptors import directory
from fuse.removal import remove_tree


def remove(path: Path) -> None:
    with directory(path.parent) as fd:
        remove_tree(fd, path.name)


def test_every_kind_of_object(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("a/b/c", "a/d", "e"):
        (top / name).mkdir(parents=True)
        (top / name / "file").touch()
    os.mkfifo(top / "fifo")
    (top / "link").symlink_to("/")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe")).mkdir()
    os.close(os.open(os.fsencode(top) + b"/\xff\xfe/\xfd", os.O_CREAT | os.O_WRONLY))
    remove(top)
    assert os.listdir(tmp_path) == []
    assert os.listdir("/")


def test_deeper_than_descriptors_and_recursion_reach(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        remove(top)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir(tmp_path) == []


def test_a_link_is_not_a_tree(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "link").symlink_to("precious")
    with pytest.raises(OSError, match=r"directory|symbolic") as caught:
        remove(tmp_path / "link")
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    assert (tmp_path / "precious").exists()
    with pytest.raises(FileNotFoundError):
        remove(tmp_path / "nothing")


def test_a_directory_moved_out_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top" / "inner").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    plain = removal._remove_files

    def move_when_inside(fd: int) -> list[str]:
        inside = os.fstat(fd).st_ino == (tmp_path / "top" / "inner").stat().st_ino
        found = plain(fd)
        if inside:
            (tmp_path / "top" / "inner").rename(tmp_path / "elsewhere" / "inner")
            monkeypatch.undo()
        return found

    monkeypatch.setattr(removal, "_remove_files", move_when_inside)
    with pytest.raises(OSError, match="moved away"):
        remove(tmp_path / "top")
    assert (tmp_path / "elsewhere" / "inner").exists()
