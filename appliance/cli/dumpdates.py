"""`snapreel dumpdates`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import call
from appliance.cli.output import columns, key, show, time

app = typer.Typer(name="dumpdates", help="What was dumped when: the bases of higher levels.")


@app.command("list")
def list_(
    path: Annotated[str | None, typer.Argument(help="Of one dump path; of all without it.")] = None,
) -> None:
    """List what was dumped when."""
    show(call("dumpdates.list", path=path), _table)


@app.command()
def forget(
    path: Annotated[str, typer.Argument(help="The dump path.")],
    level: Annotated[int | None, typer.Option(help="One level; all without it.")] = None,
) -> None:
    """Forget dumps of a path, so that later levels start from older ones, or from all."""
    show(
        call("dumpdates.forget", path=path, level=level),
        lambda done: f"{done['forgotten']} forgotten",
    )


def _table(rows: list[dict[str, Any]]) -> str:
    return columns(
        rows,
        ("Path", key("path")),
        ("Level", key("level")),
        ("Dumped", time("when")),
        ("Snapshot", key("snapshot")),
        empty="no dumps recorded",
    )
