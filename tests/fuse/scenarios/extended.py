"""Extended attributes and access control lists."""

# The system calls themselves are what is tested.

import ctypes
import errno
import os
import stat
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import STRANGER, SUPPLEMENTARY, attempt, both, libc, look, run, user


@both
def extended_attributes(d: Path) -> Any:
    path = d / "f"
    path.write_text("")
    (d / "s").symlink_to("f")
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, b"user.\xff", b"\x00\xff")
    os.setxattr(path, "user.big", b"v" * 8000)
    found = [
        sorted(os.listxattr(path)),
        os.getxattr(path, "user.big"),
        os.getxattr(path, b"user.\xff"),
        attempt(os.setxattr, path, "user.one", b"2", os.XATTR_CREATE),
        attempt(os.setxattr, path, "user.none", b"2", os.XATTR_REPLACE),
        attempt(os.setxattr, path, "user.one", b"3", os.XATTR_REPLACE),
        attempt(os.setxattr, path, "user.new", b"4", os.XATTR_CREATE),
        os.getxattr(path, "user.one"),
        attempt(os.getxattr, path, "user.none"),
        attempt(os.removexattr, path, "user.none"),
        attempt(os.removexattr, path, "user.one"),
        attempt(os.setxattr, path, "user." + "n" * 250, b""),
        attempt(os.setxattr, path, "user." + "n" * 251, b""),
        attempt(os.setxattr, path, "user.huge", b"v" * 65537),
        attempt(os.setxattr, path, "nonsense.x", b""),
        attempt(os.setxattr, path, "user.", b""),
        attempt(os.setxattr, path, "trusted.x", b"t"),
        attempt(os.setxattr, path, "security.x", b"s"),
        attempt(os.getxattr, path, "trusted.x"),
        attempt(os.setxattr, d / "s", "user.x", b"", follow_symlinks=False),
        attempt(os.setxattr, d / "s", "trusted.x", b"", follow_symlinks=False),
        attempt(os.setxattr, d, "user.directory", b"d"),
        sorted(os.listxattr(path)),
        sorted(os.listxattr(d / "s", follow_symlinks=False)),
    ]
    size = libc.getxattr(os.fsencode(path), b"user.big", ctypes.create_string_buffer(10), 10)
    return found, size, errno.errorcode[ctypes.get_errno()]


@both
def many_attributes(d: Path) -> Any:
    path = d / "f"
    path.write_text("")
    for number in range(300):
        os.setxattr(path, f"user.{number}", str(number).encode())
    return sorted(os.listxattr(path)), {os.getxattr(path, f"user.{n}") for n in range(300)}


@both
def access_control_lists(d: Path) -> Any:
    path = d / "f"
    path.write_text("")
    found = [run("setfacl", "-m", f"u:{STRANGER}:rwx,g:{SUPPLEMENTARY}:r", path)[0], look(path)]
    found.append(run("getfacl", "-cpn", path))
    path.chmod(0o640)
    found.append(run("getfacl", "-cpn", path))
    found.append(run("setfacl", "-b", path)[0])
    found += [run("getfacl", "-cpn", path), look(path), sorted(os.listxattr(path))]
    return found


@both
def default_acls_replace_the_umask(d: Path) -> Any:
    os.umask(0o077)
    found: list[Any] = [run("setfacl", "-d", "-m", f"u::rwx,u:{STRANGER}:rwx,g::rx,o::rx", d)[0]]
    (d / "dir").mkdir()
    (d / "dir" / "deep").mkdir(0o700)
    os.close(os.open(d / "f", os.O_CREAT | os.O_WRONLY, 0o666))
    os.mkfifo(d / "p", 0o622)
    os.mknod(d / "n", stat.S_IFREG | 0o640)
    (d / "s").symlink_to("x")
    for path in sorted(d.rglob("*")):
        found.append((str(path.relative_to(d)), look(path)))
        if not path.is_symlink():
            found.append(run("getfacl", "-cpn", path))
    os.umask(0o022)
    return found


@user
def acls_decide(d: Path) -> Any:
    return [
        attempt((d / "acl read").read_text),
        attempt(os.open, d / "acl read", os.O_WRONLY),
        attempt(os.open, d / "acl write", os.O_WRONLY),
        attempt((d / "acl group").read_text),
        attempt((d / "acl denied").read_text),
        [os.access(d / "acl read", mode) for mode in (os.R_OK, os.W_OK, os.X_OK)],
    ]


@user
def setfacl_drops_setgid_of_a_foreign_group(d: Path) -> Any:
    path = d / "foreign setgid file"
    return run("setfacl", "-m", f"u:{STRANGER}:r", path)[0], look(path)
