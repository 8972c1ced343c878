"""Incremental restores: what refuses them, and what becomes of what clients did meanwhile."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.dump import symboltable
from appliance.dump.chain import _same_place
from appliance.errors import Refused, UsageError
from fuse.aggregate import Aggregate
from fuse.volume import Volume
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.restorelab import Told, change, differences, evolve, fill, look, restore
from tests.appliance.dump.tapelab import DATE, Tape

pytestmark = pytest.mark.root


@pytest.fixture
def source(aggregate: Aggregate) -> Iterator[Volume]:
    yield aggregate.create_volume("source")
    aggregate.delete_volume("source")


def _tapes(source: Volume, place: Path, *changes: object) -> list[Path]:
    tapes = []
    for level, todo in enumerate(changes):
        assert callable(todo)
        todo(source.path)
        tapes.append(place / f"level{level}")
        dump(source, tapes[-1], level=level)
    return tapes


def test_our_own_chain_to_the_nanosecond(source: Volume, volume: Volume, tmp_path: Path) -> None:
    full, step = _tapes(source, tmp_path, fill, change)
    restore(volume, full)
    result = restore(volume, step, incremental=True)
    assert differences(look(source.path), look(volume.path)) == []
    assert (result.damaged, result.warnings) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_random_chains(seed: int, source: Volume, volume: Volume, tmp_path: Path) -> None:
    evolve(source.path, seed + 300, 100)
    for level in range(5):
        tape = tmp_path / f"level{level}"
        dump(source, tape, level=level)
        told = Told()
        restore(volume, tape, told, incremental=level > 0)
        assert differences(look(source.path), look(volume.path)) == [], told.text
        evolve(source.path, seed * 100 + level)


def test_what_was_gone_while_its_directory_was_excluded(
    source: Volume, volume: Volume, tmp_path: Path
) -> None:
    """The next level that has the directory removes and moves what it then can."""
    (source.path / "skip" / "inner" / "leaf").mkdir(parents=True)
    (source.path / "skip" / "deleted").write_text("deleted meanwhile")
    (source.path / "skip" / "replaced").mkdir()
    (source.path / "skip" / "replaced" / "below").write_text("moved meanwhile")
    for level, exclude in enumerate(((), ("skip", "fresh"), ())):
        if level == 1:
            (source.path / "skip" / "deleted").unlink()
            (source.path / "fresh").mkdir()
            (source.path / "skip" / "replaced").rename(source.path / "fresh" / "moved")
            (source.path / "skip" / "replaced").write_text("a file where a directory was")
            shutil.rmtree(source.path / "skip" / "inner")
        tape = tmp_path / f"level{level}"
        dump(source, tape, level=level, exclude=exclude)
        told = Told()
        restore(volume, tape, told, incremental=level > 0)
        assert "WARNING" not in told.text
    assert differences(look(source.path), look(volume.path)) == []


def test_a_nonconsecutive_chain(source: Volume, volume: Volume, tmp_path: Path) -> None:
    """Levels 0, 2, 1: level 1 is based on level 0, so a target at level 2 refuses it."""
    for number, level in enumerate((0, 2, 1)):
        (source.path / f"file{level}").write_bytes(b"x")
        dump(source, tmp_path / f"tape{number}", level=level)
    restore(volume, tmp_path / "tape0")
    restore(volume, tmp_path / "tape1", incremental=True)
    with pytest.raises(Refused, match="for another base"):
        restore(volume, tmp_path / "tape2", incremental=True)
    restore(volume, tmp_path / "tape0", force=True)
    restore(volume, tmp_path / "tape2", incremental=True)
    assert differences(look(source.path), look(volume.path)) == []


def test_refusals_change_nothing(
    aggregate: Aggregate, source: Volume, volume: Volume, tmp_path: Path
) -> None:
    full, step, third = _tapes(source, tmp_path, fill, change, lambda top: (top / "z").touch())
    with pytest.raises(Refused, match="no symbol table"):
        restore(volume, step, incremental=True)
    with pytest.raises(Refused, match="does not exist"):
        restore(volume, step, incremental=True, relative=b"missing")
    assert os.listdir(volume.path) == []
    restore(volume, full)
    before = look(volume.path)
    for tape, says in ((third, "for another base"), (full, "already")):
        told = Told()
        if tape is full:
            restore(volume, tape, told, incremental=True)
            assert says in told.text
            continue
        with pytest.raises(Refused, match=says) as caught:
            restore(volume, tape, told, incremental=True)
        assert caught.value.exit_code == 3
    table = volume.path / "restore_symboltable"
    content = table.read_bytes()
    table.write_bytes(content[:-9] + b"x" + content[-8:])
    with pytest.raises(Refused, match="checksum"):
        restore(volume, step, incremental=True)
    table.write_bytes(content)
    os.chown(table, 1000, 1000)  # whoever owns the directory may have put it there
    with pytest.raises(Refused, match="root's alone"):
        restore(volume, step, incremental=True)
    os.chown(table, 0, 0)
    for options in ({"files": (b"big",)}, {"renames": ((b"big", b"b"),)}):
        with pytest.raises(UsageError):
            restore_checked(volume, step, incremental=True, **options)
    assert differences(before, look(volume.path)) == []
    elsewhere = aggregate.create_volume("elsewhere")
    shutil.copy(table, elsewhere.path)
    (elsewhere.path / table.name).chmod(0o600)
    with pytest.raises(Refused, match="made elsewhere"):
        restore(elsewhere, step, incremental=True)
    aggregate.delete_volume("elsewhere")


def restore_checked(volume: Volume, tape: Path, **options: object) -> None:
    from tests.appliance.dump.restorelab import request

    request(volume, tape, **options).check()


def test_a_tape_of_another_volume(
    aggregate: Aggregate, source: Volume, volume: Volume, tmp_path: Path
) -> None:
    full, _ = _tapes(source, tmp_path, fill, change)
    other = aggregate.create_volume("other")
    dump(other, tmp_path / "o0")
    dump(other, tmp_path / "o1", level=1)
    restore(volume, full)
    with pytest.raises(Refused, match="another volume"):
        restore(volume, tmp_path / "o1", incremental=True)
    aggregate.delete_volume("other")


def test_a_tape_of_another_path_in_the_same_snapshot(
    source: Volume, volume: Volume, tmp_path: Path
) -> None:
    """Dumps of two qtrees from one snapshot have the same dates: only their paths differ."""
    for name in ("q1", "q2"):
        source.qtrees.create(name)
        (source.path / name / f"file-{name}").touch()
    source.snapshots.create("both")
    for name in ("q1", "q2"):
        dump(source, tmp_path / f"{name}.0", name, snapshot="both")
        (source.path / name / "more").touch()
    for name in ("q1", "q2"):
        dump(source, tmp_path / f"{name}.1", name, level=1)
    restore(volume, tmp_path / "q1.0")
    with pytest.raises(Refused, match="/q2, what is restored of /vol/source/q1"):
        restore(volume, tmp_path / "q2.1", incremental=True)
    assert (volume.path / "file-q1").exists()
    restore(volume, tmp_path / "q1.1", incremental=True)
    assert (volume.path / "more").exists()


def test_what_clients_moved_into_a_directory_that_goes_is_kept(
    source: Volume, volume: Volume, tmp_path: Path
) -> None:
    for name in ("stays", "goes"):
        (source.path / name).mkdir()
        (source.path / name / "file").write_text(name)
    (source.path / "stays" / "dir").mkdir()
    dump(source, tmp_path / "0")
    shutil.rmtree(source.path / "goes")
    dump(source, tmp_path / "1", level=1)
    restore(volume, tmp_path / "0")
    (volume.path / "goes" / "new" / "deep").mkdir(parents=True)
    (volume.path / "stays" / "file").rename(volume.path / "goes" / "new" / "deep" / "moved")
    (volume.path / "stays" / "dir").rename(volume.path / "goes" / "new" / "dir")
    told = Told()
    result = restore(volume, tmp_path / "1", told, incremental=True)
    lost = sorted(path for path in volume.path.iterdir() if path.name.startswith("restore_lost."))
    assert [path.is_dir() for path in lost].count(True) == 1
    assert [path.read_text() for path in lost if path.is_file()] == ["stays"]
    assert result.damaged == 2
    assert "2 objects that were made since went" in told.text
    assert not (volume.path / "goes").exists()


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("/vol/a", "/vol/a", True),
        ("/vol/a", "/vol/renamed", True),
        ("/vol/a/q/x", "/vol/renamed/q/x", True),
        ("/vol/a/q", "/vol/a/q2", False),
        ("/vol/a", "/vol/a/q", False),
        ("/vol/a/" + "x" * 56, "/vol/renamed/" + "x" * 50, True),
        ("/vol/a/" + "x" * 56, "/vol/renamed/" + "y" * 50, False),
    ],
)
def test_paths_are_compared_within_their_volume(one: str, two: str, same: bool) -> None:
    assert _same_place(one, two) is _same_place(two, one) is same


def test_a_level_0_tape_is_no_increment(source: Volume, volume: Volume, tmp_path: Path) -> None:
    (full,) = _tapes(source, tmp_path, fill)
    dump(source, tmp_path / "second", level=0)
    restore(volume, full)
    with pytest.raises(Refused, match="level-0 tape"):
        restore(volume, tmp_path / "second", incremental=True)


# -- what clients did meanwhile ---------------------------------------------------------------


def _before(top: Path) -> None:
    for name in ("a", "b", "c", "gone", "moves"):
        (top / name / "below").mkdir(parents=True)
        (top / name / "file").write_bytes(name.encode())
        (top / name / "below" / "deep").write_bytes(name.encode())


def _after(top: Path) -> None:
    shutil.rmtree(top / "gone")
    (top / "moves").rename(top / "a" / "moved")
    (top / "b" / "file").write_bytes(b"rewritten")
    (top / "c" / "file").rename(top / "c" / "renamed")
    (top / "a" / "file").unlink()
    (top / "new").mkdir()
    (top / "new" / "file").write_bytes(b"new")


def test_what_clients_made_is_left_alone(source: Volume, volume: Volume, tmp_path: Path) -> None:
    full, step = _tapes(source, tmp_path, _before, _after)
    restore(volume, full)
    top = volume.path
    (top / "mine").write_bytes(b"mine")
    (top / "b" / "mine").mkdir()
    (top / "b" / "mine" / "file").write_bytes(b"mine too")
    (top / "new").mkdir()  # a name that the tape needs: merged
    (top / "new" / "mine").write_bytes(b"in new")
    (top / "c" / "renamed").write_bytes(b"in the way")  # overwritten
    (top / "gone" / "mine").write_bytes(b"goes with its directory")
    (top / "a" / "moved").mkdir()  # where a known directory goes: merged
    (top / "a" / "moved" / "mine").write_bytes(b"in moved")
    told = Told()

    restore(volume, step, told, incremental=True)

    assert (top / "mine").read_bytes() == b"mine"
    assert (top / "b/mine/file").read_bytes() == b"mine too"
    assert (top / "new/mine").read_bytes() == b"in new"
    assert (top / "a/moved/mine").read_bytes() == b"in moved"
    assert "1 objects that were made since went with" in told.text
    for name in ("mine", "b/mine/file", "new/mine", "a/moved/mine"):
        (top / name).unlink()
    (top / "b/mine").rmdir()
    assert _without_times(look(top)) == _without_times(look(source.path))


def _without_times(tree: dict) -> dict:
    return {name: (s.kind, s.content, s.mode, s.group) for name, s in tree.items()}


def test_what_clients_moved_and_removed(source: Volume, volume: Volume, tmp_path: Path) -> None:
    full, step = _tapes(source, tmp_path, _before, _after)
    restore(volume, full)
    top = volume.path
    (top / "b").rename(top / "c" / "b-was-here")  # a known directory is brought back
    (top / "moves").rename(top / "gone" / "moves")
    (top / "c" / "file").unlink()  # renamed in the source, so on the level-1 tape: comes back
    shutil.rmtree(top / "a" / "below")  # not on it: cannot come back
    told = Told()

    result = restore(volume, step, told, incremental=True)

    expected, found = _without_times(look(source.path)), _without_times(look(top))
    assert result.damaged
    assert "a/below was removed here, and is not on this tape" in told.text
    missing = set(expected) - set(found)
    assert missing == {b"a/below", b"a/below/deep"}
    assert {name: expected[name] for name in found} == found


@pytest.mark.parametrize("seed", range(4))
def test_whatever_clients_did_nothing_crashes_and_no_data_of_the_tape_is_wrong(
    seed: int, source: Volume, volume: Volume, tmp_path: Path
) -> None:
    evolve(source.path, seed + 700, 100)
    dump(source, tmp_path / "l0")
    evolve(source.path, seed + 800)
    dump(source, tmp_path / "l1", level=1)
    restore(volume, tmp_path / "l0")
    evolve(volume.path, seed + 900, 40)
    told = Told()
    restore(volume, tmp_path / "l1", told, incremental=True)
    expected, found = look(source.path), look(volume.path)
    written = {n for n, s in expected.items() if s.mtime > look_time(tmp_path / "l0")}
    for name in written:
        if stat.S_ISREG(expected[name].kind) and "is not restored" not in told.text:
            assert found[name].content == expected[name].content, told.text
    assert not (volume.path / ".restore_staging").exists()
    symboltable.decode((volume.path / "restore_symboltable").read_bytes())


def look_time(tape: Path) -> int:
    from appliance.dump import record

    with tape.open("rb") as file:
        origin = record.decode(file.read(1024)).origin
    assert origin is not None
    return origin.snapshot_time


# -- foreign numbering ------------------------------------------------------------------------


def test_reused_inode_numbers_of_another_type(volume: Volume, tmp_path: Path) -> None:
    numbers = (2, 3, 4, 5)
    tape = Tape(used=numbers, dumped=numbers)
    tape.directory(2, [(3, b"dir"), (4, b"file"), (5, b"link")])
    tape.directory(3, [])
    tape.inode(4, 0o100644, b"four")
    tape.inode(5, 0o120777, b"target")
    (tmp_path / "l0").write_bytes(tape.end())
    step = Tape(level=1, base_date=DATE, used=numbers, dumped=numbers, date=DATE + 9)
    step.directory(2, [(4, b"now-dir"), (3, b"now-file"), (5, b"now-file-too")])
    step.directory(4, [(3, b"again")])
    step.inode(3, 0o100644, b"three", links=2)
    step.inode(5, 0o100600, b"five")
    (tmp_path / "l1").write_bytes(step.end())
    restore(volume, tmp_path / "l0")

    result = restore(volume, tmp_path / "l1", incremental=True)

    found = look(volume.path)
    assert set(found) == {b".", b"now-dir", b"now-dir/again", b"now-file", b"now-file-too"}
    assert found[b"now-file"].content == found[b"now-dir/again"].content == b"three"
    assert found[b"now-file"].group == found[b"now-dir/again"].group
    assert found[b"now-file-too"].content == b"five"
    assert result.damaged == 0


def test_a_survivor_without_a_name_is_kept(volume: Volume, tmp_path: Path) -> None:
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"dir"), (4, b"file")])
    tape.directory(3, [])
    tape.inode(4, 0o100644, b"four")
    (tmp_path / "l0").write_bytes(tape.end())
    step = Tape(level=1, base_date=DATE, used=(2, 3, 4), dumped=(2,), date=DATE + 9)
    step.directory(2, [])  # both are in use, says the map, but nothing names them
    (tmp_path / "l1").write_bytes(step.end())
    restore(volume, tmp_path / "l0")
    told = Told()
    result = restore(volume, tmp_path / "l1", told, incremental=True)
    assert result.damaged == 2
    assert (volume.path / "restore_lost.4").read_bytes() == b"four"
    assert (volume.path / "restore_lost.3").is_dir()


def test_what_has_no_place_is_told(volume: Volume, tmp_path: Path) -> None:
    """A changed file whose directory is not on the tape, removed by a client meanwhile."""
    tape = Tape(used=(2, 3, 4, 5), dumped=(2, 3, 4, 5))
    tape.directory(2, [(3, b"dir"), (5, b"other")])
    tape.directory(3, [(4, b"file")])
    tape.inode(4, 0o100644, b"four")
    tape.inode(5, 0o100644, b"five")
    (tmp_path / "l0").write_bytes(tape.end())
    step = Tape(level=1, base_date=DATE, used=(2, 3, 4, 5), dumped=(2, 4, 5), date=DATE + 9)
    step.directory(2, [(3, b"dir"), (5, b"other")])
    step.inode(4, 0o100644, b"four again")
    step.inode(5, 0o100644, b"five again")
    (tmp_path / "l1").write_bytes(step.end())
    restore(volume, tmp_path / "l0")
    (volume.path / "dir" / "file").unlink()
    told = Told()
    result = restore(volume, tmp_path / "l1", told, incremental=True)
    assert result.damaged == 1
    assert "the tape tells no place for it" in told.text
    assert (volume.path / "other").read_bytes() == b"five again"
