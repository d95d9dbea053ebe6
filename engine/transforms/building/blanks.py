"""The blanks of a message that is built: what stands in its fields and differs from message to message.

Most of them are members of a few objects (``$order.mrn``). They are read object by object before the first segment is
made, and looked at once, all together, for anything that must be escaped; data that was holds no delimiters. Whatever
else is the same everywhere in a message is read with them, each once. That is for segments that are made in any case;
what depends on a segment that came in, or on a condition, is read where it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import itemgetter
from types import NoneType
from typing import Any

from engine.hl7.escape import NULL
from engine.hl7.separators import Separators
from engine.transforms.values.readers import OBJECTS, Literal, Otherwise, Required, Value, Variable, walk
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_hl7
from engine.transforms.values.times import Moment

Read = Callable[[Any], str]

#: What is written as it stands unless something in it must be escaped …
_PLAIN = frozenset({str, NoneType})
#: … and what has neither components nor repetitions when it is written.
_FLAT = _PLAIN | {int, float, bool, Moment}
_NOTHING = repeat("")
#: Called with a text twice, gives it; "" for None.
_written: Callable[[Any, Any], Any] = {None: ""}.get
_is_special = Separators.default.special.search


class Once(Value):
    """What stands in several places of a message and is the same everywhere in it: its text is made once."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def read(self, scope: Scope) -> Any:
        return self.value.read(scope)

    def hl7(self, scope: Any) -> str:
        known: dict[Value, str] = scope.known
        text = known.get(self)
        if text is None:
            text = known[self] = self.value.hl7(scope)
        return text


class Blanks:
    """The blanks of one build. Each gets a number when it is asked for; ``close`` says that these were all."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Value, bool], int] = {}
        #: What reads each by itself.
        self._reads: tuple[Read, ...] = ()
        self._objects: tuple[tuple[str, tuple[str, ...]], ...] = ()
        #: Where a member stands that must not be missing (None), or what stands in its place then.
        self._instead: tuple[tuple[int, str | None], ...] = ()
        self._others: tuple[Read, ...] = ()
        self._in_order: Any = tuple

    def number(self, value: Value, *, component: bool = False) -> int | None:
        """Where the text of ``value`` is in what ``read`` gives; None for what is read where it is written.

        ``component``: of its components the first, as a place has it that is one.
        """
        if value.paths():
            return None
        value = value.value if isinstance(value, Once) else value
        return self._numbers.setdefault((value, component), len(self._numbers))

    def close(self) -> None:
        """Sort them by the objects they are members of."""
        objects: dict[str, list[tuple[int, str, str | None]]] = {}
        others: list[tuple[int, Read]] = []
        reads: list[Read] = []
        for (value, component), number in self._numbers.items():
            reads.append(component_of(value) if component else value.hl7)
            variable, instead = _member(value)
            if variable is None:
                others.append((number, reads[-1]))
            else:
                objects.setdefault(variable.variable, []).append((number, str(variable.member), instead))
        self._reads, self._others = tuple(reads), tuple(read for _, read in others)
        self._objects = tuple((name, tuple(member for _, member, _ in ways)) for name, ways in objects.items())
        members = [way for ways in objects.values() for way in ways]
        self._instead = tuple((at, instead) for at, (_, _, instead) in enumerate(members) if instead != "")
        found = [number for number, *_ in (*members, *others)]
        self._in_order = itemgetter(*map(found.index, range(len(found)))) if len(found) > 1 else tuple

    def read(self, scope: Scope) -> Sequence[str] | None:
        """The text of each; None where members are more than data or cannot be read: ``one_by_one`` has them then."""
        try:
            found = self._members(scope)
            if found is None or NULL in found:
                return None
            if _is_special("".join(found)) is not None:
                found = list(map(as_hl7, found))
            for at, instead in self._instead:
                if not found[at]:
                    if instead is None:
                        return None
                    found[at] = instead
            found += [read(scope) for read in self._others]
        except Exception:  # noqa: BLE001 - whatever it is, it is told of the first of them in the order of the message
            return None
        texts: Sequence[str] = self._in_order(found)
        return texts

    def one_by_one(self, scope: Scope) -> Sequence[str]:
        """The text of each, read when it is asked for."""
        return _OneByOne(self._reads, scope)  # type: ignore[return-value]  # of a sequence it has what is used

    def _members(self, scope: Scope) -> list[str] | None:
        """What the members of objects are, as texts that are not escaped yet; None where it is more than data."""
        found: list[Any] = []
        variables = scope.envelope.variables
        for name, members in self._objects:
            held = variables.get(name)
            if held is None:
                held = _OWN[name](scope) if name in _OWN else scope.variable(name)
            if type(held) in OBJECTS:
                found += map(held.get, members, _NOTHING)
            else:
                found += [walk(held, (member,)) for member in members]
        kinds = set(map(type, found))
        if not kinds <= _FLAT:
            return None
        if not kinds <= _PLAIN:
            found = [scope.time(value) if type(value) is Moment else value for value in found]
            return [value if isinstance(value, str) else as_hl7(value) for value in found]
        return list(map(_written, found, found)) if NoneType in kinds else found


class _OneByOne:
    def __init__(self, reads: tuple[Read, ...], scope: Scope) -> None:
        self._reads, self._scope = reads, scope
        self._texts: dict[int, str] = {}

    def __getitem__(self, number: int) -> str:
        text = self._texts.get(number)
        if text is None:
            text = self._texts[number] = self._reads[number](self._scope)
        return text


#: Objects that no step put there.
_OWN: dict[str, Callable[[Scope], Any]] = {
    "body": Scope.request,
    "query": lambda scope: (scope.context.request or scope.envelope).origin.query,
}


def _member(value: Value) -> tuple[Variable | None, str | None]:
    """The member of an object that a value is; and what stands there when it is missing, None where it must not be."""
    instead: str | None = ""
    if isinstance(value, Required):
        value, instead = value.value, None
    elif isinstance(value, Otherwise) and isinstance(value.default, Literal):
        instead = value.default.fixed
        if instead is None or _is_special(instead) is not None:
            return None, ""
        value = value.value
    if not isinstance(value, Variable) or value.member is None or not (value.plain or value.variable in _OWN):
        return None, ""
    return value, instead


def component_of(value: Value) -> Read:
    """What reads of ``value`` what a place gets that is a component."""
    read = value.hl7
    if value.flat:
        return read

    def component(scope: Any) -> str:
        text = read(scope)
        return first_component(text) if "~" in text or "^" in text else text

    return component


def first_component(text: str) -> str:
    """What a text with components gives to a place that is one."""
    return text.partition("~")[0].partition("^")[0] if "~" in text or "^" in text else text


def may_have_parts(value: Value) -> bool:
    """Whether the text of a blank may have components or repetitions, where it stands as a field."""
    return not value.flat and _member(value)[0] is None
