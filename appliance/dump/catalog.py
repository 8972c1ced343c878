"""What a tape holds by name: its directories, and the names they give to inodes.

Restore stage 1. Directories come before files on every tape, so the catalog is complete when
the first file comes. It keeps the directories as they are on tape and an index of 12 bytes a
name, so that millions of names fit into memory.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.dump import directory, private
from appliance.dump.private import Tag
from appliance.dump.record import ROOT_INODE, Inode
from appliance.dump.stream import Attributes, DumpReader, Summary, TapeObject
from appliance.errors import StreamError

MAX_DEPTH = 4096
"""Levels of directories below the root; more cannot be reached by any path."""

_ORDINAL_BITS = 32


@dataclass(frozen=True, slots=True)
class Name:
    """One name of an inode: the tape inode of the directory it is in, and the name itself."""

    parent: int
    name: bytes


@dataclass(slots=True)
class Directory:
    """A directory on tape: `content` is its data as it stands there.

    `parent` and `name` say where it is; parent 0 for the root and for those without a name.
    """

    number: int
    inode: Inode
    attributes: Attributes
    content: bytes
    parent: int = 0
    name: bytes = b""
    children: list[int] = field(default_factory=list)


class NameIndex:
    """The names of each inode, found by bisection; filled once, then read."""

    def __init__(self) -> None:
        self._keys: array[int] = array("Q")
        self._places: array[int] = array("I")

    def fill(self, entries: list[tuple[int, int, int]]) -> None:
        """Take (inode, directory ordinal, position) of every name."""
        entries.sort()
        self._keys = array("Q", (inode << _ORDINAL_BITS | d for inode, d, _ in entries))
        self._places = array("I", (position for _, _, position in entries))

    def find(self, inode: int) -> Iterator[tuple[int, int]]:
        """Yield (directory ordinal, position) of the names of `inode`."""
        index = bisect_left(self._keys, inode << _ORDINAL_BITS)
        while index < len(self._keys) and self._keys[index] >> _ORDINAL_BITS == inode:
            yield self._keys[index] & 0xFFFFFFFF, self._places[index]
            index += 1


class Catalog:
    """The directories of a tape as a tree that has been checked.

    Every directory has at most one name and hangs below the root, or has none at all.
    """

    def __init__(self, reader: DumpReader) -> None:
        self._reader = reader
        self._index = NameIndex()
        self._order: list[Directory] = []
        self.summary: Summary = reader.summary
        self.directories: dict[int, Directory] = {}

    # -- reading ----------------------------------------------------------------------------

    def add(self, item: TapeObject) -> None:
        """Take a directory from the stream. Raises StreamError when it is impossible."""
        if item.number in self.directories:
            raise self._reader.error(f"directory {item.number} is on the tape twice")
        content = item.read_packed()
        entry = Directory(item.number, item.inode, item.attributes(), content)
        self.directories[item.number] = entry
        self._order.append(entry)

    def add_private(self, item: TapeObject) -> None:
        """Take the directory file: private items of the directories, which come before it.

        Raises StreamError when it is damaged.
        """
        number = 0
        try:
            for part in private.decode_chain(item.read_packed()):
                if part.tag == Tag.INODE:
                    number = private.decode_inode(part.value)
                elif number in self.directories:
                    self.directories[number].attributes.items.append(part)
                elif part.tag != Tag.DUMP:
                    reason = f"the directory file is about inode {number}, which is no directory"
                    raise self._reader.error(reason)
        except private.MalformedPrivate as problem:
            raise self._reader.error(f"the directory file is damaged: {problem}") from None

    def complete(self) -> None:
        """Index all names and check the tree, when the last directory has been added.

        Raises StreamError for loops, directories with two names and impossible entries.
        """
        if ROOT_INODE not in self.directories:
            raise self._reader.error("the dump has no root directory")
        found: list[tuple[int, int, int]] = []
        for ordinal, entry in enumerate(self._order):
            found.extend(self._scan(ordinal, entry))
        self._index.fill(found)
        self._connect()

    def _scan(self, ordinal: int, entry: Directory) -> Iterator[tuple[int, int, int]]:
        """Yield the names of a directory that are on the tape or known to have been."""
        order, new_format = self.summary.header.byte_order, self.summary.new_format
        seen: set[bytes] = set()
        try:
            for position, inode in directory.scan(entry.content, order=order):
                item = directory.entry_at(
                    entry.content, position, inode, order=order, new_format=new_format
                )
                if item.name in (b".", b".."):
                    continue
                if item.name in seen:
                    raise self._error(entry, f"has the name {item.name!r} twice")
                seen.add(item.name)
                self._check_entry(entry, item)
                yield inode, ordinal, position
        except directory.MalformedDirectory as problem:
            raise self._error(entry, f"is damaged: {problem}") from None

    def _check_entry(self, entry: Directory, item: directory.Entry) -> None:
        dumped = item.inode in self.summary.dumped
        if item.inode in self.directories:
            self._give_parent(entry, item.inode, item.name)
        elif dumped and item.type == directory.DIRECTORY:
            raise self._error(entry, f"names directory {item.inode}, which is not on the tape")
        if not dumped and item.inode not in self.summary.used:
            raise self._error(entry, f"names inode {item.inode}, which is in neither map")

    def _error(self, entry: Directory, reason: str) -> StreamError:
        return self._reader.error(f"directory {entry.number} {reason}")

    def _give_parent(self, parent: Directory, number: int, name: bytes) -> None:
        child = self.directories[number]
        if number == ROOT_INODE:
            raise self._error(parent, f"names the root of the dump {name!r}")
        if child.parent:
            raise self._error(child, f"has two names: {child.name!r} and {name!r}")
        child.parent, child.name = parent.number, name
        parent.children.append(number)

    def _connect(self) -> None:
        """Refuse loops: what has a parent must hang below the root or a nameless directory."""
        roots = [d.number for d in self._order if not d.parent]
        reached = sum(1 for root in roots for _ in self.walk(root))
        if reached != len(self._order):
            raise self._reader.error("directories of the tape form a loop")

    def error(self, reason: str) -> StreamError:
        """Make the error for a tape that contradicts its own directories."""
        return self._reader.error(reason)

    # -- asking -----------------------------------------------------------------------------

    @property
    def root(self) -> Directory:
        """The root of the dump."""
        return self.directories[ROOT_INODE]

    def nameless(self) -> list[Directory]:
        """Give the directories other than the root that no directory on tape names."""
        return [d for d in self._order if not d.parent and d.number != ROOT_INODE]

    def walk(self, start: int = ROOT_INODE) -> Iterator[Directory]:
        """Yield a directory and all below it, parents first. Raises StreamError when too deep."""
        stack = [(start, 0)]
        while stack:
            number, depth = stack.pop()
            if depth > MAX_DEPTH:
                raise self._reader.error(f"directories nest deeper than {MAX_DEPTH} levels")
            entry = self.directories[number]
            yield entry
            stack.extend((child, depth + 1) for child in reversed(entry.children))

    def entries(self, number: int) -> Iterator[directory.Entry]:
        """Yield the entries of a directory on tape, without `.` and `..`."""
        order, new_format = self.summary.header.byte_order, self.summary.new_format
        content = self.directories[number].content
        for entry in directory.decode(content, order=order, new_format=new_format):
            if entry.name not in (b".", b".."):
                yield entry

    def names_of(self, number: int) -> list[Name]:
        """Give all names of an inode, in the order of the directories on tape."""
        order, new_format = self.summary.header.byte_order, self.summary.new_format
        found = []
        for ordinal, position in self._index.find(number):
            parent = self._order[ordinal]
            entry = directory.entry_at(
                parent.content, position, number, order=order, new_format=new_format
            )
            found.append(Name(parent.number, entry.name))
        return found

    def path(self, number: int) -> bytes:
        """Give the path of a directory relative to the root of the dump, b"" for the root."""
        parts: list[bytes] = []
        while number != ROOT_INODE:
            entry = self.directories[number]
            parts.append(entry.name or b"(inode %d)" % number)
            if not entry.parent:
                break
            number = entry.parent
        return b"/".join(reversed(parts))

    def join(self, name: Name) -> bytes:
        """Give the path of a name relative to the root of the dump."""
        above = self.path(name.parent)
        return above + b"/" + name.name if above else name.name

    def path_of(self, number: int) -> bytes:
        """Give one path of any inode, for messages; its number where it has no name."""
        if number in self.directories:
            return self.path(number) or b"."
        names = self.names_of(number)
        return self.join(names[0]) if names else b"(inode %d)" % number

    def find(self, path: bytes) -> Name | None:
        """Find the name that a path relative to the root means; None where there is none."""
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        parent = ROOT_INODE
        for depth, part in enumerate(parts):
            number = self._lookup(parent, part)
            if number is None:
                return None
            if depth == len(parts) - 1:
                return Name(parent, part)
            if number not in self.directories:
                return None
            parent = number
        return None

    def _lookup(self, parent: int, name: bytes) -> int | None:
        for entry in self.entries(parent):
            if entry.name == name:
                return entry.inode
        return None

    def inode_at(self, name: Name) -> int:
        """Give the inode that a name stands for; raises KeyError when there is none."""
        number = self._lookup(name.parent, name.name)
        if number is None:
            raise KeyError(name)
        return number
