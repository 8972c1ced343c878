"""The tree of storage errors.

    StorageError
    ├── NotFound            an aggregate, volume, qtree, LUN or snapshot does not exist
    │   └── SourceNotFound  an image, a device or a directory of an aggregate is not there
    ├── AlreadyExists       the name is taken
    ├── InvalidName         the name or value cannot be used
    ├── Busy                a rule forbids it while something else uses the object
    ├── Refused             a rule forbids it; says which
    ├── OutOfSpace          a size or inode limit is reached
    ├── NotSupported        this kernel or aggregate cannot do it
    └── StorageFailed       the system refused; carries the errno

Every member carries its data as attributes, a stable `code`, the exit code of the
command line (1 failed, 2 usage, 3 refused), and what to do next.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar


class StorageError(Exception):
    """Root of the storage errors: `code` is stable, `str()` is one line for an operator."""

    code: ClassVar[str] = "storage.error"
    exit_code: ClassVar[int] = 1
    template: ClassVar[str] = "storage error"
    advice: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.template.format_map(vars(self))


@dataclass(eq=False)
class NotFound(StorageError):
    """An object does not exist; `kind` is a noun such as `volume`."""

    code = "storage.not_found"
    template = "{kind} {name} does not exist"
    advice = "list what is there with: snapreel {kind} list"
    kind: str
    name: str


@dataclass(eq=False)
class SourceNotFound(NotFound):
    """What an aggregate lies on is not there: an image, a device or a directory."""

    advice = "check the path"


@dataclass(eq=False)
class AlreadyExists(StorageError):
    """The name is taken."""

    code = "storage.exists"
    exit_code = 3
    template = "{kind} {name} exists already"
    advice = "choose another name, or delete it first"
    kind: str
    name: str


@dataclass(eq=False)
class InvalidName(StorageError):
    """A name or value that cannot be used; `reason` says why."""

    code = "storage.invalid"
    exit_code = 2
    template = "{kind} {name!r} cannot be used: {reason}"
    kind: str
    name: str
    reason: str


@dataclass(eq=False)
class Busy(StorageError):
    """A rule forbids it while `holder` uses the object."""

    code = "storage.busy"
    exit_code = 3
    template = "{kind} {name} is in use by {holder}"
    advice = "wait for it to end, or end it first"
    kind: str
    name: str
    holder: str


@dataclass(eq=False)
class Refused(StorageError):
    """A rule forbids it; `reason` names the rule."""

    code = "storage.refused"
    exit_code = 3
    template = "{kind} {name}: {reason}"
    kind: str
    name: str
    reason: str


@dataclass(eq=False)
class OutOfSpace(StorageError):
    """A limit would be passed: `needed` and `available` in bytes or inodes as `unit` says."""

    code = "storage.full"
    template = "{kind} {name} is full: {needed} {unit} needed, {available} {unit} available"
    advice = "raise its limits with: snapreel volume modify, or delete snapshots"
    kind: str
    name: str
    needed: int
    available: int
    unit: str


@dataclass(eq=False)
class NotSupported(StorageError):
    """This kernel, program or aggregate cannot do it."""

    code = "storage.not_supported"
    template = "{what} is not possible here: {reason}"
    what: str
    reason: str


@dataclass(eq=False)
class StorageFailed(StorageError):
    """The system refused `action` on `name` with `errno`."""

    code = "storage.failed"
    template = "{action} {name} failed: {reason}"
    action: str
    name: str
    reason: str
    errno: int = 0


@contextmanager
def failing(action: str, name: str | bytes | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into StorageFailed: `action` reads like `attach aggregate`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageFailed(action, os.fsdecode(name), reason, error.errno or 0) from error
