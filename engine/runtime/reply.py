"""From a partner's answer, or the lack of one, to what the caller of a request/response channel is told.

Answers carry codes and fixed sentences only: the partner's own words (MSA-3, ERR-7, ERR-8) may name a patient and never
leave the stored body. The order of the rules is the file's; the first that matches wins (systems.md D.5).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.config.plan import ErrorWhen, ReplyPlan
from engine.envelope import Envelope, Reply
from engine.errors import (
    ERROR_TABLE,
    DeliveryError,
    ErrorRow,
    Evidence,
    Rejected,
    Unanswered,
    Unavailable,
)
from engine.hl7.ack import CONDITIONS
from engine.sources.serving.answers import error_reply
from engine.transforms.base import Context
from engine.values import dataclass

#: What a caller is told when no rule of the channel speaks.
_FALLBACK = {
    "unavailable": "destination_unavailable",
    "unanswered": "destination_timeout",
    "bad_response": "destination_bad_response",
    "rejected": "destination_rejected",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the exchange with the partner ended."""

    #: ``answered`` | ``rejected`` | ``unavailable`` | ``unanswered`` | ``bad_response``
    kind: str
    evidence: Evidence | None = None

    @property
    def sent(self) -> bool:
        """Whether the partner may have acted on the request."""
        return self.kind != "unavailable"

    @property
    def definite(self) -> bool:
        """Whether the partner's decision is known."""
        return self.kind in ("answered", "rejected")


def outcome_of(error: DeliveryError) -> Outcome:
    """The outcome an error stands for."""
    if isinstance(error, Rejected):
        return Outcome("rejected", error.evidence)
    if isinstance(error, Unavailable):
        return Outcome("unavailable")
    if isinstance(error, Unanswered) and error.reason in ("mismatch", "malformed", "unexpected"):
        return Outcome("bad_response")
    return Outcome("unanswered")


def row_of_outcome(plan: ReplyPlan, outcome: Outcome, answer: Envelope | None, context: Context) -> ErrorRow | None:
    """The row of the error table for an outcome; None when a positive answer is no error by any rule."""
    for rule in plan.answer_rules if outcome.kind == "answered" else plan.rules:
        response = rule.when.response
        if _matches(rule.when, outcome) if response is None else answer is not None and response(answer, context):
            row = row_for(plan, rule.code)
            return row if rule.retryable is None else replace(row, retryable=rule.retryable)
    code = _FALLBACK.get(outcome.kind)
    return None if code is None else row_for(plan, code)


def _matches(when: ErrorWhen, outcome: Outcome) -> bool:
    """Whether evidence is what a rule asks for that does not look into an answer."""
    if when.unavailable or when.unanswered or when.bad_response:
        return bool(getattr(when, outcome.kind, False))
    if when.otherwise:
        return True
    evidence = outcome.evidence
    return evidence is not None and _matches_evidence(when, evidence)


def _matches_evidence(when: ErrorWhen, evidence: Evidence) -> bool:
    tests = (
        (when.ack, evidence.ack),
        (when.condition, evidence.condition),
        (when.location, evidence.location),
        (when.application_error, evidence.application_error),
    )
    if any(wanted and found not in wanted for wanted, found in tests):
        return False
    if when.text is not None and not when.text.search(evidence.text):
        return False
    return any(wanted for wanted, _ in tests) or when.text is not None


def row_for(plan: ReplyPlan, code: str) -> ErrorRow:
    """The row of a code: the site's own, else the engine's."""
    return plan.rows.get(code) or ERROR_TABLE.get(code) or ERROR_TABLE["internal_error"]


def error_answer(
    row: ErrorRow,
    correlation_id: str,
    *,
    field: str | None = None,
    outcome: Outcome | None = None,
    unknown: bool = False,
    extra: dict[str, Any] | None = None,
) -> Reply:
    """The reply for a row of the error table, with what may be said beside the fixed sentence."""
    members: dict[str, Any] = dict(extra or {})
    if unknown:
        members["outcome"] = "unknown"
    if outcome is not None and outcome.evidence is not None:
        codes = {"ack": outcome.evidence.ack}
        condition = outcome.evidence.condition
        if condition is not None and condition.isdigit() and int(condition) in CONDITIONS:
            codes["condition"] = condition
        members["hl7"] = codes
    return error_reply(row, correlation_id, field=field, extra=members)
