"""Acting as the client that sent a request, so that what it makes is its own from birth.

Objects are made with the file system ids and the umask of the caller. The kernel then applies
btrfs's own rules in one step: owner, group from a setgid directory, setgid inherited by
directories, default ACLs in place of the umask. Whether the caller may do it was decided
before the request arrived; so that it is not decided twice (without the caller's supplementary
groups), this process keeps its capabilities while it carries foreign ids.
"""

# Descriptors and paths in /proc/self/fd are no business of pathlib.
# ruff: noqa: PTH101, PTH116

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pyfuse3

_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2

_OWN_UMASK = 0o077

_libc = ctypes.CDLL(None, use_errno=True)
_setfsuid = _libc.setfsuid
_setfsuid.argtypes = (ctypes.c_uint,)
_setfsgid = _libc.setfsgid
_setfsgid.argtypes = (ctypes.c_uint,)


def keep_capabilities() -> None:
    """Let this thread (and those it starts) keep its capabilities when ids change.

    Raises OSError EPERM without CAP_SETPCAP.
    """
    bits = _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
    if _libc.prctl(_PR_SET_SECUREBITS, bits | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"keeping capabilities: {os.strerror(code)}")


@contextmanager
def acting_as(caller: pyfuse3.RequestContext) -> Iterator[None]:
    """Make what is made inside with the ids and the umask of `caller`; no await inside."""
    os.umask(caller.umask)
    uid, gid = caller.uid, caller.gid
    if gid:
        _setfsgid(gid)
    if uid:
        _setfsuid(uid)
    try:
        yield
    finally:
        if uid:
            _setfsuid(0)
        if gid:
            _setfsgid(0)
        os.umask(_OWN_UMASK)


def in_group(caller: pyfuse3.RequestContext, gid: int) -> bool:
    """Say whether `caller` is root or a member of `gid`, supplementary groups included."""
    if caller.uid == 0 or caller.gid == gid:
        return True
    try:
        return gid in pyfuse3.get_sup_groups(caller.pid)
    except (OSError, RuntimeError):
        return False


def drop_privilege(target: int | str, caller: pyfuse3.RequestContext) -> bool:
    """Clear the setuid and setgid bits that a change by `caller` costs a regular file.

    `target` is a descriptor or a path in /proc/self/fd. Root keeps them. The kernel leaves
    this to the file system (HANDLE_KILLPRIV_V2). True when there was something to clear.
    """
    if caller.uid == 0:
        return False
    status = os.stat(target)
    mode = stat.S_IMODE(status.st_mode)
    if not mode & (stat.S_ISUID | stat.S_ISGID) or not stat.S_ISREG(status.st_mode):
        return False
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP or not in_group(caller, status.st_gid):
        kept &= ~stat.S_ISGID
    if kept == mode:
        return False
    os.chmod(target, kept)
    return True
