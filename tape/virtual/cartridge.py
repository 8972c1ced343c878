"""A virtual cartridge: a log of blocks and filemarks in a file, with checksums and an index.

The directory `media/BARCODE` holds `data` (header, then records one after the other),
`index` and `attributes.json`. The formats are in `tape.virtual.record`.

A tape is written at its end only: writing anywhere else first cuts off what follows.
After a crash of the process the page cache is whole, so only an incomplete last record
is dropped. After a crash of the machine everything up to the last sync is taken as it
is, and what follows only as far as its checksums hold. A checksum that is wrong anywhere
else is reported as damage, never as the end of the data.
"""

import os
import shutil
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import crc32c

from tape.errors import LibraryDamaged
from tape.virtual.attributes import Attributes, check_barcode
from tape.virtual.boot import boot_hash
from tape.virtual.index import Index
from tape.virtual.record import (
    FILE_HEADER,
    RECORD_SIZE,
    Entry,
    EntryKind,
    FileHeader,
    MalformedRecord,
    Record,
    RecordKind,
    encode_record,
)

CHECKPOINT_OBJECTS = 128
CHECKPOINT_BYTES = 1 << 20
_FILEMARKS_AT_ONCE = 1024


class Damaged(Exception):
    """Recorded data that cannot be read back as it was written."""


class Full(Exception):
    """The cartridge's capacity is used up."""


class Cartridge:
    """An open cartridge with a position, as a drive has it threaded.

    `object` is the logical object number of the position (blocks and filemarks count),
    `offset` its place in the data file, `end_object` and `end_offset` the end of data.
    Methods raise Damaged, Full or OSError.
    """

    def __init__(self, path: Path, *, durable: bool = True, boot: int | None = None) -> None:
        """Open the cartridge in directory `path` and mend what a crash has left behind.

        Not `durable`: never ask for stable storage. Raises LibraryDamaged.
        """
        self.path = path
        self.attributes = Attributes.load(path / "attributes.json")
        self._durable = durable
        self._boot = boot_hash() if boot is None else boot
        self._header = bytearray(RECORD_SIZE)
        self._next: Record | None = None
        self._noted = False
        self._dirty = False
        self.damaged_end = False
        self.object = self.end_object = 0
        self.offset = self.end_offset = FILE_HEADER
        try:
            self._fd = os.open(path / "data", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise LibraryDamaged(path.parent.parent.name, f"{path / 'data'}: {error}") from error
        with ExitStack() as undo:
            undo.callback(os.close, self._fd)
            self.index = Index(path / "index")
            undo.callback(self.index.close)
            self._recover()
            undo.pop_all()

    @classmethod
    def create(
        cls, path: Path, barcode: str, capacity: int, *, cleaning: bool = False, cleanings: int = 0
    ) -> Attributes:
        """Make a blank cartridge in the directory `path`; raises InvalidName, OSError."""
        check_barcode(barcode)
        identity = uuid.uuid4()
        attributes = Attributes(barcode, capacity, str(identity), cleaning, cleanings)
        draft = path.with_name(f".{path.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        header = FileHeader(identity.bytes, barcode, int(time.time()))
        (draft / "data").write_bytes(header.encode())
        attributes.save(draft / "attributes.json")
        draft.rename(path)
        return attributes

    def close(self) -> None:
        """Let go of the files."""
        self.index.close()
        os.close(self._fd)

    def count_load(self) -> None:
        """Note that a drive has threaded the cartridge."""
        self.attributes = replace(self.attributes, loads=self.attributes.loads + 1)
        self.attributes.save(self.path / "attributes.json")

    # Opening

    def _recover(self) -> None:
        self._check_header()
        size = os.fstat(self._fd).st_size
        synced = self.index.load(size)
        same_boot = self.index.boot() in {None, self._boot}
        if not same_boot:
            self.index.trust_synced_only()
        start = self.index.nearest_offset()
        if start is not None:
            self.end_object, self.end_offset = start
        self._walk(size, same_boot=same_boot)
        if synced is not None and size < synced.offset:
            # What was acknowledged as written is gone: the end is no end of data. The entry
            # stays, so that whoever opens the cartridge next is told too.
            self.damaged_end = True
            self.index.append([synced])
            return
        if self.end_offset < size and not self.damaged_end:
            os.ftruncate(self._fd, self.end_offset)
        self._dirty = self.end_offset > (synced.offset if synced else FILE_HEADER)
        if not same_boot:
            self.sync()

    def _check_header(self) -> None:
        library, path = self.path.parent.parent.name, self.path / "data"
        try:
            header = FileHeader.decode(os.pread(self._fd, FILE_HEADER, 0))
        except MalformedRecord as error:
            raise LibraryDamaged(library, f"{path}: {error}") from error
        if str(uuid.UUID(bytes=header.uuid)) != self.attributes.uuid:
            reason = f"{path}: it holds the data of another cartridge, {header.barcode}"
            raise LibraryDamaged(library, reason)

    def _walk(self, size: int, *, same_boot: bool) -> None:
        """Follow the records from `end_offset`; note those that the index lacks."""
        known = len(self.index)
        last = self.index.entry(known - 1) if known else None
        skip = last is not None and last.kind in {EntryKind.BLOCK, EntryKind.FILEMARK}
        while self.end_offset + RECORD_SIZE <= size:
            record = self._parse(self.end_offset, self.end_object)
            if record is None:
                self.damaged_end = same_boot
                return
            if self.end_offset + record.size > size:
                return
            if not same_boot and not self._intact(record, self.end_offset):
                return
            if not skip:
                self._note(record, self.end_object, self.end_offset)
            skip = False
            self.end_object += 1
            self.end_offset += record.size

    def _note(self, record: Record, number: int, offset: int) -> None:
        if record.kind is RecordKind.FILEMARK:
            self.index.append([Entry(EntryKind.FILEMARK, number, offset)])
        elif self._checkpoint_due(number, offset):
            self.index.append([Entry(EntryKind.BLOCK, number, offset)])

    def _checkpoint_due(self, number: int, offset: int) -> bool:
        last_object, last_offset = self.index.nearest_offset() or (0, FILE_HEADER)
        return (
            number - last_object >= CHECKPOINT_OBJECTS and offset - last_offset >= CHECKPOINT_BYTES
        )

    def _parse(self, offset: int, number: int) -> Record | None:
        try:
            record = Record.decode(os.pread(self._fd, RECORD_SIZE, offset))
        except MalformedRecord:
            return None
        return record if record.object == number else None

    def _intact(self, record: Record, offset: int) -> bool:
        payload = os.pread(self._fd, record.length, offset + RECORD_SIZE)
        return len(payload) == record.length and crc32c.crc32c(payload) == record.crc

    # Position

    @property
    def at_end(self) -> bool:
        """Whether nothing is recorded at the position."""
        return self.object >= self.end_object

    @property
    def filemarks_before(self) -> int:
        """How many filemarks lie before the position: the number of the file it is in."""
        return self.index.filemarks_before(self.object)

    def seek(self, number: int) -> None:
        """Go to an object, or to the end of data when there are fewer. Raises Damaged."""
        if number >= self.end_object:
            self._stand(self.end_object, self.end_offset)
            return
        here, offset = self.index.nearest(number) or (0, FILE_HEADER)
        if here <= self.object <= number:
            here, offset = self.object, self.offset
        while here < number:
            record = self._parse(offset, here)
            if record is None:
                raise Damaged(f"the header of object {here} is damaged")
            here, offset = here + 1, offset + record.size
        self._stand(here, offset)

    def _stand(self, number: int, offset: int) -> None:
        if number != self.object:
            self._next = None
        self.object, self.offset = number, offset

    def peek(self) -> Record | None:
        """Give the record at the position, or None at the end of data. Raises Damaged."""
        if self.object >= self.end_object:
            if self.damaged_end:
                raise Damaged("the end of data cannot be found")
            return None
        if self._next is None:
            self._next = self._parse(self.offset, self.object)
            if self._next is None:
                raise Damaged(f"the header of object {self.object} is damaged")
        return self._next

    # Reading

    def read(self, buffer: memoryview) -> Record | None:
        """Read the object at the position and pass it; None at the end of data.

        A block longer than the buffer fills it. Raises Damaged, with the damaged block
        passed when its length is known.
        """
        record = self.peek()
        if record is None:
            return None
        start = self.offset + RECORD_SIZE
        size = min(record.length, len(buffer))
        following = None
        if size == record.length:
            got = os.preadv(self._fd, [buffer[:size], self._header], start)
            check = crc32c.crc32c(buffer[:size])
            following = self._following(got - size)
        else:
            payload = os.pread(self._fd, record.length, start)
            got, check = len(payload), crc32c.crc32c(payload)
            buffer[:size] = payload[:size]
        self._stand(self.object + 1, self.offset + record.size)
        self._next = following
        if got < record.length or check != record.crc:
            raise Damaged(f"the checksum of object {record.object} is wrong")
        return record

    def _following(self, got: int) -> Record | None:
        if got != RECORD_SIZE:
            return None
        try:
            record = Record.decode(self._header)
        except MalformedRecord:
            return None
        return record if record.object == self.object + 1 else None

    # Writing

    def room(self) -> int:
        """How many bytes of the capacity are left behind the position."""
        return self.attributes.capacity - (self.offset - FILE_HEADER)

    def append(self, data: memoryview) -> None:
        """Write a block at the position; what was there and behind it is gone."""
        size = RECORD_SIZE + len(data)
        if size > self.room():
            raise Full
        self._prepare()
        header = encode_record(RecordKind.BLOCK, self.object, len(data), crc32c.crc32c(data))
        self._write([header, data], size, self._checkpoint())
        self._passed(1, size)

    def append_filemarks(self, count: int) -> None:
        """Write filemarks at the position; Full when not all of them fit."""
        if count * RECORD_SIZE > self.room():
            raise Full
        self._prepare()
        while count:
            batch = min(count, _FILEMARKS_AT_ONCE)
            numbers = range(self.object, self.object + batch)
            headers = [encode_record(RecordKind.FILEMARK, n, 0, 0) for n in numbers]
            entries = [
                Entry(EntryKind.FILEMARK, n, self.offset + i * RECORD_SIZE)
                for i, n in enumerate(numbers)
            ]
            self._write([b"".join(headers)], batch * RECORD_SIZE, entries)
            self._passed(batch, batch * RECORD_SIZE)
            count -= batch

    def _passed(self, objects: int, size: int) -> None:
        self.object += objects
        self.offset += size
        self.end_object, self.end_offset = self.object, self.offset
        self._dirty = True

    def _prepare(self) -> None:
        if self.object < self.end_object or self.damaged_end:
            self.cut()
        elif not self._noted:
            self._note_boot()

    def _checkpoint(self) -> list[Entry]:
        due = self._checkpoint_due(self.object, self.offset)
        return [Entry(EntryKind.BLOCK, self.object, self.offset)] if due else []

    def _note_boot(self) -> None:
        if self.index.boot() != self._boot:
            self.index.append([Entry(EntryKind.BOOT, self.object, self.offset, self._boot)])
        self._noted = True

    def cut(self) -> None:
        """Erase everything from the position on.

        The index goes first, so that it never speaks of data that is not there any more.
        """
        synced = self.index.synced()
        self.index.truncate(self.offset)
        if synced is not None and synced.offset >= self.offset:
            self.index.append([Entry(EntryKind.SYNCED, self.object, self.offset)])
        self._note_boot()
        if self._durable:
            self.index.sync()
        os.ftruncate(self._fd, self.offset)
        self.end_object, self.end_offset = self.object, self.offset
        self._next, self.damaged_end, self._dirty = None, False, True

    def _write(self, parts: list[bytes | memoryview], size: int, entries: list[Entry]) -> None:
        try:
            done = os.pwritev(self._fd, parts, self.offset)
            while done < size:
                rest = memoryview(b"".join(parts))[done:]
                done += os.pwrite(self._fd, rest, self.offset + done)
            if entries:
                self.index.append(entries)
        except OSError:
            os.ftruncate(self._fd, self.offset)
            raise

    def sync(self) -> None:
        """Put everything written on stable storage; nothing to do when nothing was written."""
        if not self._dirty:
            return
        if self._durable:
            os.fdatasync(self._fd)
        if not self.damaged_end:
            self.index.append([Entry(EntryKind.SYNCED, self.end_object, self.end_offset)])
        if self._durable:
            self.index.sync()
        self._dirty = False
