"""What follows from a failed attempt."""

from __future__ import annotations

import pytest

from engine.config.plan import AnswerRule, DestinationPlan, Retry
from engine.delivery import DeliveryState
from engine.destinations.discard import DiscardDestination
from engine.errors import DeliveryError, Evidence, Rejected, Unanswered, Unavailable, Unexpected
from engine.pattern import Pattern
from engine.runtime.retry import accept, decide


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


@pytest.mark.parametrize(("asked", "delay"), [(None, 1.0), (0.0, 1.0), (30.0, 30.0), (1e9, 3600.0)])
def test_a_partner_that_names_a_time_is_left_alone_for_it(asked: float | None, delay: float) -> None:
    decision = decide(plan(), Rejected(Evidence("429", retry_after=asked)), 1, age=0.0)
    assert (decision.state, decision.delay, decision.cause) == (DeliveryState.QUEUED, delay, "rejected 429")
    given_up = decide(plan(retry=Retry(give_up=20.0)), Rejected(Evidence("503", retry_after=asked)), 1, age=0.0)
    assert given_up.state is (DeliveryState.PARKED if delay > 20 else DeliveryState.QUEUED)


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


def rule(then: str, text: str = "", **asked: str) -> AnswerRule:
    members = {name: frozenset(value.split()) for name, value in asked.items()}
    return AnswerRule(then, **members, text=Pattern(text) if text else None)  # type: ignore[arg-type]


RULES = (
    rule("park", "queued, not stored", ack="AA"),
    rule("discard", application_error="SLOT_TAKEN"),
    rule("hold", ack="AE", condition="204 205"),
    rule("retry", "(?i)try again", ack="AE other"),
    rule("delivered", ack="CA"),
    rule("delivered", "duplicate", ack="AR"),
    rule("park", ack="5xx"),
    rule("delivered", ack="409"),
    rule("retry", "busy", ack="AA"),
)


TAKEN = "rejected AE 204 SLOT_TAKEN (rule 2)"


@pytest.mark.parametrize(
    ("answer", "state", "cause"),
    [
        (Evidence("AA"), None, ""),
        (Evidence("AA", text="stored"), None, ""),
        (Evidence("AA", text="queued, not stored"), DeliveryState.PARKED, "answered AA (rule 1)"),
        (Evidence("AA", text="busy"), DeliveryState.QUEUED, "answered AA (rule 9)"),
        (Evidence("AA", "204", wrong=True), DeliveryState.PARKED, "answered AA 204"),
        (Evidence("AA", "204", wrong=False), None, ""),
        (Evidence("CA", "207", wrong=True), None, ""),
        (Evidence("200"), None, ""),
        (Evidence(""), None, ""),
        (
            Rejected(Evidence("AE", "204", None, "SLOT_TAKEN")),
            DeliveryState.DISCARDED,
            TAKEN,
        ),
        (Rejected(Evidence("AE", "205")), DeliveryState.HELD, "rejected AE 205 (rule 3)"),
        (Rejected(Evidence("AR", "205")), DeliveryState.HELD, "rejected AR 205"),
        (Rejected(Evidence("AE", text="Try Again later")), DeliveryState.QUEUED, "rejected AE (rule 4)"),
        (Rejected(Evidence("AE", text="never")), DeliveryState.PARKED, "rejected AE"),
        (Rejected(Evidence("AR", text="duplicate of 17")), DeliveryState.DELIVERED, "rejected AR (rule 6)"),
        (Rejected(Evidence("503")), DeliveryState.PARKED, "rejected 503 (rule 7)"),
        (Rejected(Evidence("409")), DeliveryState.DELIVERED, "rejected 409 (rule 8)"),
        (Rejected(Evidence("429")), DeliveryState.QUEUED, "rejected 429"),
        (Unexpected(Evidence("CA")), DeliveryState.DELIVERED, "unexpected CA (rule 5)"),
        (Unexpected(Evidence("OK", text="try again")), DeliveryState.QUEUED, "unexpected OK (rule 4)"),
        (Unexpected(Evidence("OK")), DeliveryState.PARKED, "unexpected OK"),
        (Unexpected(Evidence("other", "207")), DeliveryState.PARKED, "unexpected other 207"),
    ],
)
def test_the_first_rule_that_holds_says_what_an_answer_means_and_what_nobody_names_is_parked(
    answer: Evidence | DeliveryError, state: DeliveryState | None, cause: str
) -> None:
    destination = plan(on_answer=RULES)
    if isinstance(answer, Evidence):
        decided = accept(destination, answer, 1, age=0.0)
    else:
        decided = decide(destination, answer, 1, age=0.0)
    assert (decided and decided.state, decided.cause if decided else "") == (state, cause)


def test_without_rules_an_answer_of_an_unexpected_kind_is_parked_and_may_be_a_duplicate_when_sent_again() -> None:
    for evidence in (Evidence("CA"), Evidence("OK"), Evidence("other")):
        decided = decide(plan(), Unexpected(evidence), 1, age=0.0)
        assert (decided.state, decided.may_be_duplicated) == (DeliveryState.PARKED, True)


def test_the_cause_carries_codes_and_never_the_partner_s_text() -> None:
    evidence = Evidence("AE", "204", "PID-3", None, b"MSA|AE|1|Doe not found", "Doe not found")
    assert decide(plan(), Rejected(evidence), 1, age=0.0).cause == "rejected AE 204 PID-3"
    assert "Doe" not in str(Rejected(evidence))
