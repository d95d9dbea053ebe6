"""athena by its REST API: one row of facility_emr, and the RIS's appointments are booked, moved and cancelled there."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

Site = Any
WaitFor = Callable[..., Any]
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]

TO = "    to: {channel: athena-rest}"
EDITS = [
    ("tables/facility_emr.csv", "DTI,athena", "DTI,athena_rest"),
    ("channels/ris-siu-router.yaml", TO, f"{TO}\n    retry: {{backoff: [100ms]}}"),
]


def athena(site: Site) -> Mapping[str, Any]:
    found: Mapping[str, Any] = site.control("GET", "/athena-rest?bodies=1")
    return found


def calls(site: Site) -> list[tuple[str, str]]:
    """Method and path below the practice."""
    return [(call["method"], call["path"].partition("/appointments")[2]) for call in athena(site)["calls"]]


def booked(site: Site) -> dict[str, tuple[str, str, str]]:
    found = athena(site)["appointments"]
    return {each["appointmentid"]: (each["appointmentstatus"], each["date"], each["starttime"]) for each in found}


def states(site: Site) -> set[tuple[str, str]]:
    """States of what was handed over to athena's channel."""
    rows = [row for row in site.messages() if row["channel"] == "athena-rest"]
    return {(row["state"], row["cause"]) for row in rows}


def test_a_booking_a_move_and_a_cancellation(site: Site, wait_for: WaitFor, booking: Booking, local: Local) -> None:
    assert site.book(booking(), "athena-1").status == 201
    wait_for(lambda: [each[0] for each in booked(site).values()] == ["f"], "booked")
    ((number, (_, day, start)),) = booked(site).items()
    assert (day, start) == (f"{local(9):%m/%d/%Y}", "09:00")
    (slot,) = athena(site)["appointments"]
    assert slot["patientid"] == "MRN123456"
    assert (slot["departmentid"], slot["providerid"], slot["appointmenttypeid"]) == ("21", "71", "82")
    assert calls(site) == [("POST", "/open"), ("PUT", f"/{number}")]
    assert all("MRN123456" not in call["path"] for call in athena(site)["calls"]), "no patient in an address"

    site.control("POST", "/ris/emit", {"event": "S13", "orderId": "ORDER123"})
    wait_for(lambda: sorted(each[0] for each in booked(site).values()) == ["f", "x"], "moved")
    (moved,) = [name for name, each in booked(site).items() if each[0] == "f"]
    assert calls(site)[2:] == [("POST", "/open"), ("PUT", f"/{number}/reschedule")]

    site.control("POST", "/ris/emit", {"event": "S15", "orderId": "ORDER123"})
    wait_for(lambda: {each[0] for each in booked(site).values()} == {"x"}, "cancelled")
    assert calls(site)[4:] == [("PUT", f"/{moved}/cancel")]
    assert athena(site)["tokens"] <= 2, "one for each of the two destinations"
    assert not site.received(partner="emr/athena"), "the HL7 interface hears nothing"
    assert states(site) == {("routed", "")}


def test_a_token_that_is_revoked_is_fetched_anew(site: Site, wait_for: WaitFor, booking: Booking) -> None:
    assert site.book(booking(), "athena-2").status == 201
    wait_for(lambda: [each[0] for each in booked(site).values()] == ["f"], "booked")
    given = athena(site)["tokens"]
    site.control("POST", "/athena-rest/revoke")
    site.control("POST", "/ris/emit", {"event": "S15", "orderId": "ORDER123"})
    wait_for(lambda: [each[0] for each in booked(site).values()] == ["x"], "cancelled with a new token")
    assert athena(site)["tokens"] == given + 1
    assert ("failed", "") not in states(site)


def test_one_slot_and_one_booking_whatever_is_lost_on_the_way(site: Site, wait_for: WaitFor, booking: Booking) -> None:
    for fault in ({"fault": "status", "status": 503}, {"fault": "status", "status": 429}):
        site.control("POST", "/athena-rest/faults", fault)
    assert site.book(booking(), "athena-3").status == 201
    wait_for(lambda: [each[0] for each in booked(site).values()] == ["f"], "booked after two refusals")
    site.control("POST", "/athena-rest/faults", {"fault": "drop"})
    site.control("POST", "/ris/emit", {"event": "S15", "orderId": "ORDER123"})
    wait_for(lambda: [call for call in calls(site) if call[1].endswith("/cancel")][1:], "cancelled once more")
    assert [each[0] for each in booked(site).values()] == ["x"]
    site.control("POST", "/athena-rest/down")
    assert site.book(booking(start=booking_start(booking)), "athena-4").status == 201
    wait_for(
        lambda: site.log_lines("circuit.open") or len(site.log_lines("exchange.not_successful")) > 2, "tried in vain"
    )
    site.control("POST", "/athena-rest/up")
    wait_for(lambda: sorted(each[0] for each in booked(site).values()) == ["f", "x"], "booked when it is back")


def booking_start(booking: Booking) -> datetime:
    return datetime.fromisoformat(booking()["start"]) + timedelta(minutes=30)


def test_what_athena_refuses_is_parked(site: Site, wait_for: WaitFor) -> None:
    made = site.control("POST", "/ris/emit", {"event": "S12", "facility": "DTI"})["appointmentIds"]
    wait_for(lambda: [each[0] for each in booked(site).values()] == ["f"], "booked")
    site.control("POST", "/athena-rest/faults", {"fault": "status", "status": 422})
    site.control("POST", "/ris/emit", {"event": "S15", "appointmentId": made[0]})

    def parked() -> list[Any]:
        found = site.admin("GET", "/api/channels/ris-siu-router").json["channel"]["destinations"]
        return [each for each in found if each["name"] == "athena_rest" and each["parked"]]

    wait_for(parked, "parked")
    assert [each[0] for each in booked(site).values()] == ["f"]
