"""A Snapreel of the demo's own: its root, its `snapreel serve`, and its command line."""

import json
import selectors
import subprocess
from pathlib import Path
from typing import Any

COMMAND = Path(__file__).parents[3] / ".venv" / "bin" / "snapreel"
_PATIENCE = 60.0


class CommandFailed(Exception):
    """A command of the demo ended with another exit code than it should."""

    def __init__(self, command: list[str], code: int, text: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}: {text.strip()}")
        self.code = code
        self.text = text


class Filer:
    """One root, served in the background while the demo runs."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root = root
        self._log = log
        self._server: subprocess.Popen[str] | None = None

    def volume(self, name: str) -> Path:
        """Give the mount point of a volume."""
        return self.root / "vol" / name

    def start(self) -> None:
        """Start `snapreel serve` and wait until it says READY. Raises CommandFailed."""
        command = [str(COMMAND), "--root", str(self.root), "serve"]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends the server
            )
        if not self._ready(self._server):
            code = self._server.poll()
            raise CommandFailed(command, -1 if code is None else code, self._log.read_text())

    def stop(self) -> int:
        """End `snapreel serve` as an operator does, and give its exit code (0 if not started)."""
        server, self._server = self._server, None
        if server is None:
            return 0
        server.terminate()
        try:
            return server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            return server.wait()
        finally:
            if server.stdout is not None:
                server.stdout.close()

    def run(self, *arguments: str | Path) -> str:
        """Run a `snapreel` command and give its standard output. Raises CommandFailed."""
        command = self.command(*arguments)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise CommandFailed(command, done.returncode, done.stderr or done.stdout)
        return done.stdout

    def json(self, *arguments: str | Path) -> Any:
        """Run a command with `--output json` and give the value it printed."""
        return json.loads(self.run("--output", "json", *arguments))

    def command(self, *arguments: str | Path) -> list[str]:
        """Give the full command line of a `snapreel` command on this root."""
        return [str(COMMAND), "--root", str(self.root), *map(str, arguments)]

    def log_tail(self, lines: int = 30) -> str:
        """Give the last lines that the server wrote to its standard error."""
        try:
            text = self._log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _ready(self, server: subprocess.Popen[str]) -> bool:
        assert server.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(server.stdout, selectors.EVENT_READ)
            while selector.select(_PATIENCE):
                line = server.stdout.readline()
                if not line:
                    return False
                if line.strip() == "READY":
                    return True
        return False
