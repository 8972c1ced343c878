"""Sizes as operators write and read them: 8G, 512M, 4096; K M G T are powers of 1,024."""

import re

from appliance.errors import UsageError

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_MAX = 1 << 62


def parse_size(text: str | int, what: str = "size") -> int:
    """Give the bytes that `text` means; UsageError when it means none."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise UsageError(f"{what} {text}", "give a number with K, M, G or T, such as 512M")
    size = int(float(match[1]) * 1024 ** _UNITS[match[2].upper()])
    if size > _MAX:
        raise UsageError(f"{what} {text}", "larger than anything here can hold")
    return size


def format_size(size: float | None) -> str:
    """Give bytes in at most five characters and a unit: `512`, `1.5K`, `8.0G`."""
    if size is None:
        return "-"
    value = float(size)
    for unit in ("", "K", "M", "G", "T"):
        if abs(value) < 1024:
            return f"{value:.1f}{unit}" if unit else f"{value:.0f}"
        value /= 1024
    return f"{value:.1f}P"
