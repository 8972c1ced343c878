"""The state database of the control process: sessions, and the processes of this life.

Used from the trio thread alone, synchronously: what happens between two awaits is atomic for
every other task. Everything that must survive a crash is committed when a method returns.
Every method may raise StateFailed.
"""

import json
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from appliance.errors import NoSuchSession, StateFailed
from appliance.processes import ProcessIdentity
from appliance.session import LIVE, Session, decode_phases, encode_phases

_VERSION = 1

_SCHEMA = """
-- One dump, restore or failed move of a cartridge each. Rows are never deleted, ids are
-- never used again.
CREATE TABLE session (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT NOT NULL,              -- dump | restore
    path         TEXT NOT NULL,              -- as the operator gave it
    target       TEXT NOT NULL,              -- target of a dump, source of a restore, as given
    level        TEXT NOT NULL,              -- as given; empty for a restore
    state        TEXT NOT NULL,              -- see appliance/session.py
    reason       TEXT NOT NULL DEFAULT '',   -- one line, when it did not end as done
    error        TEXT NOT NULL DEFAULT '{}', -- error document, JSON
    started      REAL NOT NULL,              -- seconds since 1970
    ended        REAL,
    phases       TEXT NOT NULL DEFAULT '[]', -- JSON list of {number, text, started}
    files        INTEGER NOT NULL DEFAULT 0,
    bytes        INTEGER NOT NULL DEFAULT 0,
    total_files  INTEGER NOT NULL DEFAULT 0,
    total_bytes  INTEGER NOT NULL DEFAULT 0,
    rate         REAL NOT NULL DEFAULT 0,    -- bytes a second
    result       TEXT NOT NULL DEFAULT '{}', -- the worker's last word, JSON
    aggregate    TEXT NOT NULL DEFAULT '',
    volume       TEXT NOT NULL DEFAULT '',
    snapshot     TEXT NOT NULL DEFAULT '',
    drive        TEXT NOT NULL DEFAULT '',
    log          TEXT NOT NULL DEFAULT '',
    worker       TEXT NOT NULL DEFAULT ''    -- JSON [pid, start, boot], empty before it runs
);
CREATE INDEX session_by_state ON session (state);
-- Processes that this life of `serve` started and has not seen the end of.
CREATE TABLE process (
    role  TEXT PRIMARY KEY,                  -- volume:NAME | session:ID
    pid   INTEGER NOT NULL,
    start INTEGER NOT NULL,                  -- clock ticks since boot
    boot  TEXT NOT NULL                      -- boot id of the kernel
);
"""

_JSON = ("error", "result")


class State:
    """The database at `path`; `create` makes it."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        self._connection.set_busy_timeout(5000)
        self._connection.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full")

    @classmethod
    def create(cls, path: Path) -> None:
        """Make the database in one step: it is there whole, or not at all."""
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        connection = apsw.Connection(str(unfinished))
        with connection:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.close()
        unfinished.rename(path)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def transaction(self) -> AbstractContextManager[object]:
        """Group changes: all of them are kept, or none."""
        return self._connection

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> apsw.Cursor:
        try:
            return self._connection.execute(statement, values)
        except apsw.Error as error:
            raise StateFailed(str(error)) from error

    def create_session(self, kind: str, path: str, target: str, level: str) -> Session:
        """Record that a session was asked for; its id is one more than any before."""
        self._execute(
            "INSERT INTO session (kind, path, target, level, state, started) "
            "VALUES (?, ?, ?, ?, 'starting', ?)",
            (kind, _text(path), _text(target), _text(level), time.time()),
        )
        return self.session(self._connection.last_insert_rowid())

    def session(self, number: int) -> Session:
        """Give one session; NoSuchSession when there is none."""
        rows = self._sessions("WHERE id = ?", (number,))
        if not rows:
            raise NoSuchSession(str(number))
        return rows[0]

    def sessions(self, limit: int = 100) -> list[Session]:
        """Give the latest sessions, the latest first."""
        return self._sessions("ORDER BY id DESC LIMIT ?", (limit,))

    def live_sessions(self) -> list[Session]:
        """Give the sessions that have not ended, the first first."""
        marks = ", ".join("?" * len(LIVE))
        return self._sessions(f"WHERE state IN ({marks}) ORDER BY id", LIVE)

    def _sessions(self, clause: str, values: tuple[Any, ...]) -> list[Session]:
        cursor = self._execute(f"SELECT * FROM session {clause}", values)
        return [_session(dict(zip(_columns(cursor), row, strict=True))) for row in cursor]

    def save(self, session: Session) -> Session:
        """Keep a session as it is, and give it back."""
        row = _row(session)
        assignments = ", ".join(f"{name} = ?" for name in row)
        self._execute(f"UPDATE session SET {assignments} WHERE id = ?", (*row.values(), session.id))
        return session

    def end_session(
        self, session: Session, state: str, reason: str = "", error: dict[str, Any] | None = None
    ) -> Session:
        """Record how a session ended."""
        ended = replace(session, state=state, reason=reason, error=error or {}, ended=time.time())
        return self.save(ended)

    def record_process(self, role: str, process: ProcessIdentity) -> None:
        """Remember a process, so that the next life finds it if this one is killed."""
        self._execute(
            "INSERT OR REPLACE INTO process VALUES (?, ?, ?, ?)",
            (role, process.pid, process.start, process.boot),
        )

    def forget_process(self, role: str) -> None:
        """The process has ended."""
        self._execute("DELETE FROM process WHERE role = ?", (role,))

    def processes(self) -> dict[str, ProcessIdentity]:
        """Give what was recorded and not forgotten, by role."""
        rows = self._execute("SELECT role, pid, start, boot FROM process ORDER BY role")
        return {role: ProcessIdentity(pid, start, boot) for role, pid, start, boot in rows}


def _columns(cursor: apsw.Cursor) -> list[str]:
    return [name for name, _ in cursor.get_description()]


def _text(value: str) -> str:
    # SQLite holds UTF-8 only: a name that is not travels with backslash escapes.
    return value.encode("utf-8", "backslashreplace").decode()


def _row(session: Session) -> dict[str, Any]:
    worker = session.worker
    row: dict[str, Any] = {
        name: getattr(session, name)
        for name in ("state", "ended", "files", "bytes", "total_files", "total_bytes", "rate")
    }
    for name in ("reason", "aggregate", "volume", "snapshot", "drive", "log"):
        row[name] = _text(getattr(session, name))
    row |= {name: json.dumps(getattr(session, name), default=str) for name in _JSON}
    row["phases"] = encode_phases(session.phases)
    row["worker"] = json.dumps([worker.pid, worker.start, worker.boot]) if worker else ""
    return row


def _session(row: dict[str, Any]) -> Session:
    row |= {name: json.loads(row[name]) for name in _JSON}
    row["phases"] = decode_phases(row["phases"])
    row["worker"] = ProcessIdentity(*json.loads(row["worker"])) if row["worker"] else None
    return Session(**row)
