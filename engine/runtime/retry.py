"""What follows from an attempt that failed: a pure function of the plan, the error and how often it was tried.

No clock, no I/O. The words are those of ``engine/delivery.py``; the defaults those of the design: AE and CE park, AR
and CR hold, condition 207 retries, HTTP 4xx park, 5xx and time-outs retry, and a code that nobody named parks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.config.plan import DestinationPlan, Retry
from engine.delivery import DeliveryState
from engine.errors import DeliveryError, Evidence, Rejected, Unanswered, Unavailable

DEFAULT_ON_REJECT: Mapping[str, str] = {
    "AE": "park",
    "CE": "park",
    "AR": "hold",
    "CR": "hold",
    "207": "retry",
    "408": "retry",
    "425": "retry",
    "429": "retry",
    "4xx": "park",
    "5xx": "retry",
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


def decide(plan: DestinationPlan, error: DeliveryError, attempts: int, age: float) -> Decision:
    """What follows from ``error`` after ``attempts`` sends of a delivery that is ``age`` seconds old."""
    if isinstance(error, Unavailable):
        return _again(plan.retry, f"unavailable {error.reason}", attempts, age)
    if isinstance(error, Unanswered):
        cause = f"unanswered {error.reason}"
        if plan.on_unanswered == "repeat":
            return _again(plan.retry, cause, attempts, age, may_be_duplicated=True)
        state = DeliveryState.HELD if plan.on_unanswered == "hold" else DeliveryState.UNKNOWN
        return Decision(state, cause, may_be_duplicated=True)
    if isinstance(error, Rejected):
        cause = rejection(error.evidence)
        action = on_reject(plan.on_reject, error.evidence)
        if action == "retry":
            return _again(plan.retry, cause, attempts, age)
        return Decision(_STATES[action], cause)
    return _again(plan.retry, "failed", attempts, age, may_be_duplicated=True)


def rejection(evidence: Evidence) -> str:
    """``rejected AE 204 PID-3``: codes only."""
    codes = (evidence.ack, evidence.condition, evidence.location, evidence.application_error)
    return "rejected " + " ".join(code for code in codes if code)


def on_reject(rules: Mapping[str, str], evidence: Evidence) -> str:
    """The action for a definite no: application error, then condition, then ack code or status, then its class."""
    merged = {**DEFAULT_ON_REJECT, **rules}
    names = [evidence.application_error, evidence.condition, evidence.ack]
    if evidence.ack.isdigit():
        names.append(f"{evidence.ack[0]}xx")
    for name in names:
        if name and name in merged:
            return merged[name]
    return "park"


def _again(retry: Retry, cause: str, attempts: int, age: float, *, may_be_duplicated: bool = False) -> Decision:
    delay = retry.backoff[min(attempts, len(retry.backoff)) - 1]
    exhausted = retry.attempts is not None and attempts >= retry.attempts
    if exhausted or (retry.give_up is not None and age + delay > retry.give_up):
        return Decision(DeliveryState.PARKED, f"expired ({cause})", may_be_duplicated=may_be_duplicated)
    return Decision(DeliveryState.QUEUED, cause, delay, may_be_duplicated)
