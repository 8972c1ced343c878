"""The acts of the demo, in the order in which they are played; each works on one Stage."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import filesystems, mutation, oddities, sampletree
from tests.lab.demo.filer import Filer
from tests.lab.demo.report import Report
from tests.lab.demo.watch import BLOCK, LunReader, SnapshotWatch
from tests.lab.treecompare import Manifest, Tolerance, differences

MIB = 1024 * 1024
AVERAGE = 10 * 1024
"""Bytes a real file has on average at the most."""
SPARSE = oddities.GIB + 12_345
LUN_BLOCKS = 256
PROJECTS, HOME = "projects", "home"
LUN = f"{HOME}/lun0"
CHANGED_BLOCK, CHANGED_DATA = 3, random.Random("changed").randbytes(BLOCK)
FULL_TAPE, INCREMENTAL_TAPE = "SR0001L8", "SR0002L8"
PHASES = ("(Pass I)", "(Pass II)", "(Pass III)", "(Pass IV)", "(Pass V)")

FOREIGN = Tolerance(
    time_ns=1000,
    time_range=(0, 2**32),
    name_max=254,
    xattr_max=4096,
    xattr_prefixes=("trusted.snapreel.",),
    extra=frozenset({"restoresymtable"}),
)
"""What Debian's restore cannot keep: it has microseconds since 1970 in 32 bits, loses names
of 255 bytes, reads attributes of up to 4 KiB, and leaves its symbol table."""

OWN = Tolerance(extra=frozenset({"restore_symboltable"}))
"""What a restore adds: its table of what it restored, for the next level."""


@dataclass(slots=True)
class Stage:
    """What the acts share."""

    place: Path
    filer: Filer
    report: Report
    files: int
    """How many real files to copy in."""
    full: Manifest = field(default_factory=lambda: Manifest({}))
    """The volume as the level-0 dump saw it."""
    changed: Manifest = field(default_factory=lambda: Manifest({}))
    """The volume as the level-1 dump saw it."""

    made: dict[str, list[str]] = field(default_factory=dict)
    """The qtrees and LUNs that were made."""

    @property
    def volume(self) -> Path:
        """The mount point of the volume that the demo is about."""
        return self.filer.volume("vol1")

    def look(self) -> Manifest:
        """Read the whole volume as a client sees it, without its snapshots."""
        return Manifest.of(self.volume, without=frozenset({".snapshot"}))

    def structure(self) -> dict[str, list[str]]:
        """Give what `snapreel` lists in the volume: qtrees and LUNs."""
        qtrees = self.filer.json("qtree", "list", "vol1")
        luns = self.filer.json("lun", "list", "vol1")
        return {
            "qtrees": sorted(f"{qtree['name']} id {qtree['id']}" for qtree in qtrees),
            "LUNs": sorted(f"{lun['path']} {lun['size']} serial {lun['serial']}" for lun in luns),
        }

    @property
    def stream(self) -> Path:
        """The file that holds the level-0 dump."""
        return self.place / "level0.dump"


def build(stage: Stage) -> None:
    """Make a root, start the server, make a volume with two qtrees and a LUN."""
    filer, report = stage.filer, stage.report
    report.act("A root with an aggregate on btrfs and a virtual library; the server; a volume")
    filer.run("init", "--size", "8G")
    filer.start()
    filer.run("volume", "create", "vol1", "--size", "4G", "--security-style", "mixed")
    for qtree in (PROJECTS, HOME):
        filer.run("qtree", "create", f"vol1/{qtree}")
    filer.run("lun", "create", f"/vol/vol1/{LUN}", "--size", f"{LUN_BLOCKS}M")
    stage.made = stage.structure()
    report.check(os.path.ismount(stage.volume), f"vol1 is mounted at {stage.volume}")


def fill(stage: Stage) -> None:
    """Copy real trees, odd things and the LUN's data in through the mount."""
    stage.report.act(
        f"{stage.files:,} real files, oddities and LUN data, written through the mount"
    )
    with stage.report.timed("write through the mount") as row:
        share, *python = sampletree.SOURCES
        most = stage.files * 3 // 4
        copied = [
            sampletree.copy_real(
                stage.volume / PROJECTS, files=most, budget=most * AVERAGE, sources=[share]
            ),
            sampletree.copy_real(
                stage.volume / HOME,
                files=stage.files - most,
                budget=(stage.files - most) * AVERAGE,
                sources=python,
            ),
        ]
        (stage.volume / "odd").mkdir()
        oddities.make(stage.volume / "odd", sparse_size=SPARSE)
        write_lun(stage.volume / LUN)
        row.files = sum(each.files for each in copied)
        row.bytes = sum(each.bytes for each in copied) + LUN_BLOCKS * BLOCK
    with stage.report.timed("read through the mount") as row:
        stage.full = stage.look()
        row.files, row.bytes = stage.full.files, stage.full.bytes
    stage.report.check(
        stage.full.files >= stage.files, f"the volume holds {stage.full.files:,} files"
    )


def lun_block(number: int) -> bytes:
    """Give the data of a block of the LUN; every fourth is not written and reads as zeros."""
    if number % 4 == 3:
        return bytes(BLOCK)
    return random.Random(number).randbytes(BLOCK)


def write_lun(path: Path) -> None:
    """Write the LUN's data, leaving every fourth block alone."""
    fd = os.open(path, os.O_RDWR)
    try:
        for number in range(LUN_BLOCKS):
            if number % 4 != 3:
                os.pwrite(fd, lun_block(number), number * BLOCK)
        os.fsync(fd)
    finally:
        os.close(fd)


def dump_full(stage: Stage) -> None:
    """Load a cartridge through the changer and dump level 0 to it, watching the snapshot."""
    stage.report.act(f"Level 0 to cartridge {FULL_TAPE}, loaded into drive 0 by the changer")
    load(stage, FULL_TAPE, 0)
    with SnapshotWatch(stage.volume, "snapshot_for_backup.", LUN) as watch:
        dump(stage, "dump level 0 to tape", "--level", "0", "--to", "nrst0a")
    check = stage.report.check
    check(watch.names == {"snapshot_for_backup.0"}, f"seen in .snapshot meanwhile: {watch.names}")
    refused = set(watch.refusals.values())
    check(refused == {"EROFS"}, f"{len(watch.refusals)} ways to change it all gave {refused}")
    check(os.listdir(stage.volume / ".snapshot") == [], "the snapshot is gone afterwards")
    unload(stage, FULL_TAPE, 0)


def dump_to_file(stage: Stage) -> None:
    """Dump level 0 once more, to a file."""
    stage.report.act("The same level 0 to a file")
    target = f"file:{stage.stream}"
    dump(stage, "dump level 0 to a file", "--level", "0", "--no-update", "--to", target)


def dump(stage: Stage, what: str, *options: str) -> None:
    """Dump the volume, echo what the engine says, and check that all phases were reported."""
    with stage.report.timed(what) as row:
        text = stage.filer.run("dump", "/vol/vol1", *options)
        for line in text.splitlines():
            stage.report.say(f"| {line}")
        record = last_session(stage)
        row.files, row.bytes = record["files"], record["bytes"]
    said = [phase for phase in PHASES if phase in text]
    kept = [phase["number"] for phase in record["phases"]]
    stage.report.check(said == list(PHASES) and kept == [1, 2, 3, 4, 5], f"reported: {said}")
    share = f"{record['files']:,} of {record['total_files']:,} files"
    stage.report.check(record["files"] == record["total_files"] > 0, f"progress: {share}")


def debian_restore(stage: Stage) -> None:
    """Let Debian's restore extract the file into a plain directory, and compare."""
    stage.report.act("Debian's restore extracts that file into a plain directory")
    with filesystems.mounted("btrfs", stage.place, size=4096 * MIB) as plain:
        target = plain / "extracted"
        target.mkdir()
        with stage.report.timed("Debian: restore -rf") as row:
            done = subprocess.run(
                ["restore", "-rf", str(stage.stream)],
                cwd=target,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            row.files, row.bytes = stage.full.files, stage.full.bytes
        stage.report.check(done.returncode == 0, f"restore ended with {done.returncode}")
        found = differences(stage.full, Manifest.of(target), ignore=FOREIGN)
        stage.report.compare(row, found)


def change(stage: Stage) -> None:
    """Change, delete and rename through the mount."""
    stage.report.act("Changes, deletions and renames through the mount")
    with stage.report.timed("change through the mount") as row:
        changes = mutation.mutate(stage.volume / PROJECTS)
        changes += mutation.mutate(stage.volume / HOME, spare=stage.volume / LUN)
        changes += mutation.mutate_oddities(stage.volume / "odd")
        fd = os.open(stage.volume / LUN, os.O_RDWR)
        os.pwrite(fd, CHANGED_DATA, CHANGED_BLOCK * BLOCK)
        os.close(fd)
        row.files = changes.total()
    stage.report.say(", ".join(f"{count} {kind}" for kind, count in sorted(changes.items())))
    stage.changed = stage.look()


def dump_incremental(stage: Stage) -> None:
    """Dump level 1 to another cartridge in the other drive."""
    stage.report.act(f"Level 1 to cartridge {INCREMENTAL_TAPE} in drive 1")
    load(stage, INCREMENTAL_TAPE, 1)
    dump(stage, "dump level 1 to tape", "--level", "1", "--to", "nrst1a")
    unload(stage, INCREMENTAL_TAPE, 1)


def destroy(stage: Stage) -> None:
    """Destroy the volume and make an empty one in its place."""
    stage.report.act("Disaster: the volume is destroyed; an empty one takes its place")
    stage.filer.run("volume", "offline", "vol1")
    stage.filer.run("volume", "delete", "vol1", "--force")
    stage.report.check(not os.path.ismount(stage.volume), "vol1 is gone")
    stage.filer.run("volume", "create", "vol1", "--size", "4G", "--security-style", "mixed")
    stage.report.check(os.listdir(stage.volume) == [".snapshot"], "the new vol1 is empty")


def restore_full(stage: Stage) -> None:
    """Restore level 0 while a client polls the LUN."""
    stage.report.act(
        "Restore of level 0 from its cartridge, a client reading the LUN all the while"
    )
    load(stage, FULL_TAPE, 1)
    with LunReader(stage.volume / LUN, is_full, LUN_BLOCKS) as reader:
        restore(stage, "restore level 0 from tape", "nrst1a")
    unload(stage, FULL_TAPE, 1)
    check_reader(stage, reader)
    lun = (stage.volume / LUN).read_bytes()
    expected = b"".join(map(lun_block, range(LUN_BLOCKS)))
    stage.report.check(lun == expected, "the client reads the LUN's right data afterwards")
    verify(stage, "volume after level 0", stage.full)


def restore_incremental(stage: Stage) -> None:
    """Restore level 1 on top while a client has the LUN open; compare with what was destroyed."""
    stage.report.act("Restore of level 1 from its cartridge, a client holding the LUN open")
    load(stage, INCREMENTAL_TAPE, 0)
    with LunReader(stage.volume / LUN, is_full_or_changed, LUN_BLOCKS, hold=True) as reader:
        restore(stage, "restore level 1 from tape", "nrst0a", "--incremental")
    unload(stage, INCREMENTAL_TAPE, 0)
    check_reader(stage, reader)
    verify(stage, "volume after level 1", stage.changed)


def is_full(number: int, data: bytes) -> bool:
    """Tell whether a block of the LUN is as level 0 has it."""
    return data == lun_block(number)


def is_full_or_changed(number: int, data: bytes) -> bool:
    """Tell whether a block of the LUN is as level 0 or as level 1 has it."""
    return is_full(number, data) or (number == CHANGED_BLOCK and data == CHANGED_DATA)


def check_reader(stage: Stage, reader: LunReader) -> None:
    """Check that a client was turned away with EBUSY, and never got anything wrong."""
    seen = dict(reader.outcomes)
    stage.report.check(seen.get("EBUSY", 0) > 0, f"the client was turned away: {seen}")
    allowed = {"ENOENT", "EBUSY", "right"}
    stage.report.check(seen.keys() <= allowed, "the client never read wrong data")


def restore(stage: Stage, what: str, device: str, *options: str) -> None:
    """Restore the volume from a tape and echo what the engine says."""
    with stage.report.timed(what) as row:
        text = stage.filer.run("restore", "--from", device, "/vol/vol1", *options)
        for line in text.splitlines():
            stage.report.say(f"| {line}")
        record = last_session(stage)
        row.files, row.bytes = record["files"], record["bytes"]


def verify(stage: Stage, what: str, expected: Manifest) -> None:
    """Compare the whole volume, as a client sees it, with a manifest."""
    with stage.report.timed(f"compare {what}") as row:
        actual = stage.look()
        row.files, row.bytes = actual.files, actual.bytes
        found = differences(expected, actual, ignore=OWN)
    stage.report.compare(row, found)
    structure = stage.structure()
    stage.report.check(structure == stage.made, f"qtrees and LUNs are back: {structure}")


def copy_from_snapshot(stage: Stage) -> None:
    """Lose a directory and a file, and get them back by copying out of `.snapshot`."""
    stage.report.act("Restore by copy out of .snapshot")
    stage.filer.run("snapshot", "create", "vol1", "before_the_mistake")
    lost = stage.volume / "odd" / "attributes"
    expected = Manifest.of(lost)
    shutil.rmtree(lost)
    with stage.report.timed("copy out of .snapshot") as row:
        source = stage.volume / ".snapshot" / "before_the_mistake" / "odd" / "attributes"
        subprocess.run(["cp", "-a", str(source), str(lost)], check=True)
        actual = Manifest.of(lost)
        row.files, row.bytes = actual.files, actual.bytes
    stage.report.compare(row, differences(expected, actual))
    stage.filer.run("snapshot", "delete", "vol1", "before_the_mistake")
    gone = outcome(lambda: os.listdir(source))
    stage.report.check(gone == "ENOENT", f"the deleted snapshot is gone: {gone}")


def outcome(attempt: Callable[[], object]) -> str:
    """Give the name of the errno that an attempt ends in, or nothing."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def load(stage: Stage, barcode: str, drive: int) -> None:
    """Have the changer load a cartridge into a drive."""
    stage.filer.run("library", "load", barcode, f"rst{drive}")
    stage.report.say(f"changer: {barcode} loaded into drive {drive}")


def unload(stage: Stage, barcode: str, drive: int) -> None:
    """Have the changer put a cartridge back."""
    stage.filer.run("library", "unload", f"rst{drive}")
    stage.report.say(f"changer: {barcode} unloaded from drive {drive}")


def last_session(stage: Stage) -> dict[str, Any]:
    """Give the newest session's record: its `files` and `bytes` among others."""
    sessions: list[dict[str, Any]] = stage.filer.json("session", "list", "--limit", "1")
    return sessions[0]


ACTS: tuple[Callable[[Stage], None], ...] = (
    build,
    fill,
    dump_full,
    dump_to_file,
    debian_restore,
    change,
    dump_incremental,
    destroy,
    restore_full,
    restore_incremental,
    copy_from_snapshot,
)
