"""The control API about itself."""

from typing import Any

from appliance.appliance import Appliance
from appliance.control.method import TABLE, Method, Parameter, method, type_name


@method("api.methods")
async def methods(appliance: Appliance) -> list[dict[str, Any]]:  # noqa: ARG001 - all take it
    """List every method with its parameters."""
    return [_describe(TABLE[name]) for name in sorted(TABLE)]


def _describe(found: Method) -> dict[str, Any]:
    return {
        "name": found.name,
        "summary": found.summary,
        "streams": found.streams,
        "descriptors": found.descriptors,
        "parameters": [_parameter(parameter) for parameter in found.parameters],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {"name": parameter.name, "type": type_name(parameter.type)}
    if parameter.required:
        return described | {"required": True}
    return described | {"required": False, "default": parameter.default}
