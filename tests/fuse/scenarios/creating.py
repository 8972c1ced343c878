"""Making files, directories, links and devices."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH115

import os
import socket
import stat
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import attempt, both, look, root


@both
def create_modes(d: Path) -> Any:
    found = []
    for mask in (0, 0o022, 0o077, 0o777):
        os.umask(mask)
        for mode in (0o666, 0o777, 0o4755, 0o2755, 0o1644, 0o7777, 0):
            path = d / f"f{mask}-{mode}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
            found.append(look(path))
            (d / f"d{mask}-{mode}").mkdir(mode)
            found.append(look(d / f"d{mask}-{mode}"))
            os.mkfifo(d / f"p{mask}-{mode}", mode)
            found.append(look(d / f"p{mask}-{mode}"))
    os.umask(0o022)
    return found


@both
def create_exclusive(d: Path) -> Any:
    path = d / "f"
    how = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(path, how))
    (d / "link").symlink_to("nowhere")
    return attempt(os.open, path, how), attempt(os.open, d / "link", how)


@both
def create_through_a_dangling_link(d: Path) -> Any:
    (d / "link").symlink_to("target")
    (d / "link").write_text("x")
    return (d / "target").read_text(), look(d / "target")


@both
def create_in_what_is_no_directory(d: Path) -> Any:
    (d / "f").write_text("")
    return [
        attempt((d / "f" / "x").write_text, "x"),
        attempt((d / "missing" / "x").write_text, "x"),
        attempt(os.mkdir, d / "f" / "x"),
        attempt(os.mkdir, d / "f"),
        attempt(os.open, d, os.O_WRONLY),
        attempt(os.open, d / "f", os.O_RDONLY | os.O_DIRECTORY),
        attempt(os.listdir, d / "f"),
    ]


@both
def names(d: Path) -> Any:
    longest = b"n" * 255
    odd = [
        longest,
        b"\xff\xfe not utf-8 \x01",
        "über ☃".encode(),
        b" ",
        b"new\nline",
        b"-rf",
        b"...",
    ]
    base = os.fsencode(d)
    for name in odd:
        os.close(os.open(base + b"/" + name, os.O_CREAT | os.O_WRONLY))
    too_long = base + b"/" + b"n" * 256
    return (
        sorted(os.listdir(base)),
        attempt(os.open, too_long, os.O_CREAT | os.O_WRONLY),
        attempt(os.mkdir, too_long),
        attempt(os.stat, too_long),
        attempt(os.rename, base + b"/ ", too_long),
    )


@both
def nodes(d: Path) -> Any:
    found = [attempt(os.mkfifo, d / "fifo")]
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(d)
        listener.bind("socket")
    os.mknod(d / "plain", stat.S_IFREG | 0o640)
    found.append(attempt(os.mknod, d / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
    found.append(attempt(os.mknod, d / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000)))
    return found, [(path.name, look(path)) for path in sorted(d.iterdir())]


@root
def devices_work(d: Path) -> Any:
    os.mknod(d / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    return look(d / "zero")


@both
def fifo_carries_data(d: Path) -> Any:
    os.mkfifo(d / "fifo")
    fd = os.open(d / "fifo", os.O_RDWR)
    os.write(fd, b"through")
    data = os.read(fd, 99)
    os.close(fd)
    return data


@both
def symlinks(d: Path) -> Any:
    longest = "t" * 4095
    (d / "long").symlink_to(longest)
    (d / "loop").symlink_to("loop")
    os.symlink(b"\xff\xfe", os.fsencode(d) + b"/odd")
    return (
        str((d / "long").readlink()) == longest,
        look(d / "long"),
        os.readlink(os.fsencode(d) + b"/odd"),
        attempt(os.open, d / "loop", os.O_RDONLY),
        attempt(os.symlink, "t" * 4096, d / "too long"),
        attempt(os.symlink, "", d / "empty"),
        attempt(os.readlink, d),
        attempt(os.symlink, "x", d / "long"),
    )
