"""Programs at work, and what they fall back from."""

# The system calls themselves are what is tested.

import os
import shutil
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import attempt, both, look, root, run


@both
def programs_copy(d: Path) -> Any:
    source = d / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "data").write_bytes(os.urandom(300_000))
    with (source / "holes").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"x")
    (source / "link").symlink_to("sub/data")
    os.link(source / "holes", source / "holes too")
    os.mkfifo(source / "fifo")
    os.setxattr(source / "sub" / "data", "user.x", b"y")
    os.utime(source / "sub" / "data", ns=(123_456_789_123, 987_654_321_987))
    found = [
        run("cp", "-a", source, d / "copied"),
        run("cp", "--reflink=auto", "--sparse=always", source / "holes", d / "holes"),
        run(
            "sh",
            "-c",
            f"cd '{d}' && mkdir x && tar --xattrs -cSf a.tar source &&"
            " tar --xattrs -xSf a.tar -C x",
        ),
    ]
    found.append(
        run("rsync", "-aHAX", f"{source}/", d / "synced") if shutil.which("rsync") else None
    )
    trees = [source, d / "copied", d / "x" / "source"]
    listings = [
        [
            (str(p.relative_to(tree)), look(p), p.lstat().st_mtime_ns)
            for p in sorted(tree.rglob("*"))
        ]
        for tree in trees
    ]
    same = [listings[0][1:] == other[1:] for other in listings[1:]]
    return (
        [each and each[0] for each in found],
        same,
        run("cmp", source / "sub/data", d / "copied/sub/data"),
    )


@both
def git_and_sqlite(d: Path) -> Any:
    script = """
    cd "$1" && export HOME="$1" GIT_CONFIG_NOSYSTEM=1
    git init -q r && cd r && for i in $(seq 30); do echo $i > f$i; done && git add . &&
    git -c user.name=n -c user.email=e commit -qm one && git gc -q &&
    git fsck --strict 2>/dev/null &&
    git status --porcelain && git clone -q . ../clone && ls ../clone | wc -l
    sqlite3 db 'PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES(1),(2);
        PRAGMA journal_mode=delete; UPDATE t SET x=x+1; SELECT sum(x) FROM t;
        PRAGMA integrity_check;'
    """
    return run("sh", "-ec", script, "sh", d)


@both
def preallocation_by_posix_fallocate(d: Path) -> Any:
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, 1 << 20)
    size = os.fstat(fd).st_size
    os.close(fd)
    return size


@both
def holes_can_be_skipped(d: Path) -> Any:
    path = d / "f"
    path.write_bytes(b"data")
    fd = os.open(path, os.O_RDONLY)
    found = (
        os.lseek(fd, 0, os.SEEK_DATA),
        os.lseek(fd, 0, os.SEEK_HOLE),
        attempt(os.lseek, fd, 4, os.SEEK_DATA),
    )
    os.close(fd)
    return found


@both
def copy_file_range_or_not(d: Path) -> Any:
    (d / "a").write_bytes(b"x" * 100_000)
    shutil.copyfile(d / "a", d / "b")
    source, target = os.open(d / "a", os.O_RDONLY), os.open(d / "c", os.O_CREAT | os.O_WRONLY)
    copied = os.copy_file_range(source, target, 100_000)
    sent = os.open(d / "s", os.O_CREAT | os.O_WRONLY)
    sent_bytes = os.sendfile(sent, source, 0, 100_000)
    for fd in (source, target, sent):
        os.close(fd)
    return (
        copied,
        sent_bytes,
        (d / "b").read_bytes() == (d / "c").read_bytes() == (d / "s").read_bytes(),
    )


@root
def executables_run(d: Path) -> Any:
    shutil.copy("/bin/true", d / "program")
    fd = os.open(d / "program", os.O_WRONLY)
    busy = attempt(run, d / "program")
    os.close(fd)
    return busy, run(d / "program")


@both
def truncating_much_on_open(d: Path) -> Any:
    path = d / "f"
    path.write_bytes(b"data")
    os.truncate(path, 300 << 20)
    path.chmod(0o6755)
    with path.open("wb") as file:
        file.write(b"fresh")
    return look(path), path.read_bytes()
