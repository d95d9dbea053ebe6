"""A JSON Schema made into one function that knows at once that a value is allowed.

It is the short way in front of `json_body.py`'s validator, compiled when a channel loads: what it takes, the validator
takes. What it does not take may be allowed all the same (keywords that it does not know, ``1.0`` for an integer); then
the validator decides, and says what is wrong. Most of it is done by functions of C: texts are matched by one regular
expression each, and the members of an object are checked by ``map``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import repeat
from operator import call
from types import NoneType
from typing import Any

from jsonschema import FormatChecker

#: Gives something that is true for a value that is allowed, or raises TypeError for one of another type.
Check = Callable[[Any], object]

#: Keywords that say nothing of the value.
_SILENT = frozenset({"$comment", "$defs", "$schema", "default", "deprecated", "description", "examples", "title"})
#: Kind → keywords that are read here for it.
_KEYWORDS = {
    "string": frozenset({"enum", "format", "maxLength", "minLength", "pattern"}),
    "integer": frozenset({"maximum", "minimum"}),
    "number": frozenset({"maximum", "minimum"}),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
    "array": frozenset({"items", "maxItems", "minItems"}),
    "object": frozenset({"additionalProperties", "properties", "required"}),
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (NoneType,),
    "array": (list,),
    "object": (dict,),
}
_UNBOUNDED = float("inf")


def compile_check(document: Any, formats: FormatChecker) -> Callable[[Any], bool]:
    """The function for a schema that has been found to be one."""
    check = _Compiler(document, formats).check(document, ())

    def is_allowed(value: Any) -> bool:
        try:
            return bool(check(value))
        except TypeError:
            return False

    return is_allowed


def _anything(_value: Any) -> bool:
    return True


def _unknown(_value: Any) -> bool:
    return False


class _Compiler:
    def __init__(self, root: Any, formats: FormatChecker) -> None:
        self._root, self._formats = root, formats

    def check(self, schema: Any, inside: tuple[str, ...]) -> Check:
        """The function for a part of the schema; ``inside``: the references that led to it."""
        if not isinstance(schema, Mapping):
            return _anything if schema is True else _unknown
        said = {word: value for word, value in schema.items() if word not in _SILENT and not word.startswith("x-")}
        if not said:
            return _anything
        if "$ref" in said:
            return self._referred(said, inside)
        kinds = said.pop("type", None) or next((kind for kind, words in _KEYWORDS.items() if said.keys() <= words), "")
        if isinstance(kinds, str):
            return self._of_kind(kinds, said, inside)
        checks: dict[type, Check] = {}
        for kind in kinds:
            checks |= dict.fromkeys(_TYPES.get(kind, ()), self._of_kind(kind, said, inside))
        return lambda value: checks.get(type(value), _unknown)(value)

    def _referred(self, said: Mapping[str, Any], inside: tuple[str, ...]) -> Check:
        reference = said["$ref"]
        if len(said) > 1 or reference in inside or not reference.startswith("#/") or not _is_plain(reference):
            return _unknown
        part = self._root
        for name in reference[2:].split("/"):
            part = part.get(name) if isinstance(part, Mapping) else None
        return self.check(part, (*inside, reference)) if part is not None else _unknown

    def _of_kind(self, kind: str, said: Mapping[str, Any], inside: tuple[str, ...]) -> Check:
        if not said.keys() <= _KEYWORDS.get(kind, frozenset()):
            return _unknown
        if kind == "object":
            return self._object(said, inside)
        if kind == "array":
            return self._array(said, inside)
        if kind == "string":
            return _words(said) if "enum" in said else self._string(said)
        if kind in ("integer", "number"):
            return _number(kind, said)
        (wanted,) = _TYPES.get(kind, (None,))
        return lambda value: type(value) is wanted

    def _object(self, said: Mapping[str, Any], inside: tuple[str, ...]) -> Check:
        needed = frozenset(said.get("required", ()))
        of_member = {name: self.check(part, inside) for name, part in said.get("properties", {}).items()}.get
        of_others = self.check(said.get("additionalProperties", True), inside)

        others = repeat(of_others)

        def check(value: Any) -> bool:
            if type(value) is not dict or not needed <= value.keys():
                return False
            return all(map(call, map(of_member, value, others), value.values()))

        return check

    def _array(self, said: Mapping[str, Any], inside: tuple[str, ...]) -> Check:
        each, (least, most) = self.check(said.get("items", True), inside), _bounds(said, "minItems", "maxItems")
        return lambda value: type(value) is list and least <= len(value) <= most and all(map(each, value))

    def _string(self, said: Mapping[str, Any]) -> Check:
        least, most, pattern = said.get("minLength", 0), said.get("maxLength", ""), said.get("pattern", "")
        length = f".{{{int(least)},{most and int(most)}}}"
        try:
            form: Check = re.compile(pattern).search
            if least or most != "":
                # Searched from the start of a text that is as long as it may be.
                form = re.compile(rf"(?s:(?={length}\Z).*?)(?:{pattern})").match
        except (re.error, OverflowError):  # flags that a pattern has at its start, a length beyond all
            return _unknown
        if "format" not in said:
            return form
        formed = self._format(said["format"])
        return formed if formed is not None and said.keys() == {"format"} else _both(form, formed)

    def _format(self, name: str) -> Check | None:
        if name not in self._formats.checkers:
            return None
        test, raises = self._formats.checkers[name]

        def is_formed(value: Any) -> bool:
            try:
                return type(value) is str and bool(test(value))
            except raises:
                return False

        return is_formed


def _both(form: Check, formed: Check | None) -> Check:
    return form if formed is None else lambda value: form(value) and formed(value)


def _words(said: Mapping[str, Any]) -> Check:
    if len(said) > 1:
        return _unknown
    known = frozenset(word for word in said["enum"] if isinstance(word, str))
    return known.__contains__


def _number(kind: str, said: Mapping[str, Any]) -> Check:
    least, most = _bounds(said, "minimum", "maximum")
    kinds = (int,) if kind == "integer" else (int, float)
    return lambda value: type(value) in kinds and least <= value <= most


def _bounds(said: Mapping[str, Any], least: str, most: str) -> tuple[float, float]:
    return said.get(least, -_UNBOUNDED), said.get(most, _UNBOUNDED)


def _is_plain(reference: str) -> bool:
    """Whether a pointer's names stand in it as they are."""
    return "~" not in reference and "%" not in reference
