"""Every row of the error table (systems.md D.5), word for word, with the partner's own words kept out of every answer.

The time-outs of the site's channels are short here. The simulated RIS puts a patient's name and number into MSA-3 of
every refusal it is told to give; no answer holds them, and the log is searched when the site stops.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

Site = Any
Booking = Callable[..., dict[str, Any]]

CHANNELS = {
    name: f"channels/radscheduler-{name}.yaml"
    for name in ("locations", "available-slots", "book-appointment", "cancel")
}
EDITS = [
    (CHANNELS["locations"], "timeout: 10s", "timeout: 700ms"),
    (CHANNELS["available-slots"], "timeout: 10s", "timeout: 700ms"),
    (CHANNELS["book-appointment"], "timeout: 20s", "timeout: 700ms"),
    *((file, "\nreply:\n", "\nbreaker: {probe: 200ms}\nreply:\n") for file in CHANNELS.values()),
    (
        "site.yaml",
        "api_keys:\n",
        'api_keys:\n  narrow: {key: "${NARROW_KEY}", channels: [radscheduler-locations, limited]}\n',
    ),
]
OPTIONS = ["--log-level", "debug"]
ENV = {"NARROW_KEY": "narrow-key-of-the-tests"}

LIMITED = """\
name: limited
source:
  rest: {method: GET, path: /limited, rate: 1/m, burst: 2}
transform:
  - build: {using: ris/locations/qry}
destinations:
  - name: ris
    to:
      mllp: {host: 127.0.0.1, port: "${RIS_PORT}"}
reply:
  from: ris
  transform:
    - python: radscheduler:locations
"""
FAULTY = """\
name: faulty
source:
  rest: {method: POST, path: /faulty, auth: none}
transform:
  - python: faulty:fail
destinations:
  - name: ris
    to:
      mllp: {host: 127.0.0.1, port: "${RIS_PORT}"}
reply:
  from: ris
"""


def prepare(site: Site) -> None:
    """Two channels that only these tests need: one with a low rate, one whose Python quotes the patient as it fails."""
    (site.folder / "channels" / "limited.yaml").write_text(LIMITED)
    (site.folder / "channels" / "faulty.yaml").write_text(FAULTY)
    (site.folder / "transforms" / "faulty.py").write_text(
        "def fail(message, context):\n    raise ValueError(f\"cannot use {message['patient']}\")\n"
    )


MESSAGES = {
    "missing_parameter": "A required parameter is missing.",
    "invalid_date": "The date is not valid or out of range.",
    "unknown_modality": "The modality is not known.",
    "unauthorized": "Credentials are missing or not valid.",
    "forbidden": "This key may not use this route.",
    "unknown_location": "The location is not known.",
    "unknown_order": "The order is not known.",
    "unknown_patient": "The patient is not known.",
    "slot_taken": "The slot is no longer available.",
    "order_already_booked": "The order is already booked.",
    "order_patient_mismatch": "The order belongs to another patient.",
    "in_progress": "This request is still being processed.",
    "idempotency_mismatch": "The key was used with another request.",
    "inconsistent_request": "The request contradicts itself.",
    "ris_error": "The RIS refused the request.",
    "ris_rejected": "The RIS rejected the message.",
    "ris_bad_response": "The RIS gave an answer that cannot be used.",
    "ris_unavailable": "The RIS cannot be reached.",
    "ris_timeout": "The RIS did not answer in time.",
    "rate_limited": "Too many requests.",
    "channel_stopped": "The channel is stopped.",
    "internal_error": "Internal error.",
}
UNKNOWN_BOOKING = "The RIS did not answer in time; the booking may exist."


def check(answer: Any, status: int, code: str, *, retryable: bool = False, message: str = "", **members: Any) -> None:
    """The whole answer: status, headers, and nothing in ``error`` but what is told here."""
    assert (answer.status, answer.json) == (
        status,
        {
            "error": {
                "code": code,
                "message": message or MESSAGES[code],
                "retryable": retryable,
                "correlationId": answer.headers["x-correlation-id"],
                **members,
            }
        },
    )
    has_wait = status in (429, 503)
    assert ("retry-after" in answer.headers) == has_wait
    assert not has_wait or int(answer.headers["retry-after"]) >= 1


# -- what the engine checks by itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?modality=CR&date={day}", "location"),
        ("?location=&modality=CR&date={day}", "location"),
        ("?location=%20&modality=CR&date={day}", "location"),
        ("?location=DTI&date={day}", "modality"),
        ("?location=DTI&modality=CR", "date"),
        ("", "location"),
    ],
)
def test_a_missing_parameter(site: Site, workday: Callable[..., date], query: str, field: str) -> None:
    check(site.slots(query.format(day=workday())), 400, "missing_parameter", field=field)


@pytest.mark.parametrize("field", ["orderId", "slotId", "locationId", "modality", "start", "patient", "patient.mrn"])
def test_a_missing_member(site: Site, booking: Booking, field: str) -> None:
    body = booking()
    holder = body["patient"] if "." in field else body
    del holder[field.rpartition(".")[2]]
    check(site.book(body, "member"), 400, "missing_parameter", field=field)


def test_a_blank_member(site: Site, booking: Booking) -> None:
    check(site.book({**booking(), "orderId": " "}, "blank"), 400, "missing_parameter", field="orderId")


@pytest.mark.parametrize("day", ["2025-02-30", "tomorrow", "20270101", -2, 182])
def test_a_date_that_is_not_valid(site: Site, workday: Callable[..., date], day: str | int) -> None:
    text = str(date.today() + timedelta(days=day)) if isinstance(day, int) else day
    check(site.slots(f"?location=DTI&modality=CR&date={text}"), 400, "invalid_date", field="date")


def test_a_booking_at_a_time_that_does_not_exist(site: Site, booking: Booking) -> None:
    check(site.book({**booking(), "start": "2027-02-30T09:00:00-06:00"}), 400, "invalid_date", field="start")


def test_a_booking_in_the_past(site: Site, booking: Booking, local: Callable[..., Any]) -> None:
    past = local(9, day=date.today() - timedelta(days=7))
    check(site.book(booking(start=past), "past"), 400, "invalid_date", field="start")
    assert site.received("ORM") == []


def test_a_modality_that_is_not_known(site: Site, booking: Booking, workday: Callable[..., date]) -> None:
    check(site.locations("?modality=ZZ"), 400, "unknown_modality", field="modality")
    check(site.slots(f"?location=DTI&modality=cr&date={workday()}"), 400, "unknown_modality", field="modality")
    check(site.book({**booking(), "modality": "ZZ"}), 400, "unknown_modality", field="modality")


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_key_that_is_missing_or_wrong(site: Site, booking: Booking, key: str | None) -> None:
    for answer in (site.locations(key=key), site.slots(key=key), site.book(booking(), key=key)):
        check(answer, 401, "unauthorized")


def test_a_key_for_other_routes(site: Site, booking: Booking) -> None:
    assert site.locations(key=ENV["NARROW_KEY"]).status == 200
    check(site.slots(key=ENV["NARROW_KEY"]), 403, "forbidden")
    check(site.book(booking(), key=ENV["NARROW_KEY"]), 403, "forbidden")


def test_a_location_that_is_not_known(site: Site, booking: Booking, workday: Callable[..., date]) -> None:
    check(site.slots(f"?location=XXX&modality=CR&date={workday()}"), 404, "unknown_location")
    check(site.book({**booking(), "locationId": "XXX"}, "nowhere"), 404, "unknown_location")


def test_an_order_that_is_not_known(site: Site, booking: Booking) -> None:
    check(site.book({**booking(), "orderId": "ORDER999"}, "no-order"), 404, "unknown_order")


def test_an_order_of_another_patient(site: Site, booking: Booking) -> None:
    body = booking() | {"patient": {"mrn": "MRN123457"}}
    check(site.book(body, "mismatch"), 409, "order_patient_mismatch")


def test_a_slot_that_contradicts_the_rest(site: Site, booking: Booking, local: Callable[..., Any]) -> None:
    for number, body in enumerate(
        (
            booking(locationId="NSI"),
            booking(modality="MR"),
            booking() | {"start": local(10).isoformat()},
        )
    ):
        check(site.book(body, f"contradiction-{number}"), 422, "inconsistent_request")


def test_nothing_that_the_engine_refuses_reaches_the_ris(site: Site, booking: Booking) -> None:
    site.book({**booking(), "orderId": "ORDER999"}, "unsent-1")
    site.book(booking() | {"patient": {"mrn": "MRN123457"}}, "unsent-2")
    site.book({**booking(), "locationId": "XXX"}, "unsent-3")
    site.slots("?location=XXX&modality=CR&date=2020-01-01")
    assert site.received() == []


# -- what the RIS says ---------------------------------------------------------------------------------------------

SAID_TO_QUERIES = [
    ("AE", 204, "QRD-10", 404, "unknown_location", False),
    ("AE", 102, "QRF-2", 400, "invalid_date", False),
    ("AE", 103, "QRF-5", 400, "unknown_modality", False),
    ("AE", 103, "QRD-9", 502, "ris_error", False),
    ("AE", 100, "", 502, "ris_error", False),
    ("AE", 101, "QRD-8", 502, "ris_error", False),
    ("AE", 207, "", 502, "ris_error", True),
    *(("AR", condition, "MSH-12", 502, "ris_rejected", False) for condition in (200, 201, 202, 203)),
]
SAID_TO_BOOKINGS = [
    ("AE", 204, "AIL-3", 404, "unknown_location", False),
    ("AE", 204, "ORC-2", 404, "unknown_order", False),
    ("AE", 204, "PID-3", 404, "unknown_patient", False),
    ("AE", 205, "ORC-2", 409, "order_already_booked", False),
    ("AE", 103, "OBR-24", 422, "inconsistent_request", False),
    ("AE", 100, "", 502, "ris_error", False),
    ("AE", 101, "OBR-4", 502, "ris_error", False),
    ("AE", 102, "ORC-7", 502, "ris_error", False),
    ("AE", 207, "", 502, "ris_error", True),
    *(("AR", condition, "MSH-12", 502, "ris_rejected", False) for condition in (200, 201, 202, 203)),
]


@pytest.mark.parametrize(("ack", "condition", "location", "status", "code", "retryable"), SAID_TO_QUERIES)
def test_what_the_ris_says_to_a_query(
    site: Site, ack: str, condition: int, location: str, status: int, code: str, retryable: bool
) -> None:
    site.fault("error", ack=ack, condition=condition, location=location)
    answer = site.slots()
    check(answer, status, code, retryable=retryable, hl7={"ack": ack, "condition": str(condition)})
    assert len(site.received("QRY")) == 1  # a refusal is never asked again
    assert site.slots().status == 200


@pytest.mark.parametrize(("ack", "condition", "location", "status", "code", "retryable"), SAID_TO_BOOKINGS)
def test_what_the_ris_says_to_a_booking(
    site: Site, booking: Booking, ack: str, condition: int, location: str, status: int, code: str, retryable: bool
) -> None:
    site.fault("error", ack=ack, condition=condition, location=location)
    key = f"said-{ack}-{condition}-{location}"
    answer = site.book(booking(), key)
    codes = {"ack": ack, "condition": str(condition)}
    check(answer, status, code, retryable=retryable, hl7=codes)
    # A definite refusal is replayed to the same key; what may be tried again is sent again.
    again = site.book(booking(), key)
    if retryable:
        assert again.status == 201
        assert "idempotent-replayed" not in again.headers
    else:
        assert (again.status, again.error["code"]) == (status, code)
        assert again.headers["idempotent-replayed"] == "true"
        assert len(site.received("ORM")) == 1


def test_a_refusal_without_a_condition(site: Site) -> None:
    site.fault("error", ack="AE", condition=None)
    check(site.slots(), 502, "ris_error", hl7={"ack": "AE"})
    site.fault("error", ack="AR", condition=None)
    check(site.slots(), 502, "ris_rejected", hl7={"ack": "AR"})


def test_a_slot_that_is_taken(site: Site, booking: Booking, local: Callable[..., Any]) -> None:
    assert site.book(booking("ORDER123"), "first").status == 201
    answer = site.book(booking("ORDER128"), "second")
    slots = answer.error["alternatives"]
    codes = {"ack": "AE", "condition": "206"}
    check(answer, 409, "slot_taken", hl7=codes, alternatives=slots)
    shown = site.control("GET", f"/ris/slots?location=DTI&modality=DX&date={local(9).date()}")["slots"]
    assert [slot["id"] for slot in slots] == [slot["id"] for slot in shown if slot["state"] == "open"]
    assert booking()["slotId"] not in [slot["id"] for slot in slots]


def test_an_order_that_is_booked_already(site: Site, booking: Booking, local: Callable[..., Any]) -> None:
    assert site.book(booking(), "once").status == 201
    answer = site.book(booking(start=local(10)), "twice")
    check(answer, 409, "order_already_booked", hl7={"ack": "AE", "condition": "205"})


@pytest.mark.parametrize("fault", [{"name": "garbage"}, {"name": "wrong_control_id"}])
def test_an_answer_to_a_query_that_cannot_be_used(site: Site, fault: dict[str, Any]) -> None:
    site.fault(**fault)
    check(site.slots(), 502, "ris_bad_response", retryable=True)
    assert site.slots().status == 200


@pytest.mark.parametrize("fault", ["garbage", "wrong_control_id"])
def test_an_answer_to_a_booking_that_cannot_be_used(site: Site, booking: Booking, fault: str) -> None:
    site.control("POST", "/ris/hold", {"outbox": "siu"})  # a notice would resolve it
    site.fault(fault)
    check(site.book(booking(), fault), 502, "ris_bad_response", outcome="unknown")
    again = site.book(booking(), fault)
    assert (again.status, again.json["confirmationNumber"]) == (201, "ACC778899")
    first, second = site.received("ORM")
    assert first["controlId"] == second["controlId"]


# -- when the RIS is not there -------------------------------------------------------------------------------------


def test_no_answer_to_a_query_in_time(site: Site) -> None:
    site.fault("silence")
    answer = site.slots()
    check(answer, 504, "ris_timeout", retryable=True)
    assert answer.seconds < 5
    assert len(site.received("QRY")) == 1
    assert site.slots().status == 200


def test_no_answer_to_a_booking_in_time(site: Site, booking: Booking) -> None:
    site.fault("silence", act=False)
    answer = site.book(booking(), "no-answer")
    check(answer, 504, "ris_timeout", message=UNKNOWN_BOOKING, retryable=True, outcome="unknown")


def test_a_query_whose_connection_is_lost_goes_once_more(site: Site) -> None:
    site.fault("drop")
    assert site.slots().status == 200
    assert len(site.received("QRY")) == 2


def test_a_query_whose_connection_is_lost_twice(site: Site) -> None:
    site.fault("drop", times=2)
    check(site.slots(), 503, "ris_unavailable", retryable=True)
    assert len(site.received("QRY")) == 2


def test_a_booking_whose_connection_is_lost_is_not_sent_again(site: Site, booking: Booking) -> None:
    site.fault("drop", act=False)
    answer = site.book(booking(), "dropped")
    check(answer, 504, "ris_timeout", message=UNKNOWN_BOOKING, retryable=True, outcome="unknown")
    assert len(site.received("ORM")) == 1
    assert site.book(booking(), "dropped").status == 201


def test_a_ris_that_is_down(site: Site, booking: Booking, wait_for: Callable[..., Any]) -> None:
    site.control("POST", "/ris/down")
    check(site.slots(), 503, "ris_unavailable", retryable=True)
    check(site.locations(), 503, "ris_unavailable", retryable=True)
    check(site.book(booking(), "while-down"), 503, "ris_unavailable", retryable=True)
    for _ in range(8):
        answer = site.slots()
    check(answer, 503, "ris_unavailable", retryable=True)  # the breaker is open
    assert answer.seconds < 1
    site.control("POST", "/ris/up")
    wait_for(lambda: site.slots().status == 200, "slots served again")
    assert site.locations().status == 200
    assert site.book(booking(), "while-down").status == 201  # 503 is never replayed


# -- what the engine says of itself --------------------------------------------------------------------------------


def test_too_many_calls(site: Site) -> None:
    answers = [site.rest("GET", "/limited", key=ENV["NARROW_KEY"]) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    check(answers[2], 429, "rate_limited", retryable=True)
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60


def test_a_channel_that_is_stopped(site: Site) -> None:
    assert site.cli("stop", "radscheduler-available-slots").returncode == 0
    check(site.slots(), 503, "channel_stopped", retryable=True)
    assert site.locations().status == 200
    assert site.health().json["channels"]["radscheduler-available-slots"] == "stopped"
    assert site.cli("start", "radscheduler-available-slots").returncode == 0
    assert site.slots().status == 200


def test_a_fault_of_the_engine_quotes_nothing(site: Site) -> None:
    answer = site.rest("POST", "/faulty", {"patient": "Doe^John MRN123456"}, key=None)
    check(answer, 500, "internal_error", retryable=True)
    [line] = [line for line in site.log_lines("exchange.failed") if line["channel"] == "faulty"]
    assert "faulty:fail ValueError" in line["cause"]


def test_a_key_in_flight_and_another_body(site: Site, booking: Booking, wait_for: Callable[..., Any]) -> None:
    site.fault("delay", ms=500)
    first: list[Any] = []
    thread = Thread(target=lambda: first.append(site.book(booking(), "flight")))
    thread.start()
    wait_for(lambda: site.control("GET", "/ris")["faults"] == [], "the booking is at the RIS")
    check(site.book(booking(), "flight"), 409, "in_progress", retryable=True)
    thread.join()
    assert first[0].status == 201
    check(site.book(booking("ORDER128"), "flight"), 422, "idempotency_mismatch")


def test_planted_names_appear_nowhere(site: Site, booking: Booking) -> None:
    """Bookings, parameters, headers, paths and keys that hold a patient: answers and (see ``site``) logs do not."""
    name = "Doe^John MRN123456"
    body = booking(notes=name, procedure={"code": "C1", "description": name})
    site.fault("error", ack="AE", condition=207)
    site.fault("error", ack="AR", condition=203)
    answers = [
        site.book(body, "planted-1"),
        site.book(body, "planted-2"),
        site.book(body, name),
        site.book({**body, "orderId": name}, "planted-3"),
        site.book({**body, "orderId": {name: name}}, "planted-4"),
        site.book({**body, name: 1, "start": name}, "planted-5"),
        site.book({**body, "durationMinutes": name, "modality": name}, "planted-6"),
        site.book([name], "planted-7"),
        site.book(name.encode(), "planted-8", headers={"Content-Type": name}),
        site.slots(f"?location={quote(name)}&modality={quote(name)}&date={quote(name)}"),
        site.locations(f"?modality={quote(name)}&{quote(name)}=1", headers={"X-Correlation-ID": name, "X-Note": name}),
        site.rest("GET", f"/api/ris/{quote(name)}"),
        site.rest("GET", f"/api/ris/locations/{quote(name)}", key=name),
        site.call("ADMIN", "GET", f"/{quote(name)}"),
        site.call("ADMIN", "GET", f"/api/messages?control_id={quote(name)}", headers={"X-API-Key": name}),
        site.call("REST", "GET", "/metrics"),
        site.call("ADMIN", "GET", "/metrics"),
        site.health(),
    ]
    for answer in answers:
        assert "Doe" not in f"{answer.headers}{answer.text}"
        assert "MRN123456" not in f"{answer.headers}{answer.text}"
    listed = site.cli("channels").stdout + site.cli("messages").stdout
    assert "planted" not in listed
    assert "Doe" not in listed


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [(b"{", "invalid_body", 400), (b"[]", "invalid_body", 400), (b"", "invalid_body", 400)],
)
def test_a_body_that_is_none(site: Site, body: bytes, code: str, status: int) -> None:
    answer = site.rest("POST", "/api/ris/book-appointment", body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.error["code"]) == (status, code)


def test_no_table_text_is_told_in_other_words_anywhere(site: Site) -> None:
    rules = "".join(
        (site.folder / "transforms" / "ris" / name).read_text() for name in ("errors.yaml", "booking_errors.yaml")
    )
    told = set(re.findall(r"message: (.+?)[,}\n]", rules))
    assert {text.strip() for text in told} <= {*MESSAGES.values(), UNKNOWN_BOOKING}
