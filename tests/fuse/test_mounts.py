from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fuse.mounts import mount_at, parse_mountinfo


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), st.booleans())
def test_names_with_any_character(name: str, shared: bool) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in name)
    optional = "shared:1 master:2 " if shared else ""
    line = f"36 35 98:0 /r /mnt/{escaped} rw,noatime {optional}- btrfs /dev/loop0 rw\n"
    (mount,) = parse_mountinfo(line)
    assert (mount.target, mount.kind, mount.source, mount.root) == (
        f"/mnt/{name}",
        "btrfs",
        "/dev/loop0",
        "/r",
    )


def test_this_machine() -> None:
    found = mount_at(Path("/proc"))
    assert found is not None
    assert found.kind == "proc"


def test_nothing_is_mounted_here(tmp_path: Path) -> None:
    assert mount_at(tmp_path) is None
