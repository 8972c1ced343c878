"""Plays the demo: `packaging/demo` runs this.

    python -m tests.lab.demo [--dir DIRECTORY] [--files N]

Exit code 0 when every check held, 1 otherwise, 130 when interrupted. Leaves nothing behind.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.lab import leftovers
from tests.lab.demo.acts import ACTS, Stage
from tests.lab.demo.filer import CommandFailed, Filer
from tests.lab.demo.report import Report

NEEDED = 4 * 1024**3
"""Bytes of room that the demo wants, with some to spare."""


def main() -> int:
    """Play all acts in a throw-away directory."""
    parser = argparse.ArgumentParser(prog="packaging/demo", description="Snapreel's main job")
    parser.add_argument("--dir", default="/var/tmp", help="where to make the throw-away directory")
    parser.add_argument("--files", type=int, default=20_000, help="how many real files to copy in")
    options = parser.parse_args()
    above = Path(options.dir)
    if shutil.disk_usage(above).free < NEEDED:
        print(f"demo: error: {above} has less than 4 GiB of room; use --dir", file=sys.stderr)
        return 1
    place = Path(tempfile.mkdtemp(prefix="snapreel-demo.", dir=above))
    place.chmod(0o755)
    marker = os.environ[leftovers.MARKER] = place.name
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    stage = Stage(place, Filer(place / "root", place / "serve.log"), Report(), options.files)
    try:
        code = play(stage)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the cleaning
        stage.filer.stop()
        leftovers.sweep(place, marker)
    return code


def play(stage: Stage) -> int:
    """Play the acts, then stop the server and see that nothing is left."""
    try:
        for act in ACTS:
            act(stage)
        close(stage)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; cleaning up", file=sys.stderr)
        return 130
    except (CommandFailed, OSError) as error:
        print(f"\ndemo: error: {error}", file=sys.stderr)
        print(stage.filer.log_tail(), file=sys.stderr)
        stage.report.failures.append(str(error))
    return 0 if stage.report.summary() else 1


def close(stage: Stage) -> None:
    """Stop the server and check that no mount, loop device or process is left."""
    stage.report.act("The server ends")
    code = stage.filer.stop()
    stage.report.check(code == 0, f"snapreel serve ended with {code}")
    left = leftovers.settled(stage.place, stage.place.name)
    for line in left:
        stage.report.say(line)
    stage.report.check(not left, "no mount, loop device or process is left")


if __name__ == "__main__":
    sys.exit(main())
