"""Following a session from the command line, to its end or to Ctrl-C."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol

from appliance.cli.context import connect, settings
from appliance.cli.output import cell, say
from appliance.sizes import format_size

if TYPE_CHECKING:
    from rich.progress import TaskID


class Display(Protocol):
    """Where a session's events are shown."""

    def line(self, text: str) -> None:
        """Show a line of the session's log."""

    def progress(self, event: dict[str, Any]) -> None:
        """Show how far it is."""

    def close(self) -> None:
        """Leave the terminal in order."""


class Silent:
    """Shows nothing: what `--output json` wants."""

    def line(self, text: str) -> None:
        """Show nothing."""

    def progress(self, event: dict[str, Any]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""


class Plain:
    """Lines: those of the log, and one for each phase that the log does not name itself."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._said: set[str] = set()

    def line(self, text: str) -> None:
        """Show a line of the session's log."""
        self._said.add(text)
        self._stream.write(cell(text) + "\n")
        self._stream.flush()

    def progress(self, event: dict[str, Any]) -> None:
        """Show the phase, once."""
        text = str(event.get("text", ""))
        if text and text not in self._said:
            self.line(text)

    def close(self) -> None:
        """Nothing is open."""


class Bar:
    """A progress bar on a terminal, below the lines of the log."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=Console(file=stream, highlight=False, markup=False),
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("starting", total=None, numbers="")
        self._progress.start()

    def line(self, text: str) -> None:
        """Show a line of the session's log above the bar."""
        self._progress.console.print(cell(text), soft_wrap=True)

    def progress(self, event: dict[str, Any]) -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            description=cell(event.get("text", "")),
            total=event.get("total_bytes") or None,
            completed=event.get("bytes") or 0,
            numbers=_numbers(event),
        )

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def _numbers(event: dict[str, Any]) -> str:
    shown = [f"{event.get('files') or 0} files", format_size(event.get("bytes") or 0)]
    if event.get("rate"):
        shown.append(f"{format_size(event['rate'])}/s")
    return ", ".join(shown)


def display(stream: IO[str] | None) -> Display:
    """Give the display that fits the output that was asked for, and where it goes."""
    if settings.json or stream is None:
        return Silent()
    return Bar(stream) if stream.isatty() else Plain(stream)


def run(
    method: str, params: dict[str, Any], descriptors: Sequence[int], stream: IO[str]
) -> dict[str, Any]:
    """Start a session and follow it to its end; give its record.

    Raises ErrorDocument when it does not end as done. Ctrl-C aborts the session, and is
    raised again when the session has ended; a second one leaves it to itself.
    """
    return follow(begin(method, params, descriptors), stream)


def begin(method: str, params: dict[str, Any], descriptors: Sequence[int]) -> int:
    """Start a session and give its number.

    A Ctrl-C meanwhile is raised when the session that it would leave running has been aborted.
    """
    with _held_interrupt() as interrupted, connect() as client:
        started: dict[str, Any] = client.call(method, params, descriptors=descriptors)
    if interrupted:
        abort(started["id"])
        raise KeyboardInterrupt
    return int(started["id"])


@contextmanager
def _held_interrupt() -> Iterator[list[int]]:
    """Note the first Ctrl-C in the list that is given; the second one is raised at once."""
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # one that is ignored stays ignored
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def follow(session: int, stream: IO[str]) -> dict[str, Any]:
    """Follow a session that runs to its end; see `run`."""
    shown = display(stream)
    try:
        with connect() as client:
            record: dict[str, Any] = client.call(
                "session.watch",
                {"session": session},
                on_event=lambda event: _show(shown, event),
            )
    except KeyboardInterrupt:
        shown.close()
        if not settings.json:
            say(f"snapreel: aborting session {session}")
        abort(session)
        raise
    finally:
        shown.close()
    require_done(record)
    return record


def abort(session: int) -> None:
    """Abort a session and wait for its end; one that has ended meanwhile is fine."""
    from appliance.errors import ErrorDocument

    with connect() as client:
        try:
            client.call("session.abort", {"session": session})
        except ErrorDocument as error:
            if error.code != "refused":
                raise


def require_done(record: dict[str, Any]) -> None:
    """Raise ErrorDocument with the session's own error when it did not end as done."""
    from appliance.errors import ErrorDocument

    if record["state"] == "done":
        return
    fallback = {"code": "session.failed", "message": record["reason"] or "failed", "exit_code": 1}
    raise ErrorDocument((record["error"] or fallback) | {"session": record["id"]})


def _show(shown: Display, event: dict[str, Any]) -> None:
    if event.get("event") == "progress":
        shown.progress(event)
    elif event.get("event") == "log":
        shown.line(str(event.get("text", "")))


def summary(record: dict[str, Any]) -> str:
    """Say in one line what a session that is done has done."""
    seconds = record["seconds"] or 0.001
    amount = format_size(record["bytes"])
    rate = format_size(record["bytes"] / seconds)
    return (
        f"session {record['id']} done: {record['files']} files, {amount} "
        f"in {seconds:.1f} s, {rate}/s"
    )


def absolute(target: str) -> str:
    """Make the path of a file: target absolute, as the control process lives elsewhere."""
    kind, colon, path = target.partition(":")
    if (kind, colon) != ("file", ":") or not path:
        return target
    return f"file:{os.path.abspath(path)}"  # noqa: PTH100 - symbolic links stay as given
