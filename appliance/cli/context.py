"""What every command has at hand: the root, the form of its output, the control process."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.control.client import ControlClient
    from appliance.root import Root

DEFAULT_ROOT = "/var/lib/snapreel"


@dataclass(slots=True)
class Settings:
    """The options before the noun; `output` is `table` or `json`."""

    root: str = ""
    output: str = "table"

    @property
    def json(self) -> bool:
        """Whether results and errors are JSON documents."""
        return self.output == "json"

    def at(self) -> "Root":
        """Give the root that the command works on."""
        from appliance.root import Root

        return Root.at(Path(self.root or DEFAULT_ROOT))


settings = Settings()


def connect() -> "ControlClient":
    """Connect to the control process of the root; NotRunning says how to start it."""
    from appliance.control.client import ControlClient
    from appliance.errors import NotRunning

    root = settings.at()
    try:
        return ControlClient.connect(root.control_socket, str(root.path))
    except NotRunning:
        root.require_initialised()
        raise


def call(method: str, **params: Any) -> Any:
    """Call one method of the control API and give its result."""
    with connect() as client:
        return client.call(method, params)
