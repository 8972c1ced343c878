"""Which run of the machine this is: what was buffered in another one may be lost."""

import uuid
from functools import cache
from pathlib import Path


@cache
def boot_hash() -> int:
    """Give a 64-bit number that changes when the machine starts anew."""
    identity = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return uuid.UUID(identity).int & ((1 << 64) - 1)
