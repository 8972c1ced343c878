"""Deciding whether calls that mostly return at once are safe to make in the request loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Finds out whether a kind of call stalls, as writes do when memory is full of data to write.

    While none of them lately took longer than `slow` seconds they are made at once. After one
    that did, threads wait for them, until for `caution` seconds all of them were quick.
    """

    def __init__(self, slow: float, caution: float) -> None:
        self._slow = slow
        self._caution = caution
        self._cautious_until = 0.0

    @contextmanager
    def call(self) -> Iterator[bool]:
        """Time the call made inside; gives True when it is expected to return at once."""
        began = time.monotonic()
        brisk = began > self._cautious_until
        try:
            yield brisk
        finally:
            ended = time.monotonic()
            if ended - began > self._slow:
                self._cautious_until = ended + self._caution
