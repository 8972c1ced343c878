"""The `snapreel` command: global options, nouns, and errors in one line.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused (a rule said no), 4 needs an operator,
130 interrupted by Ctrl-C.
"""

import itertools
import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from appliance.cli import (
    aggregate,
    dump,
    dumpdates,
    init,
    library,
    lun,
    media,
    qtree,
    restore,
    serve,
    session,
    snapshot,
    status,
    tape,
    volume,
)
from appliance.cli.context import settings
from appliance.cli.output import say

INTERRUPTED = 130

app = typer.Typer(
    name="snapreel",
    help="A filer with a tape room: volumes with snapshots, dumped to and restored from tape.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (init, serve, status, dump, restore):
    verb.register(app)
for noun in (aggregate, volume, qtree, lun, snapshot, session, dumpdates, tape, library, media):
    app.add_typer(noun.app)


@app.callback()
def globals_(
    context: typer.Context,
    root: Annotated[
        str, typer.Option(help="Directory of the installation.", envvar="SNAPREEL_ROOT")
    ] = "",
    output: Annotated[str, typer.Option(help="Form of the output: table or json.")] = "table",
) -> None:
    """A filer with a tape room: volumes with snapshots, dumped to and restored from tape."""
    if output not in ("table", "json"):
        raise typer.BadParameter(f"{output!r} is neither table nor json", param_hint="--output")
    settings.root, settings.output = root, output
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Put --root and --output before the noun, wherever they were given before a `--`."""
    first, rest, words = [], [], list(arguments)
    while words and words[0] != "--":
        word = words.pop(0)
        if word in ("--root", "--output"):
            if not words:
                return [word]  # it is the lack of its value that will be told
            first += [word, words.pop(0)]
        elif word.startswith(("--root=", "--output=")):
            first.append(word)
        else:
            rest.append(word)
    return first + rest + words


def report(document: dict[str, Any]) -> None:
    """Say on standard error what went wrong: one line, or one JSON document on one line."""
    if settings.json:
        say(json.dumps({"error": document}))
        return
    parts = [_flat(document["message"])]
    if document.get("session"):
        parts[0] += f" (session {document['session']})"
    if document.get("advice"):
        parts.append(_flat(document["advice"]))
    say(f"snapreel: {'; '.join(parts)} [{document['code']}]")


def _flat(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(printable.encode("utf-8", "replace").decode().split()).rstrip(".")


def _usage(error: TyperException) -> dict[str, Any]:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "snapreel"
    return {
        "code": "usage",
        "message": error.format_message().rstrip("."),
        "advice": f"see: {command} --help",
        "exit_code": 2,
        "data": {},
    }


def run(arguments: Sequence[str]) -> int:
    """Run a command line and give its exit code."""
    from appliance.errors import describe

    words = hoist(arguments)
    # Errors of the command line itself must have the form that it asks for, too.
    settings.output = "json" if _asks_for_json(words) else "table"
    try:
        code = app(words, prog_name="snapreel", standalone_mode=False)
    except TyperException as error:
        report(_usage(error))
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more can be said, here or at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not hasattr(error, "exit_code") and os.environ.get("SNAPREEL_DEBUG"):
            raise
        document = describe(_known(error))
        report(document)
        return int(document["exit_code"])
    return code if isinstance(code, int) else 0


def _known(error: Exception) -> Exception:
    from appliance.errors import LocalFailure

    if isinstance(error, OSError) and not hasattr(error, "exit_code"):
        return LocalFailure(str(error.filename or "system call"), error.strerror or str(error))
    return error


def _asks_for_json(words: list[str]) -> bool:
    return ("--output", "json") in itertools.pairwise(words) or "--output=json" in words


def main() -> None:
    """Entry point of the `snapreel` command."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
