"""Times, modes, owners and who may do what."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH104

import mmap
import os
import stat
import time
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import (
    GROUP,
    STRANGER,
    SUPPLEMENTARY,
    USER,
    attempt,
    both,
    changed,
    look,
    root,
    run,
    user,
)


@both
def times(d: Path) -> Any:
    path = d / "f"
    path.write_text("")
    found = []
    for atime, mtime in (
        (1, 2),
        (10**18 + 123_456_789, 10**18 + 987_654_321),
        (-5, -7),
        (0, 2**33 * 10**9),
    ):
        os.utime(path, ns=(atime, mtime))
        found.append((path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (d / "s").symlink_to("f")
    os.utime(d / "s", ns=(77, 88), follow_symlinks=False)
    os.utime(d, ns=(3, 4))
    found.append((d / "s").lstat().st_mtime_ns)
    found.append((path.stat().st_mtime_ns, d.stat().st_mtime_ns))
    os.utime(path)
    return [*found, abs(path.stat().st_mtime - time.time()) < 60]


@both
def one_time_alone(d: Path) -> Any:
    path = d / "f"
    path.write_text("")
    os.utime(path, ns=(111, 222))
    run("touch", "-a", "-d", "@1000", path)
    found = [(path.stat().st_atime_ns, path.stat().st_mtime_ns)]
    run("touch", "-m", "-d", "@2000", path)
    found.append((path.stat().st_atime_ns, path.stat().st_mtime_ns))
    return found


@both
def which_times_move(d: Path) -> Any:
    path, sub = d / "f", d / "sub"
    path.write_text("x")
    sub.mkdir()
    (d / "g").write_text("")
    fd = os.open(path, os.O_RDWR)
    found = {
        "write": changed(path, lambda: os.write(fd, b"y")),
        "chmod": changed(path, lambda: path.chmod(0o600)),
        "truncate": changed(path, lambda: os.truncate(path, 0)),
        "truncate to same": changed(path, lambda: os.truncate(path, 0)),
        "ftruncate": changed(path, lambda: os.ftruncate(fd, 9)),
        "open with O_TRUNC": changed(path, lambda: path.open("wb").close()),
        "open of an empty file with O_TRUNC": changed(path, lambda: path.open("wb").close()),
        "link": changed(path, lambda: os.link(path, d / "h")),
        "unlink of one name": changed(path, (d / "h").unlink),
        "xattr": changed(path, lambda: os.setxattr(path, "user.a", b"1")),
        "rename": changed(path, lambda: os.rename(path, d / "f2") or os.rename(d / "f2", path)),
        "create in": changed(sub, (sub / "x").touch),
        "remove in": changed(sub, (sub / "x").unlink),
        "mkdir in": changed(sub, (sub / "y").mkdir),
        "rename in": changed(sub, lambda: os.rename(sub / "y", sub / "z")),
        "rename out of": changed(sub, lambda: os.rename(sub / "z", d / "z")),
        "rename into": changed(sub, lambda: os.rename(d / "g", sub / "g")),
        "utime": changed(path, lambda: os.utime(path, ns=(1, 1))),
        "chown to same": changed(path, lambda: os.chown(path, os.getuid(), -1)),
    }
    os.close(fd)
    return found


@both
def chmod(d: Path) -> Any:
    (d / "f").write_text("")
    (d / "s").mkdir()
    found = []
    for mode in (0, 0o777, 0o4755, 0o2755, 0o1777, 0o7777, 0o2644):
        for name in ("f", "s"):
            (d / name).chmod(mode)
            found.append(look(d / name))
    (d / "s").chmod(0o755)
    (d / "link").symlink_to("f")
    found.append(attempt(os.chmod, d / "missing", 0o644))
    return found


@root
def chown_by_root(d: Path) -> Any:
    (d / "f").write_text("")
    (d / "dir").mkdir()
    (d / "s").symlink_to("f")
    found = []
    for mode in (0o6755, 0o2644, 0o4644):
        for name in ("f", "dir"):
            (d / name).chmod(mode)
            os.chown(d / name, USER, GROUP)
            found.append(look(d / name))
            (d / name).chmod(mode)
            os.chown(d / name, -1, -1)
            found.append(look(d / name))
    os.chown(d / "s", 7, 8, follow_symlinks=False)
    os.chown(d / "f", 2**32 - 2, 2**32 - 2)
    return found, look(d / "s"), look(d / "f")


@user
def chown_by_a_user(d: Path) -> Any:
    (d / "f").write_text("")
    found = [
        attempt(os.chown, d / "f", STRANGER, -1),
        attempt(os.chown, d / "f", -1, STRANGER),
        attempt(os.chown, d / "f", -1, SUPPLEMENTARY),
        look(d / "f"),
    ]
    (d / "f").chmod(0o6755)
    found.append(attempt(os.chown, d / "f", USER, GROUP))
    return found, look(d / "f")


@user
def chmod_drops_setgid_of_a_foreign_group(d: Path) -> Any:
    path = d / "foreign group"
    return attempt(path.chmod, 0o2755), look(path)


ACTIONS = ("write", "truncate", "ftruncate", "trunc-open", "nothing", "append", "direct")


@user
def writing_clears_setuid(d: Path) -> Any:
    found = []
    for mode in (0o6777, 0o4755, 0o2755, 0o2745, 0o6644):
        for action in ACTIONS:
            path = d / f"{mode}{action}"
            path.write_text("data")
            path.chmod(mode)
            _touch_data(path, action)
            found.append((action, look(path)))
    return found


@root
def writing_as_root_keeps_setuid(d: Path) -> Any:
    found = []
    for mode in (0o6777, 0o2745):
        for action in ACTIONS:
            path = d / f"{mode}{action}"
            path.write_text("data")
            path.chmod(mode)
            _touch_data(path, action)
            found.append((action, look(path)))
    return found


def _touch_data(path: Path, action: str) -> None:
    if action == "truncate":
        os.truncate(path, 1)
    elif action == "nothing":
        return
    elif action == "direct":
        fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        os.pwritev(fd, [mmap.mmap(-1, 4096)], 0)
        os.close(fd)
    else:
        extra = {"trunc-open": os.O_TRUNC, "append": os.O_APPEND}.get(action, 0)
        fd = os.open(path, os.O_WRONLY | extra)
        if action in ("write", "append"):
            os.write(fd, b"new")
        elif action == "ftruncate":
            os.ftruncate(fd, 2)
        os.close(fd)


@root
def writing_drops_capabilities(d: Path) -> Any:
    path = d / "f"
    path.write_text("x")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)
    before = os.getxattr(path, "security.capability") == capability
    with path.open("a") as file:
        file.write("y")
    return before, attempt(os.getxattr, path, "security.capability")


@both
def setgid_directories(d: Path) -> Any:
    os.chown(d, -1, SUPPLEMENTARY)
    d.chmod(0o2775)
    (d / "f").write_text("")
    (d / "dir").mkdir()
    (d / "dir" / "deep").mkdir()
    (d / "s").symlink_to("x")
    os.mkfifo(d / "p")
    fd = os.open(d / "g", os.O_CREAT | os.O_WRONLY, 0o2775)
    os.close(fd)
    os.mknod(d / "h", stat.S_IFREG | 0o2755)
    return [(str(p.relative_to(d)), look(p)) for p in sorted(d.rglob("*"))]


@user
def setgid_directory_of_a_foreign_group(d: Path) -> Any:
    sub = d / "foreign setgid"
    os.close(os.open(sub / "f", os.O_CREAT | os.O_WRONLY, 0o2775))
    (sub / "dir").mkdir(0o2775)
    os.mknod(sub / "g", stat.S_IFREG | 0o2775)
    return [(p.name, look(p)) for p in sorted(sub.iterdir())]


@user
def sticky_directory(d: Path) -> Any:
    sticky = d / "sticky"
    (sticky / "mine").write_text("")
    return [
        attempt(os.unlink, sticky / "theirs"),
        attempt(os.rename, sticky / "theirs", d / "x"),
        attempt(os.rename, sticky / "mine", sticky / "theirs"),
        attempt(os.rmdir, sticky / "their directory"),
        attempt(os.unlink, sticky / "mine"),
    ]


@user
def permissions(d: Path) -> Any:
    found: list[Any] = []
    for name in sorted(path.name for path in (d / "access").iterdir()):
        path = d / "access" / name
        found.append(
            (
                name,
                attempt(path.read_text),
                attempt(os.open, path, os.O_WRONLY),
                attempt(os.truncate, path, 0),
                attempt(os.utime, path),
                attempt(os.utime, path, ns=(1, 1)),
                attempt(path.chmod, 0o777),
                attempt(os.setxattr, path, "user.x", b""),
                attempt(os.getxattr, path, "user.none"),
                [os.access(path, mode) for mode in (os.R_OK, os.W_OK, os.X_OK)],
            )
        )
    return found


@user
def search_permission(d: Path) -> Any:
    closed = d / "closed"
    return [
        attempt(os.listdir, closed),
        attempt((closed / "f").read_text),
        attempt((closed / "new").write_text, ""),
        attempt(os.stat, closed / "missing"),
        attempt(os.chdir, closed),
        attempt(os.listdir, d / "search only"),
        attempt((d / "search only" / "f").read_text),
        attempt(os.listdir, d / "list only"),
        attempt((d / "list only" / "f").read_text),
        attempt((d / "list only" / "new").write_text, ""),
    ]


@user
def own_closed_directory(d: Path) -> Any:
    sub = d / "sub"
    sub.mkdir()
    (sub / "f").write_text("x")
    sub.chmod(0)
    found = [
        attempt((sub / "f").read_text),
        attempt(os.listdir, sub),
        attempt(os.rename, sub, d / "moved"),
    ]
    (d / "moved").chmod(0o700)
    return found, (d / "moved" / "f").read_text()


@user
def read_only_file_just_created(d: Path) -> Any:
    fd = os.open(d / "f", os.O_CREAT | os.O_WRONLY, 0o444)
    os.write(fd, b"written all the same")
    os.close(fd)
    return (d / "f").read_text(), attempt(os.open, d / "f", os.O_WRONLY)
