"""Open the target of a dump."""

from appliance.dump.drivesink import DriveSink
from appliance.dump.request import DrivePlace, FdPlace, FilePlace, Place
from appliance.dump.sink import FdSink, FileSink, RecordSink
from appliance.errors import UsageError


def open_sink(place: Place, blocking_factor: int, verify: bool = False) -> RecordSink:
    """Open a target for one dump. Raises TargetFailed, TapeError, UsageError."""
    match place:
        case FilePlace(path):
            return FileSink(path, blocking_factor, verify)
        case FdPlace(fd, name):
            if verify:
                raise UsageError(name, "a stream cannot be read back; dump without verification")
            return FdSink(fd, name, blocking_factor)
        case DrivePlace():
            return DriveSink.open(place, blocking_factor, verify)
