"""Paths as operators write them: /vol/VOLUME[/QTREE[/SUBTREE]], and VOLUME/QTREE."""

from dataclasses import dataclass

from appliance.errors import UsageError

_PREFIX = "/vol/"


@dataclass(frozen=True, slots=True)
class VolumePath:
    """A place in a volume; `relative` has no slash at either end, and is empty for the root.

    Names that are not UTF-8 are held with surrogate escapes, as `os.fsdecode` makes them.
    """

    volume: str
    relative: str = ""

    @classmethod
    def parse(cls, text: str) -> "VolumePath":
        """Read `/vol/VOLUME[/...]`; UsageError when it is not below /vol or climbs with `..`."""
        if not text.startswith(_PREFIX):
            raise UsageError(
                f"path {text!r}", "not in a volume; paths are /vol/VOLUME[/QTREE[/SUB]]"
            )
        if "\0" in text:
            raise UsageError(f"path {text!r}", "a name cannot hold a zero byte")
        parts = [part for part in text[len(_PREFIX) :].split("/") if part not in ("", ".")]
        if not parts:
            raise UsageError(
                f"path {text!r}", "names no volume; paths are /vol/VOLUME[/QTREE[/SUB]]"
            )
        if ".." in parts:
            raise UsageError(
                f"path {text!r}", "'..' could lead out of the volume; name it directly"
            )
        return cls(parts[0], "/".join(parts[1:]))

    def __str__(self) -> str:
        return f"{self.root}/{self.relative}" if self.relative else self.root

    @property
    def root(self) -> str:
        """The path of the volume itself."""
        return _PREFIX + self.volume

    def inside(self, noun: str) -> "VolumePath":
        """Give the path when it lies inside a volume; UsageError when it is a volume itself."""
        if not self.relative:
            raise UsageError(f"path {self}", f"it is a volume, not a {noun}")
        return self


def parse_qtree(text: str) -> VolumePath:
    """Read `VOLUME/QTREE` or `/vol/VOLUME/QTREE`; UsageError when it is neither."""
    path = VolumePath.parse(text if text.startswith(_PREFIX) else _PREFIX + text)
    if not path.relative or "/" in path.relative:
        raise UsageError(f"qtree {text!r}", "give it as VOLUME/QTREE")
    return path
