"""`snapreel dump`."""

import json
import sys
from typing import Annotated, Any

import typer

from appliance.cli.context import settings
from appliance.cli.output import given, print_line, say


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("dump")(dump)


def dump(
    path: Annotated[str, typer.Argument(help="What to dump: /vol/VOLUME[/QTREE[/SUBTREE]].")],
    to: Annotated[str, typer.Option(help="Where to: file:PATH, - or a tape device (nrst0a).")],
    level: Annotated[str, typer.Option(help="0 for all, 1 to 31 for what changed.")] = "0",
    snapshot: Annotated[str | None, typer.Option(help="Dump this one; else one is made.")] = None,
    blocking_factor: Annotated[
        str | None, typer.Option(help="KiB a record, 4 to 256.", metavar="N")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Names to leave out; may be repeated, commas too.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update/--no-update", help="Record it for later levels.")
    ] = True,
    acls: Annotated[bool, typer.Option("--acls/--no-acls", help="Dump ACLs.")] = True,
    verify: Annotated[bool, typer.Option("--verify", help="Read it back and compare.")] = False,
    label: Annotated[str, typer.Option(help="A name to be found in the dump.")] = "",
) -> None:
    """Dump a volume, a qtree or a subtree. Ctrl-C aborts the session."""
    from appliance.cli import watching

    params: dict[str, Any] = {
        "path": path,
        "to": watching.absolute(to),
        "level": level,
        "snapshot": snapshot,
        "exclude": [name for given in exclude or [] for name in given.split(",") if name],
        "update": update,
        "acls": acls,
        "verify": verify,
        "label": label,
    }
    if blocking_factor is not None:
        params["blocking_factor"] = blocking_factor
    if to == "-":
        stream = given(sys.stdout, "standard output").fileno()
        record = watching.run("dump.start", params, [stream], sys.stderr)
        text = json.dumps(record) if settings.json else watching.summary(record)
        say(text)
        return
    out = given(sys.stdout, "standard output")
    record = watching.run("dump.start", params, [], out)
    print_line(json.dumps(record, indent=2) if settings.json else watching.summary(record))
