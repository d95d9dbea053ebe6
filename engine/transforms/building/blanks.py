"""The blanks of a message that is built: what stands in its fields and is a plain variable, such as ``$order.mrn``.

Most of what differs from message to message is a member of a few objects. They are read object by object before the
first segment is made, and looked at once, all together, for anything that must be escaped. That is for segments that
are made in any case; what depends on a segment that came in, or on a condition, is read where it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter
from types import NoneType
from typing import Any

from engine.hl7.escape import NULL
from engine.hl7.separators import Separators
from engine.transforms.values.readers import OBJECTS, Value, Variable, walk
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_hl7
from engine.transforms.values.times import Moment

#: What is written as it stands unless something in it must be escaped.
_PLAIN = frozenset({str, NoneType})
_NOTHING = repeat("")
#: Called with a text twice, gives it; "" for None.
_written = {None: ""}.get
_is_special = Separators.default.special.search


class Blanks:
    """The variables of one build. Each gets a number when it is asked for; ``close`` says that these were all."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}
        self._objects: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self._wholes: tuple[tuple[str, ...], ...] = ()
        self._in_order: Any = tuple

    def number(self, value: Value) -> int | None:
        """Where the text of ``value`` is in what ``read`` gives; None for what is read where it is written."""
        if not isinstance(value, Variable) or not (value.plain or value.of_request):
            return None
        return self._numbers.setdefault((value.variable, *value.members), len(self._numbers))

    def close(self) -> None:
        """Sort them by the objects they are members of."""
        objects: dict[str, list[tuple[str, ...]]] = {}
        for name, *members in self._numbers:
            if len(members) == 1:
                objects.setdefault(name, []).append((name, *members))
        self._objects = tuple((name, tuple(member for _, member in ways)) for name, ways in objects.items())
        self._wholes = tuple(way for way in self._numbers if len(way) != 2)  # a variable itself, or deep inside of it
        sorted_ways = [*(way for ways in objects.values() for way in ways), *self._wholes]
        places = [sorted_ways.index(way) for way in self._numbers]
        self._in_order = itemgetter(*places) if len(places) > 1 else tuple

    def read(self, scope: Scope) -> tuple[Sequence[str], Sequence[str]]:
        """HL7 text of each, and the same as a component has it: the first where it has components itself."""
        found: list[Any] = []
        variables = scope.envelope.variables
        for name, members in self._objects:
            held = variables.get(name)
            if held is None:
                held = self._held(scope, name)
            if type(held) in OBJECTS:
                found += map(held.get, members, _NOTHING)
            else:
                found += [walk(held, (member,)) for member in members]
        for name, *way in self._wholes:
            found.append(walk(self._held(scope, name), tuple(way)))
        kinds = set(map(type, found))
        if kinds <= _PLAIN:
            if NoneType in kinds:
                found = [*map(_written, found, found)]
            if _is_special("".join(found)) is None and NULL not in found:
                texts = self._in_order(found)
                return texts, texts
        texts = self._in_order([scope.time(value) if isinstance(value, Moment) else as_hl7(value) for value in found])
        return texts, [first_component(text) for text in texts]

    @staticmethod
    def _held(scope: Scope, name: str) -> Any:
        return scope.request() if name == "body" else scope.variable(name)


def first_component(text: str) -> str:
    """What a text with components gives to a place that is one."""
    return text.partition("~")[0].partition("^")[0] if "~" in text or "^" in text else text
