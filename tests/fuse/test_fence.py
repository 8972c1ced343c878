"""The table of restricted nodes."""

import errno
import os
from pathlib import Path

import pytest
import trio

from fuse.fence import Fence, is_lun
from fuse.metadata import LUN, RESTRICTED


def test_it_refuses_what_it_knows_and_what_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: dict[str, list[str]] = {"a": ["user.x", LUN], "b": [RESTRICTED, "user.x"]}
    monkeypatch.setattr(os, "listxattr", lambda path: marked[path])
    fence = Fence()
    assert is_lun(fence.admit(5, "a"))
    with pytest.raises(OSError, match="busy") as refused:
        fence.admit(6, "b")
    assert refused.value.errno == errno.EBUSY
    fence.raise_for(5, "session")
    with pytest.raises(OSError, match="busy"):
        fence.admit(5, "a")
    with pytest.raises(OSError, match="busy"):
        fence.check(5)
    fence.check(6)
    fence.lift(5)
    fence.lift(5)
    assert fence.table() == {}
    fence.admit(5, "a")


@pytest.mark.trio
async def test_it_settles_when_changes_have_ended(autojump_clock: trio.testing.MockClock) -> None:
    fence = Fence()
    ended: list[str] = []

    async def change(node: int, seconds: float) -> None:
        with fence.change(node):
            await trio.sleep(seconds)
            ended.append(f"{node} {seconds}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change, 1, 2)
        nursery.start_soon(change, 1, 5)
        nursery.start_soon(change, 2, 9)
        await trio.sleep(1)
        fence.raise_for(1, "session")
        await fence.settled(1)
        assert ended == ["1 2", "1 5"]
        await fence.settled(3)
    await fence.settled(2)
