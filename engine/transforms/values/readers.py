"""The pieces that values are compiled to: sources and what is done with them.

Each reads from a Scope and keeps no state, so one object serves every message. ``hl7`` gives text to write into a
message, ``data`` text to compare, ``read`` the value itself. How YAML becomes these is in ``value.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from engine.envelope import Envelope
from engine.hl7.path import Path
from engine.transforms.base import Context
from engine.transforms.values.missing import Policy
from engine.transforms.values.places import Place
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import HL7Text, as_data, as_hl7, as_json, is_empty
from engine.transforms.values.times import Moment

#: Reads from a scope.
Read = Callable[[Scope], Any]

#: What a row of a table and an object of JSON are.
OBJECTS = frozenset({dict, MappingProxyType})


class Value(ABC):
    """Something that can be read for each message."""

    __slots__ = ()

    #: Never differs: ``constant`` is what it always is.
    static: bool = False
    #: Its HL7 text has neither components nor repetitions, whatever is read.
    flat: bool = False

    @abstractmethod
    def read(self, scope: Scope) -> Any:
        """The value: data (str, number, dict, list), ``HL7Text``, ``Moment`` or None."""

    def reader(self) -> Read:
        """``read`` as a function to keep: a shorter one, where what there is to do is known when the channel loads."""
        return self.read

    def hl7(self, scope: Scope) -> str:
        """HL7 text to write; "" for nothing."""
        value = self.read(scope)
        return scope.time(value) if isinstance(value, Moment) else as_hl7(value)

    def data(self, scope: Scope) -> str:
        """Text to compare and to look up; "" for nothing."""
        return as_data(self.read(scope))

    @property
    def constant(self) -> Any:
        """What a static value is."""
        raise TypeError("this value is not static")

    def paths(self) -> tuple[Path, ...]:
        """The places of a message that it reads, as far as they are known when it is compiled."""
        return ()

    def __call__(self, envelope: Envelope, context: Context) -> Any:
        """The value for one message."""
        return self.read(Scope(envelope, context))

    def text(self, envelope: Envelope, context: Context) -> str:
        """The value as data, as text; "" for nothing."""
        return self.data(Scope(envelope, context))

    def json(self, envelope: Envelope, context: Context) -> Any:
        """The value as JSON has it."""
        return as_json(self.read(Scope(envelope, context)))


class Literal(Value):
    """The same for every message."""

    __slots__ = ("_data", "_hl7", "_value", "fixed")
    static = True

    def __init__(self, value: Any) -> None:
        self._value = value
        textual = value is None or isinstance(value, (str, int, float))
        self._hl7, self._data = (as_hl7(value), as_data(value)) if textual else ("", "")
        #: Its HL7 text; None where that depends on how times are written.
        self.fixed = None if isinstance(value, Moment) else self._hl7

    def read(self, scope: Scope) -> Any:
        return self._value

    def hl7(self, scope: Scope) -> str:
        return super().hl7(scope) if isinstance(self._value, Moment) else self._hl7

    def data(self, scope: Scope) -> str:
        return self._data

    @property
    def constant(self) -> Any:
        return self._value


class PathValue(Value):
    """A place of the HL7 message in motion."""

    __slots__ = ("path", "place")

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, Place(path)

    def read(self, scope: Scope) -> Any:
        text = scope.find(self.place)
        return None if text is None else HL7Text(text)

    def hl7(self, scope: Scope) -> str:
        return scope.find(self.place) or ""

    def paths(self) -> tuple[Path, ...]:
        return (self.path,)


class Member(Value):
    """A member of a JSON body: ``patient.mrn``."""

    __slots__ = ("members",)

    def __init__(self, name: str) -> None:
        self.members = tuple(name.split("."))

    def read(self, scope: Scope) -> Any:
        return walk(scope.envelope.body, self.members)


class Variable(Value):
    """``$name.member``: one of the engine's own, a member of the request, a working value, or what a step put there."""

    __slots__ = ("_read", "base", "member", "members", "name", "of_request", "plain", "root", "variable")

    def __init__(self, name: str, base: Value | None, members: tuple[str, ...]) -> None:
        self.name, self.base, self.members = name, base, members
        self.variable = name.partition(".")[0]
        #: Where it has one, as most have.
        self.member = members[0] if len(members) == 1 else None
        self.root = None if base is not None else ROOTS.get(self.variable)
        #: Whether it is what a step put there.
        self.plain = base is None and self.root is None
        self.of_request = base is None and self.variable == "body"

        self._read = self._reading()

    def read(self, scope: Scope) -> Any:
        return self._read(scope)

    def reader(self) -> Read:
        return self._read

    def _reading(self) -> Read:
        if self.plain:
            return _of_variable(self.variable, self.members)
        if self.of_request:
            return _inside(Scope.request, self.members)
        if self.base is not None:
            return _inside(self.base.reader(), self.members)
        root, members, member = ROOTS[self.variable], self.members, self.member
        if root is _query and member is not None:
            return lambda scope: (scope.context.request or scope.envelope).origin.query.get(member)
        return lambda scope: root(scope, members)

    def hl7(self, scope: Scope) -> str:
        value = self._read(scope)
        if type(value) is str and value.isalnum():
            return value
        return scope.time(value) if isinstance(value, Moment) else as_hl7(value)

    def paths(self) -> tuple[Path, ...]:
        return self.base.paths() if self.base is not None else ()

    @property
    def static(self) -> bool:  # type: ignore[override]
        return self.base is not None and bool(self.base.static)

    @property
    def constant(self) -> Any:
        return walk(self.base.constant, self.members) if self.base is not None else super().constant


class FirstOf(Value):
    """The first that is not empty."""

    __slots__ = ("values",)

    def __init__(self, values: tuple[Value, ...]) -> None:
        self.values = values

    def read(self, scope: Scope) -> Any:
        value = None
        for each in self.values:
            value = each.read(scope)
            if not is_empty(value):
                return value
        return value

    def paths(self) -> tuple[Path, ...]:
        return tuple(path for value in self.values for path in value.paths())

    def hl7(self, scope: Scope) -> str:
        text = ""
        for each in self.values:
            text = each.hl7(scope)
            if text and text != '""':
                return text
        return text


class Otherwise(Value):
    """A value, or its default where there is none. HL7 null is something a partner said, so it stays."""

    __slots__ = ("default", "value")

    def __init__(self, value: Value, default: Value) -> None:
        self.value, self.default = value, default

    @property
    def static(self) -> bool:  # type: ignore[override]
        return bool(self.value.static and (self.default.static or not is_empty(self.value.constant)))

    def read(self, scope: Scope) -> Any:
        value = self.value.read(scope)
        return self.default.read(scope) if value is None or value == "" else value

    def hl7(self, scope: Scope) -> str:
        return self.value.hl7(scope) or self.default.hl7(scope)

    def paths(self) -> tuple[Path, ...]:
        return self.value.paths() + self.default.paths()


class Required(Value):
    """A value with a policy for when there is none."""

    __slots__ = ("policy", "value")

    def __init__(self, value: Value, policy: Policy) -> None:
        self.value, self.policy = value, policy

    def read(self, scope: Scope) -> Any:
        value = self.value.read(scope)
        return self.policy(value) if is_empty(value) else value

    def paths(self) -> tuple[Path, ...]:
        return self.value.paths()


class Mapped(Value):
    """A value looked up in a table or an inline mapping; what is found is HL7 text that an admin wrote."""

    __slots__ = ("_read", "find", "found", "policy", "value")

    def __init__(
        self, value: Value, find: Callable[[str], Value | None], policy: Policy, found: tuple[Value, ...] = ()
    ) -> None:
        """``found``: what an inline mapping may find."""
        self.value, self.find, self.policy, self.found = value, find, policy, found
        self._read = value.reader()

    def read(self, scope: Scope) -> Any:
        value = self._read(scope)
        found = self.find(value if type(value) is str else as_data(value))
        return self.policy(value) if found is None else found.read(scope)

    def hl7(self, scope: Scope) -> str:
        value = self._read(scope)
        found = self.find(value if type(value) is str else as_data(value))
        return super().hl7(scope) if found is None else found.hl7(scope)

    def paths(self) -> tuple[Path, ...]:
        return self.value.paths() + tuple(path for found in self.found for path in found.paths())


class Parts(Value):
    """HL7 text put together from components; nothing when only constants are there."""

    __slots__ = ("_constants", "_parts")

    def __init__(self, parts: Mapping[int, Value]) -> None:
        self._parts = tuple((number, parts[number]) for number in sorted(parts))
        self._constants = all(part.static for part in parts.values())

    @property
    def static(self) -> bool:  # type: ignore[override]
        return self._constants

    def read(self, scope: Scope) -> Any:
        return HL7Text(self.hl7(scope))

    def hl7(self, scope: Scope) -> str:
        filled = self._constants
        texts: list[str] = []
        for number, part in self._parts:
            text = part.hl7(scope)
            if text and not part.static:
                filled = True
            texts.extend([""] * (number - 1 - len(texts)))
            texts.append(text if "^" not in text else text.partition("^")[0])
        return "^".join(texts).rstrip("^") if filled else ""

    def paths(self) -> tuple[Path, ...]:
        return tuple(path for _, part in self._parts for path in part.paths())


def _of_variable(name: str, members: tuple[str, ...]) -> Read:
    """What reads what a step put there, or what is inside of it."""
    member = members[0] if len(members) == 1 else None

    def of_variable(scope: Scope) -> Any:
        value = scope.envelope.variables.get(name)
        if value is None:
            value = scope.variable(name)
        if member is not None and type(value) in OBJECTS:
            return value.get(member)
        return walk(value, members) if members else value

    return of_variable


def _inside(held: Read, members: tuple[str, ...]) -> Read:
    """What reads what is inside of what ``held`` reads."""
    member = members[0] if len(members) == 1 else None

    def inside(scope: Scope) -> Any:
        value = held(scope)
        return value.get(member) if member is not None and type(value) in OBJECTS else walk(value, members)

    return inside if members else held


def walk(value: Any, members: tuple[str, ...]) -> Any:
    for member in members:
        if type(value) in OBJECTS:
            value = value.get(member)
        elif isinstance(value, HL7Text):
            value = value.component(int(member)) if member.isdigit() else None
        elif isinstance(value, Mapping):
            value = value.get(member)
        elif isinstance(value, list) and member.isdigit():
            value = value[int(member)] if int(member) < len(value) else None
        else:
            return None
    return value


def _query(scope: Scope, members: tuple[str, ...]) -> Any:
    return walk((scope.context.request or scope.envelope).origin.query, members)


def _query_id(scope: Scope, _: tuple[str, ...]) -> str:
    # QRD-4 has ten characters; the end of a control id is the part that differs from one to the next.
    variables = scope.envelope.variables
    if "query_id" not in variables:
        variables["query_id"] = scope.context.make_control_id()[-10:]
    return str(variables["query_id"])


def _control_id(scope: Scope, _: tuple[str, ...]) -> str:
    # A `build` replaces the body; the id of what was received stays where the build put it.
    return str(scope.variable("control_id") or getattr(scope.envelope.body, "control_id", ""))


#: ``$name`` of the engine's own: read from the message in motion, never from what steps put there.
ROOTS: dict[str, Callable[[Scope, tuple[str, ...]], Any]] = {
    "query": _query,
    "body": lambda scope, members: walk(scope.request(), members),
    "header": lambda scope, members: (scope.context.request or scope.envelope).origin.headers.get(
        ".".join(members).lower()
    ),
    "now": lambda scope, _: Moment(scope.context.now),
    "received_at": lambda scope, _: Moment(
        scope.context.now.fromtimestamp(scope.envelope.received_at, scope.context.now.tzinfo)
    ),
    "correlation_id": lambda scope, _: scope.envelope.correlation_id,
    "channel": lambda scope, _: scope.envelope.channel,
    "control_id": _control_id,
    "query_id": _query_id,
}
