"""JSON bodies and records from declared mappings: names and values, nested as they shall be.

What has no value is null in JSON, so that the shape of a body never changes. Used by ``build`` (``json:``),
``remember`` (``value:``), ``ask`` and ``python`` (``with:``).
"""

from __future__ import annotations

from typing import Any

from engine.errors import SpecError
from engine.transforms.values.readers import Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.value import At, Compiler, constant, is_long_form


class JsonObject(Value):
    """A JSON object, made anew for each message."""

    __slots__ = ("_members",)

    def __init__(self, members: dict[str, Value]) -> None:
        self._members = tuple(members.items())

    def read(self, scope: Scope) -> Any:
        return {name: value.read(scope) for name, value in self._members}

    @property
    def static(self) -> bool:  # type: ignore[override]
        return all(value.static for _, value in self._members)


class JsonList(Value):
    """A JSON list."""

    __slots__ = ("_items",)

    def __init__(self, items: list[Value]) -> None:
        self._items = tuple(items)

    def read(self, scope: Scope) -> Any:
        return [item.read(scope) for item in self._items]

    @property
    def static(self) -> bool:  # type: ignore[override]
        return all(item.static for item in self._items)


def compile_json(compiler: Compiler, spec: Any, at: At = ()) -> Value:
    """A mapping is an object unless it is a value's long form; ``{list: […]}`` is a list; all else is a value."""
    if not isinstance(spec, dict) or is_long_form(spec):
        return compiler.value(spec, at)
    if set(spec) == {"list"} and isinstance(spec["list"], list):
        items = enumerate(spec["list"])
        return constant(JsonList([compile_json(compiler, item, (*at, "list", number)) for number, item in items]))
    if "from" in spec:
        # Most likely a long form with a wrong word in it, which must not quietly become an object.
        return compiler.value(spec, at)
    for name in spec:
        if not isinstance(name, str):
            raise SpecError("a member's name is text", at=(*at, str(name)), expected="a name in quotes")
    return constant(JsonObject({name: compile_json(compiler, member, (*at, name)) for name, member in spec.items()}))
