"""The method table: what is declared, and what comes over the wire against it."""

from typing import Any

import pytest

import appliance.control.methods
from appliance.control.method import TABLE, Method, Parameter, conform, find, method, type_name
from appliance.errors import UsageError


async def _handler(appliance: Any, **params: Any) -> dict[str, Any]:
    return params


EXAMPLE = Method(
    "example",
    _handler,
    (
        Parameter("name", str, required=True),
        Parameter("count", int, required=False, default=1),
        Parameter("force", bool, required=False, default=False),
        Parameter("names", list[str], required=False, default=None),
        Parameter("comment", str | None, required=False, default=None),
        Parameter("rate", float, required=False, default=0.0),
    ),
)


@pytest.mark.trio
async def test_values_of_the_right_types_arrive():
    params = {"name": "a", "count": 3, "names": ["x"], "comment": None, "rate": 2}
    assert await EXAMPLE(None, params) == params


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({}, "'name' is missing"),
        ({"name": 3}, "must be a string"),
        ({"name": None}, "must be a string"),
        ({"name": "a", "count": "3"}, "must be a number"),
        ({"name": "a", "count": True}, "must be a number"),
        ({"name": "a", "count": 1.5}, "must be a number"),
        ({"name": "a", "count": 1 << 63}, "larger than any number"),
        ({"name": "a", "rate": -(10**400)}, "larger than any number"),
        ({"name": "a", "force": 1}, "must be true or false"),
        ({"name": "a", "names": "x"}, "must be a list"),
        ({"name": "a", "names": [1]}, "must be a string"),
        ({"name": "a", "comment": 3}, "must be a string"),
        ({"name": "a", "colour": "red"}, "unknown parameter 'colour'"),
    ],
)
def test_anything_else_is_a_usage_error(params, word):
    with pytest.raises(UsageError, match=word):
        EXAMPLE.check(params)


def test_long_values_do_not_flood_the_message():
    with pytest.raises(UsageError) as caught:
        conform(["x" * 1000], str, "name")
    assert len(str(caught.value)) < 150


def test_unknown_method():
    with pytest.raises(UsageError, match=r"'volume\.burn'"):
        find("volume.burn")


def test_a_name_is_declared_once():
    with pytest.raises(ValueError, match="twice"):
        method("status")(_handler)


def test_every_method_is_documented_and_typed():
    assert appliance.control.methods
    for name, found in TABLE.items():
        assert found.summary, name
        for parameter in found.parameters:
            assert type_name(parameter.type), (name, parameter)
