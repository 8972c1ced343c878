"""Faults on purpose: what happens to the n-th command of a kind.

A rule is a JSON object; `faults.json` in a library's directory holds a list of them, read
again whenever it changes, so that a test can reach a drive opened by another process.

    device      "drive0", "changer0", or "*" for all
    opcode      operation code of the commands that count, or null for all
    nth         the first of them that is hit, from 1, counted since the rule was set
    count       how many are hit from there on; 0: all
    delay       seconds to wait first
    sense       {"key":, "asc":, "ascq":, "information":, "filemark":, "eom":, "ili":,
                "deferred":} to answer with
    status      SCSI status to answer with instead, 24 for a reservation conflict
    transport   text: the command is lost, with this reason
    hang        true: no answer until the command's timeout
    after       true: carry the command out, then answer so (the answer got lost)

A rule with none of sense, status, transport and hang only delays.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tape import sense
from tape.errors import LibraryDamaged
from tape.sense import Sense
from tape.transport import Category, Completion
from tape.virtual.attributes import write_json

FILE = "faults.json"
_ABORTED = Completion(Category.TRANSPORT, reason="aborted")


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule; see the module."""

    opcode: int | None = None
    nth: int = 1
    count: int = 1
    device: str = "*"
    delay: float = 0.0
    sense: Sense | None = None
    status: int | None = None
    transport: str | None = None
    hang: bool = False
    after: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Fault":
        """Read the JSON form; raises TypeError for a key or value that is none."""
        known = {f.name for f in fields(cls)}
        if set(data) - known:
            raise TypeError(f"no such keys: {sorted(set(data) - known)}")
        values = dict(data)
        given = values.pop("sense", None)
        answer = None if given is None else Sense(**({"valid": "information" in given} | given))
        return cls(**values, sense=answer)

    def hits(self, seen: int) -> bool:
        """Whether the rule strikes the `seen`-th command that counts."""
        return seen >= self.nth and (self.count == 0 or seen < self.nth + self.count)


def write_faults(library: Path, faults: Iterable[Fault]) -> None:
    """Set the rules of the library in the directory `library`, for all who have it open."""
    write_json(library / FILE, [fault.to_json() for fault in faults])


class Faults:
    """The rules for one open device, with its counts; add to `rules` in-process with `add`."""

    def __init__(self, device: str, path: Path | None = None) -> None:
        """Watch the file `path` when given."""
        self._device = device
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._own: list[tuple[Fault, list[int]]] = []
        self._shared: list[tuple[Fault, list[int]]] = []
        self._waiting: threading.Event | None = None
        self._released = False

    def add(self, *faults: Fault) -> None:
        """Set further rules for this opener of the device."""
        self._own += [(fault, [0]) for fault in faults]

    def clear(self) -> None:
        """Forget the rules of this opener."""
        self._own.clear()

    def abort(self) -> None:
        """End the delay or hang of the command that runs, if any."""
        waiting = self._waiting
        if waiting is not None:
            waiting.set()

    def release(self) -> None:
        """End delays and hangs, now and for ever."""
        self._released = True
        self.abort()

    def _wait(self, seconds: float) -> bool:
        """Wait; False when it was broken off."""
        self._waiting = waiting = threading.Event()
        try:
            return not self._released and not waiting.wait(seconds)
        finally:
            self._waiting = None

    def execute(
        self, cdb: bytes, timeout: float, carry_out: Callable[[], Completion]
    ) -> Completion:
        """Carry out a command, or let it meet its fault."""
        fault = self._strike(cdb[0]) if cdb else None
        if fault is None:
            return carry_out()
        if fault.delay and not self._wait(fault.delay):
            return _ABORTED
        done = carry_out() if fault.after else None
        return self._answer(fault, timeout) or done or carry_out()

    def _strike(self, opcode: int) -> Fault | None:
        self._refresh()
        struck = None
        for fault, seen in (*self._own, *self._shared):
            if fault.device not in {"*", self._device} or fault.opcode not in {None, opcode}:
                continue
            seen[0] += 1
            if struck is None and fault.hits(seen[0]):
                struck = fault
        return struck

    def _answer(self, fault: Fault, timeout: float) -> Completion | None:
        if fault.hang:
            silent = self._wait(timeout)
            reason = f"no answer within {timeout:g} s"
            return Completion(Category.TRANSPORT, reason=reason) if silent else _ABORTED
        if fault.transport is not None:
            return Completion(Category.TRANSPORT, reason=fault.transport)
        if fault.sense is not None:
            return Completion(Category.SENSE, status=2, sense=sense.encode(fault.sense))
        if fault.status is not None:
            return Completion(Category.STATUS, status=fault.status)
        return None

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            info = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._shared = None, []
            return
        stamp = (info.st_mtime_ns, info.st_ino)
        if stamp != self._stamp:
            self._shared = [(fault, [0]) for fault in read_faults(self._path)]
            self._stamp = stamp


def read_faults(path: Path) -> list[Fault]:
    """Read a file of rules; raises LibraryDamaged."""
    try:
        return [Fault.from_json(rule) for rule in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise LibraryDamaged(path.parent.name, f"{path}: {error}") from error
