"""The short way in front of a JSON Schema's validator: what it takes, the validator takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry

from engine.sources.serving.json_body import FORMATS
from engine.sources.serving.schema_check import compile_check

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(
    ["", "a", "abc", "a b", "a\n", "\nab", "abcd", "12", "2026-01-31", "2026-02-31", "2026-01-31T10:00:00Z"]
)
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.5])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas of every keyword that is read, some that are not, and combinations that make no sense."""
    words: dict[str, st.SearchStrategy[Any]] = {
        "type": KINDS | st.lists(KINDS, min_size=1, max_size=3, unique=True),
        "enum": st.lists(TEXTS | NUMBERS | st.none(), min_size=1, max_size=3),
        "const": TEXTS,
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(["a", "^a$", "b$|12", "(?i)A", "\\S", "\\d"]),
        "format": st.sampled_from(["date", "date-time", "ipv4", "no-such"]),
        "minimum": NUMBERS,
        "maximum": NUMBERS,
        "exclusiveMinimum": NUMBERS,
        "items": inner,
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "additionalProperties": inner,
        "not": inner,
        "anyOf": st.lists(inner, min_size=1, max_size=2),
        "title": TEXTS,
        "x-error": TEXTS,
        "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#/$defs/c", "#"]),
    }
    chosen = st.lists(st.sampled_from(sorted(words)), max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: words[name] for name in names}))


SCHEMAS = st.recursive(st.booleans() | schemas(st.booleans()), schemas, max_leaves=4)
#: Where references lead: one of them to another, one back to itself.
DEFS = {"a": {"type": "string", "minLength": 1}, "b": {"$ref": "#/$defs/a"}, "c": {"items": {"$ref": "#/$defs/c"}}}


def validator(document: Any) -> Draft202012Validator:
    return Draft202012Validator(document, format_checker=FORMATS, registry=Registry())


@given(schema=SCHEMAS, value=VALUES)
def test_what_is_known_to_be_allowed_is_allowed(schema: Any, value: Any) -> None:
    document = {"$defs": DEFS, **schema} if isinstance(schema, dict) else schema
    if compile_check(document, FORMATS)(value):
        assert validator(document).is_valid(value)


BOOKING = json.loads((Path(__file__).parents[2] / "transforms/ris/booking_request.json").read_text())
BODY = {
    "orderId": "ORDER123",
    "slotId": "DTI-XR1-202501160900",
    "locationId": "DTI",
    "modality": "CR",
    "start": "2025-01-16T09:00:00-06:00",
    "durationMinutes": 30,
    "patient": {"mrn": "MRN123456", "phoneHash": "0" * 64},
    "procedure": {"code": "X", "description": "Chest"},
    "orderingProvider": {"npi": "1234567893", "lastName": "Smith"},
    "notes": "",
    "more": [1],
}


def test_a_booking_of_the_reference_site_is_known_to_be_allowed() -> None:
    assert compile_check(BOOKING, FORMATS)(BODY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"orderId": " "},
        {"modality": "XX"},
        {"start": "2025-02-31T09:00:00-06:00"},
        {"start": None},
        {"durationMinutes": 0},
        {"durationMinutes": True},
        {"patient": {}},
        {"patient": {"mrn": "M", "phoneHash": "0"}},
        {"orderingProvider": {"npi": "1", "lastName": "S"}},
    ],
)
def test_a_booking_that_is_wrong_is_left_to_the_validator(wrong: dict[str, Any]) -> None:
    body = {**BODY, **wrong}
    assert not compile_check(BOOKING, FORMATS)(body)
    assert not validator(BOOKING).is_valid(body)
