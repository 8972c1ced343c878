"""Reading streams: order, numbers and checksums; torn and hostile ones end in StreamError."""

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import extattr, private
from appliance.dump.catalog import Catalog
from appliance.dump.record import BLOCK, Extent, Flag, RecordType
from appliance.dump.stream import DumpReader
from appliance.errors import StreamError
from tests.appliance.dump.tapelab import DATE, Tape, reader, small

_EXTENSION = int(Flag.EXTENDED_ATTRIBUTES)


def _read_all(content: bytes, piece: int = 10_240) -> dict[int, bytes]:
    found, _ = reader(content, piece)
    catalog = Catalog(found)
    data: dict[int, bytes] = {}
    for item in found.objects():
        if item.inode.mode & 0o170000 == 0o040000:
            catalog.add(item)
        else:
            data[item.number] = item.read(1 << 30)
            item.attributes()
    catalog.complete()
    return data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("new_format", [True, False])
def test_byte_orders_and_directory_formats(order: str, new_format: bool) -> None:
    content = small(order, new_format=new_format)
    found, _ = reader(content)
    catalog = Catalog(found)
    data = {}
    for item in found.objects():
        assert (item.inode.uid, item.inode.gid) == (1000, 100)
        assert item.inode.times.modified == (DATE - 500) * 1_000_000_000
        if item.inode.mode & 0o170000 == 0o040000:
            catalog.add(item)
        else:
            data[item.number] = item.read(1 << 20)
    catalog.complete()
    assert data[4] == b"content" * 300
    assert data[5] == b"dir/sparse"
    assert data[6] == b"a" * 1024 + bytes(2048) + b"b" * 1024 + bytes(904)
    names = {catalog.join(n) for number in (3, 4, 5, 6) for n in catalog.names_of(number)}
    assert names == {b"dir", b"file", b"link", b"dir/again", b"dir/sparse"}
    assert found.summary.header.host == b"filer"


@given(piece=st.integers(1, 5000))
def test_pieces_of_any_size(piece: int) -> None:
    assert _read_all(small(), piece) == _read_all(small())


def test_torn_at_every_block_and_byte() -> None:
    content = small()
    end = len(content) - BLOCK  # END itself
    cuts = [*range(0, end + 1, 256), end + 1, len(content) - 1]
    for cut in cuts:
        with pytest.raises(StreamError) as caught:
            _read_all(content[:cut])
        assert caught.value.offset <= cut
        assert caught.value.source == "memory"


def test_a_lost_block_is_noticed_wherever_it_was() -> None:
    blocks = [small()[at : at + BLOCK] for at in range(0, len(small()), BLOCK)]
    for number in range(len(blocks)):
        with pytest.raises(StreamError):
            _read_all(b"".join(blocks[:number] + blocks[number + 1 :]))


def test_any_change_of_a_header_is_noticed() -> None:
    content = small()
    for at in range(0, len(content), BLOCK):
        if content[at + 24 : at + 28] == content[24:28]:
            torn = bytearray(content)
            torn[at + 500] ^= 0x40
            with pytest.raises(StreamError):
                _read_all(bytes(torn))


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 40))
def test_noise_never_does_worse_than_stream_error(seed: int, count: int) -> None:
    chance = random.Random(seed)
    torn = bytearray(small())
    for _ in range(count):
        torn[chance.randrange(len(torn))] = chance.randrange(256)
    with suppress(StreamError):
        _read_all(bytes(torn))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"short", "before the end"),
        (b"\0" * 20_000, "not a dump stream"),
        (b"PK\3\4" * 9000, "not a dump stream"),
        (small()[BLOCK:], "begins with CLRI"),
    ],
)
def test_foreign_streams(content: bytes, says: str) -> None:
    with pytest.raises(StreamError, match=says):
        reader(content)


def test_compressed_dumps_are_refused() -> None:
    tape = Tape()
    tape.blocks.clear()
    tape.header(RecordType.TAPE, count=1, addresses=b"\0", flags=int(Flag.COMPRESSED))
    with pytest.raises(StreamError, match="compressed"):
        reader(tape.bytes() + bytes(9000))


def test_later_volumes_are_refused_wherever_they_begin() -> None:
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"file")])
    tape.header(RecordType.INODE, 3, mode=0o100644, size=3 * BLOCK, count=1, addresses=b"\1")
    tape.raw(b"1" * BLOCK)
    first = len(tape.blocks)
    tape.header(
        RecordType.TAPE, 3, mode=0o100644, size=3 * BLOCK, count=2, addresses=b"\1\1", volume=2
    )
    tape.raw(b"2" * BLOCK + b"3" * BLOCK)
    content = tape.end()
    with pytest.raises(StreamError, match="volume 2 begins here"):
        _read_all(content)
    with pytest.raises(StreamError, match="volume 2"):
        reader(content[first * BLOCK :])


def test_maps_continued_by_address_records() -> None:
    numbers = (2, 3, 39_999)
    tape = Tape(used=numbers, dumped=numbers, map_by_address=True)
    tape.directory(2, [(3, b"a"), (39_999, b"b")])
    tape.inode(3, 0o100644)
    tape.inode(39_999, 0o100644)
    found, _ = reader(tape.end())
    assert list(found.summary.used) == [2, 3, 39_999]
    assert list(found.summary.dumped) == [2, 3, 39_999]


def test_packed_addresses() -> None:
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"a")])
    packed = bytes([(2 - 1) << 1 | 1, 0x80 | (10 << 1), 1, 0 << 1 | 1])  # 2 data, 139 hole, 1 data
    tape.header(
        RecordType.INODE, 3, mode=0o100644, size=142 * BLOCK, count=len(packed), addresses=packed
    )
    tape.raw(b"1" * 2 * BLOCK)
    tape.raw(b"3" * BLOCK)
    assert _read_all(tape.end())[3] == b"1" * 2 * BLOCK + bytes(139 * BLOCK) + b"3" * BLOCK


def _with_extension(kind: int, payload: bytes, **more: int) -> tuple[DumpReader, list[str]]:
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"a"), (4, b"b")])
    tape.inode(3, 0o100644, b"x")
    tape.inode(3, 0o100644, payload, flags=_EXTENSION, extended=kind, **more)
    tape.inode(4, 0o100644, b"next")
    return reader(tape.end())


def test_attributes_follow_their_inode() -> None:
    records, left = extattr.encode({b"user.a": b"1", b"user.big": bytes(9000)})
    assert list(left) == [b"user.big"]
    found, lines = _with_extension(Extent.XATTR, records[0])
    items = {item.number: item.attributes() for item in found.objects()}
    assert items[3].xattrs == {b"user.a": b"1"}
    assert not items[4].xattrs
    assert lines == []


def test_private_items_follow_their_inode() -> None:
    item = private.encode_xattr(b"user.big", bytes(9000))
    found, _ = _with_extension(Extent.PRIVATE, private.encode([item]))
    items = {item.number: item.attributes() for item in found.objects()}
    assert items[3].items == [item]


def test_unknown_extensions_are_counted_and_told_once() -> None:
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"a")])
    tape.inode(3, 0o100644, b"x")
    for _ in range(3):
        tape.inode(3, 0o100644, b"?" * 3000, flags=_EXTENSION, extended=77)
    found, lines = reader(tape.end())
    assert [item.number for item in found.objects()] == [2, 3]
    assert len(lines) == 1
    assert "unknown kind 77" in lines[0]


@pytest.mark.parametrize("kind", [Extent.XATTR, Extent.PRIVATE])
def test_damaged_attributes_are_told(kind: int) -> None:
    found, lines = _with_extension(kind, b"rubbish" * 30)
    items = {item.number: item.attributes() for item in found.objects()}
    assert items[3].lost
    assert not items[4].lost
    assert "attributes of inode 3 are lost" in lines[0]


def test_attributes_that_come_too_late_go_to_nobody() -> None:
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"a"), (4, b"b")])
    tape.inode(3, 0o100644, b"x")
    tape.inode(4, 0o100644, b"x")
    tape.inode(3, 0o100644, b"?" * 3000, flags=_EXTENSION, extended=Extent.XATTR)
    found, lines = reader(tape.end())
    assert [item.attributes().xattrs for item in found.objects()] == [{}, {}, {}]
    assert "too late" in lines[0]


def test_missing_blocks_at_the_end_are_known() -> None:
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"a")])
    tape.inode(3, 0o100644, b"x" * BLOCK, size=5 * BLOCK)
    found, _ = reader(tape.end())
    items = {item.number: item for item in found.objects() if not list(item.data()) or item.missing}
    assert items[3].missing == 4 * BLOCK


# -- hostile directories ----------------------------------------------------------------------


def _tree(*directories: tuple[int, list[tuple[int, bytes]]], more: tuple[int, ...] = ()) -> bytes:
    numbers = tuple({number for number, _ in directories} | {2} | set(more))
    tape = Tape(used=numbers, dumped=numbers)
    for number, entries in directories:
        tape.directory(number, entries)
    return tape.end()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_tree((2, [(3, b"a"), (3, b"b")]), (3, [])), "has two names"),
        (_tree((2, []), (3, [(4, b"b")]), (4, [(3, b"a")])), "form a loop"),
        (_tree((2, [(3, b"a")]), (3, [(3, b"self")])), "two names"),
        (_tree((2, [(3, b"a")]), (3, [(2, b"root")])), "names the root"),
        (_tree((2, [(3, b"a/b")]), (3, [])), "impossible name"),
        (_tree((2, [(3, b"a\0b")]), (3, [])), "impossible name"),
        (_tree((2, [(9, b"a")])), "neither map"),
        (_tree((2, [(9, b"a"), (9, b"a")]), more=(9,)), "twice"),
        (_tree((3, [])), "no root"),
        (_tree((2, []), (2, [])), "on the tape twice"),
    ],
)
def test_hostile_directories(content: bytes, says: str) -> None:
    with pytest.raises(StreamError, match=says):
        _read_all(content)


def test_a_directory_with_holes_or_without_its_data() -> None:
    for size in (4096, 1 << 60):
        tape = Tape(used=(2,), dumped=(2,))
        tape.header(RecordType.INODE, 2, mode=0o040755, size=size, count=1, addresses=b"\0")
        with pytest.raises(StreamError, match="lacks"):
            _read_all(tape.end())


def test_absurd_counts() -> None:
    for wrong in ({"count": 513}, {"count": 0xFFFFFFFF}, {"type": 9}):
        tape = Tape(used=(2,), dumped=(2,))
        tape.header(RecordType.INODE, 2, mode=0o040755, **wrong)
        with pytest.raises(StreamError):
            _read_all(tape.end())
    tape = Tape()
    tape.blocks[1:] = []
    tape.header(RecordType.CLRI, count=1 << 30)
    with pytest.raises(StreamError, match="cannot be"):
        reader(tape.end())


@pytest.mark.parametrize("kind", [Extent.XATTR, Extent.PRIVATE])
def test_attributes_take_no_more_memory_than_the_stream_has_bytes(kind: int) -> None:
    """Holes of 64 MiB would be eight million items."""
    tape = Tape(used=(2, 3), dumped=(2, 3))
    tape.directory(2, [(3, b"file")])
    tape.inode(3, 0o100644, b"")
    tape.header(
        RecordType.INODE, 3, mode=0o100644, size=1 << 19, count=512,
        addresses=b"\1" + bytes(511), flags=_EXTENSION, extended=kind,
    )  # fmt: skip
    tape.raw(bytes(1024))
    found, _ = reader(tape.end())
    objects = found.objects()
    assert next(objects).number == 2
    file = next(objects)
    with pytest.raises(StreamError, match=r"an attribute record of inode 3 lacks \d+ bytes"):
        file.attributes()


def test_data_that_is_left_in_the_middle_is_passed_over() -> None:
    tape = Tape(used=(2, 3, 4), dumped=(2, 3, 4))
    tape.directory(2, [(3, b"large"), (4, b"small")])
    tape.inode(3, 0o100644, bytes(2 << 20))
    tape.inode(4, 0o100644, b"small")
    found, _ = reader(tape.end())
    numbers = []
    for item in found.objects():
        numbers.append(item.number)
        next(item.data())
    assert numbers == [2, 3, 4]
