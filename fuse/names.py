"""Which names ONTAP lets aggregates, volumes, qtrees, LUNs and snapshots have."""

import re

from fuse.errors import InvalidName

MAX_VOLUME_NAME = 203
MAX_QTREE_NAME = 64
MAX_LUN_NAME = 255
MAX_SNAPSHOT_NAME = 255
SNAPSHOT_DIRECTORY = ".snapshot"

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def _check_word(kind: str, name: str) -> str:
    if not name:
        raise InvalidName(kind, name, "it is empty")
    if len(name) > MAX_VOLUME_NAME:
        raise InvalidName(kind, name, f"it is longer than {MAX_VOLUME_NAME} characters")
    if not _WORD.fullmatch(name):
        reason = "use letters, digits and underscores, and start with a letter or underscore"
        raise InvalidName(kind, name, reason)
    return name


def check_aggregate_name(name: str) -> str:
    """Give `name` back; raises InvalidName. Same rules as for volumes."""
    return _check_word("aggregate", name)


def check_volume_name(name: str) -> str:
    """Give `name` back: letters, digits and underscores, no leading digit, up to 203.

    Raises InvalidName.
    """
    return _check_word("volume", name)


def _check_entry(kind: str, name: str, longest: int) -> str:
    """Check what becomes a directory entry: any Unicode without slashes and control characters."""
    if not name:
        raise InvalidName(kind, name, "it is empty")
    if name in (".", "..", SNAPSHOT_DIRECTORY):
        raise InvalidName(kind, name, "this name is reserved")
    if "/" in name:
        raise InvalidName(kind, name, "it contains a slash")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise InvalidName(kind, name, "it contains a control character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidName(kind, name, "it is not Unicode text") from None
    if len(name) > longest or size > 255:
        reason = f"it is longer than {longest} characters or 255 bytes"
        raise InvalidName(kind, name, reason)
    return name


def check_qtree_name(name: str) -> str:
    """Give `name` back: Unicode, up to 64 characters. Raises InvalidName."""
    return _check_entry("qtree", name, MAX_QTREE_NAME)


def check_lun_name(name: str) -> str:
    """Give the last component of a LUN's path back. Raises InvalidName."""
    return _check_entry("lun", name, MAX_LUN_NAME)


def check_snapshot_name(name: str) -> str:
    """Give `name` back: Unicode, up to 255 bytes. Raises InvalidName."""
    return _check_entry("snapshot", name, MAX_SNAPSHOT_NAME)
