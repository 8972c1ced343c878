"""The file system that clients see: a volume, presented through pyfuse3.

The kernel checks permissions (default_permissions, POSIX ACLs) before a request arrives, and
keeps the page cache. What arrives is done on btrfs, by the volume's own descriptors.
"""

import pyfuse3

from fuse.directory_requests import DirectoryRequests
from fuse.file_requests import FileRequests
from fuse.metadata_requests import MetadataRequests
from fuse.mounted import MountedVolume
from fuse.name_requests import NameRequests


class Operations(  # type: ignore[misc]  # read may give any buffer
    NameRequests, FileRequests, MetadataRequests, DirectoryRequests, pyfuse3.Operations
):
    """All handlers over one MountedVolume."""

    supports_dot_lookup = True
    enable_acl = True
    enable_writeback_cache = False

    def __init__(self, mounted: MountedVolume) -> None:
        super().__init__()
        self._mounted = mounted
        self._next_listing = 0
