"""LUNs in a restore: which files stay LUNs, and who keeps clients off them meanwhile.

Before a byte of a LUN is written its restriction mark is set and the file system process is
told. All marks of a restore are lifted together, when everything has been restored; when the
restore fails they stay, and so does that of a LUN which alone could not be completed: one that
is half there never looks healthy.
"""

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace

from appliance.dump.placing import Place, private_attribute
from appliance.dump.stream import Attributes
from appliance.dump.tree import Tree
from fuse import metadata
from fuse.channel import VolumeChannel
from fuse.errors import Busy
from fuse.lun import make_serial, read_metadata
from fuse.metadata import LunMetadata, MalformedMetadata


class LunKeeper:
    """The LUNs that one restore session writes."""

    def __init__(
        self,
        tree: Tree,
        channel: VolumeChannel | None,
        session: str,
        log: Callable[[str], None],
    ) -> None:
        self._tree = tree
        self._channel = channel
        self._session = session
        self._log = log
        self._held: dict[int, tuple[str, int]] = {}
        self._spoiled: set[int] = set()
        self._serials: set[str] | None = None

    @property
    def restricted(self) -> tuple[str, ...]:
        """Names of the LUNs that clients are kept off."""
        return tuple(name for name, _ in self._held.values())

    def restrict(self, inode: int, name: str) -> None:
        """Keep clients off an object from here on.

        A mark that an earlier, failed restore left is taken over. Raises Busy while another
        restore writes the object, StorageFailed.
        """
        if inode in self._held:
            return
        fd = self._tree.open(inode, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Busy("lun", name, "another restore") from None
        self._held[inode] = (name, fd)
        restrictions = self._tree.volume.restrictions
        mark = restrictions.get(inode)
        if mark is not None and mark.session != self._session:
            self._log(f"{name}: taking over the restriction of session {mark.session}")
            restrictions.lift(inode)
        restrictions.restrict(inode, self._session)
        if self._channel is not None:
            self._channel.restrict(inode, self._session)
        # Clients that looked for it before must see it at once, and that it is restricted.
        self._tree.invalidation.flush()

    def spoil(self, inode: int) -> None:
        """Say that an object could not be completed: `lift` leaves clients off it."""
        self._spoiled.add(inode)

    def describe(self, fd: int, place: Place | None, attributes: Attributes, path: str) -> None:
        """Make the file behind `fd`, whose data is complete, the LUN that the tape says it is.

        Elsewhere than at the root of a volume or qtree it stays a file. A LUN that was there
        before keeps its serial number, its maps, its state and its comment. Raises OSError.
        """
        value = private_attribute(attributes, metadata.LUN)
        if value is None:
            return
        try:
            told = LunMetadata.decode(value)
        except MalformedMetadata as problem:
            self._log(f"{path}: restored as a file, its LUN information is damaged: {problem}")
            return
        if place is None or not place.holds_luns:
            self._log(f"{path}: restored as a file; LUNs live at the root of a volume or qtree")
            return
        present = read_metadata(fd)
        size = os.fstat(fd).st_size
        if present is not None:
            made = replace(present, size=size, ostype=told.ostype, backing_snapshot="")
        else:
            serial = self._free_serial(told.serial, path)
            made = replace(told, serial=serial, size=size, maps=(), backing_snapshot="")
        metadata.set_attribute(fd, metadata.LUN, made.encode())

    def _free_serial(self, wanted: str, path: str) -> str:
        """Give the serial number on tape, another one when a LUN of the aggregate has it."""
        if self._serials is None:
            volumes = self._tree.volume.aggregate.volumes()
            luns = [lun for volume in volumes for lun in volume.luns.list()]
            self._serials = {lun.metadata.serial for lun in luns}
        serial = wanted
        if not wanted or wanted in self._serials:
            serial = make_serial()
            self._log(f"{path}: its serial number is in use; it gets {serial}")
        self._serials.add(serial)
        return serial

    def lift(self) -> None:
        """Let clients at all LUNs that are complete again: everything has been restored.

        Raises StorageFailed.
        """
        for inode in self._held.keys() - self._spoiled:
            self._tree.volume.restrictions.lift(inode)
            if self._channel is not None:
                self._channel.lift(inode)
            os.close(self._held.pop(inode)[1])

    def close(self) -> None:
        """Let go of the files; marks that were not lifted stay."""
        for _, fd in self._held.values():
            os.close(fd)
        self._held.clear()
