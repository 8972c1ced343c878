"""Reading directories."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH108

import ctypes
import os
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import attempt, both, libc, look, run


@both
def listing(d: Path) -> Any:
    for number in range(500):
        (d / f"entry {number}").write_text("")
    (d / "dir").mkdir()
    (d / "link").symlink_to("x")
    entries = [
        (e.name, e.is_dir(follow_symlinks=False), e.is_file(), e.is_symlink())
        for e in os.scandir(d)
    ]
    inodes = all(e.inode() == e.stat(follow_symlinks=False).st_ino for e in os.scandir(d))
    return sorted(entries), len(entries), inodes, sorted(run("ls", "-a", d)[1].split("\n"))


@both
def listing_order(d: Path) -> Any:
    for number in range(300):
        (d / f"{number * 7919 % 300:03d}").touch()
    for number in range(0, 300, 3):
        (d / f"{number:03d}").unlink()
    (d / "late").touch()
    return os.listdir(d)


@both
def removing_while_listing(d: Path) -> Any:
    for number in range(1500):
        (d / f"f{number}").touch()
    seen = []
    with os.scandir(d) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    return len(seen), len(set(seen)), os.listdir(d)


@both
def adding_while_listing(d: Path) -> Any:
    for number in range(1000):
        (d / f"f{number}").touch()
    seen = []
    with os.scandir(d) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count < 200:
                (d / f"new{count}").touch()
    return len(set(seen)) == len(seen), {f"f{n}" for n in range(1000)} <= set(seen)


@both
def telling_and_seeking(d: Path) -> Any:
    for number in range(2000):
        (d / f"f{number}").touch()
    return walk_with_seeks(d)


def walk_with_seeks(d: Path) -> Any:
    """Read all, then read again from remembered positions, after some entries were removed."""
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    for function in (libc.readdir, libc.telldir, libc.closedir, libc.rewinddir):
        function.argtypes = (ctypes.c_void_p,)
    libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
    stream = libc.opendir(os.fsencode(d))

    def following() -> str | None:
        entry = libc.readdir(stream)
        return None if not entry else ctypes.string_at(entry + 19).decode()

    order, positions = [], []
    while True:
        positions.append(libc.telldir(stream))
        name = following()
        if name is None:
            break
        order.append(name)
    agree = []
    for index in (5, 1500, 0, 999, len(order), 1, 1999):
        libc.seekdir(stream, positions[index])
        agree.append(following() == (order[index] if index < len(order) else None))
    gone = order[700]
    if gone not in (".", ".."):
        (d / gone).unlink()
    libc.seekdir(stream, positions[700])
    agree.append(following() == order[701])
    libc.rewinddir(stream)
    agree.append(following() == order[0])
    libc.closedir(stream)
    return len(order), agree


@both
def link_counts(d: Path) -> Any:
    (d / "a" / "b" / "c").mkdir(parents=True)
    return look(d / "a"), look(d / "a" / "b")


@both
def through_dot_and_dotdot(d: Path) -> Any:
    (d / "a" / "b").mkdir(parents=True)
    return [
        (d / "a" / "b" / ".." / "." / "b").stat().st_ino == (d / "a" / "b").stat().st_ino,
        attempt(os.mkdir, d / "a" / ".."),
        attempt(os.mkdir, d / "a" / "."),
        attempt(os.rename, d / "a" / ".", d / "x"),
        attempt(os.rmdir, d / "a" / "b" / ".."),
    ]
