"""The control server against clients of every kind."""

import array
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from appliance.control import method as methods
from appliance.control.client import ControlClient
from appliance.control.protocol import MAX_LINE
from appliance.control.server import ControlServer
from appliance.errors import ErrorDocument, NotRunning, Refused


class Bench:
    """What the test methods work on instead of an appliance."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.go_on = trio.Event()
        self.finished = trio.Event()


async def _echo(bench: Bench, *, text: str) -> str:
    return text


async def _wait(bench: Bench) -> str:
    bench.begun.set()
    await bench.go_on.wait()
    bench.finished.set()
    return "waited"


async def _count(bench: Bench, *, to: int, emit: Any) -> int:
    try:
        for number in range(to):
            await emit({"number": number})
        if to == 0:
            bench.begun.set()
            await trio.sleep_forever()
    finally:
        bench.finished.set()
    return to


async def _write(bench: Bench, *, text: str, fds: list[int]) -> int:
    for fd in fds:
        os.write(fd, text.encode())
    return len(fds)


async def _refuse(bench: Bench) -> None:
    raise Refused("test", "the rule")


async def _crash(bench: Bench) -> None:
    raise KeyError("surprise")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(methods, "TABLE", {})
    for handler in (_echo, _wait, _count, _write, _refuse, _crash):
        methods.method(f"test.{handler.__name__[1:]}")(handler)
    return Bench()


@pytest.fixture
async def path(bench: Bench, tmp_path: Path, nursery: trio.Nursery) -> Path:
    path = tmp_path / "control.sock"
    await nursery.start(ControlServer(bench).serve, path)
    return path


async def call(path: Path, *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        with ControlClient.connect(path, "root") as client:
            return client.call(*args, **kwargs)

    return await trio.to_thread.run_sync(run)


async def raw(path: Path, data: bytes, answers: int = 1) -> list[dict[str, Any]]:
    """Send bytes, give the first lines of the answer (fewer when the server hangs up)."""
    stream = await trio.open_unix_socket(path)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(_send, stream, data)
        received = b""
        with trio.fail_after(20):
            while received.count(b"\n") < answers:
                try:
                    chunk = await stream.receive_some()
                except trio.BrokenResourceError:
                    break
                if not chunk:
                    break
                received += chunk
        nursery.cancel_scope.cancel()
    return [json.loads(line) for line in received.splitlines()]


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


@pytest.mark.trio
async def test_call_and_result(path):
    assert await call(path, "test.echo", {"text": "caf\udce9 \u20ac"}) == "caf\udce9 \u20ac"


@pytest.mark.trio
async def test_the_socket_is_for_its_owner_only(path):
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.trio
async def test_events_come_before_the_result(path):
    events: list[dict[str, Any]] = []
    assert await call(path, "test.count", {"to": 3}, on_event=events.append) == 3
    assert events == [{"number": n} for n in range(3)]


@pytest.mark.trio
async def test_calls_of_one_connection_run_at_once(bench, path):
    lines = b'{"id":1,"method":"test.wait"}\n{"id":2,"method":"test.echo","params":{"text":"x"}}\n'
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(lines)
        assert json.loads(await stream.receive_some()) == {"id": 2, "result": "x"}
        bench.go_on.set()
        assert json.loads(await stream.receive_some()) == {"id": 1, "result": "waited"}


@pytest.mark.trio
async def test_descriptors_reach_the_method(path):
    reader, writer = os.pipe()
    try:
        sent = await call(path, "test.write", {"text": "hello"}, descriptors=[writer, writer])
        assert sent == 2
        assert os.read(reader, 100) == b"hellohello"
    finally:
        os.close(reader)
        os.close(writer)


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.trio
async def test_descriptors_are_closed_whatever_the_method(path):
    reader, writer = os.pipe()
    try:
        for name in ("test.write", "test.refuse", "test.nothing"):
            with trio.fail_after(5):
                try:
                    await call(path, name, {"text": "x"}, descriptors=[writer])
                except ErrorDocument:
                    pass
        os.read(reader, 100)
    finally:
        os.close(writer)
    # Only when nobody holds the other end any more does the pipe end.
    with trio.fail_after(5):
        assert await trio.to_thread.run_sync(os.read, reader, 1) == b""
    os.close(reader)


@pytest.mark.trio
async def test_descriptors_that_did_not_come(path):
    (answer,) = await raw(path, b'{"id":7,"method":"test.write","params":{"text":""},"fds":2}\n')
    assert answer["error"]["code"] == "server.protocol"
    assert "announced" in answer["error"]["message"]


@pytest.mark.trio
async def test_a_flood_of_descriptors_ends_the_connection(path):
    def flood() -> bytes:
        reader, writer = os.pipe()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer] * 40))
            client.sendmsg([b"{"], [rights])
            os.close(writer)
            client.settimeout(10)
            answer = client.recv(1000)
            assert client.recv(1000) == b""
        assert os.read(reader, 1) == b""
        os.close(reader)
        return answer

    assert b"file descriptors" in await trio.to_thread.run_sync(flood)


@pytest.mark.trio
async def test_an_error_is_a_document(path):
    with pytest.raises(ErrorDocument) as caught:
        await call(path, "test.refuse")
    assert caught.value.document == {
        "code": "refused",
        "message": "test: the rule",
        "advice": "",
        "exit_code": 3,
        "data": {"what": "test", "reason": "the rule"},
    }


@pytest.mark.trio
async def test_a_bug_is_an_internal_error_and_the_server_lives(path, caplog):
    with pytest.raises(ErrorDocument) as caught:
        await call(path, "test.crash")
    assert caught.value.code == "internal"
    assert "test.crash failed unexpectedly" in caplog.text
    assert await call(path, "test.echo", {"text": "still here"}) == "still here"


@pytest.mark.trio
@pytest.mark.parametrize(
    ("line", "identity", "code"),
    [
        (b"this is no JSON\n", None, "server.protocol"),
        (b"[1, 2]\n", None, "server.protocol"),
        (b"\xff\xfe\x00\n", None, "server.protocol"),
        (b'{"id": 5}\n', 5, "server.protocol"),
        (b'{"id": [5], "method": "test.echo"}\n', None, "server.protocol"),
        (b'{"id": "a", "method": "test.burn"}\n', "a", "usage"),
        (b'{"id": 1, "method": "test.echo"}\n', 1, "usage"),
        (b'{"id": 1, "method": "test.echo", "params": {"text": 1}}\n', 1, "usage"),
        (b'{"id": 1, "method": "test.echo", "params": {"text": "", "x": 1}}\n', 1, "usage"),
    ],
)
async def test_malformed_requests_are_answered_and_the_next_one_too(path, line, identity, code):
    after = b'{"id":99,"method":"test.echo","params":{"text":"on"}}\n'
    first, second = await raw(path, line + after, answers=2)
    if first["id"] == 99:  # they run at once
        first, second = second, first
    assert (first["id"], first["error"]["code"], first["error"]["exit_code"]) == (identity, code, 2)
    assert second == {"id": 99, "result": "on"}


@pytest.mark.trio
async def test_a_line_without_end_ends_the_connection(path):
    answers = await raw(path, b"x" * (MAX_LINE + 100_000))
    # The answer may be lost with the connection; what counts is that it ended.
    assert all(answer["error"]["code"] == "server.protocol" for answer in answers)
    assert await call(path, "test.echo", {"text": "on"}) == "on"


@pytest.mark.trio
async def test_blank_lines_are_nothing(path):
    (answer,) = await raw(path, b'\n  \n{"id":1,"method":"test.echo","params":{"text":"x"}}\n')
    assert answer == {"id": 1, "result": "x"}


@pytest.mark.trio
async def test_a_call_outlives_its_client(bench, path):
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"id":1,"method":"test.wait"}\n')
        await bench.begun.wait()
    bench.go_on.set()
    with trio.fail_after(5):
        await bench.finished.wait()
    assert await call(path, "test.echo", {"text": "on"}) == "on"


@pytest.mark.trio
async def test_a_client_that_only_stops_sending_gets_its_answer(bench, path):
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"id":1,"method":"test.wait"}\n')
        await bench.begun.wait()
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        bench.go_on.set()
        assert json.loads(await stream.receive_some()) == {"id": 1, "result": "waited"}


@pytest.mark.trio
async def test_a_stream_ends_with_its_client(bench, path):
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"id":1,"method":"test.count","params":{"to":0}}\n')
        await bench.begun.wait()
    with trio.fail_after(5):
        await bench.finished.wait()


@pytest.mark.trio
async def test_a_client_that_does_not_read_holds_up_nobody(path):
    async with await trio.open_unix_socket(path) as stuck:
        await stuck.send_all(b'{"id":1,"method":"test.count","params":{"to":200000}}\n')
        with trio.fail_after(10):
            assert await call(path, "test.echo", {"text": "on"}) == "on"


@pytest.mark.trio
async def test_half_a_request_and_gone(path):
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(b'{"id":1,"meth')
    assert await call(path, "test.echo", {"text": "on"}) == "on"


@pytest.mark.trio
async def test_many_clients_at_once(path):
    results: list[str] = []

    async def one(number: int) -> None:
        results.append(await call(path, "test.echo", {"text": str(number)}))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(one, number)
    assert sorted(results, key=int) == [str(n) for n in range(40)]


@pytest.mark.trio
async def test_the_socket_goes_with_the_server(bench, tmp_path):
    path = tmp_path / "own.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(bench).serve, path)
        assert path.is_socket()
        nursery.cancel_scope.cancel()
    assert not path.exists()
    with pytest.raises(NotRunning):
        await call(path, "test.echo")


@pytest.mark.trio
async def test_a_socket_left_by_a_killed_server_is_replaced(bench, tmp_path, nursery):
    path = tmp_path / "own.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(NotRunning, match="nobody answers"):
        await call(path, "test.echo")
    await nursery.start(ControlServer(bench).serve, path)
    assert await call(path, "test.echo", {"text": "x"}) == "x"
