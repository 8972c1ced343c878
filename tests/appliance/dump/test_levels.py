"""Incremental dumps: what they hold, on what they build, and replays by Debian's restore."""

import os
import random
import shutil
from pathlib import Path

import pytest

from appliance.dump.dumpdates import DumpDate, DumpDates
from appliance.dump.inodemap import InodeMap
from appliance.errors import Refused
from fuse import metadata
from fuse.restriction import lift, restrict
from fuse.volume import Volume
from tests.appliance.dump.dumplab import Heard, compare, dump, replay, restore, special_tree
from tests.appliance.dump.streamcheck import Stream, check_stream

pytestmark = pytest.mark.root


def level(
    volume: Volume, place: Path, number: int, relative: str = "", **more: object
) -> tuple[Path, Stream, Heard]:
    """Dump a level into its own file and check it."""
    target = place / f"level{number}-{len(list(place.iterdir()))}"
    heard = Heard()
    dump(volume, target, relative, heard, level=number, **more)
    return target, check_stream(target, 64), heard


def named(stream: Stream) -> set[bytes]:
    """Give the names in directories on tape whose inodes are on tape, without dots."""
    found = set()
    for member in stream.members:
        if member.is_directory:
            for name, (inode, _) in stream.entries(member.number).items():
                if inode in stream.on_tape and name not in (b".", b".."):
                    found.add(name)
    return found


def change(top: Path) -> None:
    """Do to `special_tree` whatever can happen between two levels."""
    (top / "odd").write_bytes(os.urandom(50_000))  # two more names
    with (top / "exact").open("ab") as file:
        file.write(b"more")
    (top / "inline").chmod(0o600)
    (top / "empty").unlink()
    (top / "fifo").unlink()
    (top / "fifo").mkdir()  # another type under an old name
    (top / "fifo" / "inside").write_text("a file where a fifo was")
    (top / "char").rename(top / "many" / "char moved")
    shutil.rmtree(top / "deep" / ("d" * 60) / ("d" * 60))
    (top / "deep").rename(top / "many" / "deep moved")
    for number in range(0, 200, 3):
        next((top / "many").glob(f"name-{number:04}*")).unlink()
    for number in range(1, 200, 3):
        found = next((top / "many").glob(f"name-{number:04}*"))
        found.rename(top / f"moved-{number}")
    os.link(top / "headers", top / "headers too")  # an unchanged file with another name
    (top / "hard link").unlink()
    with (top / "sparse").open("r+b") as file:
        file.seek(50 << 20)
        file.write(b"s" * 4096)
    fresh = top / "fresh" / "er"
    fresh.mkdir(parents=True)
    (fresh / "file").write_text("new")
    (top / "long-link").unlink()
    os.symlink("elsewhere", top / "long-link")
    os.setxattr(top / "tail", "user.later", b"l")
    shutil.copy(top / "tail", top / "tail.new")
    (top / "tail.new").rename(top / "tail")  # replaced as editors do


def test_two_levels_replayed(volume: Volume, tmp_path: Path) -> None:
    streams = tmp_path / "streams"
    streams.mkdir()
    special_tree(volume.path)
    first, whole, _ = level(volume, streams, 0)
    change(volume.path)
    second, partial, heard = level(volume, streams, 1)
    assert partial.base_date == whole.date
    assert len(partial.on_tape) < len(whole.on_tape) / 2
    assert "DUMP: Date of last level 0 dump: the epoch." not in heard.lines
    into = tmp_path / "into"
    said = restore(first, into, "-r") + restore(second, into, "-r")
    (into / "restoresymtable").unlink()
    assert compare(volume.path, into) > 600
    assert "not found on tape" not in said


def test_only_what_changed_is_on_tape(volume: Volume, tmp_path: Path) -> None:
    for directory in ("a", "b/c", "d"):
        (volume.path / directory).mkdir(parents=True)
        (volume.path / directory / "file").write_text(directory)
    level(volume, tmp_path, 0)
    (volume.path / "b" / "c" / "file").write_text("changed")
    _, stream, _ = level(volume, tmp_path, 1)
    assert named(stream) == {b"b", b"c", b"file"}
    assert [m.data for m in stream.members if m.mode & 0o170000 == 0o100000 and not m.part] == [
        b"changed"
    ]
    assert len(stream.used) == 8


def test_nothing_changed(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "file").write_text("x")
    level(volume, tmp_path, 0)
    _, stream, _ = level(volume, tmp_path, 5)
    assert stream.on_tape == {2}


def test_the_chain_of_the_manual(volume: Volume, tmp_path: Path) -> None:
    """Levels 0, 2, 3, 1, 4 build on nothing, 0, 2, 0 and 1."""
    found = {}
    for number in (0, 2, 3, 1, 4):
        (volume.path / f"before{number}").write_text("x")
        _, stream, _ = level(volume, tmp_path, number)
        found[number] = {n for n in named(stream) if n.startswith(b"before")}
    assert found == {
        0: {b"before0"},
        2: {b"before2"},
        3: {b"before3"},
        1: {b"before2", b"before3", b"before1"},
        4: {b"before4"},
    }
    dates = DumpDates(volume.aggregate.database(), volume.metadata().uuid)
    assert [entry.level for entry in dates.entries(b"")] == [0, 1, 2, 3, 4]
    assert dates.forget(b"", 1) == 1
    base = dates.base(b"", 31)
    assert base is not None
    assert base.level == 4
    assert dates.forget(b"") == 4


def test_a_level_without_a_base_dumps_everything(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "file").write_text("x")
    _, stream, heard = level(volume, tmp_path, 3)
    assert (stream.level, stream.base_date) == (3, 0)
    assert named(stream) == {b"file"}
    assert "no dump below level 3 is known: everything is dumped" in heard.text


def test_without_update_the_next_level_builds_on_the_one_before(
    volume: Volume, tmp_path: Path
) -> None:
    level(volume, tmp_path, 0)
    (volume.path / "file").write_text("x")
    level(volume, tmp_path, 1, update=False)
    _, stream, _ = level(volume, tmp_path, 2)
    assert named(stream) == {b"file"}


def test_a_snapshot_older_than_the_base_is_refused(volume: Volume, tmp_path: Path) -> None:
    volume.snapshots.create("old")
    (volume.path / "file").write_text("x")
    level(volume, tmp_path, 0)
    target = tmp_path / "refused"
    with pytest.raises(Refused, match="snapshot old: it is older than the level 0 dump"):
        dump(volume, target, level=1, snapshot="old")
    assert not target.exists()
    assert not volume.snapshots.locks("old")


def test_a_named_snapshot_is_what_is_dumped_and_stays(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "file").write_text("then")
    volume.snapshots.create("then")
    (volume.path / "file").write_text("now!")
    _, stream, _ = level(volume, tmp_path, 0, snapshot="then")
    assert stream.member(stream.find(b"file")).data == b"then"
    assert [s.name for s in volume.snapshots.list()] == ["then"]
    assert not volume.snapshots.locks("then")
    _, stream, _ = level(volume, tmp_path, 1)
    assert stream.member(stream.find(b"file")).data == b"now!"


def test_a_volume_keeps_its_chain_under_another_name(volume: Volume, tmp_path: Path) -> None:
    level(volume, tmp_path, 0)
    name = volume.name
    renamed = volume.aggregate.rename_volume(name, name + "x")
    try:
        (renamed.path / "file").write_text("x")
        _, stream, _ = level(renamed, tmp_path, 1)
    finally:
        volume.aggregate.rename_volume(name + "x", name)
    assert stream.base_date


def test_excluded_names(volume: Volume, tmp_path: Path) -> None:
    for name in ("keep.c", "drop.o", "core", "core.1", "a-tmp-b"):
        (volume.path / name).write_text(name)
    (volume.path / "cache").mkdir()
    (volume.path / "cache" / "below").write_text("x")
    os.link(volume.path / "drop.o", volume.path / "kept")
    _, stream, _ = level(volume, tmp_path, 0, exclude=("*.o", "cor*", "*tmp*", "cache"))
    assert set(stream.entries(2)) == {b".", b"..", b"keep.c", b"kept"}
    assert len(stream.used) == 3


def test_what_is_excluded_later_is_not_deleted_by_a_replay(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "dir").mkdir()
    (volume.path / "dir" / "old").write_text("as of level 0")
    (volume.path / "file.o").write_text("as of level 0")
    first, _, _ = level(volume, tmp_path, 0)
    (volume.path / "dir" / "old").write_text("changed")
    (volume.path / "dir" / "new").write_text("new")
    (volume.path / "file.o").write_text("changed")
    (volume.path / "other.o").write_text("never dumped")
    (volume.path / "here").write_text("here")
    second, stream, _ = level(volume, tmp_path, 1, exclude=("*.o", "dir"))
    assert set(stream.entries(2)) == {b".", b"..", b"dir", b"file.o", b"here"}
    third, last, _ = level(volume, tmp_path, 2)
    assert named(last) == {b"dir", b"old", b"new", b"file.o", b"other.o"}
    into = tmp_path / "into"
    replay([first, second], into)
    assert (into / "file.o").read_text() == "as of level 0"
    assert (into / "dir" / "old").read_text() == "as of level 0"
    replay([first, second, third], tmp_path / "all")
    compare(volume.path, tmp_path / "all")


@pytest.mark.parametrize("levels", [("*.o", None), (None, "*.o", None), ("*.o", "*.o", None)])
def test_a_hard_link_whose_name_was_excluded_comes_with_a_later_level(
    volume: Volume, tmp_path: Path, levels: tuple[str | None, ...]
) -> None:
    directory = volume.path / "dir"
    directory.mkdir()
    (directory / "kept").write_text("x")
    os.link(directory / "kept", directory / "link.o")
    (tmp_path / "streams").mkdir()
    streams = []
    for number, pattern in enumerate(levels):
        exclude = (pattern,) if pattern else ()
        streams.append(level(volume, tmp_path / "streams", number, exclude=exclude)[0])
        if number < len(levels) - 2:
            (directory / f"new{number}").write_text("x")
    replay(streams, tmp_path / "into")
    compare(volume.path, tmp_path / "into")


def test_a_change_of_a_file_with_a_name_in_an_excluded_directory(
    volume: Volume, tmp_path: Path
) -> None:
    (volume.path / "skip").mkdir()
    (volume.path / "skip" / "first").write_text("as of level 0")
    (tmp_path / "streams").mkdir()
    streams = [level(volume, tmp_path / "streams", 0)[0]]
    os.link(volume.path / "skip" / "first", volume.path / "second")
    streams.append(level(volume, tmp_path / "streams", 1)[0])
    (volume.path / "second").write_text("changed")
    streams.append(level(volume, tmp_path / "streams", 2, exclude=("skip",))[0])
    streams.append(level(volume, tmp_path / "streams", 3)[0])
    replay(streams, tmp_path / "into")
    compare(volume.path, tmp_path / "into")


def test_the_most_recent_base_is_not_told_by_the_clock(volume: Volume) -> None:
    dates = DumpDates(volume.aggregate.database(), volume.metadata().uuid)
    first = DumpDate(b"", 0, 2000, 10, "first", "s", 5)
    dates.record(first, InodeMap([2]), set())
    dates.record(DumpDate(b"", 1, 1000, 20, "second", "s", 3), InodeMap([2]), set())
    base = dates.base(b"", 2)
    assert base is not None
    assert base.dump_uuid == "second"
    assert dates.load(first).used == InodeMap([2])
    dates.record(DumpDate(b"", 0, 3000, 30, "third", "s", 9), InodeMap([2, 3]), set())
    assert not dates.load(first).used, "the maps of another dump"


def test_restricted_objects_come_with_a_later_level(volume: Volume, tmp_path: Path) -> None:
    for name in ("had", "not had"):
        (volume.path / name).write_text("as of level 0")
    restrict(volume.path / "not had", "9")
    first, stream, heard = level(volume, tmp_path, 0)
    assert set(stream.entries(2)) == {b".", b"..", b"had"}
    assert "not had is left out: client I/O on it is restricted" in heard.text
    (volume.path / "had").write_text("half restored")
    restrict(volume.path / "had", "9")
    second, stream, _ = level(volume, tmp_path, 1)
    assert set(stream.entries(2)) == {b".", b"..", b"had"}
    assert stream.on_tape == {2}
    volume.snapshots.create("between")  # lift changes inodes: the marks' generation is older
    lift(volume.path / "had")
    lift(volume.path / "not had")
    third, stream, _ = level(volume, tmp_path, 2)
    assert named(stream) == {b"had", b"not had"}
    into = tmp_path / "into"
    replay([first, second, third], into)
    compare(volume.path, into)
    assert not any(
        metadata.RESTRICTED.encode() in record for m in stream.members for record in m.records
    )


def test_a_subtree_and_what_is_moved_in_and_out(volume: Volume, tmp_path: Path) -> None:
    inside, outside = volume.path / "q1" / "sub", volume.path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "early").mkdir()
    (outside / "early" / "deep").write_text("older than the level 0 dump")
    (inside / "leaves").write_text("leaves")
    (inside / "stays").write_text("stays")
    os.link(inside / "stays", outside / "link from outside")
    first, stream, heard = level(volume, tmp_path, 0, "q1/sub")
    assert "DUMP: Using Subtree Dump" in heard.lines
    assert set(stream.entries(2)) == {b".", b"..", b"leaves", b"stays"}
    assert stream.filesystem == f"/vol/{volume.name}/q1/sub".encode()
    (inside / "leaves").rename(outside / "leaves")
    (outside / "early").rename(inside / "early")
    second, stream, _ = level(volume, tmp_path, 1, "q1/sub")
    assert named(stream) == {b"early", b"deep"}
    into = tmp_path / "into"
    replay([first, second], into)
    assert sorted(p.name for p in into.iterdir()) == ["early", "stays"]
    assert (into / "early" / "deep").read_text() == "older than the level 0 dump"


def test_a_root_with_a_higher_inode_than_its_contents(volume: Volume, tmp_path: Path) -> None:
    (volume.path / "a").mkdir()
    (volume.path / "a" / "file").write_text("x")
    (volume.path / "later").mkdir()
    (volume.path / "a").rename(volume.path / "later" / "a")
    target, stream, _ = level(volume, tmp_path, 0, "later")
    assert set(stream.entries(2)) == {b".", b"..", b"a"}
    replay([target], tmp_path / "into")
    assert (tmp_path / "into" / "a" / "file").read_text() == "x"


def test_a_qtree(volume: Volume, tmp_path: Path) -> None:
    volume.qtrees.create("q1")
    (volume.path / "q1" / "file").write_text("x")
    _, stream, heard = level(volume, tmp_path, 0, "q1")
    assert "DUMP: Using Qtree Dump" in heard.lines
    assert [tag for tag, _ in stream.items(8)] == [2, 3, 1]


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_replayed(volume: Volume, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    streams = []
    (tmp_path / "streams").mkdir()
    for number in range(4):
        for _ in range(60):
            _random_step(volume.path, chance)
        streams.append(level(volume, tmp_path / "streams", number)[0])
    into = tmp_path / "into"
    said = replay(streams, into)
    compare(volume.path, into)
    assert not any("not found on tape" in text for text in said)


def _random_step(top: Path, chance: random.Random) -> None:
    found = sorted(top.rglob("*"))
    directories = [top, *(p for p in found if p.is_dir() and not p.is_symlink())]
    files = [p for p in found if p.is_file() and not p.is_symlink()]
    target = chance.choice(directories) / f"n{chance.randrange(40)}"
    step = chance.choice(["file", "file", "dir", "link", "symlink", "rename", "remove", "chmod"])
    try:
        if step == "file":
            target.write_bytes(chance.randbytes(chance.choice([0, 10, 3000, 9000])))
        elif step == "dir":
            target.mkdir()
        elif step == "link" and files:
            target.hardlink_to(chance.choice(files))
        elif step == "symlink":
            target.symlink_to("somewhere")
        elif step == "rename" and found:
            chance.choice(found).rename(target)
        elif step == "remove" and found:
            victim = chance.choice(found)
            if victim.is_dir() and not victim.is_symlink():
                shutil.rmtree(victim)
            else:
                victim.unlink()
        elif step == "chmod" and files:
            chance.choice(files).chmod(chance.choice([0o600, 0o644, 0o755]))
    except OSError:
        pass  # the step cannot be done here
