"""The JSON body of a `rest:` source: read strictly, and checked against a JSON Schema (2020-12) of the site.

A schema is `transforms/NAME.json`. Errors become codes of the error table and the dotted name of a member: what is
missing or blank is `missing_parameter`, a day or time that does not exist `invalid_date`, everything else
`invalid_body`; a sub-schema that says `"x-error": "CODE"` names its own. Values never leave this module.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from engine.errors import Refused, SpecError
from engine.json_text import reader
from engine.sources.serving.schema_check import compile_check

#: Levels of a JSON body; what works on it goes down level by level.
MAX_DEPTH = 100

#: A body that is wrong in a thousand places is refused for one of the first of them.
MAX_ERRORS = 50

_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]+)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    if not _DATE_TIME.fullmatch(value):
        return False
    return bool(datetime.fromisoformat(value.upper()))


FORMATS = FormatChecker()
FORMATS.checks("date-time", raises=ValueError)(_is_date_time)


def parse_json(body: bytes, content_type: str) -> Any:
    """The JSON value of a body. Raises Refused: unsupported_media_type or invalid_body."""
    kind, _, options = content_type.partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused("unsupported_media_type")
    charset = _CHARSET.search(options) if options else None
    if charset is not None and charset.group(1).lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refused("unsupported_media_type")
    return read_json(body)


def read_json(body: bytes) -> Any:
    """The JSON value of UTF-8 bytes. Raises Refused."""
    try:
        text = body.decode("utf-8")
        value = _decode(text)
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _check_depth(value)
        # An escaped half of a surrogate pair is no character: no database and no partner would take it.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("invalid_body") from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond what can be written again")
    return number


_decode = reader(parse_constant=_refuse_constant, parse_float=_finite)


def _check_depth(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        if isinstance(item, (dict, list)):
            waiting += [(inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item)]


class Schema:
    """A compiled JSON Schema."""

    def __init__(self, document: Any) -> None:
        """Raises SpecError for what is no schema."""
        try:
            Draft202012Validator.check_schema(document)
        except SchemaError as error:
            path = ".".join(str(part) for part in error.path)
            raise SpecError(f"this is no JSON Schema (2020-12): fault at {path or 'the top'}") from None
        _check_references(document)
        self._is_allowed = compile_check(document, FORMATS)
        self._validator = Draft202012Validator(document, format_checker=FORMATS, registry=Registry())
        #: Codes of the error table that the schema names by itself.
        self.codes = frozenset(_own_codes(document))

    @classmethod
    def load(cls, site: Path, name: str) -> Schema:
        """``transforms/NAME.json`` of the site. Raises SpecError."""
        file = f"transforms/{name}.json"
        folder = (site / "transforms").resolve()
        path = (folder / f"{name}.json").resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            names = sorted(str(found.relative_to(folder).with_suffix("")) for found in folder.rglob("*.json"))
            raise SpecError(
                f"there is no file {file}", at=("body", "schema"), expected=f"one of {', '.join(names) or 'none yet'}"
            )
        try:
            document = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise SpecError(f"{file} is no JSON{line}", at=("body", "schema"), file=file) from None
        try:
            return cls(document)
        except SpecError as error:
            raise SpecError(error.message, at=("body", "schema"), file=file) from None

    def check(self, value: Any) -> None:
        """Raises Refused for a value the schema does not allow."""
        if self._is_allowed(value):
            return
        try:
            errors = list(islice(self._validator.iter_errors(value), MAX_ERRORS))
        except RecursionError:
            raise Refused("invalid_body") from None
        if errors:
            code, field = min((_verdict(error) for error in errors), key=lambda verdict: _RANK.get(verdict[0], 1))
            raise Refused(code, field=field)


#: What is missing is told first: the rest often follows from it.
_RANK = {"missing_parameter": 0, "invalid_body": 2}


def _verdict(error: ValidationError) -> tuple[str, str | None]:
    path = [str(part) for part in error.absolute_path]
    instance: Any = error.instance
    if error.validator == "required" and isinstance(error.validator_value, list):
        missing = [name for name in error.validator_value if name not in instance]
        return "missing_parameter", _field([*path, *missing[:1]])
    if instance is None or (isinstance(instance, str) and not instance.strip()):
        return "missing_parameter", _field(path)
    if isinstance(error.schema, Mapping) and isinstance(error.schema.get("x-error"), str):
        return error.schema["x-error"], _field(path)
    if error.validator == "format" and error.validator_value in ("date", "date-time", "time"):
        return "invalid_date", _field(path)
    return "invalid_body", _field(path)


def _field(path: list[str]) -> str | None:
    # A member's name may come from the caller: one that is no name is not repeated.
    return ".".join(path) if path and all(_NAME.fullmatch(part) for part in path) else None


def _parts(document: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(document, Mapping):
        yield document
        for value in document.values():
            yield from _parts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _parts(value)


def _own_codes(document: Any) -> Iterator[str]:
    for part in _parts(document):
        if isinstance(part.get("x-error"), str):
            yield part["x-error"]


def _check_references(document: Any) -> None:
    """References are resolved when the channel loads: a request must not meet one that leads nowhere."""
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    resolver = Registry().with_resource("", resource).resolver()
    for part in _parts(document):
        reference = part.get("$ref")
        if not isinstance(reference, str):
            continue
        try:
            if not reference.startswith("#"):
                raise SpecError(f"$ref {reference} is outside of this file", expected="#/$defs/NAME")
            resolver.lookup(reference)
        except Unresolvable:
            raise SpecError(f"$ref {reference} leads nowhere", expected="#/$defs/NAME") from None
