"""Where ``set``, ``copy``, ``delete`` and ``template`` put things: a path, a ``$variable``, a member of a JSON body.

A path is written into the HL7 message in motion, in its own delimiters; a member into a JSON object, whose objects on
the way are made. Writing into a body of the other kind fails the step, cause ``wrong_body``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.transforms.base import Context
from engine.transforms.values.direct import hl7_of, read_of
from engine.transforms.values.places import Put, Text, putter
from engine.transforms.values.readers import ROOTS, Literal, Value
from engine.transforms.values.slips import FORMS, refuse_near_path
from engine.transforms.values.text import as_json

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


class Target(ABC):
    """A place that can be written and emptied."""

    @abstractmethod
    def putting(self, value: Value) -> Put:
        """What writes there what ``value`` gives."""

    @abstractmethod
    def clear(self, envelope: Envelope) -> None:
        """Take out what is there."""


class PathTarget(Target):
    """A place of the HL7 message."""

    def __init__(self, path: Path, step: str) -> None:
        self._path, self._step = path, step

    def putting(self, value: Value) -> Put:
        """Writes HL7 text; what has components gives its first one to a place that has none."""
        return putter([self.place(value)], self._step)

    def place(self, value: Value) -> tuple[Path, Text | str]:
        """Where what is written."""
        fixed = value.fixed if isinstance(value, Literal) else None
        return self._path, hl7_of(value) if fixed is None else fixed

    def clear(self, envelope: Envelope) -> None:
        """Empty the field or component, or remove the segments."""
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed(self._step, "wrong_body", str(self._path))
        body.delete(self._path)


class VariableTarget(Target):
    """A variable."""

    def __init__(self, name: str) -> None:
        self._name = name

    def putting(self, value: Value) -> Put:
        """Sets it to the value as it is: HL7 text stays HL7 text, a time stays a time."""
        name, read = self._name, read_of(value)

        def put(envelope: Envelope, context: Context) -> None:
            envelope.variables[name] = read(envelope, context)

        return put

    def clear(self, envelope: Envelope) -> None:
        """Forget it."""
        envelope.variables.pop(self._name, None)


class MemberTarget(Target):
    """A member of a JSON body."""

    def __init__(self, name: str, step: str) -> None:
        self._name, self._step = name, step
        *self._way, self._last = name.split(".")

    def putting(self, value: Value) -> Put:
        """Sets it."""
        read = read_of(value)

        def put(envelope: Envelope, context: Context) -> None:
            self._object(envelope)[self._last] = as_json(read(envelope, context))

        return put

    def clear(self, envelope: Envelope) -> None:
        """Remove it."""
        self._object(envelope).pop(self._last, None)

    def _object(self, envelope: Envelope) -> dict[str, Any]:
        body = envelope.body
        if not isinstance(body, dict):
            raise StepFailed(self._step, "wrong_body", self._name)
        # A body is shared between destinations until one of them changes it, so the way down is copied.
        here = envelope.body = dict(body)
        for member in self._way:
            below = here.get(member)
            here[member] = dict(below) if isinstance(below, dict) else {}
            here = here[member]
        return here


def putting(pairs: Iterable[tuple[Target, Value]], step: str) -> tuple[Put, ...]:
    """What puts each value into its target, in this order; places of a message that follow each other, in one go."""
    puts: list[Put] = []
    for kind, group in groupby(pairs, lambda pair: type(pair[0])):
        if kind is PathTarget:
            puts.append(putter([place.place(value) for place, value in group if isinstance(place, PathTarget)], step))
        else:
            puts += (place.putting(value) for place, value in group)
    return tuple(puts)


def target(name: str, at: tuple[str | int, ...], step: str, *, segment: bool = False) -> Target:
    """The place that ``name`` names. ``segment`` allows whole segments. SpecError for what is no place."""
    if name.startswith("$"):
        if not _NAME.fullmatch(name[1:]) or name[1:] in ROOTS or name == "$site":
            raise SpecError(f"{name} cannot be changed", at=at, expected="a variable of your own, such as $facility")
        return VariableTarget(name[1:])
    if Path.looks_like(name):
        path = Path.parse(name)
        if path.field is None and not segment:
            raise SpecError(f"{name} is a whole segment", at=at, expected="a field, such as PID-3")
        if path.segment == "MSH" and path.field in (1, 2):
            raise SpecError(f"{name} declares the delimiters and cannot be changed", at=at)
        return PathTarget(path, step)
    refuse_near_path(name, at)
    if not re.match(r"[A-Za-z_]", name):
        raise SpecError(f"{name} is no path", at=at, expected=FORMS)
    return MemberTarget(name, step)
