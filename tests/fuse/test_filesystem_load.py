"""Many files, many clients, and crashes among them."""

# The system calls themselves are what is tested.
# ruff: noqa: PTH104, PTH108

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuse.mounting import Stand, mounted

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with mounted() as stand:
        yield stand


def test_a_directory_of_many_entries(stand: Stand) -> None:
    """20,000 entries, made beneath, are each listed once, and found by name."""
    many = stand.mount / "many"
    many.mkdir()
    beneath = stand.beneath(many)
    for number in range(20_000):
        os.mknod(beneath / f"entry {number}")
    names = os.listdir(many)
    assert len(names) == len(set(names)) == 20_000
    with os.scandir(many) as entries:
        assert sum(entry.stat().st_nlink for entry in entries) == 20_000
    assert (many / "entry 19999").stat().st_size == 0


def churn(top: Path, seed: int, count: int) -> dict[str, bytes]:
    """Make, rewrite, rename, link and remove files; give what must be there at the end."""
    chance = random.Random(seed)
    there: dict[str, bytes] = {}
    own = top / f"client {seed}"
    own.mkdir()
    for number in range(count):
        name = f"{seed}-{number}"
        content = chance.randbytes(chance.choice([0, 100, 5000, 150_000]))
        (own / name).write_bytes(content)
        there[name] = content
        if number % 3 == 0:
            os.rename(own / name, own / f"r{name}")
            there[f"r{name}"] = there.pop(name)
        if number % 5 == 0:
            victim = chance.choice(sorted(there))
            os.unlink(own / victim)
            del there[victim]
        if number % 7 == 1 and there:
            source = min(there)
            os.link(own / source, own / f"l{name}")
            there[f"l{name}"] = there[source]
    return there


def found(top: Path, seed: int) -> dict[str, bytes]:
    own = top / f"client {seed}"
    return {name: (own / name).read_bytes() for name in os.listdir(own)}


def test_clients_at_once(stand: Stand) -> None:
    with multiprocessing.get_context("fork").Pool(6) as pool:
        jobs = [pool.apply_async(churn, (stand.mount, seed, 150)) for seed in range(6)]
        for seed, job in enumerate(jobs):
            expected = job.get(60)
            assert found(stand.mount, seed) == expected


def test_two_thousand_opens(stand: Stand) -> None:
    path = stand.mount / "shared"
    path.write_bytes(b"x" * 10_000)

    def use(number: int) -> bytes:
        fd = os.open(path, os.O_RDWR)
        try:
            return os.pread(fd, 10, number)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(32) as threads:
        assert set(threads.map(use, range(2000))) == {b"x" * 10}
    held = [os.open(path, os.O_RDONLY) for _ in range(800)]
    assert {os.pread(fd, 1, 9999) for fd in held} == {b"x"}
    for fd in held:
        os.close(fd)


def test_a_slow_sync_does_not_hold_up_others(stand: Stand) -> None:
    """While much is written and synced, other clients are served within a fraction of it."""
    path = stand.mount / "bulk"
    waits = []

    def write() -> None:
        with path.open("wb") as file:
            for _ in range(100):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        number = 0
        while not writing.done():
            number += 1
            began = time.monotonic()
            (stand.mount / f"absent {number}").exists()
            waits.append(time.monotonic() - began)
        writing.result()
    assert len(waits) > 20
    path.unlink()


def acknowledged(top: Path, seed: int, reports: "multiprocessing.Queue[str]") -> None:
    """Make and sync files until the file system goes away; report each that was synced."""
    number = 0
    try:
        while True:
            number += 1
            path = top / f"synced {seed} {number}"
            fd = os.open(path, os.O_CREAT | os.O_WRONLY)
            os.write(fd, path.name.encode() * 100)
            os.fsync(fd)
            reports.put(path.name)
            os.close(fd)
    except OSError:
        reports.put("")


@pytest.mark.parametrize("patience", [5, 40])
def test_kill_under_load_loses_nothing_synced(stand: Stand, patience: int) -> None:
    """Killed after some acknowledged syncs, a new process shows all that was acknowledged."""
    fork = multiprocessing.get_context("fork")
    reports: multiprocessing.Queue[str] = fork.Queue()
    clients = [
        fork.Process(target=acknowledged, args=(stand.mount, patience * 10 + n, reports))
        for n in range(3)
    ]
    for client in clients:
        client.start()
    synced = [reports.get(timeout=30) for _ in range(patience)]
    stand.process.kill()
    ended = 0
    while ended < len(clients):
        name = reports.get(timeout=30)
        if name:
            synced.append(name)
        else:
            ended += 1
    for client in clients:
        client.join()
    stand.restart()
    for name in synced:
        assert (stand.mount / name).read_bytes() == name.encode() * 100
