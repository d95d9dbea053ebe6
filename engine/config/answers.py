"""``on_answer``: what the answers of a destination mean, where the defaults (``engine/runtime/retry.py``) do not fit.

A list of rules; the first that holds wins. A rule asks for codes or for what the partner writes, and says what follows.
"""

from __future__ import annotations

import re
from typing import Any

from engine.config.errors_table import codes, pattern
from engine.config.loading import Place
from engine.config.models import AnswerPart
from engine.config.plan import AnswerRule
from engine.config.problems import nearest, one_of

ACKS = ("AA", "AE", "AR", "CA", "CE", "CR", "other")
ASKED = ("ack", "condition", "location", "application_error")
_STATUS = re.compile(r"[1-5](?:\d\d|xx)")
_CONDITION = re.compile(r"\d{1,5}")


def compile_answers(parts: list[AnswerPart], place: Place) -> tuple[AnswerRule, ...]:
    """The rules of one destination; what is wrong with them is reported."""
    rules = [_rule(part, place.at((index,))) for index, part in enumerate(parts)]
    return tuple(rule for rule in rules if rule is not None)


def _rule(part: AnswerPart, place: Place) -> AnswerRule | None:
    before = place.findings.problems.count
    asked: dict[str, Any] = {
        name: codes(value, place.at((name,))) for name in ASKED if (value := getattr(part, name)) is not None
    }
    if not asked and part.text is None:
        place.report((), "a rule that asks for nothing", expected=f"one of {', '.join((*ASKED, 'text'))}")
    for ack in sorted(asked.get("ack", ())):
        if ack not in ACKS and not _STATUS.fullmatch(ack):
            expected = f"{one_of(ACKS)}, an HTTP status (422) or its class (4xx)"
            near = "" if ack.isdigit() else nearest(ack, ACKS)
            place.report(("ack",), f"`{ack}` is no ack code", expected=expected, nearest=near)
    for condition in sorted(asked.get("condition", ())):
        if not _CONDITION.fullmatch(condition):
            place.report(("condition",), f"`{condition}` is no condition", expected="a number such as 207 (table 0357)")
    text = pattern(part.text, place.at(("text",))) if part.text is not None else None
    if place.findings.problems.count > before:
        return None
    return AnswerRule(part.then, **asked, text=text)
