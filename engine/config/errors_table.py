"""``reply.errors``: the file that turns a partner's evidence into the codes and statuses that callers see.

A list of rules; the first that holds wins. A rule without ``when`` only declares the row of a code that steps raise
by name. The rows lie over the engine's own table (``engine/errors.py``); of one code every attribute is said once, but
a rule may make its own case ``retryable`` or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.config.loading import Place
from engine.config.models import CONDITIONS, RulePart
from engine.config.plan import ErrorRule, ErrorWhen
from engine.config.problems import kind, nearest, one_of
from engine.errors import ERROR_TABLE, ErrorRow
from engine.pattern import Pattern
from engine.transforms.values.conditions import compile_condition

_LISTS = ("ack", "condition", "location", "application_error")
_FLAGS = ("unavailable", "unanswered", "bad_response")
_WORDS = (*_LISTS, *_FLAGS, "response", "text")
_ACKS = ("AA", "AE", "AR", "CA", "CE", "CR")
_ATTRIBUTES = ("status", "message", "retryable", "retry_after")


def compile_errors(place: Place) -> tuple[tuple[ErrorRule, ...], Mapping[str, ErrorRow]]:
    """The rules of the file at ``place``, and every row that callers of this channel can meet."""
    items = place.document.value
    if not isinstance(items, list):
        place.report((), f"found {kind(items)} instead of error rules", expected="a list of rules, each with a dash")
        return (), ERROR_TABLE
    rules: list[ErrorRule] = []
    said: dict[str, dict[str, Any]] = {}
    for index, item in enumerate(items):
        here = place.at((index,), item)
        found = here.validate(RulePart, item)
        if found is None:
            continue
        part: RulePart = found[0]
        _collect(part, here, said.setdefault(part.code, {}))
        when = _when(part, here)
        if when is not None:
            rules.append(ErrorRule(when, part.code, part.retryable))
    return tuple(rules), {**ERROR_TABLE, **{code: _row(code, attributes) for code, attributes in said.items()}}


def _collect(part: RulePart, place: Place, said: dict[str, Any]) -> None:
    """Keep what a rule says about the row of its code."""
    for name in _ATTRIBUTES:
        value = getattr(part, name)
        if value is None:
            continue
        if said.setdefault(name, value) != value and name != "retryable":
            place.report((name,), f"`{part.code}` has another {name} in an earlier rule", expected="one per code")


def _row(code: str, said: Mapping[str, Any]) -> ErrorRow:
    base = ERROR_TABLE.get(code)
    status = said.get("status", base.status if base else 502)
    return ErrorRow(
        code,
        status,
        said.get("message") or (base.message if base else f"{code.replace('_', ' ').capitalize()}."),
        said.get("retryable", base.retryable if base else status in (429, 503, 504)),
        said.get("retry_after", base.retry_after if base else None),
    )


def _when(part: RulePart, place: Place) -> ErrorWhen | None:
    """What the rule asks for; None for one that only declares a row, or is wrong."""
    if part.otherwise:
        if part.when is not None:
            place.report(("otherwise",), "`otherwise` and `when` stand together", expected="one of them")
        return ErrorWhen(otherwise=True)
    if part.when is None:
        return None
    here = place.at(("when",), part.when)
    if isinstance(part.when, str):
        if part.when in _FLAGS:
            return _evidence({part.when: True}, here)
        here.report((), f"`{part.when}` is not known here", expected=one_of(_FLAGS), nearest=nearest(part.when, _FLAGS))
        return None
    if not isinstance(part.when, dict) or not part.when:
        here.report((), f"found {kind(part.when)}", expected=f"keys: {', '.join(_WORDS)}")
        return None
    return _evidence(part.when, here)


def _evidence(spec: dict[str, Any], place: Place) -> ErrorWhen | None:
    before = place.findings.problems.count
    for key in spec:
        if key not in _WORDS:
            place.report((key,), f"unknown key `{key}`", expected=one_of(_WORDS), nearest=nearest(key, _WORDS))
    lists = {name: codes(spec[name], place.at((name,))) for name in _LISTS if name in spec}
    _known_codes(lists.get("ack"), _ACKS, place.at(("ack",)), "ack code")
    _known_codes(lists.get("condition"), CONDITIONS, place.at(("condition",)), "condition of table 0357")
    flags = {name: _flag(spec[name], place.at((name,))) for name in _FLAGS if name in spec}
    text = pattern(spec["text"], place.at(("text",))) if "text" in spec else None
    response = None
    if "response" in spec:
        here = place.at(("response",), spec["response"])
        response = here.attempt(lambda: compile_condition(spec["response"], here), "the condition")
    if place.findings.problems.count > before:
        return None
    members: dict[str, Any] = {**lists, **flags}
    return ErrorWhen(**members, response=response, text=text)


def codes(value: Any, place: Place) -> frozenset[str]:
    """A code or a list of codes."""
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str | int) and not isinstance(item, bool) for item in items):
        place.report((), f"found {kind(value)}", expected="a code, or a list of codes")
        return frozenset()
    return frozenset(str(item) for item in items)


def _known_codes(found: frozenset[str] | None, known: tuple[str, ...], place: Place, noun: str) -> None:
    for code in sorted(found or ()):
        if code in known or (noun == "ack code" and re.fullmatch(r"[1-5]\d\d", code)):
            continue
        also = ", or an HTTP status" if noun == "ack code" else ""
        near = "" if code.isdigit() else nearest(code, known)
        place.report((), f"`{code}` is no {noun}", expected=one_of(known) + also, nearest=near)


def _flag(value: Any, place: Place) -> bool:
    if value is not True:
        place.report((), f"found {kind(value)}", expected="true, or the key left out")
    return True


def pattern(value: Any, place: Place) -> Pattern | None:
    """The pattern that stands here; None with its problem."""
    try:
        return Pattern(str(value))
    except ValueError as error:
        place.report((), str(error), expected="a pattern such as (?i)slot .* taken, in quotes")
        return None
