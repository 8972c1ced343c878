"""Names that a dump leaves out: ONTAP's EXCLUDE lists.

Up to 32 names. A `*` may be the first or the last character of a name, or both. A name is
compared with the last part of a path; an excluded directory takes all below it along.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.errors import UsageError

MAX_PATTERNS = 32


@dataclass(frozen=True, slots=True)
class Excludes:
    """A list of patterns, sorted by kind; empty excludes nothing."""

    names: frozenset[bytes] = frozenset()
    prefixes: tuple[bytes, ...] = ()
    suffixes: tuple[bytes, ...] = ()
    parts: tuple[bytes, ...] = ()
    patterns: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, patterns: Sequence[bytes]) -> "Excludes":
        """Read patterns; raises UsageError for one that cannot be, or more than 32."""
        if len(patterns) > MAX_PATTERNS:
            raise UsageError("exclude list", f"it has {len(patterns)} names, at most 32 can be")
        names, prefixes, suffixes, parts = set(), [], [], []
        for pattern in patterns:
            core = _core(pattern)
            first, last = pattern.startswith(b"*"), pattern.endswith(b"*")
            if first and last:
                parts.append(core)
            elif first:
                suffixes.append(core)
            elif last:
                prefixes.append(core)
            else:
                names.add(core)
        return cls(
            frozenset(names), tuple(prefixes), tuple(suffixes), tuple(parts), tuple(patterns)
        )

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def match(self, name: bytes) -> bool:
        """Tell whether a file or directory of this name is left out."""
        return (
            name in self.names
            or name.startswith(self.prefixes)
            or name.endswith(self.suffixes)
            or any(part in name for part in self.parts)
        )


def _core(pattern: bytes) -> bytes:
    core = pattern.removeprefix(b"*").removesuffix(b"*")
    what = f"exclude name {pattern.decode(errors='replace')!r}"
    if not core:
        raise UsageError(what, "there is nothing beside the asterisk")
    if b"*" in core:
        raise UsageError(what, "an asterisk can only be the first or the last character")
    if b"/" in core or b"\0" in core:
        raise UsageError(what, "it must be a name, not a path")
    return core
