"""How long a command may take, in seconds, by operation code.

Our own choice, generous to a long tape and a large library: a drive that is slow is waited
for, one that is lost is found. What a device itself recommends, in REPORT SUPPORTED OPERATION
CODES, is not asked for.
A timeout is no bound on the clock: a host adapter may need some seconds more to abort.
"""

from collections.abc import Mapping

from tape import cdb

DEFAULT = 60.0

DRIVE: Mapping[int, float] = {
    cdb.READ_6.opcode: 1500,
    cdb.WRITE_6.opcode: 1500,
    cdb.WRITE_FILEMARKS.opcode: 1700,
    cdb.REWIND.opcode: 600,
    cdb.SPACE_6.opcode: 3000,
    cdb.LOCATE_10.opcode: 3000,
    cdb.LOCATE_16.opcode: 3000,
    cdb.LOAD_UNLOAD.opcode: 7200,
    cdb.ERASE_6.opcode: 24000,
}

CHANGER: Mapping[int, float] = {
    cdb.INITIALIZE_ELEMENT_STATUS.opcode: 3600,
    cdb.INITIALIZE_ELEMENT_STATUS_WITH_RANGE.opcode: 3600,
    cdb.READ_ELEMENT_STATUS.opcode: 600,
    cdb.MOVE_MEDIUM.opcode: 1200,
    cdb.POSITION_TO_ELEMENT.opcode: 600,
}
