"""Values as functions of the envelope and the context, for steps that need no scope of their own.

What a value is decides once, when the channel loads, which function reads it; a constant, a place of the message and a
variable, which most values are, need no Scope. All others read through one, to the same end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.envelope import Envelope
from engine.transforms.base import Context
from engine.transforms.values.places import Text, reader
from engine.transforms.values.readers import OBJECTS, FirstOf, Literal, PathValue, Value, Variable, walk
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import HL7Text, as_data, as_hl7, is_empty
from engine.transforms.values.times import Moment

Read = Callable[[Envelope, Context], Any]
Data = Callable[[Envelope, Context], str]


def read_of(value: Value) -> Read:
    """The value itself: data, ``HL7Text``, ``Moment`` or None."""
    if isinstance(value, Literal):
        constant = value.constant
        return lambda envelope, context: constant
    if isinstance(value, PathValue):
        return _place(value)
    if isinstance(value, FirstOf):
        return _first_of(value)
    if not isinstance(value, Variable) or value.base is not None:
        return value
    if value.variable == "header":
        return _header(value)
    return _variable(value) if value.plain else _member(value) if value.of_request else value


def hl7_of(value: Value) -> Text:
    """HL7 text to write."""
    if isinstance(value, PathValue):
        return reader(value.path)
    if isinstance(value, Variable) and value.plain:
        return _variable_text(value)
    return lambda envelope, context: value.hl7(Scope(envelope, context))


def data_of(value: Value) -> Data:
    """Text to compare and to look up; "" for nothing."""
    if isinstance(value, PathValue):
        return _place_data(value)
    read = read_of(value)
    if isinstance(value, Variable) and value.member is not None:
        if value.plain:
            return _variable_data(value.variable, value.member, read)
        if value.of_request:
            return _request_data(value.member, read)
    return lambda envelope, context: found if type(found := read(envelope, context)) is str else as_data(found)


def _place(value: PathValue) -> Read:
    read = reader(value.path)

    def place(envelope: Envelope, context: Context) -> HL7Text | None:
        text = read(envelope, context)
        return None if text is None else HL7Text(text)

    return place


def _place_data(value: PathValue) -> Data:
    read = reader(value.path)

    def place(envelope: Envelope, context: Context) -> str:
        text = read(envelope, context) or ""
        return text if text.isalnum() else as_data(HL7Text(text))

    return place


def _variable(value: Variable) -> Read:
    name, members, member = value.variable, value.members, value.member

    def variable(envelope: Envelope, context: Context) -> Any:
        found = envelope.variables.get(name)
        if found is None and context.request is not None and name not in envelope.variables:
            found = context.request.variables.get(name)
        return walk(found, members) if members else found

    def member_of_variable(envelope: Envelope, context: Context) -> Any:
        found: Any = envelope.variables.get(name)
        return found.get(member) if type(found) in OBJECTS else variable(envelope, context)

    return variable if member is None else member_of_variable


def _variable_data(name: str, member: str, read: Read) -> Data:
    def data(envelope: Envelope, context: Context) -> str:
        found: Any = envelope.variables.get(name)
        value = found.get(member) if type(found) in OBJECTS else read(envelope, context)
        return value if type(value) is str else as_data(value)

    return data


def _request_data(member: str, read: Read) -> Data:
    def data(envelope: Envelope, context: Context) -> str:
        request = envelope.request
        value = request.get(member) if type(request) is dict else read(envelope, context)
        return value if type(value) is str else as_data(value)

    return data


def _member(value: Variable) -> Read:
    member, members = value.member, value.members

    def of_request(envelope: Envelope, context: Context) -> Any:
        request = envelope.request
        if request is None and context.request is not None:
            request = context.request.request
        found = request
        for each in members:
            if type(found) is not dict:
                return walk(request, members)
            found = found.get(each)
        return found

    def member_of_request(envelope: Envelope, context: Context) -> Any:
        found = envelope.request
        return found.get(member) if type(found) is dict else of_request(envelope, context)

    return of_request if member is None else member_of_request


def _header(value: Variable) -> Read:
    name = ".".join(value.members).lower()
    return lambda envelope, context: (context.request or envelope).origin.headers.get(name)


def _first_of(value: FirstOf) -> Read:
    reads = [read_of(each) for each in value.values]

    def first_of(envelope: Envelope, context: Context) -> Any:
        found = None
        for read in reads:
            found = read(envelope, context)
            if not is_empty(found):
                break
        return found

    return first_of


def _variable_text(value: Variable) -> Text:
    name, read, member = value.variable, _variable(value), value.member

    def text(envelope: Envelope, context: Context) -> str:
        return _written(read(envelope, context), envelope, context)

    def text_of_member(envelope: Envelope, context: Context) -> str:
        try:
            found = envelope.variables[name][member]
        except (LookupError, TypeError):  # no such variable, or one without such members
            found = read(envelope, context)
        return found if type(found) is str and found.isalnum() else _written(found, envelope, context)

    return text if member is None else text_of_member


def _written(found: Any, envelope: Envelope, context: Context) -> str:
    return Scope(envelope, context).time(found) if isinstance(found, Moment) else as_hl7(found)
