"""`snapreel status` and `snapreel sysconfig`."""

from typing import Any

import typer

from appliance.cli.context import call
from appliance.cli.output import facts, moment, show
from appliance.sizes import format_size


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command("status")(status)
    app.command("sysconfig")(sysconfig)


def status() -> None:
    """Say what runs: volumes, drives, sessions, and what the last start had to repair."""
    show(call("status"), _status)


def sysconfig() -> None:
    """Say what the machine is, and how many sessions it may run."""
    show(call("sysconfig"), _sysconfig)


def _status(found: dict[str, Any]) -> str:
    repaired = [
        f"{noun} {', '.join(map(str, what))}" for noun, what in found["recovered"].items() if what
    ]
    return facts(
        ("Root", found["root"]),
        ("Process", f"{found['pid']}, since {moment(found['started'])}"),
        ("Aggregates", found["aggregates"]),
        ("Volumes", [f"{v['name']} ({v['state']}, {v['mount']})" for v in found["volumes"]]),
        ("Drives", [f"{d['name']} ({d['state']})" for d in found["drives"]]),
        ("Sessions", f"{found['sessions']} of at most {found['session_limit']}"),
        ("Restricted", found["restricted"]),
        ("Repaired", "; ".join(repaired)),
    )


def _sysconfig(found: dict[str, Any]) -> str:
    return facts(
        ("Host", found["hostname"]),
        ("Kernel", found["kernel"]),
        ("Processors", found["processors"]),
        ("Memory", format_size(found["memory"])),
        ("Sessions", f"at most {found['session_limit']} dumps and restores at once"),
    )
