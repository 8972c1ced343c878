"""A dump from end to end: snapshot, base, phases I to V, target, dumpdates."""

import os
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from appliance.dump.btrfsscan import BtrfsScan
from appliance.dump.dumpdates import FORMAT, DumpDate, DumpDates, show_date
from appliance.dump.dumpitem import describe_dump
from appliance.dump.emitter import Emitter, StreamStart
from appliance.dump.mapping import Base, DumpMap, Mapper
from appliance.dump.opening import open_sink
from appliance.dump.prefetch import Prefetcher
from appliance.dump.progress import Progress, Report
from appliance.dump.record import BLOCK, Origin, RecordType
from appliance.dump.request import DumpRequest
from appliance.dump.scan import Want
from appliance.dump.sink import RecordSink
from appliance.dump.writing import StreamWriter
from appliance.errors import Refused, SourceDamaged, UsageError
from fuse import metadata
from fuse.aggregate import Aggregate
from fuse.errors import NotFound
from fuse.snapshot import Snapshot
from fuse.volume import Volume


@dataclass(frozen=True, slots=True)
class DumpResult:
    """What a dump came to: `date` and `base_date` in seconds since 1970, `rate` in bytes/s."""

    level: int
    base_level: int | None
    date: int
    base_date: int
    snapshot: str
    dump_uuid: str
    files: int
    directories: int
    acls: int
    bytes: int
    blocks: int
    seconds: float
    rate: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the body of a `result` event; `warnings` is how many there were."""
        texts = list(self.warnings)
        return asdict(self) | {"warnings": len(texts), "warning_texts": texts}


def run_dump(request: DumpRequest, report: Report, aborted: Callable[[], bool]) -> DumpResult:
    """Carry out a dump; events go to `report`, `aborted` is asked several times a second.

    Raises members of the three error trees: SessionAborted when `aborted` says so,
    SourceDamaged when the stream is complete but some files could not be read.
    """
    request.check()
    progress = Progress(report, aborted, request.session)
    with Aggregate.open(request.aggregate) as aggregate:
        volume = aggregate.volume(request.volume)
        if volume.subvolid != request.subvolid:
            raise NotFound("volume", request.volume)
        with volume.use(request.owner):
            return _Dump(request, volume, progress).run()


class _Dump:
    """One dump under way."""

    def __init__(self, request: DumpRequest, volume: Volume, progress: Progress) -> None:
        self._request = request
        self._volume = volume
        self._progress = progress
        self._metadata = volume.metadata()
        self._dates = DumpDates(volume.aggregate.database(), self._metadata.uuid)
        self._path = os.fsencode(request.relative)
        self._uuid = uuid.uuid4()
        self._started = time.monotonic()
        self._base_entry: DumpDate | None = None

    def run(self) -> DumpResult:
        """Dump, and clean up whatever happens."""
        request = self._request
        sink = open_sink(request.target, request.blocking_factor, request.verify)
        try:
            with self._snapshot() as snapshot:
                return self._dump(snapshot, sink)
        except SourceDamaged:  # the stream itself is complete
            raise
        except BaseException:
            sink.abandon()
            raise

    @contextmanager
    def _snapshot(self) -> Iterator[Snapshot]:
        """Lock the snapshot asked for, or make one for the time of the dump."""
        snapshots, name = self._volume.snapshots, self._request.snapshot
        owner = self._request.owner
        try:
            if name is None:
                snapshot = snapshots.create_for_backup(owner)
                shown = f"/vol/{self._volume.name}/../{snapshot.name}"
                self._progress.log(f'DUMP: creating "{shown}" snapshot.')
            else:
                snapshots.lock(name, owner)
                snapshot = snapshots.get(name)
            self._progress.event("snapshot", name=snapshot.name)
            yield snapshot
        finally:
            for gone in snapshots.expire_owner(owner):
                self._progress.log(f'DUMP: Deleting "/vol/{self._volume.name}/../{gone}" snapshot.')

    def _dump(self, snapshot: Snapshot, sink: RecordSink) -> DumpResult:
        base = self._base(snapshot)
        scan = BtrfsScan(self._volume.aggregate.fd, snapshot.subvolid)
        root, kind = self._find_root(scan, snapshot)
        self._announce(snapshot, kind)
        found = self._map(scan, root, base)
        progress = self._progress
        start = self._start(snapshot, found)
        emitter = Emitter(sink, start, progress.moved, progress.check)
        item = describe_dump(
            self._request, self._metadata, snapshot, kind, self._uuid, self._base_entry
        )
        writer = StreamWriter(scan, found, emitter, self._progress, item, self._request.acls)
        prefetcher = Prefetcher(self._volume.aggregate.fd, snapshot.subvolid, found.files)
        try:
            self._write(found, emitter, writer, prefetcher)
        finally:
            prefetcher.close()
        sink.finish(progress.check)
        self._conclude(found, writer, emitter, snapshot)
        return self._result(found, writer, emitter, snapshot)

    # -- before the phases ------------------------------------------------------------------

    def _base(self, snapshot: Snapshot) -> Base | None:
        level = self._request.level
        if not level:
            return None
        self._base_entry = entry = self._dates.base(self._path, level)
        if entry is None:
            self._progress.warn(f"no dump below level {level} is known: everything is dumped")
            return None
        if snapshot.generation < entry.generation:
            reason = (
                f"it is older than the level {entry.level} dump of {show_date(entry.date)}, "
                "which a dump of this level builds on"
            )
            raise Refused(f"snapshot {snapshot.name}", reason)
        return self._dates.load(entry)

    def _find_root(self, scan: BtrfsScan, snapshot: Snapshot) -> tuple[int, str]:
        """Give the root's inode and what it is: volume, qtree or directory."""
        path = self._request.path
        try:
            root = scan.lookup(self._path)
            inode = next(iter(scan.inodes(Want.XATTRS | Want.NAMES, [root])))
        except (FileNotFoundError, NotADirectoryError) as error:
            reason = f"there is no such directory in snapshot {snapshot.name}"
            raise UsageError(path, reason) from error
        if not stat.S_ISDIR(inode.mode):
            raise UsageError(path, "it is not a directory; dump the directory it is in")
        if not self._path:
            return root, "volume"
        qtree = metadata.QTREE.encode() in inode.xattrs and b"/" not in self._path
        return root, "qtree" if qtree else "directory"

    def _announce(self, snapshot: Snapshot, kind: str) -> None:
        log, level = self._progress.log, self._request.level
        words = {"volume": "Full Volume", "qtree": "Qtree", "directory": "Subtree"}
        log(f"DUMP: Using {words[kind]} Dump")
        date = snapshot.created_ns // 1_000_000_000
        log(f"DUMP: Date of this level {level} dump: {show_date(date)}.")
        entry = self._base_entry
        since = show_date(entry.date) if entry else "the epoch"
        log(f"DUMP: Date of last level {entry.level if entry else 0} dump: {since}.")
        log(f"DUMP: Dumping {self._request.path} to {self._request.target.name}")

    # -- the phases -------------------------------------------------------------------------

    def _map(self, scan: BtrfsScan, root: int, base: Base | None) -> DumpMap:
        progress = self._progress
        mapper = Mapper(scan, root, self._request.excludes(), base, self._backing_exists, progress)
        progress.phase(1, "DUMP: mapping (Pass I) [regular files]")
        mapper.map_files()
        progress.phase(2, "DUMP: mapping (Pass II) [directories]")
        found = mapper.map_directories()
        for number, reason in found.skipped:
            path = scan.path(number).decode(errors="backslashreplace")
            progress.warn(f"{path} is left out: {reason}")
        progress.log(f"DUMP: estimated {found.blocks} KB.")
        return found

    def _backing_exists(self, name: str) -> bool:
        try:
            self._volume.snapshots.get(name)
        except NotFound:
            return False
        return True

    def _start(self, snapshot: Snapshot, found: DumpMap) -> StreamStart:
        entry, request = self._base_entry, self._request
        origin = Origin(
            dump_uuid=self._uuid.bytes,
            volume_uuid=uuid.UUID(self._metadata.uuid).bytes,
            snapshot_time=snapshot.created_ns,
            base_time=entry.snapshot_ns if entry else 0,
            generation=snapshot.generation,
            base_generation=entry.generation if entry else 0,
            inodes=len(found.directories) + len(found.files),
            data_bytes=found.blocks * BLOCK,
            vm_align_sector=self._metadata.vm_align_sector,
        )
        return StreamStart(
            date=snapshot.created_ns // 1_000_000_000,
            base_date=entry.date if entry else 0,
            level=request.level,
            label=os.fsencode(request.label) or b"none",
            filesystem=os.fsencode(request.path),
            device=os.fsencode(snapshot.name),
            host=os.fsencode(socket.gethostname()),
            origin=origin,
        )

    def _write(
        self, found: DumpMap, emitter: Emitter, writer: StreamWriter, prefetcher: Prefetcher
    ) -> None:
        progress = self._progress
        last = found.highest + 1
        emitter.tape()
        emitter.map(RecordType.CLRI, found.used, last, last)
        emitter.map(RecordType.BITS, found.on_tape, last, 2)
        size = found.directory_blocks * BLOCK
        text = "DUMP: dumping (Pass III) [directories]"
        progress.phase(3, text, len(found.directories), size, emitter.tapea * BLOCK)
        writer.directories()
        text = "DUMP: dumping (Pass IV) [regular files]"
        rest = found.blocks * BLOCK - size
        progress.phase(4, text, len(found.files), rest, emitter.tapea * BLOCK)
        writer.files(prefetcher.done)
        text, acls = "DUMP: dumping (Pass V) [ACLs]", writer.acls
        progress.phase(5, text, acls.inodes, acls.size(), emitter.tapea * BLOCK)
        writer.access_control_lists(last)
        emitter.end(last)

    # -- after the phases -------------------------------------------------------------------

    def _conclude(
        self, found: DumpMap, writer: StreamWriter, emitter: Emitter, snapshot: Snapshot
    ) -> None:
        """Say what there is to say, and note the dump: its target is complete by now."""
        progress = self._progress
        if writer.long_names:
            progress.warn(
                f"{writer.long_names} name(s) of 255 bytes: restore(8) cannot restore them"
            )
        if emitter.far_times:
            progress.warn(
                f"{emitter.far_times} inode(s) have a time before 1677 or after 2262: "
                "the nearest that the stream can say stands for it"
            )
        if writer.dropped_acls:
            progress.warn(f"{writer.dropped_acls} access control list(s) are left out as asked")
        progress.log(f"DUMP: {emitter.tapea} KB")
        if writer.damaged:
            first = writer.damaged[0]
            name = first.path.decode(errors="backslashreplace")
            raise SourceDamaged(len(writer.damaged), name, first.reason)
        if self._request.update:
            entry = DumpDate(
                self._path, self._request.level, snapshot.created_ns, snapshot.generation,
                str(self._uuid), snapshot.name, int(time.time()), FORMAT,
            )  # fmt: skip
            self._dates.record(entry, found.used, found.missing)
        progress.log("DUMP: DUMP IS DONE")

    def _result(
        self, found: DumpMap, writer: StreamWriter, emitter: Emitter, snapshot: Snapshot
    ) -> DumpResult:
        seconds = time.monotonic() - self._started
        entry, size = self._base_entry, emitter.tapea * BLOCK
        return DumpResult(
            level=self._request.level,
            base_level=entry.level if entry else None,
            date=snapshot.created_ns // 1_000_000_000,
            base_date=entry.date if entry else 0,
            snapshot=snapshot.name,
            dump_uuid=str(self._uuid),
            files=len(found.files),
            directories=len(found.directories),
            acls=len(writer.acls),
            bytes=size,
            blocks=emitter.tapea,
            seconds=round(seconds, 3),
            rate=int(size / seconds) if seconds else 0,
            warnings=tuple(self._progress.warnings),
        )
