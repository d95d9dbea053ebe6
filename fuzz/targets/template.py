"""The restricted template language: SpecError, StepFailed or a value of bounded size; soon, and in bounded memory.

Input: a template, NUL, then a JSON document that is ``body`` (or text, which is then ``body.text``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from engine.envelope import Envelope, Origin
from engine.errors import SpecError, StepFailed
from engine.hl7.message import Message
from engine.transforms.base import Context
from engine.transforms.values.sandbox import LIMIT, Template
from engine.transforms.values.scope import Scope
from fuzz.data import Input, samples

_MESSAGE = Message.parse(samples()[0])
_SITE = {"ris": {"version": "2.3"}, "list": [1, 2, 3]}
#: Parts of one value, all levels together.
_PARTS = 200_000


def seeds() -> list[bytes]:
    """One of everything that exists in a template, and what would grow."""
    templates = (
        "{{ body.name }}", "{{ body.start[:10] }} at {{ message['PID-5.1'] }}", "{{ (body.n | int) * 9 + 1 }}",
        "{{ body.list | join('-') | upper }}", "{{ body.a if body.b is defined and body.b != 'x' else site.ris.version }}",
        "{{ now.year }}{{ now - now }}", "{{ body.name | replace('a', 'bb') | truncate(5) }}", "{{ [1, 2] | sum }}",
        "{{ 'aa' | replace('a', 'aaaa') | replace('a', 'aaaa') }}", "{{ 1.5 | round(2) }}", "{{ 9999999 * 9999999 * body.n }}",
        "{{ body.x.y.z | default('none') }}", "{{ query.a ~ header.b ~ 'c' }}", "{{ body.list | max }}{{ body.list | first }}",
        "{{ ((((1)))) }}", "{{ not body.a in ['x', body.b] }}", "{% for a in b %}{% endfor %}", "{{ ''.__class__ }}", "{{ 2 ** 9 }}",
        "{{ body.name | reverse | string | title | trim | length }}", "{{ -body.n // 3 % 2 / 1.5 }}", "{{ 'x' % body.n }}",
    )  # fmt: skip
    bodies = (
        b'{"name": "Anna", "n": 7, "list": ["b", "a"], "a": null, "start": "2026-01-02T03:04"}',
        b"[]",
        b"1e308",
        b"text",
    )
    return [template.encode() + b"\x00" + bodies[number % 4] for number, template in enumerate(templates)] + [
        b"{{ " + b"(" * 500 + b"1" + b")" * 500 + b" }}\x00{}",
        b"{{ " + b"-" * 500 + b"1 }}\x00{}",
        b"{{ body.name" + b" | replace('a', 'aaaaaaaaaa')" * 12 + b' }}\x00{"name": "aaaa"}',
        b"{{ body.n" + b" * body.n" * 40 + b' }}\x00{"n": 1' + b"0" * 300 + b"}",
    ]


def check(data: bytes) -> None:
    """Compile and render."""
    given = Input(data)
    source, raw = given.line().decode("utf-8", "replace"), given.rest()
    try:
        template = Template(source, _SITE, ("set",), "template")
    except SpecError:
        return
    template.paths()
    try:
        value = template.read(_scope(raw))
    except StepFailed as failure:
        assert failure.cause in ("template_failed", "template_too_long"), failure.cause
        return
    assert _size(value) <= LIMIT + _PARTS


def _scope(raw: bytes) -> Scope:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = {"text": raw.decode("utf-8", "replace")}
    envelope = Envelope(
        _MESSAGE, Origin("rest", query={"a": "1"}, headers={"b": "2"}), "c", "channel", 1, 0.0, request=body
    )
    context = SimpleNamespace(now=datetime(2026, 11, 20, 8, tzinfo=UTC), request=None)
    return Scope(envelope, cast("Context", context))


def _size(value: Any) -> int:
    waiting, size = [value], 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
        size += len(item) if isinstance(item, str) else 1
        if isinstance(item, int):
            size += item.bit_length() // 8
        if size > LIMIT + _PARTS:
            break
    return size
