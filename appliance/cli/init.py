"""`snapreel init`."""

from typing import Annotated, Any

import typer

from appliance.cli.context import settings
from appliance.cli.output import facts, show
from appliance.sizes import format_size


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("init")(init)


def init(
    size: Annotated[str, typer.Option(help="Size of the aggregate's sparse image.")] = "8G",
) -> None:
    """Make a root: an aggregate on a sparse image, and a virtual tape library."""
    from appliance.initialise import initialise
    from appliance.sizes import parse_size

    show(initialise(settings.at(), parse_size(size)), _table)


def _table(made: dict[str, Any]) -> str:
    return facts(
        ("Root", made["root"]),
        ("Aggregate", f"{made['aggregate']}, {format_size(made['size'])}, sparse"),
        ("Library", f"{made['library']}: {', '.join(made['drives'])}, {made['changer']}"),
        ("Cartridges", made["cartridges"]),
        ("Next", f"snapreel --root {made['root']} serve"),
    )
