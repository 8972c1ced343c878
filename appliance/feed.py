"""What a session says while it runs, for any number of listeners.

A listener that is slow gets the latest progress only, and at most the last lines of the log;
it never makes the session wait nor the control process grow.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import trio

_KEPT_LINES = 2000


@dataclass(slots=True, eq=False)
class Listener:
    """One reader of a feed; iterate over it with `next`."""

    _lines: deque[dict[str, Any]]
    _progress: dict[str, Any] | None
    _ended: bool = False
    _news: trio.Event = field(default_factory=trio.Event)

    def put(self, event: dict[str, Any]) -> None:
        """Hand over an event; progress replaces progress."""
        if event.get("event") == "progress":
            self._progress = event
        else:
            self._lines.append(event)
        self._news.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._news.set()

    async def next(self) -> list[dict[str, Any]]:
        """Give what came since the last call, in order, progress last; empty at the end."""
        while not (self._lines or self._progress or self._ended):
            self._news = trio.Event()
            await self._news.wait()
        news = list(self._lines)
        self._lines.clear()
        if self._progress is not None:
            news.append(self._progress)
            self._progress = None
        return news


class Feed:
    """The events of one session, from its first."""

    def __init__(self) -> None:
        self._history: deque[dict[str, Any]] = deque(maxlen=_KEPT_LINES)
        self._progress: dict[str, Any] | None = None
        self._listeners: set[Listener] = set()
        self._ended = False

    def put(self, event: dict[str, Any]) -> None:
        """Tell every listener, and those who come later."""
        if event.get("event") == "progress":
            self._progress = event
        else:
            self._history.append(event)
        for listener in self._listeners:
            listener.put(event)

    def end(self) -> None:
        """Let every listener come to its end."""
        self._ended = True
        for listener in self._listeners:
            listener.end()

    def listen(self) -> Listener:
        """Give a listener that hears everything from the start."""
        listener = Listener(deque(self._history, maxlen=_KEPT_LINES), self._progress, self._ended)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)
