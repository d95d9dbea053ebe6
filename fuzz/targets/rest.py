"""What callers of REST channels send: JSON bodies, query strings, parameters. Refused with a code, or taken as it is.

Input: the content type, NUL, the query string, NUL, the body.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pydantic import TypeAdapter

from engine.errors import ERROR_TABLE, Refused
from engine.sources.serving.http_request import parse_query
from engine.sources.serving.json_body import Schema, parse_json
from engine.sources.serving.parameters import Parameter, Parameters
from fuzz.data import ROOT, Input

_SCHEMA = Schema.load(ROOT, "ris/booking_request")
_DECLARED = TypeAdapter(dict[str, Parameter]).validate_python(
    {
        "location": {"required": True},
        "modality": {"one_of": ["CR", "MR"], "default": "CR"},
        "date": {"format": "date", "from": "today", "to": "180d"},
        "when": {"format": "date", "from": "2026-01-01", "zone": "America/Chicago"},
        "code": {"pattern": "[A-Z]{1,5}[0-9]*", "max_length": 10, "error": "unknown_location"},
    }
)
_PARAMETERS = Parameters(_DECLARED, datetime(2026, 11, 20, 8, tzinfo=UTC).timestamp)
_CODES = set(ERROR_TABLE) | _SCHEMA.codes | {parameter.code for parameter in _DECLARED.values()}
_BOOKING = {
    "requestId": "1", "orderId": "ORDER1", "slotId": "S1", "locationId": "DTI-XR1", "modality": "CR",
    "start": "2026-12-01T09:00:00-05:00", "end": "2026-12-01T09:30:00-05:00", "patient": {"mrn": "M1", "firstName": "A", "lastName": "B"},
}  # fmt: skip


def seeds() -> list[bytes]:
    """A booking, and JSON that is not what it seems."""
    bodies = (
        json.dumps(_BOOKING).encode(), b'{"a": NaN}', b'{"a": 1e999}', b'["\\ud800"]', b"[" * 2000, b'{"a":' * 500 + b"1" + b"}" * 500,
        b'\xef\xbb\xbf{"a": 1}', b"1" * 5000, b'{"patient": null, "patient": {"mrn": ""}}', b"", b'"\\u0000"', b"{\"a\": \"\xff\"}",
    )  # fmt: skip
    queries = (
        b"location=DTI&date=2026-11-21",
        b"location=&code=AB1&modality=XX",
        b"a=%ff&%=&;=&a=1&a=2",
        b"when=2026-02-30",
        b"&" * 300,
        b"location=%00",
    )
    types = (
        b"application/json",
        b"application/json; charset=utf-8",
        b'application/fhir+json;charset="UTF-16"',
        b"text/plain",
    )
    return [
        types[number % 4 if number >= 12 else 0] + b"\x00" + queries[number % 6] + b"\x00" + body
        for number, body in enumerate([*bodies, *bodies[:4]])
    ] + [types[0] + b"\x00" + query + b"\x00{}" for query in queries]


def check(data: bytes) -> None:
    """Every check that stands before a message is recorded."""
    given = Input(data)
    content_type, query, body = given.line().decode("latin-1"), given.line().decode("latin-1"), given.rest()
    try:
        found = _PARAMETERS.check(parse_query(query))
    except Refused as refused:
        _check_refusal(refused)
    else:
        assert set(found) <= set(_DECLARED)
        for value in found.values():
            value.encode("utf-8")
            assert len(value) <= 200
    try:
        value = parse_json(body, content_type)
    except Refused as refused:
        _check_refusal(refused)
        return
    # Everything behind writes it into a database, a log of ids or another JSON text.
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    try:
        _SCHEMA.check(value)
    except Refused as refused:
        _check_refusal(refused)


def _check_refusal(refused: Refused) -> None:
    assert refused.code in _CODES, "a refusal without a row in the error table"
    assert refused.field is None or all(part.isascii() and len(part) <= 64 for part in refused.field.split("."))
