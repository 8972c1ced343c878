"""Phases III, IV and V: directories, files and access control lists go into the stream."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.dump import directory, directoryfile, private
from appliance.dump.acls import AccessControlLists
from appliance.dump.attributes import JUNCTION, Attributes, sort_attributes
from appliance.dump.directoryfile import DirectoryFile
from appliance.dump.emitter import Emitter
from appliance.dump.mapping import DumpMap
from appliance.dump.packing import FULL, HOLES
from appliance.dump.private import Item
from appliance.dump.progress import Progress
from appliance.dump.record import BLOCK, MAX_SEGMENT, Extent, Part, RecordType
from appliance.dump.scan import Scan, ScannedInode, Want

_SEGMENT = MAX_SEGMENT * BLOCK
_STEP = 64

UNNAMED = ScannedInode(
    0, stat.S_IFREG | 0o600, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [], [], {}, [], None
)
"""The inode of the unnamed files that carry the stream's own data."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that could not be read whole; zeroes stand for what is missing."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class _Segment:
    """What one header announces: its blocks, and the ranges of bytes that are on tape."""

    count: int
    addresses: bytes
    runs: tuple[tuple[int, int], ...]


def segments(size: int, extents: list[tuple[int, int]]) -> Iterator[_Segment]:
    """Cut a file of `size` bytes into headers' worth; `extents` as in ScannedInode."""
    if len(extents) == 1 and extents[0][0] == 0 and extents[0][1] >= size:
        for start in range(0, size, _SEGMENT):
            length = min(size - start, _SEGMENT)
            count = -(-length // BLOCK)
            yield _Segment(count, FULL[count], ((start, length),))
        return
    position = 0
    for start in range(0, size, _SEGMENT):
        end = min(start + _SEGMENT, size)
        while position < len(extents) and extents[position][1] <= start:
            position += 1
        yield _segment(start, end, _clip(extents, position, start, end))


def _clip(
    extents: list[tuple[int, int]], position: int, start: int, end: int
) -> list[tuple[int, int]]:
    """Give the ranges of blocks within [start, end) that hold data, merged, from `start` on."""
    runs: list[tuple[int, int]] = []
    while position < len(extents) and extents[position][0] < end:
        first = (max(extents[position][0], start) - start) // BLOCK
        last = -(-(min(extents[position][1], end) - start) // BLOCK)
        if runs and first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
        position += 1
    return runs


def _segment(start: int, end: int, blocks: list[tuple[int, int]]) -> _Segment:
    count = -(-(end - start) // BLOCK)
    if not blocks:
        return _Segment(count, HOLES, ())
    addresses = bytearray(MAX_SEGMENT)
    runs = []
    for first, last in blocks:
        addresses[first:last] = b"\1" * (last - first)
        begin = start + first * BLOCK
        runs.append((begin, min(start + last * BLOCK, end) - begin))
    return _Segment(count, bytes(addresses), tuple(runs))


class StreamWriter:
    """Writes the inodes of a `DumpMap`.

    `dump_item` describes the dump, `acls` says whether access control
    lists are dumped. `damaged` holds what could not be read.
    """

    def __init__(
        self,
        scan: Scan,
        found: DumpMap,
        emitter: Emitter,
        progress: Progress,
        dump_item: Item,
        acls: bool = True,
    ) -> None:
        self._scan = scan
        self._map = found
        self._emitter = emitter
        self._progress = progress
        self._directory_file = DirectoryFile(dump_item, found.numbering)
        self._with_acls = acls
        self.acls = AccessControlLists()
        self.dropped_acls = 0
        self.long_names = 0
        self.damaged: list[Damage] = []

    # -- phase III --------------------------------------------------------------------------

    def directories(self) -> None:
        """Phase III: the directories on tape, the root first; then the directory file."""
        numbers = self._map.directories
        want = Want.ENTRIES | Want.XATTRS | Want.NAMES
        done = 0
        for part in (numbers[:1], numbers[1:]):
            for inode in self._scan.inodes(want, part):
                self._directory(inode)
                done += 1
                if not done % _STEP:
                    self._progress.step(done, self._emitter.tapea * BLOCK)
        self._emitter.with_payload(
            directoryfile.TAPE_INODE, UNNAMED, self._directory_file.chain(self._scan),
            size=self._directory_file.size(), part=Part.DIRECTORIES,
        )  # fmt: skip
        self._progress.step(done, self._emitter.tapea * BLOCK)

    def _directory(self, inode: ScannedInode) -> None:
        number = self._map.numbering.tape(inode.number)
        data = directory.encode(self._entries(inode, number))
        attributes = sort_attributes(inode.xattrs)
        self._emitter.with_payload(number, inode, data, created=attributes.created)
        self._directory_file.add(inode.number, attributes)
        self._attributes(number, inode, attributes, ())

    def _entries(self, inode: ScannedInode, number: int) -> Iterator[tuple[int, bytes, int]]:
        tape, keeps, junctions = self._map.numbering.tape, self._map.keeps, self._map.junctions
        root = inode.number == self._map.root
        yield number, b".", directory.DIRECTORY
        yield number if root else tape(inode.names[0][0]), b"..", directory.DIRECTORY
        for child, name, kind in inode.entries:
            if keeps(child, name):
                if len(name) == directory.MAX_NAME:
                    self.long_names += 1
                yield tape(child), name, directory.SYMLINK if child in junctions else kind

    def _attributes(
        self,
        number: int,
        inode: ScannedInode,
        attributes: Attributes,
        items: tuple[Item, ...],
    ) -> None:
        """Write what belongs to an inode behind its data."""
        for record in attributes.records:
            self._emitter.with_payload(number, inode, record, extent=Extent.XATTR)
        if items:
            payload = private.encode(items)
            self._emitter.with_payload(number, inode, payload, extent=Extent.PRIVATE)
        if attributes.descriptor is not None:
            if self._with_acls:
                self.acls.add(inode.number, number, attributes.descriptor)
            else:
                self.dropped_acls += 1

    # -- phase IV ---------------------------------------------------------------------------

    def files(self, done_so_far: Callable[[int], None] | None = None) -> None:
        """Phase IV: everything else on tape, ascending; `done_so_far` hears how many are done."""
        done = 0
        for inode in self._scan.inodes(Want.DATA | Want.XATTRS, self._map.files):
            self._file(inode)
            done += 1
            if not done % _STEP:
                if done_so_far:
                    done_so_far(done)
                self._progress.step(done, self._emitter.tapea * BLOCK)
        self._progress.step(done, self._emitter.tapea * BLOCK)

    def _file(self, inode: ScannedInode) -> None:
        number = self._map.numbering.tape(inode.number)
        if inode.number in self._map.junctions:
            inode = _as_link(inode)
        kind = inode.mode & 0o170000
        if not inode.xattrs:
            created, part, attributes = None, 0, None
        else:
            attributes = sort_attributes(inode.xattrs)
            created, part = attributes.created, attributes.part
        if kind not in (stat.S_IFREG, stat.S_IFLNK) or not inode.size:
            size = inode.size if kind == stat.S_IFREG else 0
            self._emitter.header(
                RecordType.INODE, number, inode, 0, HOLES, size=size, part=part, created=created
            )
        elif inode.data is not None and len(inode.data) >= inode.size:
            data = inode.data[: inode.size]
            self._emitter.with_payload(number, inode, data, part=part, created=created)
        else:
            self._data(number, inode, part, created)
        if attributes is not None:
            self._attributes(number, inode, attributes, attributes.items)

    def _data(self, number: int, inode: ScannedInode, part: int, created: int | None) -> None:
        """Write the data of a file from its extents; what cannot be read becomes zeroes."""
        emitter, kind, reason, fd = self._emitter, RecordType.INODE, "", -1
        extents = [(0, len(inode.data))] if inode.data is not None else inode.extents
        try:
            for segment in segments(inode.size, extents):
                emitter.header(
                    kind, number, inode, segment.count, segment.addresses,
                    part=part, created=created,
                )  # fmt: skip
                kind = RecordType.ADDR
                for start, length in segment.runs:
                    if inode.data is not None:
                        emitter.put(inode.data)
                        continue
                    if fd == -1:
                        fd, why = self._open(inode.number)
                        reason = reason or why
                    why = emitter.copy(fd, start, length)
                    reason = reason or why
        finally:
            if fd >= 0:
                os.close(fd)
        if reason:
            self._note_damage(inode.number, reason)

    def _open(self, number: int) -> tuple[int, str]:
        """Open a file; -2 and the reason when that fails, since -1 stands for not tried yet."""
        try:
            return self._scan.open(number), ""
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM):
                raise  # no fault of this file
            return -2, f"cannot be opened: {error.strerror}"

    def _note_damage(self, number: int, reason: str) -> None:
        path = self._scan.path(number)
        self.damaged.append(Damage(path, reason))
        shown = path.decode(errors="backslashreplace")
        self._progress.warn(f"{shown} could not be read whole: {reason}; zeroes stand for it")

    # -- phase V ----------------------------------------------------------------------------

    def access_control_lists(self, number: int) -> None:
        """Phase V: one unnamed file, tape inode `number`, with all that was collected."""
        if not len(self.acls):
            return
        self._emitter.with_payload(
            number, UNNAMED, self.acls.chain(self._scan), size=self.acls.size(),
            part=Part.ACL_FILE,
        )  # fmt: skip
        self._progress.step(self.acls.inodes, self._emitter.tapea * BLOCK)


def _as_link(inode: ScannedInode) -> ScannedInode:
    """Make a junction the symbolic link that stands for it."""
    target = b"/vol/" + inode.xattrs[JUNCTION]
    return inode._replace(
        mode=stat.S_IFLNK | 0o777, size=len(target), data=target, extents=[], links=1
    )
