"""What real trees rarely have and a dump must carry all the same.

`make` builds a tree of them in an empty directory; each function below makes one kind.
"""

import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

NAMES = (
    b"latin-\xe9-\xff",
    b"invalid-utf8-\xc3\x28",
    "unicode-\u00e4\u4e2d\U0001f4fc".encode(),
    b"new\nline",
    b" spaces around ",
    b"-leading-dash",
    b"quote'\"back\\slash$",
    b"\x01\x02\x7f control",
    b"...",
)
LONG_NAMES = (b"n" * 255, b"\xe9" * 254, "ä".encode() * 127 + b"x")
"""Names of 255 bytes, 254 and 255 bytes."""

NANOSECONDS = 10**9
TIMES = {
    "epoch": 0,
    "before-1970": -3_000_000 * NANOSECONDS - 123_456_789,
    "nanoseconds": 1_600_000_000 * NANOSECONDS + 987_654_321,
    "after-2038": 2_200_000_000 * NANOSECONDS + 1,
    "after-2106": 4_500_000_000 * NANOSECONDS + 999_999_999,
}


def make(top: Path, *, sparse_size: int = 2 * GIB) -> None:
    """Build the tree at `top`, an existing empty directory; needs root.

    `sparse_size` is the apparent size of the sparse file. The place must take attributes of
    32 KiB and times far from today, as btrfs does.
    """
    for name, maker in _MAKERS:
        directory = top / name
        directory.mkdir()
        maker(directory)
    sparse(top / "sparse", sparse_size)
    _settle(top)


def links(top: Path) -> None:
    """Make hard links within a directory and across directories, and of a symlink."""
    (top / "a").mkdir()
    (top / "b").mkdir()
    _write(top / "a" / "first", b"one inode, four names\n" * 100)
    for name in ("a/second", "b/third", "fourth"):
        os.link(top / "a" / "first", top / name)
    (top / "pointer").symlink_to("a/first")
    os.link(top / "pointer", top / "b" / "pointer-too", follow_symlinks=False)


def symlinks(top: Path) -> None:
    """Make dangling, absolute, relative, long and undecodable symlinks."""
    targets: dict[str, bytes] = {
        "dangling": b"nowhere/at/all",
        "absolute": b"/etc/passwd",
        "dotted": b"./../symlinks/./dangling",
        "itself": b"itself",
        "directory": b"..",
        "undecodable": b"caf\xe9",
        "long": b"/".join([b"x" * 99] * 40),
        "4000": b"y" * 4000,
    }
    for name, target in targets.items():
        os.symlink(target, os.fsencode(top / name))


def special(top: Path) -> None:
    """Make a fifo, a socket and device nodes with small and large numbers."""
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{here}/socket")  # a bound path has 107 bytes at most
        os.close(here)
    os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70000))


def empty(top: Path) -> None:
    """Make an empty file and empty directories."""
    _write(top / "file", b"")
    (top / "directory").mkdir()
    (top / "nested" / "deeper").mkdir(parents=True)


def names(top: Path) -> None:
    """Make files and directories with every kind of name."""
    for number, name in enumerate(NAMES + LONG_NAMES):
        _write(top / os.fsdecode(name), name + b"\n" * number)
    for name in NAMES:
        directory = top / os.fsdecode(name + b".d")
        directory.mkdir()
        _write(directory / os.fsdecode(name), b"inside")


def deep(top: Path) -> None:
    """Make a path of about 3,000 bytes."""
    path = top
    for level in range(28):
        path = path / f"{level:02}-{'d' * 97}"
        path.mkdir()
    _write(path / "bottom", b"deep down")


def attributes(top: Path) -> None:
    """Set user, trusted and security attributes, small and large, on every kind of object."""
    file = top / "file"
    _write(file, b"with attributes\n")
    values = {
        "user.empty": b"",
        "user.text": b"plain",
        "user.binary": bytes(range(256)),
        "user.five-kib": _pattern(5 * KIB, 1),
        "user.thirty-kib": _pattern(30 * KIB, 2),
        "user." + "n" * 245: b"a long name",
        "trusted.secret": b"for root only",
    }
    for name, value in values.items():
        os.setxattr(file, name, value)
    _write(top / "windows", b"with an ACL of Windows")
    os.setxattr(top / "windows", "security.NTACL", nt_acl(1024))
    many = top / "many"
    _write(many, b"")
    for number in range(200):
        os.setxattr(many, f"user.number-{number:03}", _pattern(number, number))
    (top / "directory").mkdir()
    os.setxattr(top / "directory", "user.colour", b"blue")
    (top / "link").symlink_to("file")
    os.setxattr(top / "link", "trusted.on-a-link", b"yes", follow_symlinks=False)
    ping = top / "capable"
    _write(ping, b"#!/bin/sh\n")
    os.setxattr(ping, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))


def nt_acl(entries: int) -> bytes:
    """Give the attribute in which Samba keeps a Windows ACL (version 1), of `entries` ACEs.

    The offsets in the security descriptor count from the start of the attribute.
    """
    owner, group, dacl = 8 + 20, 8 + 20 + 28, 8 + 20 + 56
    aces = b"".join(
        struct.pack("<BBHI", 0, 0, 36, 0x001F01FF) + _domain_sid(2000 + number)
        for number in range(entries)
    )
    head = struct.pack("<BBHIIII", 1, 0, 0x8004, owner, group, 0, dacl)
    body = head + _domain_sid(500) + _domain_sid(513)
    body += struct.pack("<BBHHH", 2, 0, 8 + len(aces), entries, 0) + aces
    return struct.pack("<HHI", 1, 1, 0x00020000) + body


def _domain_sid(relative: int) -> bytes:
    return bytes([1, 5]) + (5).to_bytes(6, "big") + struct.pack("<5I", 21, 1, 2, 3, relative)


def acls(top: Path) -> None:
    """Set POSIX ACLs: access, default, and one of 120 entries."""
    _write(top / "access", b"shared")
    os.setxattr(top / "access", "system.posix_acl_access", acl([(1001, 6)], [(1002, 4)]))
    _write(top / "large", b"shared with many")
    os.setxattr(
        top / "large", "system.posix_acl_access", acl([(2000 + n, n % 8) for n in range(120)])
    )
    (top / "default").mkdir()
    os.setxattr(top / "default", "system.posix_acl_default", acl([(1001, 7)], [(1003, 5)]))
    _write(top / "default" / "heir", b"created below a default ACL")
    (top / "default" / "child").mkdir()


def acl(users: Sequence[tuple[int, int]], groups: Sequence[tuple[int, int]] = ()) -> bytes:
    """Give the attribute of a POSIX ACL with named `users` and `groups` (id, permissions)."""
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody)]
    entries += [(2, permissions, user) for user, permissions in users]
    entries += [(4, 4, nobody)]
    entries += [(8, permissions, group) for group, permissions in groups]
    entries += [(16, 7, nobody), (32, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def owners(top: Path) -> None:
    """Set every permission bit once, setuid, setgid and sticky, and large owner ids."""
    for bits in (0o000, 0o111, 0o444, 0o604, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777):
        file = top / f"mode-{bits:04o}"
        _write(file, b"x")
        file.chmod(bits)
    for number, (uid, gid) in enumerate([(1, 1), (1001, 100), (65534, 65534), (4_000_000_000, 7)]):
        file = top / f"owner-{number}"
        _write(file, b"x")
        os.chown(file, uid, gid)
    for name, bits in (("sticky", 0o1777), ("setgid", 0o2775), ("closed", 0o000)):
        (top / name).mkdir()
        (top / name).chmod(bits)


def times(top: Path) -> None:
    """Set times before 1970, far in the future, and with nanoseconds, on files and directories."""
    for name, when in TIMES.items():
        _write(top / name, name.encode())
        (top / f"{name}.d").mkdir()
        os.utime(top / name, ns=(when, when))
        os.utime(top / f"{name}.d", ns=(when, when))
    (top / "link").symlink_to("epoch")
    os.utime(top / "link", ns=(5, 5), follow_symlinks=False)


def sizes(top: Path) -> None:
    """Make files around every size at which a dump or a file system changes its ways."""
    for edge in (512, KIB, 2 * KIB, 4 * KIB, 64 * KIB, 512 * KIB):
        for size in (edge - 1, edge, edge + 1):
            _write(top / f"{size:07}", _pattern(size, size))
    _write(top / "zeros", bytes(100_000))


def sparse(path: Path, size: int) -> None:
    """Make a file of `size` apparent bytes: a hole, data, holes between data, a hole at its end."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.ftruncate(fd, size)
        for number in range(1, 8):
            os.pwrite(fd, _pattern(4 * KIB * number**2, number), size * number // 9)
        os.pwrite(fd, b"between two holes, not aligned", size // 2 + 12_345)
    finally:
        os.close(fd)


_MAKERS = (
    ("links", links),
    ("symlinks", symlinks),
    ("special", special),
    ("empty", empty),
    ("names", names),
    ("deep", deep),
    ("attributes", attributes),
    ("acls", acls),
    ("owners", owners),
    ("times", times),
    ("sizes", sizes),
)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _pattern(size: int, seed: int) -> bytes:
    """Give `size` bytes that differ along the way and between seeds."""
    unit = b"".join(
        ((seed * 2_654_435_761 + n * 40_503) & 0xFFFFFFFF).to_bytes(4) for n in range(256)
    )
    return (unit * (size // len(unit) + 1))[:size]


def _settle(top: Path) -> None:
    """Give the directories made here fixed times, so that the tree is the same on every run."""
    for number, name in enumerate(name for name, _ in _MAKERS):
        when = (1_500_000_000 + number * 86_400) * NANOSECONDS + number
        os.utime(top / name, ns=(when, when))
