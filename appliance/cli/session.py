"""`snapreel session`."""

import sys
from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, facts, given, key, moment, show, size, time
from appliance.sizes import format_size

app = typer.Typer(name="session", help="Dumps and restores that run and that ran.")

Session = Annotated[int, typer.Argument(help="Number of the session.")]


@app.command("list")
def list_(limit: Annotated[int, typer.Option(help="How many, the latest first.")] = 100) -> None:
    """List sessions, the latest first."""
    show(call("session.list", limit=limit), _table)


@app.command("show")
def show_(
    session: Session,
    log: Annotated[bool, typer.Option("--log", help="Its log as well.")] = False,
) -> None:
    """Show one session."""
    found = call("session.show", session=session)
    if log:
        found["log_lines"] = call("session.log", session=session)
    show(found, _facts)


@app.command()
def watch(session: Session) -> None:
    """Follow a session to its end. Ctrl-C aborts the session."""
    from appliance.cli import watching

    out = given(sys.stdout, "standard output")
    show(watching.follow(session, out), watching.summary)


@app.command()
def abort(session: Session) -> None:
    """End a session; its drive and snapshot are free when this returns."""
    show(call("session.abort", session=session), lambda s: f"session {s['id']} {s['state']}")


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Id", key("id")),
        ("Kind", key("kind")),
        ("State", key("state")),
        ("Path", key("path")),
        ("Level", key("level")),
        ("Target", key("target")),
        ("Started", time("started")),
        ("Files", key("files")),
        ("Bytes", size("bytes")),
        ("Reason", key("reason")),
        empty="no sessions",
    )


def _facts(found: dict[str, Any]) -> str:
    shown = facts(
        ("Session", found["id"]),
        ("Kind", found["kind"]),
        ("State", found["state"]),
        ("Reason", found["reason"]),
        ("Path", found["path"]),
        ("Level", found["level"]),
        ("Source" if found["kind"] == "restore" else "Target", found["target"]),
        ("Started", moment(found["started"])),
        ("Ended", moment(found["ended"])),
        ("Phases", [phase["text"] for phase in found["phases"]]),
        ("Files", _of(found["files"], found["total_files"], str)),
        ("Bytes", _of(found["bytes"], found["total_bytes"], format_size)),
        ("Rate", f"{format_size(found['rate'])}/s" if found["rate"] else None),
        ("Snapshot", found["snapshot"]),
        ("Log", found["log"]),
    )
    return "\n".join([shown, *found.get("log_lines", [])])


def _of(done: int, total: int, form: Any) -> str:
    return f"{form(done)} of {form(total)}" if total else str(form(done))
