"""A root that is served by a real `snapreel serve`, driven by real `snapreel` commands."""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.control.client import ControlClient
from appliance.root import Root
from tests.lab import leftovers

COMMAND = (sys.executable, "-m", "appliance.cli.main")
PATIENCE = 60.0

ONE_LINE = re.compile(r"snapreel: [^\n]+ \[[a-z_.]+\]\n")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The document on standard error (with --output json)."""
        assert self.err.count("\n") == 1, self.err
        return json.loads(self.err)["error"]

    def refused(self, code: int, *words: str) -> str:
        """Check that it ended with this exit code and one line that holds the words."""
        assert self.code == code, (self.code, self.out, self.err)
        assert ONE_LINE.fullmatch(self.err), self.err
        for word in words:
            assert word in self.err, (word, self.err)
        return self.err


class Filer:
    """A root and, once started, its control process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = Root.at(path)
        self.log = path.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self._commands: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: object) -> list[str]:
        return [*COMMAND, "--root", str(self.path), *map(str, arguments)]

    def run(self, *arguments: object, **options: Any) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            **options,
        )
        out, err = (b.decode("utf-8", "surrogateescape") for b in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def ok(self, *arguments: object, **options: Any) -> Done:
        """Run a command that must do its work."""
        done = self.run(*arguments, **options)
        assert done.code == 0, (arguments, done, self.log_text())
        assert "Traceback" not in done.err
        return done

    def json(self, *arguments: object) -> Any:
        """Run a command that must do its work, and give its document."""
        return self.ok("--output", "json", *arguments).json

    def call(self, method: str, **params: Any) -> Any:
        """Call the control API."""
        with ControlClient.connect(self.root.control_socket, str(self.path)) as client:
            return client.call(method, params)

    def init(self, size: str = "2G") -> "Filer":
        self.ok("init", "--size", size)
        return self

    def start(self, **environment: str) -> "Filer":
        """Start the control process and wait for READY."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | environment,
            )
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(PATIENCE), self.log_text()
        assert self.process.stdout.readline() == b"READY\n", self.log_text()
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the control process in order and give its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """Kill the control process, and nothing else."""
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def end(self) -> None:
        """Leave nothing, whatever state things are in."""
        self.end_commands()
        if self.process is not None and self.process.poll() is None:
            self.stop()
        elif self.process is not None:
            self.wait()

    def end_commands(self) -> None:
        """End what `background` has started and still runs, and close its pipes."""
        for command in self._commands:
            if command.poll() is None:
                command.kill()
                command.wait()
            for pipe in (command.stdout, command.stderr):
                if pipe is not None:
                    pipe.close()
        self._commands.clear()

    def mount(self, volume: str) -> Path:
        """Where clients see a volume."""
        return self.root.mount(volume)

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def worker(self, session: int) -> int:
        """Give the pid of a session's worker."""
        pid: int = self.call("session.show", session=session)["worker"]["pid"]
        return pid

    def background(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command and leave it running; `end` ends it."""
        started = subprocess.Popen(
            self.command(*arguments),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            **options,
        )
        self._commands.append(started)
        return started


def wait_for(what: Callable[[], Any], patience: float = 30.0) -> Any:
    """Ask until there is an answer: for what nothing announces."""
    deadline = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def nothing_left(path: Path) -> bool:
    """Whether no mount, loop device or process is left of a root."""
    left = [*leftovers.mounts(path), *leftovers.loops(path), *leftovers.processes("-", path)]
    assert not left, left
    return True
