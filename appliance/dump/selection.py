"""Which names of a tape are restored, and where to.

Without names everything is. A directory that is named brings all below it; the directories
above what is named are made where they are missing. `--rename OLD=NEW` moves a name and all
below it; all paths are relative to the root of the dump, NEW to the destination.
"""

from collections.abc import Sequence

from appliance.dump.catalog import Catalog, Name
from appliance.dump.record import ROOT_INODE
from appliance.errors import UsageError

RESERVED = (b"restore_symboltable", b"restore_symboltable.new", b".restore_staging")
"""Names at the root of the destination that restores keep for themselves."""

HIDDEN = b".snapshot"
"""A name that clients find snapshots under, in every directory: what has it they cannot reach."""


def split_path(path: bytes) -> list[bytes]:
    """Cut a relative path into its parts; raises UsageError for `..` and impossible names."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    for part in parts:
        if part == b".." or len(part) > 255 or b"\0" in part:
            raise UsageError(_text(path), "is no path within the dump")
    return parts


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


class Selection:
    """The choice from one catalog; raises UsageError for names that are not on the tape."""

    def __init__(
        self,
        catalog: Catalog,
        files: Sequence[bytes] = (),
        renames: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._catalog = catalog
        self._single: set[Name] = set()
        self._whole: set[int] = set()
        self._above: set[int] = set()
        self.renames: dict[Name, list[bytes]] = {}
        names = [self._find(path) for path in files]
        self.everything = not files or None in names
        if not self.everything:
            for name in names:
                if name is not None:
                    self._choose(name)
        for old, new in renames:
            self._rename(old, new)
        for parts in self.renames.values():
            self._require_free(parts)

    def _find(self, path: bytes) -> Name | None:
        """Give the name that a path means, None for the root of the dump itself."""
        if not split_path(path):
            return None
        name = self._catalog.find(path)
        if name is None or self._reserved(name):
            raise UsageError(_text(path), "is not on this tape; see what is with --list")
        number = self._catalog.inode_at(name)
        if number not in self._catalog.directories and number not in self._catalog.summary.dumped:
            raise UsageError(_text(path), "was left out of this dump")
        return name

    def _choose(self, name: Name) -> None:
        number = self._catalog.inode_at(name)
        if number in self._catalog.directories:
            self._whole.update(entry.number for entry in self._catalog.walk(number))
        else:
            self._single.add(name)
        parent = name.parent
        while parent:
            self._above.add(parent)
            parent = self._catalog.directories[parent].parent

    def _rename(self, old: bytes, new: bytes) -> None:
        name = self._find(old)
        parts = split_path(new)
        if name is None or not parts:
            raise UsageError(_text(old), "the root of the dump cannot be renamed; use --to")
        if parts[0] in RESERVED or HIDDEN in parts:
            raise UsageError(_text(new), "this name is kept for restores")
        if name in self.renames:
            raise UsageError(_text(old), "is renamed twice")
        if parts in self.renames.values():
            raise UsageError(_text(new), "is the new name of two")
        self.renames[name] = parts

    def _require_free(self, parts: list[bytes]) -> None:
        """Raise UsageError for a new name that something else on the tape is restored under."""
        path = b"/".join(parts)
        name = self._catalog.find(path)
        if name is None or self._moved(name):
            return
        number = self._catalog.inode_at(name)
        if number in self._catalog.directories:
            taken = self.needed(number)
        else:
            taken = self.wanted(name) and number in self._catalog.summary.dumped
        if taken:
            raise UsageError(_text(path), "is the name of something else that is restored")

    def _moved(self, name: Name) -> bool:
        """Whether a name, or a directory above it, is renamed."""
        while name.parent:
            if name in self.renames:
                return True
            above = self._catalog.directories[name.parent]
            name = Name(above.parent, above.name)
        return False

    @staticmethod
    def _reserved(name: Name) -> bool:
        return name.parent == ROOT_INODE and name.name in RESERVED

    def whole(self, directory: int) -> bool:
        """Whether a directory is restored itself, with its attributes and all its names."""
        return self.everything or directory in self._whole

    def needed(self, directory: int) -> bool:
        """Whether a directory has to exist: it is restored, or something below it is."""
        return self.whole(directory) or directory in self._above

    def names_of(self, number: int) -> list[Name]:
        """Give the chosen names of an inode that is no directory."""
        return self.choose(self._catalog.names_of(number))

    def choose(self, names: list[Name]) -> list[Name]:
        """Give those of some names, none of them a directory's, that are chosen."""
        return [name for name in names if self.wanted(name)]

    def wanted(self, name: Name) -> bool:
        """Whether a name that is no directory's is chosen."""
        if self._reserved(name):
            return False
        return self.whole(name.parent) or name in self._single

    def skips_reserved(self) -> bool:
        """Whether the tape has names at its root that are not restored."""
        return any(e.name in RESERVED for e in self._catalog.entries(ROOT_INODE))
