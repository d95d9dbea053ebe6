"""Where ``set``, ``copy``, ``delete`` and ``template`` put things: a path, a ``$variable``, a member of a JSON body.

A path is written into the HL7 message in motion, in its own delimiters; a member into a JSON object, whose objects on
the way are made. Writing into a body of the other kind fails the step, cause ``wrong_body``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from engine.errors import PathError, SpecError, StepFailed
from engine.hl7.escape import translate
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.separators import Separators
from engine.transforms.values.readers import ROOTS, Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.slips import FORMS, refuse_near_path
from engine.transforms.values.text import as_json

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


class Target(ABC):
    """A place that can be written and emptied."""

    @abstractmethod
    def put(self, value: Value, scope: Scope) -> None:
        """Write what ``value`` gives."""

    @abstractmethod
    def clear(self, scope: Scope) -> None:
        """Take out what is there."""


class PathTarget(Target):
    """A place of the HL7 message."""

    def __init__(self, path: Path, step: str) -> None:
        self._path, self._step = path, step

    def put(self, value: Value, scope: Scope) -> None:
        """Write HL7 text; what has components gives its first one to a place that has none."""
        body, path = self._message(scope), self._path
        text = value.hl7(scope)
        if path.component is not None and ("^" in text or "~" in text):
            text = text.partition("~")[0].partition("^")[0]
        elif path.repetition is not None and "~" in text:
            text = text.partition("~")[0]
        if body.separators is not Separators.default:
            text = translate(text, Separators.default, body.separators)
        try:
            body.write(path, text)
        except PathError:
            failed = StepFailed(self._step, "cannot_be_written", str(path))
        else:
            return
        raise failed

    def clear(self, scope: Scope) -> None:
        """Empty the field or component, or remove the segments."""
        self._message(scope).delete(self._path)

    def _message(self, scope: Scope) -> Message:
        body = scope.envelope.body
        if not isinstance(body, Message):
            raise StepFailed(self._step, "wrong_body", str(self._path))
        return body


class VariableTarget(Target):
    """A variable."""

    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, value: Value, scope: Scope) -> None:
        """Set it to the value as it is: HL7 text stays HL7 text, a time stays a time."""
        scope.envelope.variables[self._name] = value.read(scope)

    def clear(self, scope: Scope) -> None:
        """Forget it."""
        scope.envelope.variables.pop(self._name, None)


class MemberTarget(Target):
    """A member of a JSON body."""

    def __init__(self, name: str, step: str) -> None:
        self._name, self._step = name, step
        *self._way, self._last = name.split(".")

    def put(self, value: Value, scope: Scope) -> None:
        """Set it."""
        self._object(scope)[self._last] = as_json(value.read(scope))

    def clear(self, scope: Scope) -> None:
        """Remove it."""
        self._object(scope).pop(self._last, None)

    def _object(self, scope: Scope) -> dict[str, Any]:
        body = scope.envelope.body
        if not isinstance(body, dict):
            raise StepFailed(self._step, "wrong_body", self._name)
        # A body is shared between destinations until one of them changes it, so the way down is copied.
        here = scope.envelope.body = dict(body)
        for member in self._way:
            below = here.get(member)
            here[member] = dict(below) if isinstance(below, dict) else {}
            here = here[member]
        return here


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
