"""What is mounted where, as this process sees it."""

import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo: `source` of type `kind` mounted at `target`."""

    target: str
    kind: str
    source: str
    root: str


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def parse_mountinfo(text: str) -> list[Mount]:
    """Read the lines of /proc/self/mountinfo; see proc(5)."""
    mounts = []
    # Only space, tab, newline and backslash are escaped: other breaks may be part of a name.
    for line in filter(None, text.split("\n")):
        fields = line.split(" ")
        separator = fields.index("-", 6)
        root, target = _unescape(fields[3]), _unescape(fields[4])
        mounts.append(Mount(target, fields[separator + 1], _unescape(fields[separator + 2]), root))
    return mounts


def mount_at(target: Path) -> Mount | None:
    """Give what is mounted at `target`, the topmost if several are."""
    path = str(target.resolve())
    text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    found = [mount for mount in parse_mountinfo(text) if mount.target == path]
    return found[-1] if found else None
