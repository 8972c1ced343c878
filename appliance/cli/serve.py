"""`snapreel serve`."""

import typer

from appliance.cli.context import settings


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("serve")(serve)


def serve() -> None:
    """Serve the root in the foreground; says READY when it does. SIGTERM ends it in order."""
    root = settings.at()
    root.require_superuser()
    root.require_initialised()
    from appliance.serve import serve as run

    run(root)
