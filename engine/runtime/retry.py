"""What follows from an answer, or from the lack of one: a pure function of the plan, the evidence and the attempts.

No clock, no I/O. The words are those of ``engine/delivery.py``. The rules of a channel file (``on_answer``) are asked
first, then ``DEFAULTS``; what neither names is parked: an outcome that nobody named is never taken for a success.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.config.plan import AnswerRule, DestinationPlan, Retry
from engine.delivery import DeliveryState
from engine.errors import DeliveryError, Evidence, Rejected, Unanswered, Unavailable, Unexpected
from engine.values import dataclass

#: What a refusal means where the file says nothing; of several names of an answer the first that stands here counts:
#: its condition, its ack code or status, the class of its status.
DEFAULTS: Mapping[str, str] = {
    "207": "retry",
    "AE": "park",
    "CE": "park",
    "AR": "hold",
    "CR": "hold",
    "408": "retry",
    "425": "retry",
    "429": "retry",
    "4xx": "park",
    "5xx": "retry",
}

#: Seconds that a partner may ask to wait at most.
LONGEST_WAIT = 3600.0

#: What becomes of a delivery whose sending was interrupted, by ``on_unanswered``.
INTERRUPTED: Mapping[str, DeliveryState] = {
    "repeat": DeliveryState.QUEUED,
    "hold": DeliveryState.HELD,
    "unknown": DeliveryState.UNKNOWN,
}

_STATES = {
    "park": DeliveryState.PARKED,
    "hold": DeliveryState.HELD,
    "discard": DeliveryState.DISCARDED,
    "delivered": DeliveryState.DELIVERED,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a delivery after a failed attempt."""

    state: DeliveryState
    #: Codes only; what a person reads in the list.
    cause: str
    #: Seconds until the next attempt, when ``state`` is queued.
    delay: float = 0.0
    #: The partner may have taken it although no valid answer came.
    may_be_duplicated: bool = False


def accept(plan: DestinationPlan, evidence: Evidence, attempts: int, age: float) -> Decision | None:
    """What follows from a positive answer; None when it is what it seems: delivered."""
    number, action = _ruled(plan.on_answer, evidence)
    if action == "delivered" or (not number and not evidence.wrong):
        return None
    cause = _cause("answered", evidence, number)
    return _act(plan, action or "park", cause, attempts, age, may_be_duplicated=True)


def decide(plan: DestinationPlan, error: DeliveryError, attempts: int, age: float) -> Decision:
    """What follows from ``error`` after ``attempts`` sends of a delivery that is ``age`` seconds old."""
    if isinstance(error, Unavailable):
        return _again(plan.retry, f"unavailable {error.reason}", attempts, age)
    if isinstance(error, Unexpected):
        number, action = _ruled(plan.on_answer, error.evidence)
        cause = _cause("unexpected", error.evidence, number)
        return _act(plan, action or "park", cause, attempts, age, may_be_duplicated=True)
    if isinstance(error, Unanswered):
        cause = f"unanswered {error.reason}"
        if plan.on_unanswered == "repeat":
            return _again(plan.retry, cause, attempts, age, may_be_duplicated=True)
        state = DeliveryState.HELD if plan.on_unanswered == "hold" else DeliveryState.UNKNOWN
        return Decision(state, cause, may_be_duplicated=True)
    if isinstance(error, Rejected):
        number, action = _ruled(plan.on_answer, error.evidence)
        cause = _cause("rejected", error.evidence, number)
        wait = error.evidence.retry_after
        return _act(plan, action or _default(error.evidence), cause, attempts, age, wait=wait)
    return _again(plan.retry, "failed", attempts, age, may_be_duplicated=True)


def rejection(evidence: Evidence) -> str:
    """``rejected AE 204 PID-3``: codes only."""
    return _cause("rejected", evidence, 0)


def _cause(word: str, evidence: Evidence, number: int) -> str:
    codes = (evidence.ack, evidence.condition, evidence.location, evidence.application_error)
    told = [word, *(code for code in codes if code)]
    # Of a text only which rule found it may be told.
    return " ".join([*told, f"(rule {number})"] if number else told)


def _ruled(rules: tuple[AnswerRule, ...], evidence: Evidence) -> tuple[int, str]:
    """The number (from 1) and the action of the first rule that holds; 0 and nothing when none does."""
    return next(((number, rule.then) for number, rule in enumerate(rules, 1) if _holds(rule, evidence)), (0, ""))


def _holds(rule: AnswerRule, evidence: Evidence) -> bool:
    if rule.ack and rule.ack.isdisjoint(_names(evidence.ack)):
        return False
    asked = (
        (rule.condition, evidence.condition),
        (rule.location, evidence.location),
        (rule.application_error, evidence.application_error),
    )
    if any(wanted and found not in wanted for wanted, found in asked):
        return False
    return rule.text is None or rule.text.search(evidence.text)


def _names(ack: str) -> Iterator[str]:
    """How a rule or a default may call an ack code or a status."""
    yield ack
    if ack.isdigit():
        yield f"{ack[0]}xx"
    elif ack not in ("AA", "AE", "AR", "CA", "CE", "CR"):
        yield "other"


def _default(evidence: Evidence) -> str:
    names = [evidence.condition or "", *_names(evidence.ack)]
    return next((DEFAULTS[name] for name in names if name in DEFAULTS), "park")


def _act(
    plan: DestinationPlan,
    action: str,
    cause: str,
    attempts: int,
    age: float,
    *,
    may_be_duplicated: bool = False,
    wait: float | None = None,
) -> Decision:
    if action == "retry":
        return _again(plan.retry, cause, attempts, age, may_be_duplicated=may_be_duplicated, wait=wait)
    return Decision(_STATES[action], cause, may_be_duplicated=may_be_duplicated and action in ("park", "hold"))


def _again(
    retry: Retry,
    cause: str,
    attempts: int,
    age: float,
    *,
    may_be_duplicated: bool = False,
    wait: float | None = None,
) -> Decision:
    delay = max(retry.backoff[min(attempts, len(retry.backoff)) - 1], min(wait or 0.0, LONGEST_WAIT))
    exhausted = retry.attempts is not None and attempts >= retry.attempts
    if exhausted or (retry.give_up is not None and age + delay > retry.give_up):
        return Decision(DeliveryState.PARKED, f"expired ({cause})", may_be_duplicated=may_be_duplicated)
    return Decision(DeliveryState.QUEUED, cause, delay, may_be_duplicated)
