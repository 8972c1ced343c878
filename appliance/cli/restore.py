"""`snapreel restore`."""

import json
import os
import sys
import tempfile
from typing import IO, Annotated, Any

import typer

from appliance.cli.context import settings
from appliance.cli.output import cell, given, moment, print_line


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("restore")(restore)


def restore(
    source: Annotated[str, typer.Option("--from", help="file:PATH, - or a tape device (nrst0a).")],
    path: Annotated[
        str | None, typer.Argument(help="Where to: /vol/VOLUME[/QTREE[/SUBTREE]].")
    ] = None,
    files: Annotated[
        list[str] | None, typer.Argument(help="What of the dump; all without it.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Restore to this path instead.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the dump, restore nothing.")] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Replay a chain: deletions and renames too.")
    ] = False,
    rename: Annotated[
        list[str] | None, typer.Option(help="Restore OLD=NEW; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Skip the check for space.")] = False,
    acls: Annotated[bool, typer.Option("--acls/--no-acls", help="Restore ACLs.")] = True,
) -> None:
    """Restore a dump, or files of it, into a volume. Ctrl-C aborts the session."""
    from appliance.cli import watching

    params: dict[str, Any] = {
        "source": watching.absolute(source),
        "path": path,
        "files": files or [],
        "to": to,
        "list": list_,
        "incremental": incremental,
        "rename": rename or [],
        "force": force,
        "acls": acls,
    }
    descriptors = [given(sys.stdin, "standard input").fileno()] if source == "-" else []
    if list_:
        _list(params, descriptors)
        return
    out = given(sys.stdout, "standard output")
    record = watching.run("restore.start", params, descriptors, out)
    print_line(json.dumps(record, indent=2) if settings.json else watching.summary(record))


def _list(params: dict[str, Any], descriptors: list[int]) -> None:
    """Show the names in a dump, which the session writes into a pipe of ours."""
    from appliance.cli import watching

    out = given(sys.stdout, "standard output").buffer
    reader, writer = os.pipe()
    with open(reader, "rb") as entries:  # noqa: PTH123 - a descriptor
        try:
            session = watching.begin("restore.start", params, [*descriptors, writer])
        finally:
            os.close(writer)
        try:
            if settings.json:
                _list_json(entries, session, out)
            else:
                for line in entries:
                    print_line(_entry(json.loads(line)))
        except KeyboardInterrupt:
            watching.abort(session)
            raise
    if not settings.json:
        watching.follow(session, sys.stderr)


def _list_json(entries: IO[bytes], session: int, out: IO[bytes]) -> None:
    """Print one document, and only when the whole list is there; it may be long."""
    from appliance.cli import watching

    with tempfile.SpooledTemporaryFile(max_size=16 << 20) as kept:
        for number, line in enumerate(entries):
            kept.write((b",\n" if number else b"") + line.rstrip())
        record = watching.follow(session, sys.stderr)
        kept.seek(0)
        out.write(b'{"session": ' + json.dumps(record).encode() + b',\n"entries": [\n')
        while chunk := kept.read(1 << 20):
            out.write(chunk)
        out.write(b"\n]}\n")
        out.flush()


def _entry(entry: dict[str, Any]) -> str:
    return "  ".join(
        (
            f"{entry.get('inode', 0):>10}",
            f"{entry.get('type', ''):<9}",
            f"{entry.get('size', 0):>14}",
            moment(entry.get("mtime")),
            cell(entry.get("name", "")),
        )
    )
