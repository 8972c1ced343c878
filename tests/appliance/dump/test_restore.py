"""What a restore does with names, with what is there already, and when it cannot go on."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.dump import private, symboltable
from appliance.dump.record import BLOCK, Extent, Flag
from appliance.errors import Refused, RestoreStopped, SessionAborted, StreamError, UsageError
from fuse import metadata
from fuse.aggregate import Aggregate
from fuse.errors import OutOfSpace
from fuse.volume import Volume
from tests.appliance.dump.dumplab import dump
from tests.appliance.dump.restorelab import Told, differences, fill, look, restore
from tests.appliance.dump.tapelab import Tape, small

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def full(aggregate: Aggregate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a level-0 tape of our own with everything on it."""
    source = aggregate.create_volume("rich")
    fill(source.path)
    path = tmp_path_factory.mktemp("tapes") / "full"
    dump(source, path)
    yield path
    aggregate.delete_volume("rich")


def _rich(aggregate: Aggregate) -> Path:
    return aggregate.volume("rich").path


# -- names ------------------------------------------------------------------------------------


def test_everything(aggregate: Aggregate, full: Path, volume: Volume) -> None:
    told = Told()
    result = restore(volume, full, told)
    assert differences(look(_rich(aggregate)), look(volume.path)) == []
    assert (result.damaged, result.warnings) == (0, 0)
    assert result.files == sum(
        1 for g in {(s.group or n) for n, s in look(volume.path).items() if s.kind != stat.S_IFDIR}
    )
    phases = [e["text"] for e in told.events if e["event"] == "progress"]
    assert list(dict.fromkeys(phases)) == [
        "RESTORE: Reading directories from the backup",
        "RESTORE: Creating files and directories",
        "RESTORE: Writing data to files",
    ]


def test_creation_time_is_kept_where_no_client_sees_it(
    aggregate: Aggregate, full: Path, volume: Volume
) -> None:
    restore(volume, full)
    value = os.getxattr(volume.path / "big", metadata.CRTIME)
    born = (_rich(aggregate) / "big").stat().st_ctime_ns
    assert 0 < born - int(value) < 60 * 10**9


def test_chosen_names(aggregate: Aggregate, full: Path, volume: Volume) -> None:
    restore(volume, full, files=(b"d1/sub1", b"./d2/big-once-more", b"d3/sub0/file3"))
    found = set(look(volume.path))
    rich = look(_rich(aggregate))
    below = {name for name in rich if name == b"d1/sub1" or name.startswith(b"d1/sub1/")}
    above = {b".", b"d1", b"d2", b"d3", b"d3/sub0"}
    assert found == below | above | {b"d2/big-once-more", b"d3/sub0/file3"}
    assert not (volume.path / "restore_symboltable").exists()


def test_hard_links_among_the_chosen_stay_linked(full: Path, volume: Volume) -> None:
    restore(volume, full, files=(b"big", b"d1/big-again"))
    assert (volume.path / "big").stat().st_ino == (volume.path / "d1/big-again").stat().st_ino
    assert (volume.path / "big").stat().st_nlink == 2


@pytest.mark.parametrize(
    "name", [b"nothing", b"d1/nothing", b"big/below", b"d1/../big", b"a" * 300]
)
def test_names_that_are_not_on_the_tape(name: bytes, full: Path, volume: Volume) -> None:
    with pytest.raises(UsageError):
        restore(volume, full, files=(b"d1", name))
    assert os.listdir(volume.path) == []


def test_another_destination_is_made(aggregate: Aggregate, full: Path, volume: Volume) -> None:
    restore(volume, full, relative=b"new/deep/place")
    assert differences(look(_rich(aggregate)), look(volume.path / "new/deep/place")) == []


def test_renamed(aggregate: Aggregate, full: Path, volume: Volume) -> None:
    renames = ((b"d1", b"elsewhere/d1-was"), (b"big", b"d2/BIG"), (b"d3/sub0", b"top"))
    restore(volume, full, renames=renames)
    rich = _rich(aggregate)
    assert differences(look(rich / "d1"), look(volume.path / "elsewhere/d1-was")) == []
    assert differences(look(rich / "d3/sub0"), look(volume.path / "top")) == []
    assert not (volume.path / "d1").exists()
    assert not (volume.path / "d3/sub0").exists()
    assert (volume.path / "d2/BIG").read_bytes() == (rich / "big").read_bytes()
    assert (volume.path / "elsewhere/d1-was/big-again").stat().st_nlink == 3


@pytest.mark.parametrize(
    "rename",
    [
        (b"nothing", b"x"),
        (b"d1", b""),
        (b"d1", b"../x"),
        (b"", b"x"),
        (b"d1", b".restore_staging"),
        (b"d1", b"x/.snapshot"),
        (b"big", b"empty"),  # one of the two would be lost
        (b"d1", b"d2"),
        (b"big", b"d1/sub1"),
    ],
)
def test_impossible_renames(rename: tuple[bytes, bytes], full: Path, volume: Volume) -> None:
    with pytest.raises(UsageError):
        restore(volume, full, renames=(rename,))
    assert os.listdir(volume.path) == []


def test_renames_that_make_room_for_each_other(
    aggregate: Aggregate, full: Path, volume: Volume
) -> None:
    renames = ((b"d1", b"d2"), (b"d2", b"d1"), (b"big", b"d3/sub0"), (b"d3", b"away"))
    restore(volume, full, renames=renames)
    rich = _rich(aggregate)
    assert differences(look(rich / "d1"), look(volume.path / "d2")) == []
    assert differences(look(rich / "d2"), look(volume.path / "d1")) == []
    assert (volume.path / "d3/sub0").read_bytes() == (rich / "big").read_bytes()
    with pytest.raises(UsageError, match="new name of two"):
        restore(volume, full, renames=((b"d1", b"x"), (b"d2", b"x")))


def test_only_what_is_chosen_is_in_the_way_of_a_new_name(
    aggregate: Aggregate, full: Path, volume: Volume
) -> None:
    restore(volume, full, files=(b"big",), renames=((b"big", b"empty"),))
    assert (volume.path / "empty").read_bytes() == (_rich(aggregate) / "big").read_bytes()


def test_names_that_clients_could_not_reach(volume: Volume, tmp_path: Path) -> None:
    numbers = (2, 3, 4, 5, 6, 7)
    tape = Tape(used=numbers, dumped=numbers)
    tape.directory(2, [(3, b".snapshot"), (5, b"dir"), (7, b"file")])
    tape.directory(3, [(4, b"below")])
    tape.directory(5, [(6, b".snapshot")])
    for number in (4, 6, 7):
        tape.inode(number, 0o100644, b"%d" % number)
    (tmp_path / "tape").write_bytes(tape.end())
    told = Told()
    result = restore(volume, tmp_path / "tape", told)
    assert set(look(volume.path)) == {b".", b"dir", b"file"}
    assert result.damaged == 2
    assert "dir/.snapshot is not restored: the name .snapshot is kept for snapshots" in told.text
    restore(volume, tmp_path / "tape", renames=((b".snapshot", b"snapshots"),))
    assert (volume.path / "snapshots/below").read_bytes() == b"4"
    with pytest.raises(Refused, match="kept for snapshots"):
        restore(volume, tmp_path / "tape", relative=b"dir/.snapshot/x")


@pytest.mark.parametrize(
    ("name", "directory"),
    [(".restore_staging", False), ("restore_symboltable", True), ("restore_symboltable.new", True)],
)
def test_something_else_under_the_names_of_restores(
    name: str, directory: bool, full: Path, volume: Volume
) -> None:
    path = volume.path / name
    path.mkdir() if directory else path.touch()
    with pytest.raises(Refused, match="in the way; remove it"):
        restore(volume, full)
    assert os.listdir(volume.path) == [name]


def test_table_of_contents(aggregate: Aggregate, full: Path) -> None:
    told = Told()
    result = restore(None, full, told, list=True)
    entries = {e["name"]: e for e in told.events if e["event"] == "entry"}
    assert {os.fsencode(name) for name in entries} == set(look(_rich(aggregate)))
    assert entries["sparse"]["type"] == "file"
    assert entries["sparse"]["size"] == (1 << 30) + 3_000_000
    assert entries["d1"]["type"] == "directory"
    assert entries["big"]["inode"] == entries["d1/big-again"]["inode"]
    assert entries["d5"]["mtime"] == 1_111_111_111
    assert result.bytes == 0


def test_table_of_contents_to_a_descriptor(full: Path, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "entries", os.O_CREAT | os.O_WRONLY)
    restore(None, full, list=True, entries_fd=fd, files=(b"d1/sub1",))
    lines = (tmp_path / "entries").read_text().splitlines()
    assert "d1/sub1" in [json.loads(line)["name"] for line in lines]
    reader, writer = os.pipe()
    os.close(reader)
    restore(None, full, list=True, entries_fd=writer)  # nobody reads on: no error


# -- what is there already --------------------------------------------------------------------


def test_files_are_overwritten_and_directories_kept(
    aggregate: Aggregate, full: Path, volume: Volume
) -> None:
    top = volume.path
    (top / "d1/sub1").mkdir(parents=True)
    (top / "d1/mine").write_bytes(b"stays")
    (top / "big").write_bytes(b"x" * (5 << 20))
    os.setxattr(top / "big", "user.mine", b"goes")
    before = (top / "big").stat().st_ino
    (top / "sparse").write_bytes(b"y" * 800_000)
    (top / "empty").write_bytes(b"linked")
    os.link(top / "empty", top / "other-name")
    (top / "short").write_bytes(b"a file where a link comes")
    (top / "d2").symlink_to("/tmp")  # a link where a directory comes is not followed
    result = restore(volume, full)
    assert (top / "d1/mine").read_bytes() == b"stays"
    assert (top / "other-name").read_bytes() == b"linked"
    assert (top / "big").stat().st_ino == before
    (top / "d1/mine").unlink()
    (top / "other-name").unlink()
    expected, found = look(_rich(aggregate)), look(top)
    expected[b"d1"] = found[b"d1"] = expected[b"."] = found[b"."]  # times: things were removed
    assert differences(expected, found) == []
    assert result.damaged == 0


def test_again_over_itself(aggregate: Aggregate, full: Path, volume: Volume) -> None:
    restore(volume, full)
    restore(volume, full, force=True)
    assert differences(look(_rich(aggregate)), look(volume.path)) == []


def test_the_table_of_an_earlier_restore_is_no_data(
    full: Path, volume: Volume, aggregate: Aggregate, tmp_path: Path
) -> None:
    restore(volume, full)
    dump(volume, tmp_path / "again")
    second = aggregate.create_volume("second")
    told = Told()
    restore(second, tmp_path / "again", told)
    assert "symbol table of an earlier restore" in told.text
    assert differences(look(volume.path), look(second.path)) == []
    state, _ = symboltable.decode((second.path / "restore_symboltable").read_bytes())
    assert state.dump_path == f"/vol/{volume.name}"
    aggregate.delete_volume("second")


def test_inherited_acls_do_not_stay(aggregate: Aggregate, full: Path, volume: Volume) -> None:
    restore(volume, full, files=(b"d4",))
    assert "system.posix_acl_default" in os.listxattr(volume.path / "d4")
    (volume.path / "d4/sub1").rename(volume.path / "gone")
    restore(volume, full, files=(b"d4",))
    assert differences(look(_rich(aggregate) / "d4"), look(volume.path / "d4")) == []


def test_a_directory_in_the_place_of_a_file(full: Path, volume: Volume) -> None:
    (volume.path / "big").mkdir()
    told = Told()
    result = restore(volume, full, told)
    assert (volume.path / "big").is_dir()
    assert result.damaged == 1
    assert "big is not restored: a directory is in its place" in told.text


def test_a_file_in_the_place_of_the_destination(full: Path, volume: Volume) -> None:
    (volume.path / "file").touch()
    for relative in (b"file", b"file/below"):
        with pytest.raises(Refused, match="no directory"):
            restore(volume, full, relative=relative)


def test_mirrors_are_not_written(full: Path, volume: Volume) -> None:
    volume.modify(type="dp")
    with pytest.raises(Refused, match="mirror"):
        restore(volume, full)


# -- when it cannot go on ---------------------------------------------------------------------


def test_too_little_space_is_seen_before(aggregate: Aggregate, full: Path) -> None:
    little = aggregate.create_volume("little", files=96)
    try:
        for number in range(40):
            (little.path / f"there{number}").touch()
        aggregate.engine.commit()
        with pytest.raises(OutOfSpace):
            restore(little, full)
        assert len(os.listdir(little.path)) == 40
        assert restore(little, full, force=True).files  # inodes are counted, not enforced, here
    finally:
        aggregate.delete_volume("little")


def test_a_full_volume_keeps_what_fits(aggregate: Aggregate, tmp_path: Path) -> None:
    source = aggregate.create_volume("source")
    (source.path / "dir").mkdir(mode=0o755)
    for number in range(40):
        (source.path / f"file{number:02}").write_bytes(os.urandom(1 << 20))
    dump(source, tmp_path / "tape")
    little = aggregate.create_volume("little", size=24 << 20)
    told = Told()
    try:
        with pytest.raises(OutOfSpace):
            restore(little, tmp_path / "tape")
        with pytest.raises(RestoreStopped, match="no more space") as caught:
            restore(little, tmp_path / "tape", told, force=True)
        assert stat.S_IMODE((little.path / "dir").stat().st_mode) == 0o755
        (little.path / "dir").rmdir()
        names = sorted(os.listdir(little.path))
        assert len(names) == caught.value.files
        assert 10 < len(names) < 40
        assert caught.value.last == names[-1]
        for name in names:
            assert (little.path / name).read_bytes() == (source.path / name).read_bytes()
        assert f"{caught.value.files} files are complete" in told.text
    finally:
        aggregate.delete_volume("little")
        aggregate.delete_volume("source")


def test_torn_at_every_eighth_block(aggregate: Aggregate, volume: Volume, tmp_path: Path) -> None:
    source = aggregate.create_volume("source")
    for number in range(6):
        (source.path / f"file{number}").write_bytes(os.urandom(number * 3000))
    tape = tmp_path / "tape"
    dump(source, tape)
    content, whole = tape.read_bytes(), look(source.path)
    first_end = next(
        at for at in range(0, len(content), BLOCK)
        if content[at : at + 4] == b"\5\0\0\0" and content[at + 24 : at + 28] == content[24:28]
    )  # fmt: skip
    for cut in range(0, first_end + 1, 1024 * 3 + 512):
        tape.write_bytes(content[:cut])
        told = Told()
        with pytest.raises(StreamError) as caught:
            restore(volume, tape, told)
        assert caught.value.offset <= cut
        for name, seen in look(volume.path).items():
            if seen.kind == stat.S_IFREG:  # whatever is there is complete
                assert seen.content == whole[name].content
        assert not (volume.path / "restore_symboltable").exists()
    assert "files are complete, the last is" in str(caught.value)
    aggregate.delete_volume("source")


def test_aborted(full: Path, volume: Volume) -> None:
    calls = [0]

    def aborted() -> bool:
        calls[0] += 1
        return calls[0] > 1

    with pytest.raises(SessionAborted):
        restore(volume, full, aborted=aborted)


@pytest.mark.parametrize("content", [b"", b"no dump at all" * 200, bytes(5000)])
def test_foreign_files(content: bytes, volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StreamError, match="not a dump stream"):
        restore(volume, tmp_path / "file")
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError):
            restore(volume, wrong)


# -- hostile and foreign tapes ----------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("new_format", [True, False])
def test_tapes_of_other_systems(
    order: str, new_format: bool, volume: Volume, tmp_path: Path
) -> None:
    (tmp_path / "tape").write_bytes(small(order, new_format=new_format))
    result = restore(volume, tmp_path / "tape")
    assert result.damaged == 0
    found = look(volume.path)
    assert found[b"file"].content == b"content" * 300
    assert found[b"dir/again"].group == found[b"dir/again"].group == b"dir/again"
    assert found[b"link"].content == b"dir/sparse"
    assert found[b"dir/sparse"].size == 5000
    assert found[b"file"].owner == (1000, 100)


def _tape(*more: Any, numbers: tuple[int, ...] = (2, 3, 4)) -> Tape:
    return Tape(used=numbers, dumped=numbers)


def test_a_link_on_tape_is_never_followed(volume: Volume, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"dir"), (4, b"x")])
    tape.directory(3, [(4, b"file")])
    tape.inode(4, 0o100644, b"evil", links=2)
    (tmp_path / "tape").write_bytes(tape.end())
    (volume.path / "dir").symlink_to(outside)
    (volume.path / "x").symlink_to(outside / "x")
    restore(volume, tmp_path / "tape")
    assert list(outside.iterdir()) == []
    assert (volume.path / "dir/file").read_bytes() == b"evil"


def test_files_outside_the_maps_or_twice(volume: Volume, tmp_path: Path) -> None:
    tape = Tape(used=(2, 3), dumped=(2,))
    tape.directory(2, [(3, b"file")])
    tape.inode(3, 0o100644, b"x")
    (tmp_path / "tape").write_bytes(tape.end())
    with pytest.raises(StreamError, match="not in the map"):
        restore(volume, tmp_path / "tape")
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"file")])
    tape.inode(3, 0o100644, b"x")
    tape.inode(3, 0o100644, b"y")
    (tmp_path / "tape").write_bytes(tape.end())
    with pytest.raises(StreamError, match="twice"):
        restore(volume, tmp_path / "tape")


def test_what_is_announced_and_missing_is_told(volume: Volume, tmp_path: Path) -> None:
    tape = Tape(used=(2, 3, 4, 5), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"there"), (4, b"missing"), (5, b"left-out")])
    tape.inode(3, 0o100644, b"x")
    tape.inode(77, 0o100644, b"unnamed")
    (tmp_path / "tape").write_bytes(tape.end())
    told = Told()
    result = restore(volume, tmp_path / "tape", told)
    assert result.damaged == 1
    assert "missing is not on the tape" in told.text
    assert "inode 77 has no name" in told.text
    assert sorted(os.listdir(volume.path)) == ["restore_symboltable", "there"]


def test_absurd_files(volume: Volume, tmp_path: Path) -> None:
    numbers = (2, 3, 4, 5, 6)
    tape = Tape(used=numbers, dumped=numbers)
    tape.directory(2, [(3, b"huge"), (4, b"link"), (5, b"after"), (6, b"null-link")])
    tape.inode(3, 0o100644, b"x", size=1 << 63)
    tape.inode(4, 0o120777, b"a\0b")
    tape.inode(5, 0o100644, b"fine")
    tape.inode(6, 0o120777)
    (tmp_path / "tape").write_bytes(tape.end())
    told = Told()
    result = restore(volume, tmp_path / "tape", told)
    assert result.damaged >= 3
    assert (volume.path / "after").read_bytes() == b"fine"
    assert "huge is not restored" in told.text
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"odd")])
    tape.inode(3, 0o170644)
    (tmp_path / "tape").write_bytes(tape.end())
    with pytest.raises(StreamError, match="impossible mode"):
        restore(volume, tmp_path / "tape")


def test_project_attributes_of_a_hostile_tape_are_not_taken(volume: Volume, tmp_path: Path) -> None:
    items = [
        private.encode_xattr(name.encode(), b"{}")
        for name in (metadata.VOLUME, metadata.RESTRICTED, metadata.JUNCTION, metadata.LUN)
    ]
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"file")])
    tape.inode(3, 0o100644, b"x")
    tape.inode(
        3, 0o100644, private.encode([*items, private.Item(99, b"?", required=True)]),
        flags=int(Flag.EXTENDED_ATTRIBUTES), extended=Extent.PRIVATE,
    )  # fmt: skip
    (tmp_path / "tape").write_bytes(tape.end())
    told = Told()
    result = restore(volume, tmp_path / "tape", told)
    assert os.listxattr(volume.path / "file") == []
    assert "unknown tag 99" in told.text
    assert result.damaged == 1


def test_aborted_while_directories_are_made(volume: Volume, tmp_path: Path) -> None:
    numbers = tuple(range(2, 60))
    tape = Tape(used=numbers, dumped=numbers)
    tape.directory(2, [(number, b"dir%d" % number) for number in numbers[1:]])
    for number in numbers[1:]:
        tape.directory(number, [])
    (tmp_path / "tape").write_bytes(tape.end())
    made: list[int] = []

    def aborted() -> bool:
        made.append(len(os.listdir(volume.path)))
        return made[-1] >= 20

    with pytest.raises(SessionAborted):
        restore(volume, tmp_path / "tape", aborted=aborted)
    assert len(os.listdir(volume.path)) == 20
