"""Kill a process by SIGKILL at every line of the library that an operation runs through."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import fuse

_LIBRARY = str(Path(fuse.__file__).parent)


def killed_at(step: int, operation: Callable[[], object]) -> bool:
    """Run `operation` in a forked process, killed before its `step`th line in the library.

    Says whether it was killed; False when it ended before. Fails when it raised.
    """
    pid = os.fork()
    if pid == 0:
        try:
            sys.settrace(_tracer(step))
            operation()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the operation failed"
    return False


def every_kill(operation: Callable[[], object], stride: int = 1) -> Iterator[int]:
    """Yield after each run of `operation` that was killed, at ever later lines; stop when none."""
    step = 1
    while killed_at(step, operation):
        yield step
        step += stride


def _tracer(step: int) -> Callable[..., Any]:
    left = step

    def on_line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, event: str, arg: object) -> Any:
        return on_line if frame.f_code.co_filename.startswith(_LIBRARY) else None

    return on_call
