"""For every test: a place of its own, quiet property tests, and a guard against left-overs.

A run keeps all its files below one short directory (`TMPDIR` and pytest's `tmp_path` lie in
it) and marks its processes. What is still mounted, attached, running or lying about at the
end is listed with the test module that left it, taken away, and fails the run.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import leftovers

settings.register_profile(
    "default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", settings.get_profile("default"), max_examples=50, derandomize=True, database=None
)

_BASETEMP = "t"
"""Where pytest's `tmp_path` directories lie in a process' own directory; kept short."""


class Guard:
    """Watches the directory and the marker of one pytest process."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.marker = f"{root.name}/{name}"
        self.place = root / name
        self._seen: dict[str, str] = {}

    def open(self, config: pytest.Config) -> None:
        """Make the process' own directory and point everything at it."""
        self.place.mkdir(mode=0o755)
        config.option.basetemp = str(self.place / _BASETEMP)
        tempfile.tempdir = str(self.place)
        os.environ["TMPDIR"] = str(self.place)
        os.environ[leftovers.MARKER] = self.marker

    def left(self) -> list[str]:
        """Give what is there at this moment and should not stay."""
        lines = leftovers.report(self.place, self.marker)
        kept = leftovers.files(self.place, frozenset({_BASETEMP}))
        return lines + [f"file {name}" for name in kept]

    def note(self, module: str) -> None:
        """Remember the first module after which something was there."""
        for line in self.left():
            self._seen.setdefault(line, module)

    def close(self) -> list[str]:
        """Wait for what is ending, take away the rest, and say what that was."""
        leftovers.settled(self.place, self.marker)
        left = self.left()
        leftovers.sweep(self.place, self.marker)
        return [f"{line} (first seen after {self._seen.get(line, 'the end')})" for line in left]


_GUARD = pytest.StashKey[Guard]()
_LEFT = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("ci" if os.environ.get("CI") else "default")
    worker = getattr(config, "workerinput", None)
    if worker is None:
        root = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
        root.chmod(0o755)  # tests drop privileges and must still reach their files
        guard = Guard(root, "main")
    else:
        guard = Guard(Path(os.environ["TMPDIR"]).parent, worker["workerid"])
    config.stash[_GUARD] = guard
    config.stash[_LEFT] = []
    guard.open(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: run packaging/test"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """Collect what a pytest-xdist worker found."""
    output: dict[str, list[str]] = getattr(node, "workeroutput", {})
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    config.stash[_LEFT].extend(output.get("leftovers", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    guard = session.config.stash[_GUARD]
    left = session.config.stash[_LEFT] + guard.close()
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["leftovers"] = left
    else:
        session.config.stash[_LEFT] = left
        if left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left = config.stash[_LEFT]
    if not left:
        return
    terminalreporter.section("left behind", red=True)
    for line in left:
        terminalreporter.line(line)
    terminalreporter.line(f"ERROR: {len(left)} thing(s) left behind: the run fails")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    guard = config.stash.get(_GUARD, None)
    if guard is not None and not hasattr(config, "workerinput"):
        leftovers.sweep(guard.root, guard.root.name)


@pytest.fixture(scope="module", autouse=True)
def _watched(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tell the guard what is there after each module (autouse fixtures are torn down last)."""
    yield
    request.config.stash[_GUARD].note(request.node.nodeid)


@pytest.fixture
def short_root() -> Iterator[Path]:
    """Give an empty directory with a path short enough for Unix sockets below it (107 bytes).

    It must be free of mounts when the test ends.
    """
    place = Path(tempfile.mkdtemp(prefix="r"))
    yield place
    inside = leftovers.mounts(place)
    assert not inside, f"still mounted: {inside}"
    shutil.rmtree(place)
