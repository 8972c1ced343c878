"""Requests that read directories. Every entry is given with its attributes (READDIRPLUS)."""

# Handlers take what pyfuse3 gives them, needed or not; descriptors and paths in /proc/self/fd are
# no business of pathlib.
# ruff: noqa: ARG002

import os

import pyfuse3
import trio

from fuse import snapdir
from fuse.handling import handler
from fuse.listing import Listing, Name, SnapshotListing
from fuse.mounted import MountedVolume
from fuse.nodes import ROOT_NODE

_AT_ONCE = 200

_AFTER_ALL = 2**63 - 2
"""The position after `.snapshot`, which comes last in the volume's root."""


class DirectoryRequests:
    """Handlers of open directories."""

    _mounted: MountedVolume
    _next_listing: int

    def directory_in(self, subvolid: int, owner: int) -> pyfuse3.EntryAttributes | None:
        """See NameRequests."""
        raise NotImplementedError

    def _attributes(self, node: int) -> pyfuse3.EntryAttributes:
        raise NotImplementedError

    @handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Open a directory for reading."""
        mounted = self._mounted
        listing: Listing | SnapshotListing
        if mounted.ids.is_snapshot_directory(inode):
            listing = self._list_snapshots(inode)
        else:
            path = mounted.path(inode)
            listing = Listing(mounted.reopen(path, os.O_RDONLY | os.O_DIRECTORY), inode)
        handle = self._next_listing = self._next_listing + 1
        mounted.listings[handle] = listing
        return handle

    def _list_snapshots(self, node: int) -> SnapshotListing:
        mounted = self._mounted
        owner = mounted.ids.owner(node)
        present = {
            name: subvolid
            for name, subvolid in mounted.snapshots.all().items()
            if self.directory_in(subvolid, owner) is not None
        }
        return SnapshotListing(node, present, mounted.ids.inode(owner))

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Give entries from position `start_id` on."""
        listing = self._mounted.listings[fh]
        if isinstance(listing, SnapshotListing):
            self._read_snapshots(listing, start_id, token)
        elif start_id != _AFTER_ALL and await self._read_names(listing, start_id, token):
            self._read_last(listing.node, token)

    async def _read_names(
        self, listing: Listing, position: int, token: pyfuse3.ReaddirToken
    ) -> bool:
        """Fill the reply with entries; True when there are no more.

        The attributes of some hundred entries may take a while: others get their turn between.
        """
        while names := listing.at(position)[:_AT_ONCE]:
            for index, name in enumerate(names):
                entry = self._describe(listing, name)
                if entry is not None and not pyfuse3.readdir_reply(
                    token, name.name, entry, name.next
                ):
                    listing.advance(index)
                    return False
            position = names[-1].next
            listing.advance(len(names))
            await trio.lowlevel.checkpoint()
        return True

    def _describe(self, listing: Listing, name: Name) -> pyfuse3.EntryAttributes | None:
        """Give the attributes of an entry; None when it is gone or not to be seen."""
        mounted = self._mounted
        ids = mounted.ids
        if name.name in (b".", b".."):
            return _bare(
                listing.node
                if name.name == b"."
                else ids.node(ids.subvolid(listing.node), name.inode)
            )
        if name.name == snapdir.NAME:
            return None
        try:
            return mounted.entry(ids.subvolid(listing.node), listing.fd, name.name)
        except FileNotFoundError:
            return None

    def _read_last(self, directory: int, token: pyfuse3.ReaddirToken) -> None:
        mounted = self._mounted
        if directory != ROOT_NODE or not mounted.shows_snapshots:
            return
        entry = self._attributes(mounted.ids.snapshot_directory(directory))
        pyfuse3.readdir_reply(token, snapdir.NAME, entry, _AFTER_ALL)

    def _read_snapshots(
        self, listing: SnapshotListing, position: int, token: pyfuse3.ReaddirToken
    ) -> None:
        mounted = self._mounted
        owner = mounted.ids.owner(listing.node)
        for name in listing.after(position):
            if name.name in (b".", b".."):
                entry = _bare(listing.node if name.name == b"." else owner)
            else:
                found = self.directory_in(name.next, owner)
                if found is None:
                    continue
                entry = found
            if not pyfuse3.readdir_reply(token, name.name, entry, name.next):
                return

    @handler
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        self._mounted.listings.pop(fh).close()

    @handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Bring the entries of a directory to stable storage."""
        listing = self._mounted.listings[fh]
        if isinstance(listing, Listing):
            await trio.to_thread.run_sync(os.fsync, listing.fd)


def _bare(node: int) -> pyfuse3.EntryAttributes:
    """Give what the kernel takes of `.` and `..`: a number and a type."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node
    entry.st_mode = 0o040755
    return entry
