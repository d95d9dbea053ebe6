"""This repository's own site, loaded as the engine loads it: nothing is wrong in it, and it does what is promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.config import SitePlan, load_site
from engine.envelope import Envelope
from engine.errors import Evidence
from engine.hl7.message import Message
from engine.runtime.reply import Outcome, row_for, row_of_outcome
from engine.transforms.base import Verdict

Sample = Callable[[str], bytes]
Make = Callable[..., Envelope]

ENVIRONMENT = {
    "RADSCHEDULER_API_KEY": "k",
    "RADSCHEDULER_TOKEN": "t",
    "TWILIO_AUTH_TOKEN": "t",
    "ATHENA_CLIENT_SECRET": "t",
    "PHONE_SALT": "a-salt-of-sixteen-or-more",
}
LOCATIONS, SLOTS, BOOK = "radscheduler-locations", "radscheduler-available-slots", "radscheduler-book-appointment"
EMRS = ("athena", "epic", "cerner", "allscripts", "nextgen", "ecw", "meditech")
CANCEL, ROUTER, ORDERS = "radscheduler-cancel", "ris-siu-router", "ris-orders"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SitePlan:
    """The site of this repository."""
    return load_site(Path(__file__).parents[2], tmp_path_factory.mktemp("data"), ENVIRONMENT)


def test_nothing_is_wrong_in_it(site: SitePlan) -> None:
    assert [str(problem) for problem in site.problems if problem.level == "error"] == []
    assert set(site.channels) >= {LOCATIONS, SLOTS, BOOK, CANCEL, ROUTER, ORDERS}


@pytest.mark.parametrize(
    ("emr", "received", "expected"),
    [
        *((emr, "N1_SIU_S12_RIS_v23", f"P_{emr}_S12") for emr in EMRS),
        *((emr, "N1_SIU_S12_RIS_v251", f"P_{emr}_S12_from_v251") for emr in EMRS),
        ("athena", "N2_SIU_S15_v23", "P_athena_S15"),
        ("athena", "N3_SIU_seed_v23", "N3_SIU_seed_athena_v231"),
        ("epic", "N2_SIU_S15_v23", "P_epic_S15"),
        ("generic", "N1_SIU_S12_RIS_v23", "P_generic27_S12"),
        ("generic", "N1_SIU_S12_RIS_v251", "P_generic27_S12_from_v251"),
    ],
)
def test_the_router_sends_each_emr_its_worked_example(
    emr: str, received: str, expected: str, site: SitePlan, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    channel, context, made = site.channels[ROUTER], kit.Context(), envelope(sample(received))
    assert channel.transform.run(made, context) is Verdict.CONTINUE
    (destination,) = [each for each in channel.destinations if each.name == emr]
    destination.transform.run(made, context)
    assert isinstance(made.body, Message)
    made.body.write("MSH-7", "@NOW")
    made.body.write("MSH-10", "@MSG")
    assert made.body.to_bytes(made.charset, made.unmappable) == sample(expected)


@pytest.mark.parametrize(
    ("facility", "emrs"),
    [("DTI", ["athena"]), ("NSI", ["epic"]), ("WSI", ["cerner", "epic"]), ("FACILITY", ["athena"])],
)
def test_an_appointment_goes_to_the_emrs_of_its_facility(
    facility: str, emrs: list[str], site: SitePlan, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    channel, context = site.channels[ROUTER], kit.Context()
    made = envelope(sample("N1_SIU_S12_RIS_v23").replace(b"^^DTI", b"^^" + facility.encode()))
    channel.transform.run(made, context)
    wanted = [each.name for each in channel.destinations if each.where is not None and each.where(made, context)]
    assert sorted(wanted) == emrs


def test_only_appointments_are_routed(site: SitePlan, kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    for name in ("O1_ORM_order_from_RIS_v23", "O3_ADT_A01_v251"):
        assert site.channels[ROUTER].transform.run(envelope(sample(name)), kit.Context()) is Verdict.DROP


def _answer(code: str, site: SitePlan, channel: str) -> tuple[int, str, bool]:
    reply = site.channels[channel].reply
    assert reply is not None
    row = row_for(reply, code)
    return row.status, row.message, row.retryable


#: systems.md D.5, word for word: code → status, message, retryable.
ROWS = {
    "missing_parameter": (400, "A required parameter is missing.", False),
    "invalid_date": (400, "The date is not valid or out of range.", False),
    "unknown_modality": (400, "The modality is not known.", False),
    "unauthorized": (401, "Credentials are missing or not valid.", False),
    "forbidden": (403, "This key may not use this route.", False),
    "unknown_location": (404, "The location is not known.", False),
    "rate_limited": (429, "Too many requests.", True),
    "ris_error": (502, "The RIS refused the request.", False),
    "ris_rejected": (502, "The RIS rejected the message.", False),
    "ris_unavailable": (503, "The RIS cannot be reached.", True),
    "channel_stopped": (503, "The channel is stopped.", True),
    "internal_error": (500, "Internal error.", True),
}
QUERY_ROWS = {
    "ris_bad_response": (502, "The RIS gave an answer that cannot be used.", True),
    "ris_timeout": (504, "The RIS did not answer in time.", True),
}
BOOKING_ROWS = {
    "unknown_order": (404, "The order is not known.", False),
    "unknown_patient": (404, "The patient is not known.", False),
    "slot_taken": (409, "The slot is no longer available.", False),
    "order_already_booked": (409, "The order is already booked.", False),
    "order_patient_mismatch": (409, "The order belongs to another patient.", False),
    "in_progress": (409, "This request is still being processed.", True),
    "idempotency_mismatch": (422, "The key was used with another request.", False),
    "inconsistent_request": (422, "The request contradicts itself.", False),
    "ris_bad_response": (502, "The RIS gave an answer that cannot be used.", False),
    "ris_timeout": (504, "The RIS did not answer in time; the booking may exist.", True),
}


@pytest.mark.parametrize("channel", [LOCATIONS, SLOTS])
@pytest.mark.parametrize("code", [*ROWS, *QUERY_ROWS])
def test_rows_of_queries_are_word_for_word(channel: str, code: str, site: SitePlan) -> None:
    assert _answer(code, site, channel) == (ROWS | QUERY_ROWS)[code]


@pytest.mark.parametrize("code", [*ROWS, *BOOKING_ROWS])
def test_rows_of_bookings_are_word_for_word(code: str, site: SitePlan) -> None:
    assert _answer(code, site, BOOK) == (ROWS | BOOKING_ROWS)[code]


def test_who_finds_the_ris_down_is_told_when_to_come_again(site: SitePlan) -> None:
    for channel in (LOCATIONS, SLOTS, BOOK, CANCEL):
        reply = site.channels[channel].reply
        assert reply is not None
        assert row_for(reply, "ris_unavailable").retry_after == 10


def _refused(ack: str, condition: str | None = None, location: str | None = None, error: str | None = None) -> Outcome:
    return Outcome("rejected", Evidence(ack, condition, location, error))


EVIDENCE: list[tuple[Outcome, str, str]] = [
    (_refused("AE", "204", "QRD-10"), "unknown_location", "ris_error"),
    (_refused("AE", "204", "AIL-3"), "unknown_location", "unknown_location"),
    (_refused("AE", "204", "ORC-2"), "unknown_order", "unknown_order"),
    (_refused("AE", "204", "PID-3"), "unknown_patient", "unknown_patient"),
    (_refused("AE", "204"), "ris_error", "ris_error"),
    (_refused("AE", "102", "QRF-2"), "invalid_date", "ris_error"),
    (_refused("AE", "103", "QRF-5"), "unknown_modality", "inconsistent_request"),
    (_refused("AE", "103", "OBR-24"), "ris_error", "inconsistent_request"),
    (_refused("AE", "206", "OBR-18"), "ris_error", "slot_taken"),
    (_refused("AE", "206"), "ris_error", "slot_taken"),
    (_refused("AE", "207", None, "SLOT_TAKEN"), "ris_error", "slot_taken"),
    (_refused("AE", "204", "PID-3", "SLOT_TAKEN"), "unknown_patient", "unknown_patient"),
    (_refused("AE", "205"), "ris_error", "order_already_booked"),
    *((_refused("AE", code), "ris_error", "ris_error") for code in ("100", "101", "102", "207")),
    *((_refused("AR", code), "ris_rejected", "ris_rejected") for code in ("200", "201", "202", "203")),
    (_refused("AR"), "ris_rejected", "ris_rejected"),
    (_refused("AE"), "ris_error", "ris_error"),
    (Outcome("unavailable"), "ris_unavailable", "ris_unavailable"),
    (Outcome("unanswered"), "ris_timeout", "ris_timeout"),
    (Outcome("bad_response"), "ris_bad_response", "ris_bad_response"),
]


@pytest.mark.parametrize(("outcome", "query", "booking"), EVIDENCE)
def test_evidence_becomes_a_code(
    outcome: Outcome, query: str, booking: str, site: SitePlan, kit: SimpleNamespace
) -> None:
    for channel, expected in ((LOCATIONS, query), (SLOTS, query), (CANCEL, query), (BOOK, booking)):
        reply = site.channels[channel].reply
        assert reply is not None
        row = row_of_outcome(reply, outcome, None, kit.Context())
        assert row is not None
        assert row.code == expected


def test_an_order_that_the_ris_is_unable_to_accept_has_lost_its_slot(
    site: SitePlan, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    reply = site.channels[BOOK].reply
    assert reply is not None
    answer = sample("B2_ORR_O02_AA_v23")
    outcome = Outcome("answered", Evidence("AA"))
    assert row_of_outcome(reply, outcome, envelope(answer), kit.Context()) is None
    row = row_of_outcome(reply, outcome, envelope(answer.replace(b"ORC|OK", b"ORC|UA")), kit.Context())
    assert row is not None
    assert row.code == "slot_taken"


@pytest.mark.parametrize(("condition", "retryable"), [("101", False), ("207", True)])
def test_only_an_internal_error_of_the_ris_may_pass(
    condition: str, retryable: bool, site: SitePlan, kit: SimpleNamespace
) -> None:
    for channel in (SLOTS, BOOK):
        reply = site.channels[channel].reply
        assert reply is not None
        row = row_of_outcome(reply, _refused("AE", condition), None, kit.Context())
        assert row is not None
        assert (row.code, row.retryable) == ("ris_error", retryable)


def test_the_same_booking_is_known_by_the_first_key_it_has(
    site: SitePlan, kit: SimpleNamespace, envelope: Make
) -> None:
    plan = site.channels[BOOK].idempotency
    assert plan is not None
    body = {"orderId": "O1", "slotId": "S1", "start": "2025-01-16T09:00:00-06:00"}
    assert plan.key(envelope(None, request=body), kit.Context()) == "O1|S1"
    assert plan.key(envelope(None, request=body | {"requestId": "R"}), kit.Context()) == "R"
    headers = {"idempotency-key": "K"}
    assert plan.key(envelope(None, request=body | {"requestId": "R"}, headers=headers), kit.Context()) == "K"


def test_a_booking_is_found_by_what_the_steps_of_other_channels_name(site: SitePlan) -> None:
    resolves = {pair for plan in site.channels.values() for pair in plan.resolves}
    assert resolves == {(BOOK, "body.orderId")}
    assert site.channels[ROUTER].resolves == resolves


def test_the_siu_router_reads_its_messages_without_reaching_beyond_them(site: SitePlan) -> None:
    for destination in site.channels[ROUTER].destinations:
        assert destination.transform.pure
        assert not destination.transform.asynchronous
    assert not site.channels[ROUTER].transform.asynchronous
