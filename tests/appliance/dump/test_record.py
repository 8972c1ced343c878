"""The header codec: layout, round trips, and the fast packer against it."""

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dump import record
from appliance.dump.packing import FULL, HeaderPacker
from appliance.dump.record import (
    BLOCK,
    CHECKSUM,
    Extent,
    Flag,
    Header,
    Inode,
    MalformedRecord,
    Origin,
    Part,
    RecordType,
    Times,
)
from appliance.dump.scan import ScannedInode

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
times_ns = st.integers(-(1 << 62), 1 << 62)
text = st.binary(max_size=15).filter(lambda b: b"\0" not in b)
devices = st.builds(
    lambda major, minor: major << 32 | minor, st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)
)
inodes = st.builds(
    Inode, mode=u16, links=u16, size=u64, uid=u32, gid=u32,
    times=st.builds(Times, times_ns, times_ns, times_ns, st.none() | times_ns),
    device=devices, flags=u32, blocks=u32, generation=u32, source=u64,
)  # fmt: skip
addresses = st.binary(max_size=512).map(lambda b: bytes(x & 1 for x in b))


@st.composite
def inode_headers(draw: st.DrawFn) -> Header:
    found = draw(addresses)
    kind = draw(st.sampled_from([RecordType.INODE, RecordType.ADDR]))
    inode = draw(inodes)
    if kind is RecordType.ADDR and not inode.mode:
        inode = dataclasses.replace(inode, mode=0o100644)
    tapea = draw(u64)
    return Header(
        type=kind, date=draw(u32), base_date=draw(u32), volume=draw(st.integers(1, 1000)),
        tapea=tapea, inumber=draw(u32), inode=inode, count=len(found), addresses=found,
        label=draw(text), level=draw(st.integers(0, 31)), filesystem=draw(text),
        device=draw(text), host=draw(text), first_record=draw(u32),
        blocking_factor=draw(st.integers(4, 256)),
        extended=draw(st.sampled_from(list(Extent))), part=draw(st.sampled_from(list(Part))),
        own=True,
    )  # fmt: skip


@given(inode_headers())
def test_inode_headers_survive(header: Header) -> None:
    assert record.decode(record.encode(header)) == header


@given(
    st.sampled_from([RecordType.TAPE, RecordType.CLRI, RecordType.BITS, RecordType.END]),
    st.builds(
        Origin, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16),
        times_ns, times_ns, u64, u64, u64, u64, u32,
    ),
    u64,
    st.integers(0, 400),
)  # fmt: skip
def test_stream_headers_survive(kind: RecordType, origin: Origin, tapea: int, count: int) -> None:
    header = Header(type=kind, tapea=tapea, count=count, origin=origin, own=True, inumber=7)
    if kind is RecordType.TAPE:
        header = dataclasses.replace(header, addresses=bytes(count))
    assert record.decode(record.encode(header)) == header


@given(inode_headers())
def test_checksum_is_the_sum_of_all_words(header: Header) -> None:
    block = record.encode(header)
    assert sum(struct.unpack("<256I", block)) & 0xFFFFFFFF == CHECKSUM
    assert record.checksum(block) == CHECKSUM


@given(st.binary(min_size=BLOCK, max_size=BLOCK), st.sampled_from("<>"))
def test_checksum_of_any_block(block: bytes, order: str) -> None:
    assert record.checksum(block, order) == sum(struct.unpack(order + "256I", block)) & 0xFFFFFFFF


@given(inode_headers(), st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(header: Header, position: int, flip: int) -> None:
    block = bytearray(record.encode(header))
    block[position] ^= flip
    with pytest.raises(MalformedRecord):
        record.decode(bytes(block))


@given(st.binary(max_size=2 * BLOCK))
def test_garbage_is_refused(block: bytes) -> None:
    with pytest.raises(MalformedRecord):
        record.decode(block)


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_devices_survive(major: int, minor: int) -> None:
    device = major << 32 | minor
    assert record.decode_device(record.encode_device(device)) == device


def test_offsets_are_those_of_linux() -> None:
    inode = Inode(mode=0o100644, links=70000, size=3, uid=70000, gid=80000, device=259 << 32 | 7)
    block = record.encode(
        Header(
            type=RecordType.INODE, date=1, base_date=2, volume=3, tapea=4, inumber=5,
            inode=inode, count=1, addresses=b"\1", label=b"L", level=6, blocking_factor=7,
        )
    )  # fmt: skip
    assert struct.unpack_from("<iIIiIIi", block) == (2, 1, 2, 3, 4, 5, 60012)
    assert struct.unpack_from("<HHHHQ", block, 32) == (0o100644, 65535, 70000 & 0xFFFF, 14464, 3)
    assert struct.unpack_from("<I", block, 72) == (259 << 8 | 7,)
    assert struct.unpack_from("<II", block, 144) == (70000, 80000)
    assert (block[160], block[164], block[676:678]) == (1, 1, b"L\0")
    assert struct.unpack_from("<I", block, 692) == (6,)
    assert struct.unpack_from("<IIII", block, 888) == (3, 0, 7, 0)
    assert block[904:908] == b"SNPR"


def test_a_map_header_has_the_size_of_the_map() -> None:
    block = record.encode(Header(type=RecordType.CLRI, count=600))
    assert struct.unpack_from("<Q", block, 40) == (600 * BLOCK,)
    assert record.decode(block).data_blocks == 600


def test_a_later_extension_is_refused() -> None:
    block = bytearray(record.encode(Header(type=RecordType.END)))
    block[908] += 1
    block[28:32] = bytes(4)
    word = (CHECKSUM - record.checksum(bytes(block))) & 0xFFFFFFFF
    block[28:32] = word.to_bytes(4, "little")
    with pytest.raises(MalformedRecord, match="later release"):
        record.decode(bytes(block))


@st.composite
def scanned(draw: st.DrawFn) -> ScannedInode:
    return ScannedInode(
        number=draw(u64), mode=draw(st.integers(1, 0xFFFF)), links=draw(u32), size=draw(u64),
        uid=draw(u32), gid=draw(u32), device=draw(devices), flags=draw(u32), blocks=draw(u64),
        generation=draw(u64), changed_in=0, accessed=draw(times_ns), modified=draw(times_ns),
        changed=draw(times_ns), created=draw(times_ns),
        names=[], entries=[], xattrs={}, extents=[], data=None,
    )  # fmt: skip


@given(
    scanned(),
    st.sampled_from([RecordType.INODE, RecordType.ADDR]),
    st.sampled_from([Extent.REGULAR, Extent.XATTR, Extent.PRIVATE]),
    st.integers(0, 512).map(lambda n: FULL[n]) | addresses.map(lambda a: a.ljust(512, b"\0")),
    st.tuples(u64, u32, st.none() | u64, st.none() | times_ns),
    st.sampled_from([0, Part.LUN, Part.ACL_FILE]),
)
def test_the_packer_gives_what_encode_gives(
    inode: ScannedInode,
    kind: RecordType,
    extent: Extent,
    found: bytes,
    numbers: tuple[int, int, int | None, int | None],
    part: int,
) -> None:
    tapea, number, size, created = numbers
    template = Header(
        type=RecordType.TAPE, date=1_700_000_000, base_date=5, label=b"label", level=9,
        filesystem=b"/vol/vol1", device=b"snap", host=b"host", blocking_factor=63,
    )  # fmt: skip
    packed = HeaderPacker(template).pack(
        kind, tapea, number, inode, 512, found,
        size=size, extent=extent, part=part, created=created,
    )  # fmt: skip
    born = inode.created if created is None else created
    flags = template.flags if extent is Extent.REGULAR else template.flags | 0x8000
    expected = dataclasses.replace(
        template, type=kind, tapea=tapea, inumber=number, count=512, addresses=found,
        flags=Flag(flags), extended=extent, part=Part(part),
        inode=Inode(
            mode=inode.mode, links=inode.links, size=inode.size if size is None else size,
            uid=inode.uid, gid=inode.gid,
            times=Times(inode.accessed, inode.modified, inode.changed, born or None),
            device=inode.device, flags=inode.flags, blocks=inode.blocks,
            generation=inode.generation, source=inode.number,
        ),
    )  # fmt: skip
    assert packed == record.encode(expected)
