"""What follows from a failed attempt."""

from __future__ import annotations

import pytest

from engine.config.plan import DestinationPlan, Retry
from engine.delivery import DeliveryState
from engine.destinations.discard import DiscardDestination
from engine.errors import Evidence, Rejected, Unanswered, Unavailable
from engine.runtime.retry import decide, on_reject


def plan(**options: object) -> DestinationPlan:
    return DestinationPlan("ris", DiscardDestination.__new__(DiscardDestination), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("attempts", "delay"), [(1, 1.0), (2, 5.0), (3, 15.0), (4, 60.0), (5, 60.0), (50, 60.0)])
def test_an_unavailable_partner_is_tried_again_for_ever_with_growing_delays(attempts: int, delay: float) -> None:
    decision = decide(plan(), Unavailable("refused"), attempts, age=10_000_000.0)
    assert (decision.state, decision.delay, decision.cause) == (DeliveryState.QUEUED, delay, "unavailable refused")
    assert not decision.may_be_duplicated


def test_a_delivery_older_than_give_up_is_parked_as_expired() -> None:
    retry = Retry(give_up=100.0)
    assert decide(plan(retry=retry), Unavailable("dns"), 1, age=98.0).state is DeliveryState.QUEUED
    expired = decide(plan(retry=retry), Unavailable("dns"), 4, age=98.0)
    assert (expired.state, expired.cause) == (DeliveryState.PARKED, "expired (unavailable dns)")


def test_a_delivery_that_used_up_its_attempts_is_parked() -> None:
    assert decide(plan(retry=Retry(attempts=3)), Unavailable("dns"), 3, age=0.0).state is DeliveryState.PARKED


@pytest.mark.parametrize(
    ("policy", "state"),
    [("repeat", DeliveryState.QUEUED), ("hold", DeliveryState.HELD), ("unknown", DeliveryState.UNKNOWN)],
)
def test_an_unanswered_message_follows_its_policy_and_is_marked(policy: str, state: DeliveryState) -> None:
    decision = decide(plan(on_unanswered=policy), Unanswered("timeout"), 1, age=0.0)
    assert (decision.state, decision.may_be_duplicated) == (state, True)


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        (Evidence("AE"), DeliveryState.PARKED),
        (Evidence("CE"), DeliveryState.PARKED),
        (Evidence("AR"), DeliveryState.HELD),
        (Evidence("CR"), DeliveryState.HELD),
        (Evidence("AE", "207"), DeliveryState.QUEUED),
        (Evidence("AR", "207"), DeliveryState.QUEUED),
        (Evidence("AR", "203"), DeliveryState.HELD),
        (Evidence("404"), DeliveryState.PARKED),
        (Evidence("429"), DeliveryState.QUEUED),
        (Evidence("500"), DeliveryState.QUEUED),
        (Evidence("302"), DeliveryState.PARKED),
        (Evidence("??"), DeliveryState.PARKED),
    ],
)
def test_the_defaults_for_a_definite_no_are_safe(evidence: Evidence, state: DeliveryState) -> None:
    assert decide(plan(), Rejected(evidence), 1, age=0.0).state is state


def test_a_file_s_own_rules_are_read_from_the_most_exact_code_to_the_class() -> None:
    rules = {"SLOT_TAKEN": "discard", "204": "hold", "AE": "retry", "5xx": "park"}
    assert on_reject(rules, Evidence("AE", "204", None, "SLOT_TAKEN")) == "discard"
    assert on_reject(rules, Evidence("AE", "204")) == "hold"
    assert on_reject(rules, Evidence("AE", "101")) == "retry"
    assert on_reject(rules, Evidence("503")) == "park"
    assert on_reject(rules, Evidence("AR")) == "hold"


def test_the_cause_carries_codes_and_never_the_partner_s_text() -> None:
    evidence = Evidence("AE", "204", "PID-3", None, b"MSA|AE|1|Doe not found", "Doe not found")
    assert decide(plan(), Rejected(evidence), 1, age=0.0).cause == "rejected AE 204 PID-3"
    assert "Doe" not in str(Rejected(evidence))
