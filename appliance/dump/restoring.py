"""A restore from its first record to its last: the stages of the manual, in order.

1  catalog what is on the tape: its maps and directories
2  make directories (files are made as they come)
3  read a file from tape, write it to disk, set its permissions
4  repeat until the tape is at its end; then NT ACLs, then directories' attributes

Nothing in the volume is changed before the tape's directories, the chosen names and the space
have been checked. docs/restore.md tells the whole story.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from appliance.dump import contents, ntacls
from appliance.dump.catalog import Catalog
from appliance.dump.chain import Chain
from appliance.dump.destination import Destination, as_storage_error
from appliance.dump.inodemap import InodeMap
from appliance.dump.progress import Progress, Report
from appliance.dump.record import Part
from appliance.dump.restorerequest import RestoreRequest as RestoreRequest
from appliance.dump.selection import Selection
from appliance.dump.source import RecordSource, open_source
from appliance.dump.stream import DumpReader, TapeObject, Warnings
from appliance.errors import ApplianceError, StreamError
from fuse.aggregate import Aggregate
from fuse.errors import StorageError
from tape.errors import TapeError

_TOLD = 20


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did. `bytes` is file data without holes.

    `damaged` counts objects that are not all that they were: each is in the log.
    """

    files: int
    directories: int
    bytes: int
    seconds: float
    warnings: int = 0
    damaged: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give the body of the result event."""
        return asdict(self)


def run_restore(
    request: RestoreRequest, report: Report, aborted: Callable[[], bool]
) -> RestoreResult:
    """Carry out a restore; blocks until it is done.

    `report` takes events (see `appliance.dump.progress`), `aborted` is asked between pieces.
    Raises StreamError, UsageError, Refused, RestoreStopped, SessionAborted, or a storage or
    tape error; whatever it raises, LUNs that are not complete stay restricted.
    """
    progress = Progress(report, aborted, request.session)
    source = open_source(request.source, progress.check)
    try:
        result = _Restore(request, source, progress).run()
    except BaseException:
        with suppress(TapeError, OSError):  # what went wrong first is what counts
            source.close()
        raise
    source.close()
    return result


class _Restore:
    """One restore session."""

    def __init__(self, request: RestoreRequest, source: RecordSource, progress: Progress) -> None:
        self._request = request
        self._progress = progress
        self._started = time.monotonic()
        self._warnings = Warnings(lambda text: self._log(f"WARNING: {text}"))
        self._reader = DumpReader(source, self._warnings)
        self._catalog = Catalog(self._reader)
        self._seen = InodeMap()

    def _log(self, text: str) -> None:
        self._progress.log(f"RESTORE: {text}")

    # -- stage 1 ----------------------------------------------------------------------------

    def run(self) -> RestoreResult:
        header = self._reader.summary.header
        when = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(header.date))
        where = os.fsdecode(header.filesystem)
        host = os.fsdecode(header.host)
        self._log(f"Begin level {header.level} restore of {where} ({host}), dumped {when}")
        files = self._read_directories()
        selection = Selection(self._catalog, self._request.files, self._request.renames)
        if self._request.list:
            return self._list(selection, files)
        if selection.skips_reserved():
            self._log("The symbol table of an earlier restore is on the tape; it is not restored")
        assert self._request.aggregate is not None
        with Aggregate.open(self._request.aggregate) as aggregate:
            volume = aggregate.volume(self._request.volume)
            with volume.use(f"restore session {self._request.session}"):
                return self._restore(Destination(volume, self._request), selection, files)

    def _read_directories(self) -> Iterator[TapeObject]:
        """Fill the catalog; gives the objects that come after the directories."""
        self._progress.check()
        self._progress.phase(1, "RESTORE: Reading directories from the backup")
        objects = self._reader.objects()
        for item in objects:
            if item.part and item.part & Part.DIRECTORIES:
                self._catalog.add_private(item)
            elif stat.S_ISDIR(item.inode.mode) and not item.part:
                self._catalog.add(item)
            else:
                objects = chain([item], objects)
                break
            self._progress.step(len(self._catalog.directories), self._reader.offset)
        self._catalog.complete()
        return objects

    # -- the table of contents --------------------------------------------------------------

    def _list(self, selection: Selection, files: Iterator[TapeObject]) -> RestoreResult:
        fd = self._request.entries_fd
        if fd is None:
            return self._tell(lambda e: self._progress.event("entry", **e), selection, files)
        entries = contents.PipeEntries(fd, self._progress.check)
        with suppress(BrokenPipeError):  # whoever asked has seen enough
            try:
                result = self._tell(entries, selection, files)
                entries.flush()
                return result
            finally:
                entries.close()
        return self._result(0, 0, 0, 0)

    def _tell(
        self, tell: contents.EntrySink, selection: Selection, files: Iterator[TapeObject]
    ) -> RestoreResult:
        directories = contents.list_directories(self._catalog, selection, tell)
        count = 0
        for item in files:
            if not item.part & ~Part.LUN:
                count += contents.list_object(
                    self._catalog, selection, item.number, item.inode, tell
                )
            self._progress.step(count, self._reader.offset)
        self._reader.finish()
        return self._result(count, directories, 0, 0)

    def _result(self, files: int, directories: int, size: int, damaged: int) -> RestoreResult:
        seconds = time.monotonic() - self._started
        return RestoreResult(files, directories, size, seconds, self._warnings.total, damaged)

    # -- stages 2 to 4 ----------------------------------------------------------------------

    def _restore(
        self, target: Destination, selection: Selection, files: Iterator[TapeObject]
    ) -> RestoreResult:
        try:
            target.check()
            chain_of_dumps = Chain(self._catalog, self._request, target, self._log)
            if chain_of_dumps.applied:
                chain_of_dumps.settle_root()
                self._reader.finish()
                return self._result(0, 0, 0, 0)
            if not self._request.force:
                target.require_space(self._catalog, selection, chain_of_dumps)
            target.begin(self._catalog, selection, self._warnings, chain_of_dumps, self._tick)
            try:
                self._write(target, chain_of_dumps, files)
                return self._complete(target, chain_of_dumps)
            except BaseException as error:
                self._give_up(target, error)
                raise
        except OSError as error:
            raise as_storage_error(target, error) from error
        finally:
            target.close()

    def _tick(self, size: int) -> None:
        """Count written bytes; raises SessionAborted."""
        self._progress.step(self._progress.files, self._progress.bytes + size)

    def _write(
        self, target: Destination, chain_of_dumps: Chain, files: Iterator[TapeObject]
    ) -> None:
        self._progress.phase(2, "RESTORE: Creating files and directories")
        target.make_directories(chain_of_dumps)
        origin = self._reader.summary.header.origin
        total = len(self._reader.summary.dumped) - len(self._catalog.directories)
        size = origin.data_bytes if origin is not None else 0
        self._progress.phase(3, "RESTORE: Writing data to files", max(total, 0), size)
        for item in files:
            self._progress.check()
            self._write_object(target, item)
            self._progress.step(target.files.counts.files, self._progress.bytes)
        self._report_missing(target)
        self._progress.show()
        target.set_directories()
        chain_of_dumps.finish()

    def _write_object(self, target: Destination, item: TapeObject) -> None:
        if item.part and item.part & Part.ACL_FILE:
            self._log("Restoring NT ACLs")
            ntacls.restore(item, self._catalog, target, self._warnings)
            return
        if item.part and item.part & ~Part.LUN:
            return
        number = item.number
        if number in self._seen or number in self._catalog.directories:
            raise self._reader.error(f"inode {number} is on the tape twice")
        names = self._catalog.names_of(number)
        if names and number not in self._reader.summary.dumped:
            raise self._reader.error(f"inode {number} is here, but not in the map of this tape")
        if names and stat.S_ISDIR(item.inode.mode):
            raise self._reader.error(f"directory {number} comes after files")
        self._seen.add(number)
        if target.restore(item, names) or names:
            return
        if self._request.incremental and number in self._reader.summary.dumped:
            text = f"inode {number} is gone here, and the tape tells no place for it"
            target.files.lose("no place", text)
        else:
            self._warnings.add("unnamed", f"inode {number} has no name on the tape, skipped")

    def _report_missing(self, target: Destination) -> None:
        """Say which chosen inodes the tape announced and did not bring."""
        missing = [
            number
            for number in self._reader.summary.dumped
            if number not in self._seen
            and number not in self._catalog.directories
            and target.selection.names_of(number)
        ]
        for number in missing[:_TOLD]:
            self._log(f"{os.fsdecode(self._catalog.path_of(number))} is not on the tape")
        if missing:
            target.files.counts.damaged += len(missing)
            text = f"{len(missing)} files are announced by the tape, but are not on it"
            self._warnings.add("not on tape", text)

    # -- the end ----------------------------------------------------------------------------

    def _complete(self, target: Destination, chain_of_dumps: Chain) -> RestoreResult:
        """Make everything safe on disk, then say so: the LUNs first, the symbol table last."""
        self._reader.finish()
        target.commit()
        chain_of_dumps.prepare()
        target.luns.lift()
        chain_of_dumps.publish()
        chain_of_dumps.settle_root()
        target.tree.invalidation.flush()
        counts = target.files.counts
        self._tell_restricted(target)
        for kind, count in sorted(self._warnings.counts.items()):
            if count > 1:
                self._log(f"WARNING: {count} times: {kind}")
        self._log("RESTORE IS DONE")
        self._log(f"The destination path is {self._request.path or self._request.volume}")
        directories = len(self._catalog.directories) if target.selection.everything else 0
        directories = directories or target.places.made
        return self._result(counts.files, directories, counts.size, counts.damaged)

    def _give_up(self, target: Destination, error: BaseException) -> None:
        """Leave what is there usable, and say how far it came; never raises.

        A StreamError gets the place in the tree added to its reason.
        """
        with suppress(StorageError, OSError):
            target.commit()  # which gives back the space of what was removed
        with suppress(ApplianceError, StorageError, OSError):
            target.set_directories(best_effort=True)
        with suppress(StorageError, OSError):
            target.tree.invalidation.flush()
        counts = target.files.counts
        if counts.last:
            far = f"{counts.files} files are complete, the last is {os.fsdecode(counts.last)}"
        else:
            far = "no file is complete"
        if target.files.current:
            shown = os.fsdecode(target.files.current)
            far += f"; {shown} was being written and is incomplete"
        self._log(f"The restore ends early: {far}")
        self._tell_restricted(target)
        if isinstance(error, StreamError):
            error.reason += f"; {far}"

    def _tell_restricted(self, target: Destination) -> None:
        for name in target.luns.restricted:
            self._log(f"LUN {name} is not complete and stays restricted; restore it again")
