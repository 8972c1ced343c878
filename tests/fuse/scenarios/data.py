"""Reading and writing."""

# The system calls themselves are what is tested.

import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

from tests.fuse.scenarios.kit import attempt, both, look


@both
def sparse_files(d: Path) -> Any:
    path = d / "f"
    with path.open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    found = [path.stat().st_size, path.stat().st_blocks * 512 < 1 << 20]
    with path.open("rb") as file:
        found.append(file.read(4096) == bytes(4096))
        file.seek((10 << 20) - 2)
        found.append(file.read())
    os.truncate(path, 1 << 42)
    found += [
        path.stat().st_size,
        attempt(os.truncate, path, -1),
        attempt(os.truncate, path, 2**63 - 1),
    ]
    os.truncate(path, 0)
    return [*found, look(path)]


@both
def truncation(d: Path) -> Any:
    path = d / "f"
    path.write_bytes(b"0123456789" * 1000)
    found = []
    for size in (9999, 4097, 4096, 10, 20000, 0, 1):
        os.truncate(path, size)
        found.append((path.stat().st_size, hash(path.read_bytes()) is not None, path.read_bytes()))
    with path.open("r+b") as file:
        file.truncate(50)
        file.seek(100)
        file.write(b"x")
        file.flush()
        found.append((os.fstat(file.fileno()).st_size, True, path.read_bytes()))
    fd = os.open(path, os.O_RDONLY)
    found.append(attempt(os.ftruncate, fd, 1))
    os.close(fd)
    path.open("wb").close()
    return found, look(path), attempt(os.truncate, d, 0), attempt(os.truncate, d / "missing", 0)


@both
def appending(d: Path) -> Any:
    path = d / "f"
    one = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    two = os.open(path, os.O_RDWR | os.O_APPEND)
    for number in range(50):
        os.write(one if number % 2 else two, f"{number},".encode())
    os.pwrite(two, b"!", 0)
    found = path.read_bytes(), os.lseek(one, 0, os.SEEK_CUR)
    os.close(one)
    os.close(two)
    return found


@both
def several_processes_append(d: Path) -> Any:
    path = d / "f"
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            for _ in range(100):
                os.write(fd, bytes([65 + number]) * 50 + b"\n")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    lines = path.read_bytes().split(b"\n")
    return len(lines), {(len(line), len(set(line))) for line in lines if line}


@both
def memory_mapped(d: Path) -> Any:
    path = d / "f"
    path.write_bytes(bytes(3 * 4096 + 100))
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as shared:
        shared[0:5] = b"hello"
        shared[4094:4100] = b"bridge"
        found = [os.pread(fd, 5, 0)]
        os.pwrite(fd, b"file", 8192)
        found.append(bytes(shared[8192:8196]))
        shared.flush()
    with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE) as private:
        private[0:5] = b"inner"
    os.close(fd)
    data = path.read_bytes()
    return found, data[:5], data[4094:4100], len(data)


@both
def mapped_append_descriptor(d: Path) -> Any:
    path = d / "f"
    path.write_bytes(bytes(8192))
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    with mmap.mmap(fd, 8192) as shared:
        shared[0:4] = b"page"
        shared.flush()
    os.write(fd, b"tail")
    os.close(fd)
    data = path.read_bytes()
    return len(data), data[:4], data[-4:]


@both
def direct_io(d: Path) -> Any:
    path = d / "f"
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 8192)
    page[:] = b"D" * 8192
    found = [os.pwritev(fd, [page], 4096)]
    page[:] = bytes(8192)
    found.append(os.preadv(fd, [page], 4096))
    found.append(bytes(page[:4]))
    found.append(os.preadv(fd, [page], 8192))
    buffered = os.open(path, os.O_RDWR)
    os.pwrite(buffered, b"b" * 4096, 0)
    found.append(os.preadv(fd, [page], 0))
    found.append(bytes(page[:4]))
    os.close(fd)
    os.close(buffered)
    return found, look(path)


@both
def vectors_and_large_requests(d: Path) -> Any:
    path = d / "f"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    block = os.urandom(5 << 20)
    written = os.pwritev(fd, [block[: 1 << 20], block[1 << 20 :]], 777)
    data = os.pread(fd, 6 << 20, 0)
    os.close(fd)
    return written, data[777:] == block, data[:777] == bytes(777)


@both
def open_flags(d: Path) -> Any:
    path = d / "f"
    path.write_text("content")
    (d / "link").symlink_to("f")
    found = []
    for flags in (os.O_WRONLY, os.O_RDONLY, os.O_RDWR):
        fd = os.open(path, flags)
        found.append((attempt(os.read, fd, 3), attempt(os.write, fd, b"x")))
        os.close(fd)
    found.append(attempt(os.open, d / "link", os.O_RDONLY | os.O_NOFOLLOW))
    fd = os.open(path, os.O_RDWR | os.O_TRUNC | os.O_SYNC)
    found.append(os.write(fd, b"synced"))
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    directory = os.open(d, os.O_RDONLY)
    found.append(attempt(os.fsync, directory))
    found.append(attempt(os.read, directory, 3))
    os.close(directory)
    return found, path.read_text(), attempt(os.open, path, os.O_RDWR | os.O_TMPFILE) is not None


@both
def seeking_beyond(d: Path) -> Any:
    path = d / "f"
    path.write_bytes(b"abc")
    fd = os.open(path, os.O_RDWR)
    found = [
        os.pread(fd, 10, 3),
        os.pread(fd, 10, 1 << 40),
        os.lseek(fd, 100, os.SEEK_END),
        attempt(os.lseek, fd, -1, os.SEEK_SET),
        attempt(os.pread, fd, 1, -1),
    ]
    os.close(fd)
    return found


@both
def locks(d: Path) -> Any:
    path = d / "f"
    path.write_text("x")
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        other = os.open(path, os.O_RDWR)
        found = (
            attempt(fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1),
            attempt(fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 50),
            attempt(fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB),
        )
        os.write(writer, repr(found).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(fd)
    return os.read(reader, 999)
