"""How results look: tables for people, one JSON document for programs."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TextIO

from appliance.cli.context import settings
from appliance.sizes import format_size

Column = tuple[str, Callable[[dict[str, Any]], Any]]

_RIGHT = {"Size", "Used", "Avail", "Files", "Id", "Level", "Bytes", "Rate", "Slot", "MB/s"}


def show(result: Any, table: Callable[[Any], str]) -> None:
    """Print a result, as JSON or as `table` gives it."""
    print_line(json.dumps(result, indent=2) if settings.json else table(result))


def print_line(text: str) -> None:
    """Print to standard output; names that are not UTF-8 come out as they are on disk."""
    if text or settings.json:
        out = given(sys.stdout, "standard output").buffer
        out.write(text.encode("utf-8", "surrogateescape") + b"\n")
        out.flush()


def say(text: str) -> None:
    """Print a line to standard error, unless the command was started without one."""
    stream: TextIO | None = sys.stderr
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()


def given(stream: TextIO | None, name: str) -> TextIO:
    """Give a standard stream back; LocalFailure when the command was started without it."""
    from appliance.errors import LocalFailure

    if stream is None:
        raise LocalFailure(name, "it is closed; give the command one, such as /dev/null")
    return stream


def columns(rows: Sequence[dict[str, Any]], *specification: Column, empty: str = "none") -> str:
    """Give a table with one row a result."""
    if not rows:
        return empty
    head = [name for name, _ in specification]
    body = [[cell(value(row)) for _, value in specification] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [_line(head, head, widths), "  ".join("-" * width for width in widths)]
    return "\n".join(lines + [_line(head, row, widths) for row in body])


def _line(head: list[str], row: list[str], widths: list[int]) -> str:
    cells = [
        text.rjust(width) if name in _RIGHT else text.ljust(width)
        for name, text, width in zip(head, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def facts(*pairs: tuple[str, Any]) -> str:
    """Give a list of facts about one thing; empty ones are left out."""
    shown = [(name, cell(value)) for name, value in pairs if value not in (None, "", [], ())]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name + ':':<{width + 1}} {value}" for name, value in shown)


def cell(value: Any) -> str:
    """Give a value in one line that cannot disturb a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value)) or "-"
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else _escape(c) for c in str(value)
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def moment(seconds: float | None) -> str:
    """Give a time (seconds since 1970) as local date and time."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def key(name: str) -> Callable[[dict[str, Any]], Any]:
    """Give a column's value: one key of the row."""
    return lambda row: row.get(name)


def size(name: str) -> Callable[[dict[str, Any]], str]:
    """Give a column's value: one key of the row, in bytes; 0 is shown as 0."""
    return lambda row: format_size(row.get(name))


def limit(name: str) -> Callable[[dict[str, Any]], str]:
    """The same for a limit, where 0 means none."""
    return lambda row: format_size(row[name]) if row.get(name) else "none"


def time(name: str) -> Callable[[dict[str, Any]], str]:
    """Give a column's value: one key of the row, as a time."""
    return lambda row: moment(row.get(name))
