"""The method table: each method of the control API is declared once, by a decorator.

A method is an async function `(appliance, *, name: type = default, ...)`; the signature is
its contract. What comes over the wire is checked against it, so that a method's body sees
only values of the types that it names.
"""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from appliance.errors import UsageError

if TYPE_CHECKING:
    from appliance.appliance import Appliance

Emit = Callable[[dict[str, Any]], Awaitable[None]]
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])

_RESERVED = ("emit", "fds")
_MOST = (1 << 63) - 1  # what the databases and the kernel take
_NAMES = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method; `default` is meaningless when `required`."""

    name: str
    type: Any
    required: bool
    default: Any = None


@dataclass(frozen=True, slots=True)
class Method:
    """One method: how it is called and what runs.

    `streams`: it sends events (it takes `emit`) and ends when its client goes away.
    `descriptors`: it takes `fds`, a list of file descriptors that it must close.
    """

    name: str
    handler: Callable[..., Awaitable[Any]]
    parameters: tuple[Parameter, ...]
    streams: bool = False
    descriptors: bool = False

    @property
    def summary(self) -> str:
        """First line of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    def check(self, params: dict[str, Any]) -> dict[str, Any]:
        """Give the keyword arguments that `params` means; UsageError names what is wrong."""
        known = {p.name: p for p in self.parameters}
        unknown = params.keys() - known.keys()
        if unknown:
            raise UsageError(self.name, f"unknown parameter {min(unknown)!r}")
        missing = [p.name for p in self.parameters if p.required and p.name not in params]
        if missing:
            raise UsageError(self.name, f"parameter {missing[0]!r} is missing")
        return {name: conform(value, known[name].type, name) for name, value in params.items()}

    async def __call__(self, appliance: "Appliance", params: dict[str, Any], **extra: Any) -> Any:
        """Check `params` and run the method; `extra` is `emit` or `fds` where declared."""
        return await self.handler(appliance, **self.check(params), **extra)


TABLE: dict[str, Method] = {}


def method(name: str) -> Callable[[Handler], Handler]:
    """Declare the decorated function as the method `name`."""

    def declare(handler: Handler) -> Handler:
        if name in TABLE:
            raise ValueError(f"method {name} is declared twice")
        TABLE[name] = _method(name, handler)
        return handler

    return declare


def find(name: str) -> Method:
    """Give a method; UsageError when there is none."""
    try:
        return TABLE[name]
    except KeyError:
        raise UsageError(
            f"method {name!r}", "unknown; see what there is with api.methods"
        ) from None


def _method(name: str, handler: Callable[..., Awaitable[Any]]) -> Method:
    signature = inspect.signature(handler)
    hints = typing.get_type_hints(handler, localns={"Appliance": object})
    own = list(signature.parameters.values())[1:]
    return Method(
        name=name,
        handler=handler,
        parameters=tuple(_parameter(p, hints) for p in own if p.name not in _RESERVED),
        streams="emit" in signature.parameters,
        descriptors="fds" in signature.parameters,
    )


def _parameter(parameter: inspect.Parameter, hints: dict[str, Any]) -> Parameter:
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    return Parameter(parameter.name, hints[parameter.name], required, default)


def type_name(wanted: Any) -> str:
    """Give a parameter's type as the API's table shows it."""
    if wanted is Any:
        return "any"
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):
        return " | ".join(type_name(member) for member in typing.get_args(wanted))
    if wanted is types.NoneType:
        return "null"
    return (
        wanted.__name__ if isinstance(wanted, type) and not typing.get_args(wanted) else str(wanted)
    )


def conform(value: Any, wanted: Any, name: str) -> Any:
    """Give `value` when it is of the type `wanted`; UsageError says what would be.

    Types: str, int, float, bool, Any, `X | Y`, `X | None`, `list[X]`.
    """
    if wanted is Any:
        return value
    origin = typing.get_origin(wanted)
    if origin in (types.UnionType, typing.Union):
        return _conform_union(value, typing.get_args(wanted), name)
    if origin is list:
        return _conform_list(value, typing.get_args(wanted)[0], name)
    if isinstance(value, int) and not -_MOST <= value <= _MOST:
        raise UsageError(name, f"{value!s:.40} is larger than any number here")
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    raise UsageError(name, f"must be {_NAMES.get(wanted, wanted)}, not {value!r:.80}")


def _conform_union(value: Any, members: tuple[Any, ...], name: str) -> Any:
    for member in members:
        if member is types.NoneType and value is None:
            return None
        if member is not types.NoneType:
            with suppress(UsageError):
                return conform(value, member, name)
    wanted = " or ".join(_NAMES.get(m, m.__name__) for m in members if m is not types.NoneType)
    raise UsageError(name, f"must be {wanted}, not {value!r:.80}")


def _conform_list(value: Any, member: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(name, f"must be a list, not {value!r:.80}")
    return [conform(item, member, name) for item in value]
