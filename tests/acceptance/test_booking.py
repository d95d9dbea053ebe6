"""Bookings that meet trouble: races, repeats, lost answers, notices that resolve them, cancelling (systems.md D.4)."""

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from typing import Any

import pytest

Site = Any
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]
WaitFor = Callable[..., Any]

CHANNEL = "channels/radscheduler-book-appointment.yaml"
EDITS = [
    (CHANNEL, "timeout: 20s", "timeout: 700ms"),
    (CHANNEL, "\nreply:\n", "\nbreaker: {probe: 200ms}\nreply:\n"),
    (
        "site.yaml",
        "api_keys:\n",
        'api_keys:\n  second: {key: "${SECOND_KEY}", channels: [radscheduler-book-appointment]}\n',
    ),
]
ENV = {"SECOND_KEY": "second-key-of-the-tests"}


def booked(site: Site) -> list[str]:
    """The orders that hold an appointment at the RIS."""
    return [held["orderId"] for held in site.control("GET", "/ris")["bookings"]]


def state(site: Site, correlation_id: str) -> str:
    """The state of the one delivery of a request."""
    [message] = site.messages(correlation_id=correlation_id)
    [delivery] = message["deliveries"]
    return str(delivery["state"])


# -- at the same moment --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hour", [8, 9, 10, 11, 14])
def test_two_orders_for_one_slot_at_the_same_moment(site: Site, booking: Booking, local: Local, hour: int) -> None:
    start = Barrier(2)

    def book(order: str) -> Any:
        body = booking(order, local(hour))
        start.wait()
        return site.book(body, f"race-{order}-{hour}")

    with ThreadPoolExecutor() as threads:
        answers = sorted(threads.map(book, ["ORDER123", "ORDER128"]), key=lambda answer: answer.status)
    assert [answer.status for answer in answers] == [201, 409]
    assert answers[1].error["code"] == "slot_taken"
    slots = [slot["id"] for slot in answers[1].error["alternatives"]]
    assert slots
    assert booking("ORDER123", local(hour))["slotId"] not in slots
    assert booked(site) == [answers[0].json["orderId"]]


def test_one_key_many_times_at_the_same_moment(site: Site, booking: Booking) -> None:
    start = Barrier(6)

    def book(_: int) -> Any:
        start.wait()
        return site.book(booking(), "six")

    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(book, range(6)))
    assert {(answer.status, answer.json.get("error", {}).get("code")) for answer in answers} <= {
        (201, None),
        (409, "in_progress"),
    }
    assert any(answer.status == 201 for answer in answers)
    assert len(site.received("ORM")) == 1


# -- the same once more --------------------------------------------------------------------------------------------


def test_the_same_key_twice_is_one_booking(site: Site, booking: Booking) -> None:
    first, second = site.book(booking(), "twice"), site.book(booking(), "twice")
    assert (first.status, second.status) == (201, 201)
    assert second.json == first.json
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-correlation-id"] != first.headers["x-correlation-id"]
    assert len(site.received("ORM")) == 1


def test_members_in_another_order_are_the_same_body(site: Site, booking: Booking) -> None:
    body = booking()
    assert site.book(body, "turned").status == 201
    again = site.book(dict(reversed(body.items())), "turned")
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("members", [{"requestId": "in-the-body"}, {}])
def test_without_the_header_the_body_holds_the_key(site: Site, booking: Booking, local: Local, members: Any) -> None:
    body = booking("ORDER124", local(15) if members else local(16), **members)
    assert site.book(body).status == 201
    assert site.book(body).headers["idempotent-replayed"] == "true"
    assert len(site.received("ORM")) == 1


def test_the_same_key_with_another_body(site: Site, booking: Booking, local: Local) -> None:
    assert site.book(booking(), "other-body").status == 201
    answer = site.book(booking(start=local(10)), "other-body")
    assert (answer.status, answer.error["code"]) == (422, "idempotency_mismatch")
    assert len(site.received("ORM")) == 1


def test_a_key_belongs_to_one_caller(site: Site, booking: Booking, local: Local) -> None:
    assert site.book(booking("ORDER123", local(9)), "shared").status == 201
    other = site.book(booking("ORDER124", local(9)), "shared", key=ENV["SECOND_KEY"])
    assert other.status == 201
    assert "idempotent-replayed" not in other.headers


# -- an answer that does not come ----------------------------------------------------------------------------------


def test_a_retry_of_an_unknown_booking_books_once(site: Site, booking: Booking) -> None:
    site.control("POST", "/ris/hold", {"outbox": "siu"})
    site.fault("silence", act=True)
    lost = site.book(booking(), "lost", headers={"X-Correlation-ID": "lost-answer"})
    assert (lost.status, lost.error["outcome"]) == (504, "unknown")
    assert state(site, "lost-answer") == "unknown"
    again = site.book(booking(), "lost")
    assert (again.status, again.json["confirmationNumber"]) == (201, "ACC778899")
    first, second = site.received("ORM")
    assert first["body"] == second["body"]
    assert second["duplicate"]
    assert booked(site) == ["ORDER123"]
    assert state(site, "lost-answer") == "delivered"
    assert site.book(booking(), "lost").headers["idempotent-replayed"] == "true"
    assert len(site.received("ORM")) == 2


def test_a_retry_of_a_booking_that_the_ris_never_made(site: Site, booking: Booking) -> None:
    site.fault("silence", act=False)
    assert site.book(booking(), "unmade").error["outcome"] == "unknown"
    assert booked(site) == []
    assert site.book(booking(), "unmade").status == 201
    assert booked(site) == ["ORDER123"]


def test_a_notice_resolves_an_unknown_booking(site: Site, booking: Booking, wait_for: WaitFor) -> None:
    site.control("POST", "/ris/hold", {"outbox": "siu"})
    site.fault("silence", act=True)
    assert site.book(booking(), "noticed", headers={"X-Correlation-ID": "noticed-1"}).status == 504
    assert state(site, "noticed-1") == "unknown"
    site.control("POST", "/ris/release", {"outbox": "siu"})
    wait_for(lambda: state(site, "noticed-1") == "delivered", "the notice resolves the booking")
    answer = site.book(booking(), "noticed")
    assert answer.status == 201
    # SCH-27 does not exist at 2.3, so the appointment's own number confirms it.
    assert (answer.json["confirmationNumber"], answer.json["appointmentId"]) == ("APT556677", "APT556677")
    assert answer.json["appointment"]["locationName"] == "Downtown Imaging"
    assert len(site.received("ORM")) == 1


def test_a_notice_that_comes_before_the_time_out_confirms(site: Site, booking: Booking) -> None:
    site.fault("silence", act=True)
    answer = site.book(booking(), "early")
    assert (answer.status, answer.json["confirmationNumber"]) == (201, "APT556677")
    assert len(site.received("ORM")) == 1


def test_an_answer_after_the_time_out_answers_nobody_else(site: Site, booking: Booking, local: Local) -> None:
    site.control("POST", "/ris/hold", {"outbox": "siu"})
    site.fault("late", ms=900)
    assert site.book(booking(), "late").status == 504
    others = [site.book(booking(order, local(11)), f"late-{order}") for order in ("ORDER124", "ORDER126", "ORDER128")]
    assert [(answer.status, answer.json["confirmationNumber"]) for answer in others] == [
        (201, "ACC778900"),
        (201, "ACC778902"),
        (201, "ACC778904"),
    ]


def test_a_caller_who_hangs_up_cancels_nothing(site: Site, booking: Booking, wait_for: WaitFor) -> None:
    site.fault("delay", ms=300)
    body = json.dumps(booking()).encode()
    head = (
        "POST /api/ris/book-appointment HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        f"X-API-Key: {site.secret('RADSCHEDULER_API_KEY')}\r\nX-Correlation-ID: hung-up\r\nIdempotency-Key: hung-up\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.port("REST"))) as caller:
        caller.sendall(head.encode() + body)
        wait_for(lambda: site.control("GET", "/ris")["faults"] == [], "the booking is at the RIS")
    wait_for(lambda: site.messages(correlation_id="hung-up"), "the booking is recorded")
    wait_for(lambda: state(site, "hung-up") == "delivered", "the booking is confirmed")
    assert site.book(booking(), "hung-up").headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("fault", [{"name": "split"}, {"name": "latin1"}, {"name": "latin1", "declared": False}])
def test_unusual_answers_of_the_ris_confirm_all_the_same(site: Site, booking: Booking, fault: dict[str, Any]) -> None:
    site.fault(**fault)
    answer = site.book(booking(), f"unusual-{fault}".replace(" ", ""))
    assert (answer.status, answer.json["confirmationNumber"]) == (201, "ACC778899")


def test_a_ris_that_restarts_in_the_middle(site: Site, booking: Booking, wait_for: WaitFor) -> None:
    site.fault("restart", ms=100)
    assert site.book(booking(), "restarted").error["outcome"] == "unknown"
    wait_for(lambda: site.book(booking(), "restarted").status == 201, "booked after the restart")
    assert booked(site) == ["ORDER123"]


# -- taking it back ------------------------------------------------------------------------------------------------


def test_a_cancelled_order_may_be_booked_again_with_the_same_key(site: Site, booking: Booking) -> None:
    assert site.book(booking(), "again").status == 201
    done = site.cli("ask", "radscheduler-cancel", '{"orderId": "ORDER123"}', "--correlation-id", "cancel-1")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert (reply["status"], reply["body"]["status"]) == (200, "cancelled")
    assert booked(site) == []
    cancel = site.received("ORM")[-1]["body"].split("\r")
    assert cancel[2].startswith("ORC|CA|ORDER123^RADSCHED|ACC778899^SYNAPSE||CA||1^^^^^R||")
    again = site.book(booking(), "again")
    assert again.status == 201
    assert "idempotent-replayed" not in again.headers
    assert booked(site) == ["ORDER123"]


def test_a_cancellation_that_the_ris_announces_frees_the_key(site: Site, booking: Booking, wait_for: WaitFor) -> None:
    assert site.book(booking(), "announced").status == 201
    site.control("POST", "/ris/emit", {"event": "S15", "orderId": "ORDER123"})
    wait_for(lambda: site.control("GET", "/ris")["outboxes"]["siu"]["waiting"] == 0, "the notice is acknowledged")
    wait_for(lambda: "idempotent-replayed" not in site.book(booking(), "announced").headers, "the key is forgotten")
    assert booked(site) == ["ORDER123"]


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [({"orderId": "ORDER123"}, 404, "unknown_order"), ({"orderId": "ORDER999"}, 404, "unknown_order"), ({}, 400, None)],
)
def test_a_cancellation_of_what_is_not_booked(site: Site, request_body: Any, status: int, code: str | None) -> None:
    done = site.cli("ask", "radscheduler-cancel", json.dumps(request_body))
    reply = json.loads(done.stdout)
    assert (done.returncode, reply["status"]) == (1, status)
    assert reply["body"]["error"]["code"] == (code or "missing_parameter")
    assert "Doe" not in done.stdout


def test_cancelling_has_no_route(site: Site) -> None:
    for path in ("/api/ris/cancel", "/api/ris/cancel-appointment", "/api/ask/radscheduler-cancel"):
        assert site.rest("POST", path, {"orderId": "ORDER123"}).status == 404


def test_a_command_asks_as_a_caller_does(site: Site) -> None:
    done = site.cli("ask", "radscheduler-locations", '{"modality": "CR"}', "--correlation-id", "asked-1")
    assert [location["id"] for location in json.loads(done.stdout)["body"]["locations"]] == ["DTI", "NSI"]
    assert site.messages(correlation_id="asked-1")[0]["channel"] == "radscheduler-locations"
    refused = site.cli("ask", "radscheduler-locations", '{"modality": "ZZ"}')
    assert (refused.returncode, json.loads(refused.stdout)["body"]["error"]["code"]) == (1, "unknown_modality")
