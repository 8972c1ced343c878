"""Hard links, renaming, removing, and what stays open."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH104, PTH109

import os
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import attempt, both, look, renameat2


@both
def hard_links(d: Path) -> Any:
    (d / "a").write_text("data")
    os.link(d / "a", d / "b")
    (d / "s").symlink_to("a")
    os.link(d / "s", d / "t", follow_symlinks=False)
    (d / "sub").mkdir()
    os.link(d / "b", d / "sub" / "c")
    same = len({(d / name).stat().st_ino for name in ("a", "b", "sub/c")})
    (d / "a").unlink()
    (d / "b").write_text("changed")
    return (
        same,
        look(d / "b"),
        look(d / "t"),
        (d / "sub/c").read_text(),
        attempt(os.link, d / "sub", d / "dirlink"),
        attempt(os.link, d / "missing", d / "x"),
        attempt(os.link, d / "b", d / "t"),
    )


@both
def rename_over(d: Path) -> Any:
    for name in ("file", "other"):
        (d / name).write_text(name)
    for name in ("dir", "empty", "full"):
        (d / name).mkdir()
    (d / "full" / "x").write_text("")
    found = [
        attempt(os.rename, d / "file", d / "dir"),
        attempt(os.rename, d / "dir", d / "file"),
        attempt(os.rename, d / "dir", d / "full"),
        attempt(os.rename, d / "full", d / "full" / "sub"),
        attempt(os.rename, d / "missing", d / "x"),
        attempt(os.rename, d / "file", d / "other"),
        attempt(os.rename, d / "full", d / "empty"),
        attempt(os.rename, d / "other", d / "other"),
    ]
    return found, sorted(str(p.relative_to(d)) for p in d.rglob("*")), (d / "other").read_text()


@both
def rename_of_one_name_over_another_of_the_same_file(d: Path) -> Any:
    (d / "a").write_text("x")
    os.link(d / "a", d / "b")
    os.rename(d / "a", d / "b")
    return sorted(os.listdir(d)), look(d / "a")


@both
def rename_flags(d: Path) -> Any:
    (d / "a").write_text("a")
    (d / "b").mkdir()
    (d / "b" / "c").write_text("c")
    found = [
        attempt(renameat2, d / "a", d / "b", 1),
        attempt(renameat2, d / "a", d / "new", 1),
        attempt(renameat2, d / "new", d / "b", 2),
        attempt(renameat2, d / "new", d / "missing", 2),
        attempt(renameat2, d / "new", d / "b", 3),
        attempt(renameat2, d / "new", d / "b", 64),
    ]
    return found, sorted(str(p.relative_to(d)) for p in d.rglob("*")), (d / "b").read_text()


@both
def moved_directories_know_their_parent(d: Path) -> Any:
    (d / "a" / "b").mkdir(parents=True)
    (d / "c").mkdir()
    os.rename(d / "a" / "b", d / "c" / "b")
    os.chdir(d / "c" / "b")
    up = Path("..").stat().st_ino == (d / "c").stat().st_ino
    return up, os.getcwd() == str(d / "c" / "b"), look(d / "a"), look(d / "c")


@both
def removing(d: Path) -> Any:
    (d / "f").write_text("")
    (d / "full" / "x").mkdir(parents=True)
    return [
        attempt(os.rmdir, d / "f"),
        attempt(os.unlink, d / "full"),
        attempt(os.rmdir, d / "full"),
        attempt(os.rmdir, d / "full" / "x" / "."),
        attempt(os.rmdir, d / "full" / ".."),
        attempt(os.rmdir, d / "full" / "x"),
        attempt(os.rmdir, d / "full"),
        attempt(os.unlink, d / "f"),
        attempt(os.unlink, d / "f"),
        attempt(os.rmdir, d / "missing"),
        os.listdir(d),
    ]


@both
def unlinked_but_open(d: Path) -> Any:
    path = d / "f"
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    os.write(fd, b"before")
    path.unlink()
    os.pwrite(fd, b"AFTER", 10)
    found = [look(fd), os.pread(fd, 99, 0)]
    os.ftruncate(fd, 3)
    os.fchmod(fd, 0o600)
    os.utime(fd, ns=(1_000, 2_000))
    found += [look(fd), os.fstat(fd).st_mtime_ns, os.pread(fd, 99, 0)]
    found.append(attempt(os.setxattr, fd, "user.x", b"1"))
    found.append(attempt(os.listxattr, fd))
    found.append(attempt(os.link, f"/proc/self/fd/{fd}", d / "again", follow_symlinks=True))
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    found.append(os.read(again, 99))
    os.close(again)
    path.write_text("another")
    found += [os.pread(fd, 99, 0), look(path)]
    os.close(fd)
    return found


@both
def replaced_but_open(d: Path) -> Any:
    (d / "old").write_text("old")
    fd = os.open(d / "old", os.O_RDWR)
    (d / "new").write_text("new")
    os.rename(d / "new", d / "old")
    os.pwrite(fd, b"O", 0)
    found = look(fd), os.pread(fd, 9, 0), (d / "old").read_text()
    os.close(fd)
    return found


@both
def removed_but_held_without_opening(d: Path) -> Any:
    (d / "f").write_text("data")
    (d / "dir").mkdir()
    held = os.open(d / "f", os.O_PATH)
    os.chdir(d / "dir")
    (d / "f").unlink()
    (d / "dir").rmdir()
    found = [look(held), look(Path()), os.listdir(), attempt(Path("x").write_text, "x")]
    fd = os.open(f"/proc/self/fd/{held}", os.O_RDWR)
    found.append(os.read(fd, 9))
    os.close(fd)
    os.close(held)
    found.append(attempt(os.getcwd))
    return found
