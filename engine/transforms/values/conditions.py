"""Conditions: ``where:``, ``when:``, ``keep:``, ``drop:``, ``require: that:``, compiled to one function each.

A mapping of a path, a variable or a JSON member to what it must be: a text, a number, ``$variable``, or a list of
these of which any may hold. All lines must hold. A value that is a list matches if any element does. Beside them
stand ``any: […]``, ``all: […]``, ``not: {…}``, ``filled: PATH`` and ``empty: PATH``; a ``{{ template }}`` stands
alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.transforms.base import Context, Loading
from engine.transforms.values.direct import Data, Read, data_of, read_of
from engine.transforms.values.readers import PathValue, Value, Variable
from engine.transforms.values.text import as_data, is_empty, near
from engine.transforms.values.value import At, Compiler

Test = Callable[[Envelope, Context], bool]

#: What a message is, which its header tells by itself.
_KIND = {"MSH-9.1": attrgetter("header.kind.type"), "MSH-9.2": attrgetter("header.kind.event")}
_WORDS = ("any", "all", "not", "filled", "empty", "matches")


class CompiledCondition:
    """One compiled condition."""

    __slots__ = ("opens", "test", "variables")

    def __init__(self, test: Test, variables: Mapping[str, frozenset[str]], opens: bool = True) -> None:
        #: What a step that asks for each message calls.
        self.test = test
        #: Variable → the literals it is compared with, of the lines that must all hold.
        self.variables = variables
        #: See ``Step``.
        self.opens = opens

    def __call__(self, envelope: Envelope, context: Context) -> bool:
        return self.test(envelope, context)


def compile_condition(spec: Any, loading: Loading, at: At = ()) -> CompiledCondition:
    """The condition that ``spec`` describes; SpecError for what cannot be read."""
    variables: dict[str, frozenset[str]] = {}
    return CompiledCondition(_test(spec, Compiler(loading, "condition"), at, variables), variables, _opens(spec))


def _opens(spec: Any) -> bool:
    """Whether more is asked of a message than its kind."""
    if isinstance(spec, dict):
        return any(_line_opens(str(name), wanted) for name, wanted in spec.items())
    return not isinstance(spec, bool)


def _line_opens(name: str, wanted: Any) -> bool:
    if name == "not":
        return _opens(wanted)
    if name in ("any", "all"):
        return any(map(_opens, wanted))
    wishes = wanted if isinstance(wanted, list) else [wanted]
    return name not in _KIND or not all(isinstance(each, str) and each.isalnum() for each in wishes)


def _test(spec: Any, compiler: Compiler, at: At, variables: dict[str, frozenset[str]]) -> Test:
    if isinstance(spec, str) and "{{" in spec:
        template = compiler.value(spec, at)
        return lambda envelope, context: bool(template(envelope, context))
    if isinstance(spec, bool):
        return lambda _envelope, _context: spec
    if not isinstance(spec, dict) or not spec:
        raise SpecError("this is no condition", at=at, expected="PATH: value, $variable: value or a {{ template }}")
    tests = [_line(str(name), wanted, compiler, (*at, str(name)), variables) for name, wanted in spec.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda envelope, context: all(test(envelope, context) for test in tests)


def _line(name: str, wanted: Any, compiler: Compiler, at: At, variables: dict[str, frozenset[str]]) -> Test:
    if name in ("any", "all"):
        if not isinstance(wanted, list) or not wanted:
            raise SpecError(f"{name} takes conditions", at=at, expected="a list of conditions")
        tests = [_test(each, compiler, (*at, number), {}) for number, each in enumerate(wanted)]
        together = any if name == "any" else all
        return lambda envelope, context: together(test(envelope, context) for test in tests)
    if name == "not":
        test = _test(wanted, compiler, at, {})
        return lambda envelope, context: not test(envelope, context)
    if name in ("filled", "empty"):
        reads = [read_of(compiler.source(each, at)) for each in (wanted if isinstance(wanted, list) else [wanted])]
        if name == "filled":
            return lambda envelope, context: all(not is_empty(read(envelope, context)) for read in reads)
        return lambda envelope, context: all(is_empty(read(envelope, context)) for read in reads)
    if not re.match(r"[$A-Za-z]", name):
        raise SpecError(
            f"{name} is nothing to test", at=at, expected="a path, $variable or member", nearest=near(name, _WORDS)
        )
    value = compiler.source(name, at)
    if isinstance(wanted, dict) and set(wanted) == {"matches"}:
        return _matches(value, wanted["matches"], (*at, "matches"))
    return _equals(value, wanted, compiler, at, variables)


def _matches(value: Value, pattern: Any, at: At) -> Test:
    try:
        compiled = re.compile(str(pattern))
    except re.error:
        raise SpecError("this is no regular expression", at=at) from None
    data = data_of(value)
    return lambda envelope, context: compiled.fullmatch(data(envelope, context)) is not None


def _equals(value: Value, wanted: Any, compiler: Compiler, at: At, variables: dict[str, frozenset[str]]) -> Test:
    wishes = [compiler.value(each, at) for each in (wanted if isinstance(wanted, list) else [wanted])]
    if not wishes:
        raise SpecError("an empty list is never met", at=at, expected="a value or a list of values")
    literals = frozenset(as_data(wish.constant) for wish in wishes if wish.static)
    moving = [wish for wish in wishes if not wish.static]
    if isinstance(value, Variable) and value.root is None and not value.members and not moving:
        known = variables.get(value.name)
        variables[value.name] = literals if known is None else known & literals
    if isinstance(value, PathValue) and not moving:
        return _place_is(value.path, literals)
    read, others = read_of(value), [data_of(wish) for wish in moving]
    return _is_any(read, literals, others) if others else _is(read, literals)


def _place_is(path: Path, literals: frozenset[str]) -> Test:
    value = _KIND.get(str(path), path.value)
    return lambda envelope, _: (value(envelope.body) if isinstance(envelope.body, Message) else "") in literals


def _is(read: Read, literals: frozenset[str]) -> Test:
    def test(envelope: Envelope, context: Context) -> bool:
        found = read(envelope, context)
        if type(found) is str:
            return found in literals
        return not literals.isdisjoint(_texts(found)) if isinstance(found, list) else as_data(found) in literals

    return test


def _is_any(read: Read, literals: frozenset[str], others: Sequence[Data]) -> Test:
    only = others[0] if len(others) == 1 and not literals else None

    def test(envelope: Envelope, context: Context) -> bool:
        found = read(envelope, context)
        if only is not None and type(found) is str:
            return only(envelope, context) == found
        texts = _texts(found) if isinstance(found, list) else [as_data(found)]
        return not literals.isdisjoint(texts) or any(other(envelope, context) in texts for other in others)

    return test


def _texts(found: list[Any]) -> list[str]:
    return [each if type(each) is str else as_data(each) for each in found]
