"""HL7 2.5.1 towards the RIS, by the one setting: the same JSON, the messages of systems.md at that version."""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest

Site = Any
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]

EDITS = [
    ("site.yaml", 'ris: {version: "2.3"', 'ris: {version: "2.5.1"'),
    ("channels/radscheduler-book-appointment.yaml", "timeout: 20s", "timeout: 700ms"),
]


def segments(site: Site, kind: str) -> list[str]:
    """The one message of a kind that the RIS received, without the time of sending and MSH-10."""
    [sent] = site.received(kind)
    assert sent["answers"] == ["AA"]
    now = re.compile(r"\|\d{14}[+-]\d{4}\|")
    found = sent["body"].replace(sent["controlId"], "ID").rstrip("\r").split("\r")
    return [line if line.startswith("QRF") else now.sub("|NOW|", line) for line in found]


def test_locations(site: Site) -> None:
    answer = site.locations()
    assert [location["id"] for location in answer.json["locations"]] == ["DTI", "NSI"]
    message = segments(site, "QRY")
    query = message[1].split("|")[4]
    assert message == [
        r"MSH|^~\&|RADSCHED|RADORDERPAD|SYNAPSE|DTI|NOW||QRY^Q01^QRY_Q01|ID|P|2.5.1",
        f"QRD|NOW|D|I|{query}|||50^RD|ALL|OTH|LOC||T",
        "QRF|SYNAPSE||||CR",
    ]


def test_slots(site: Site, workday: Callable[..., date], local: Local) -> None:
    answer = site.slots()
    assert answer.status == 200
    assert local(9).isoformat() in [slot["start"] for slot in answer.json["slots"]]
    day, offset = f"{workday():%Y%m%d}", f"{local(9):%z}"
    assert segments(site, "QRY")[2] == f"QRF|SYNAPSE|{day}000000{offset}|{day}235959{offset}||CR"


def test_a_booking(site: Site, booking: Booking, local: Local) -> None:
    procedure = {"code": "XRCHEST2", "description": "Chest X-ray 2 views", "system": "L"}
    provider = {"npi": "1234567893", "lastName": "Smith", "firstName": "Jane"}
    notes = "Booked by SMS via RadScheduler"
    answer = site.book(booking(procedure=procedure, orderingProvider=provider, notes=notes), "newer")
    assert (answer.status, answer.json["confirmationNumber"]) == (201, "ACC778899"), answer.text
    timing = f"1^^M30^{local(9):%Y%m%d%H%M%S%z}^{local(9, 30):%Y%m%d%H%M%S%z}^R"
    npi = "1234567893^Smith^Jane^^^^^^NPI^L^^^NPI"
    assert segments(site, "ORM") == [
        r"MSH|^~\&|RADSCHED|RADORDERPAD|SYNAPSE|DTI|NOW||ORM^O01^ORM_O01|ID|P|2.5.1",
        "PID|1||MRN123456^^^DTI^MR||Doe^John^^^^^L||19800101|M",
        "PV1|1|O|DTI^XR1^^DTI",
        f"ORC|NW|ORDER123^RADSCHED||||N|{timing}||NOW|RADSCHED^RadScheduler||{npi}",
        f"OBR|1|ORDER123^RADSCHED||XRCHEST2^Chest X-ray 2 views^L||||||||||||{npi}"
        f"||DTI-XR1-{local(9):%Y%m%d%H%M}|DTI|||||CR|||{timing}",
        "NTE|1|P|Booked by SMS via RadScheduler",
    ]


def test_a_slot_that_is_taken(site: Site, booking: Booking) -> None:
    assert site.book(booking("ORDER123"), "first").status == 201
    answer = site.book(booking("ORDER128"), "second")
    assert (answer.status, answer.error["code"]) == (409, "slot_taken")
    assert answer.error["hl7"] == {"ack": "AE", "condition": "206"}
    assert answer.error["alternatives"]


@pytest.mark.parametrize(
    ("location", "condition", "application_error", "code"),
    [
        ("", 101, "SLOT_TAKEN^Slot already booked", "slot_taken"),
        ("PID-3", 204, "SLOT_TAKEN^Slot already booked", "unknown_patient"),
        ("ORC-2", 204, "UNKNOWN_ORDER^Doe^John", "unknown_order"),
        ("", 207, "", "ris_error"),
    ],
)
def test_the_location_counts_before_the_partners_own_code_and_that_before_the_condition(
    site: Site, booking: Booking, location: str, condition: int, application_error: str, code: str
) -> None:
    site.fault("error", condition=condition, location=location, application_error=application_error)
    answer = site.book(booking(), f"rule-{location}-{condition}")
    assert answer.error["code"] == code
    assert answer.error["hl7"] == {"ack": "AE", "condition": str(condition)}
    assert "Doe" not in answer.text


def test_a_notice_resolves_with_the_accession(site: Site, booking: Booking) -> None:
    site.fault("silence", act=True)
    answer = site.book(booking(), "resolved")
    assert (answer.status, answer.json["confirmationNumber"]) == (201, "ACC778899")
    assert answer.json["appointmentId"] == "APT556677"


def test_cancelling(site: Site, booking: Booking) -> None:
    assert site.book(booking("ORDER126"), "to-cancel").status == 201
    done = site.cli("ask", "radscheduler-cancel", '{"orderId": "ORDER126"}')
    assert done.returncode == 0, done.stdout
    assert site.control("GET", "/ris")["bookings"] == []


def test_a_name_with_an_umlaut(site: Site, booking: Booking) -> None:
    assert site.book(booking("ORDER127"), "umlaut").status == 201
    assert "|||||8859/1" in segments(site, "ORM")[0]
