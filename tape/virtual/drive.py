"""The virtual tape drive: an LTO-like SSC target over cartridges kept as files.

The drive's state is in its bay (`tape.virtual.state`), so that another process may load
and unload it and open it after this one. The cartridge threaded is opened when it is
first needed, and let go when the state says that it has gone.
"""

import errno
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tape import cdb, pages, sense
from tape.errors import LibraryDamaged
from tape.inquiry import Inquiry
from tape.sense import Sense
from tape.virtual import drive_pages, spacing, transfer
from tape.virtual.cartridge import Cartridge, Damaged
from tape.virtual.state import DriveBay, DriveState, Loaded
from tape.virtual.target import (
    INVALID_FIELD,
    CheckCondition,
    Exchange,
    Fields,
    Target,
    refuse,
)

_POSITION_SHORT = struct.Struct(">BB2xIIxBBBI")
_POSITION_LONG = struct.Struct(">B3xIQQQ")
_NO_CARTRIDGE = Sense(sense.NOT_READY, 0x3A, 0x00)
_NOT_LOADED = Sense(sense.NOT_READY, 0x04, 0x02)
_CLEANING = Sense(sense.NOT_READY, 0x30, 0x03)
_CORRUPTED = Sense(sense.MEDIUM_ERROR, 0x31, 0x00)
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))


class DriveTarget(Target):
    """One drive; `media` is the directory that holds the cartridges."""

    commands = cdb.TAPE

    def __init__(
        self, bay: DriveBay, media: Path, identity: Inquiry, serial: str, *, durable: bool = True
    ) -> None:
        super().__init__(identity, serial)
        self._bay = bay
        self._media = media
        self._durable = durable
        self._state = DriveState()
        self._cartridge: Cartridge | None = None
        self._insertions = -1
        self._touched = False
        self._handlers |= {
            cdb.TEST_UNIT_READY.opcode: self._test_unit_ready,
            cdb.READ_6.opcode: self._read,
            cdb.WRITE_6.opcode: self._write,
            cdb.WRITE_FILEMARKS.opcode: self._write_filemarks,
            cdb.REWIND.opcode: self._rewind,
            cdb.SPACE_6.opcode: self._space,
            cdb.LOCATE_10.opcode: self._locate_10,
            cdb.LOCATE_16.opcode: self._locate_16,
            cdb.READ_POSITION.opcode: self._read_position,
            cdb.READ_BLOCK_LIMITS.opcode: self._read_block_limits,
            cdb.LOAD_UNLOAD.opcode: self._load_unload,
            cdb.ERASE_6.opcode: self._erase,
            cdb.PREVENT_ALLOW.opcode: self._prevent_allow,
            cdb.MODE_SENSE_6.opcode: self._mode_sense_6,
            cdb.MODE_SENSE_10.opcode: self._mode_sense_10,
            cdb.MODE_SELECT_6.opcode: self._mode_select_6,
            cdb.MODE_SELECT_10.opcode: self._mode_select_10,
            cdb.LOG_SENSE.opcode: self._log_sense,
            cdb.RESERVE_6.opcode: self._accept,
            cdb.RELEASE_6.opcode: self._accept,
        }
        bay.power_on()

    def close(self) -> None:
        """Let go of the files; the drive stays as it is."""
        self._drop()
        self._bay.close()

    # State and cartridge

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._state = self._bay.acquire()
        try:
            yield
        except Damaged:
            raise transfer.unreadable() from None
        except OSError as error:
            raise _host_failure(error) from error
        finally:
            self._settle()
            self._bay.release()

    def _settle(self) -> None:
        cartridge, state = self._cartridge, self._state
        moved = cartridge is not None and cartridge.object != state.object
        if cartridge is not None and moved and self._insertions == state.insertions:
            state.object = cartridge.object
            self._touched = True
        if self._touched:
            self._bay.save()
            self._touched = False

    def _next_attention(self) -> tuple[int, int] | None:
        if not self._state.attentions:
            return None
        self._touched = True
        return self._state.attentions.pop(0)

    def _drop(self) -> None:
        if self._cartridge is not None:
            self._cartridge.close()
            self._cartridge = None

    def _threaded(self) -> Cartridge:
        """Give the cartridge, of whatever kind; NOT READY when none is threaded."""
        state = self._state
        if state.insertions != self._insertions:
            self._drop()
            self._insertions = state.insertions
        if state.loaded is not Loaded.READY:
            empty = state.loaded is Loaded.EMPTY
            raise CheckCondition(_NO_CARTRIDGE if empty else _NOT_LOADED)
        if self._cartridge is None:
            self._cartridge = self._open(state.barcode)
            self._cartridge.seek(state.object)
        return self._cartridge

    def _open(self, barcode: str) -> Cartridge:
        try:
            return Cartridge(self._media / barcode, durable=self._durable)
        except LibraryDamaged:
            raise CheckCondition(_CORRUPTED) from None

    def _medium(self) -> Cartridge:
        """Give the cartridge for data; NOT READY when it is a cleaning cartridge."""
        cartridge = self._threaded()
        if cartridge.attributes.cleaning:
            raise CheckCondition(_CLEANING)
        return cartridge

    def _writable(self) -> Cartridge:
        cartridge = self._medium()
        if cartridge.attributes.write_protected:
            raise CheckCondition(Sense(sense.DATA_PROTECT, 0x27, 0x00))
        return cartridge

    def _threaded_or_none(self) -> Cartridge | None:
        return self._threaded() if self._state.loaded is Loaded.READY else None

    # Loading

    def _test_unit_ready(self, _fields: Fields, _exchange: Exchange) -> None:
        self._medium()

    def _load_unload(self, fields: Fields, _exchange: Exchange) -> None:
        if self._state.loaded is Loaded.EMPTY:
            raise CheckCondition(_NO_CARTRIDGE)
        if fields["load"]:
            self._load()
        else:
            self._unload()

    def _load(self) -> None:
        if self._state.loaded is Loaded.UNLOADED:
            self._state.loaded = Loaded.READY
            self._state.object = self._state.written = self._state.read = 0
            self._touched = True
            self._drop()
            self._threaded().count_load()
        self._rewound(self._threaded())

    def _unload(self) -> None:
        if self._state.prevented:
            raise refuse(0x53, 0x02)
        if self._state.loaded is Loaded.READY:
            self._drop()
            settle_unthreaded(self._bay, self._media)
        self._state.loaded, self._state.object = Loaded.UNLOADED, 0
        self._touched = True

    def _prevent_allow(self, fields: Fields, _exchange: Exchange) -> None:
        self._state.prevented = bool(fields["prevent"] & 1)
        self._touched = True

    # Data

    def _read(self, fields: Fields, exchange: Exchange) -> None:
        cartridge, length = self._medium(), fields["length"]
        try:
            if fields["fixed"]:
                self._read_fixed(cartridge, length, exchange, suppress=bool(fields["sili"]))
            elif length > transfer.MAX_BLOCK:
                raise refuse(*INVALID_FIELD)
            elif length:
                self._read_variable(cartridge, length, exchange, suppress=bool(fields["sili"]))
        finally:
            self._state.read += exchange.moved

    def _read_variable(
        self, cartridge: Cartridge, length: int, exchange: Exchange, *, suppress: bool
    ) -> None:
        # SSC-4: SILI passes over a longer block too while the mode's block length is zero.
        exchange.moved, check = transfer.read_variable(
            cartridge,
            exchange.into,
            length,
            underlength=not suppress,
            overlength=not suppress or self._state.block_length > 0,
        )
        if check is not None:
            raise check

    def _read_fixed(
        self, cartridge: Cartridge, count: int, exchange: Exchange, *, suppress: bool
    ) -> None:
        size = self._state.block_length
        if suppress or not size:
            raise refuse(*INVALID_FIELD)
        told = [0]
        try:
            transfer.read_fixed(cartridge, exchange.into, count, size, told=told)
        finally:
            exchange.moved = min(told[0], len(exchange.into))

    def _write(self, fields: Fields, exchange: Exchange) -> None:
        cartridge, length = self._writable(), fields["length"]
        size = self._state.block_length if fields["fixed"] else length
        total = size * length if fields["fixed"] else length
        if size > transfer.MAX_BLOCK or (fields["fixed"] and not size):
            raise refuse(*INVALID_FIELD)
        if not total:
            return
        data = exchange.take(total)
        before = cartridge.object
        try:
            transfer.write_blocks(cartridge, data, size, fixed=bool(fields["fixed"]))
        finally:
            exchange.moved = (cartridge.object - before) * size
            self._state.written += exchange.moved

    def _write_filemarks(self, fields: Fields, _exchange: Exchange) -> None:
        if fields["wsmk"]:
            raise refuse(*INVALID_FIELD)
        cartridge, count = self._writable(), fields["count"]
        if count:
            transfer.write_filemarks(cartridge, count)
        if not fields["immed"]:
            cartridge.sync()
        if count:
            transfer.warn_early(cartridge)

    def _erase(self, _fields: Fields, _exchange: Exchange) -> None:
        cartridge = self._writable()
        cartridge.cut()
        cartridge.sync()

    # Motion: whatever is buffered is written first.

    def _still(self) -> Cartridge:
        cartridge = self._medium()
        cartridge.sync()
        return cartridge

    def _rewind(self, _fields: Fields, _exchange: Exchange) -> None:
        self._rewound(self._still())

    def _rewound(self, cartridge: Cartridge) -> None:
        cartridge.seek(0)

    def _space(self, fields: Fields, _exchange: Exchange) -> None:
        code, count = fields["code"], fields["count"]
        if code not in {cdb.SPACE_BLOCKS, cdb.SPACE_FILEMARKS, cdb.SPACE_END_OF_DATA}:
            raise refuse(*INVALID_FIELD)
        cartridge = self._still()
        if code == cdb.SPACE_BLOCKS:
            spacing.space_blocks(cartridge, count)
        elif code == cdb.SPACE_FILEMARKS:
            spacing.space_filemarks(cartridge, count)
        else:
            spacing.to_end_of_data(cartridge)

    def _locate_10(self, fields: Fields, _exchange: Exchange) -> None:
        self._check_partition(fields)
        spacing.locate_object(self._still(), fields["object"])

    def _locate_16(self, fields: Fields, _exchange: Exchange) -> None:
        self._check_partition(fields)
        kind = fields["dest_type"]
        if kind not in {cdb.LOCATE_OBJECT, cdb.LOCATE_FILE, cdb.LOCATE_END_OF_DATA}:
            raise refuse(*INVALID_FIELD)
        cartridge = self._still()
        if kind == cdb.LOCATE_OBJECT:
            spacing.locate_object(cartridge, fields["object"])
        elif kind == cdb.LOCATE_FILE:
            spacing.locate_file(cartridge, fields["object"])
        else:
            spacing.to_end_of_data(cartridge)

    def _check_partition(self, fields: Fields) -> None:
        if fields["cp"] and fields["partition"]:
            raise refuse(*INVALID_FIELD)

    def _read_position(self, fields: Fields, exchange: Exchange) -> None:
        action, cartridge = fields["service_action"], self._medium()
        here = cartridge.object
        flags = (here == 0) << 7 | transfer.early_warning(cartridge) << 6
        if action == cdb.POSITION_SHORT:
            large = here > 0xFFFFFFFF
            number = 0 if large else here
            data = _POSITION_SHORT.pack(flags | large << 1, 0, number, number, 0, 0, 0, 0)
        elif action == cdb.POSITION_LONG:
            data = _POSITION_LONG.pack(flags, 0, here, cartridge.filemarks_before, 0)
        else:
            raise refuse(*INVALID_FIELD)
        exchange.reply(data, len(data))

    # Parameters

    def _read_block_limits(self, _fields: Fields, exchange: Exchange) -> None:
        exchange.reply(struct.pack(">IH", transfer.MAX_BLOCK, 1), 6)

    def _mode_sense_6(self, fields: Fields, exchange: Exchange) -> None:
        self._mode_sense(fields, exchange, long=False)

    def _mode_sense_10(self, fields: Fields, exchange: Exchange) -> None:
        self._mode_sense(fields, exchange, long=True)

    def _mode_sense(self, fields: Fields, exchange: Exchange, *, long: bool) -> None:
        cartridge = self._threaded_or_none()
        parameters = drive_pages.mode_parameters(
            self._state,
            page=fields["page"],
            control=fields["pc"],
            block=not fields["dbd"],
            write_protected=cartridge is not None and cartridge.attributes.write_protected,
        )
        exchange.reply(pages.encode_mode(parameters, long=long), fields["allocation"])

    def _mode_select_6(self, fields: Fields, exchange: Exchange) -> None:
        self._mode_select(fields, exchange, long=False)

    def _mode_select_10(self, fields: Fields, exchange: Exchange) -> None:
        self._mode_select(fields, exchange, long=True)

    def _mode_select(self, fields: Fields, exchange: Exchange, *, long: bool) -> None:
        if fields["sp"]:
            raise refuse(*INVALID_FIELD)
        if not fields["length"]:
            return
        drive_pages.select_mode(self._state, bytes(exchange.take(fields["length"])), long=long)
        self._touched = True

    def _log_sense(self, fields: Fields, exchange: Exchange) -> None:
        if fields["subpage"] or fields["sp"]:
            raise refuse(*INVALID_FIELD)
        wanted = fields["page"] == pages.LOG_TAPE_CAPACITY
        cartridge = self._threaded_or_none() if wanted else None
        data = drive_pages.log_page(fields["page"], self._state, cartridge)
        self._touched = True
        exchange.reply(data, fields["allocation"])


def _host_failure(error: OSError) -> CheckCondition:
    """Give the sense for a failure of the file system below: full, or a bad disk."""
    if error.errno in _NO_ROOM:
        return CheckCondition(Sense(sense.HARDWARE_ERROR, 0x55, 0x03))
    return CheckCondition(Sense(sense.MEDIUM_ERROR, 0x0C, 0x00))


def settle_unthreaded(bay: DriveBay, media: Path) -> None:
    """Put what the cartridge in a bay holds on stable storage, whoever wrote it.

    A cartridge whose files cannot be read is passed over: it must come out all the same.
    """
    try:
        cartridge = Cartridge(media / bay.load().barcode)
    except LibraryDamaged:
        return
    with closing(cartridge):
        cartridge.sync()
