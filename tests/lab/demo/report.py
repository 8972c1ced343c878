"""What the demo did: rows with counts and times, and the checks that must all hold."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

MB = 1_000_000


@dataclass(slots=True)
class Row:
    """One line of the summary; counts that do not apply stay None."""

    what: str
    files: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    differences: int | None = None

    def cells(self) -> tuple[str, ...]:
        """Give the columns as text."""
        rate = None
        if self.bytes is not None and self.seconds:
            rate = self.bytes / MB / self.seconds
        return (
            self.what,
            "" if self.files is None else f"{self.files:,}",
            "" if self.bytes is None else f"{self.bytes:,}",
            "" if self.seconds is None else f"{self.seconds:.1f}",
            "" if rate is None else f"{rate:.0f}",
            "" if self.differences is None else f"{self.differences:,}",
        )


_HEAD = ("what", "files", "bytes", "seconds", "MB/s", "differences")
_SHOWN = 20
"""How many differences of one comparison are printed."""


@dataclass(slots=True)
class Report:
    """Collects rows and checks, and prints as it goes."""

    rows: list[Row] = field(default_factory=list)
    checks: int = 0
    failures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def act(self, title: str) -> None:
        """Announce the next act."""
        print(f"\n[{time.monotonic() - self.started:5.1f}s] {title}", flush=True)

    def say(self, text: str) -> None:
        """Print one line below the act."""
        print(f"    {text}", flush=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[Row]:
        """Time a step; its row is added when it ends well."""
        row = Row(what)
        start = time.monotonic()
        yield row
        row.seconds = time.monotonic() - start
        self.rows.append(row)

    def check(self, holds: bool, text: str) -> None:
        """Count a check and say how it went."""
        self.checks += 1
        if not holds:
            self.failures.append(text)
        self.say(f"{'ok    ' if holds else 'FAILED'} {text}")

    def compare(self, row: Row, found: Sequence[object]) -> None:
        """Count a comparison: `found` are the differences, of which the first are printed."""
        row.differences = len(found)
        for difference in found[:_SHOWN]:
            self.say(f"differs: {difference}")
        if len(found) > _SHOWN:
            self.say(f"... and {len(found) - _SHOWN} more")
        self.check(not found, f"{row.what}: {len(found)} differences")

    def summary(self) -> bool:
        """Print the table and the verdict, and give whether every check held."""
        rows = [_HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        print()
        for row in rows:
            first, *rest = (
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            print("  ".join([first, *rest]).rstrip())
        differences = sum(row.differences or 0 for row in self.rows)
        print(
            f"\ntotal: {time.monotonic() - self.started:.0f} seconds, {self.checks} checks, ",
            end="",
        )
        print(f"{len(self.failures)} failed, differences: {differences}")
        for failure in self.failures:
            print(f"FAILED: {failure}")
        return not self.failures
