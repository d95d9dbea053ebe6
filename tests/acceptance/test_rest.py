"""RadScheduler's three calls as it makes them: the answers of systems.md D.1 to D.3, ids, and the messages sent."""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest

Site = Any
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]

DTI = {
    "id": "DTI",
    "name": "Downtown Imaging",
    "address": "100 Main St, Springfield, IL 62701",
    "phone": "+12175550100",
    "timezone": "America/Chicago",
    "modalities": ["CR", "DX", "US"],
}
NSI = {
    "id": "NSI",
    "name": "Northside Imaging",
    "address": "22 Oak Ave, Springfield, IL 62702",
    "phone": "+12175550122",
    "timezone": "America/Chicago",
    "modalities": ["CR", "CT", "MR"],
}


def test_locations_of_a_modality(site: Site) -> None:
    answer = site.locations("?modality=CR")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json == {"locations": [DTI, NSI], "correlationId": answer.headers["x-correlation-id"]}


def test_without_a_modality_all_locations(site: Site) -> None:
    assert [location["id"] for location in site.locations("").json["locations"]] == ["DTI", "NSI", "WSI"]


def test_no_location_is_an_empty_list(site: Site) -> None:
    answer = site.locations("?modality=PT")
    assert (answer.status, answer.json["locations"]) == (200, [])


def test_the_open_slots_of_a_day(site: Site, workday: Callable[..., date], local: Local) -> None:
    answer = site.slots(f"?location=DTI&modality=CR&date={workday()}")
    assert answer.status == 200
    at = local(9)
    slots = answer.json["slots"]
    assert answer.json["correlationId"] == answer.headers["x-correlation-id"]
    assert next(slot for slot in slots if slot["start"] == at.isoformat()) == {
        "id": f"DTI-XR1-{at:%Y%m%d%H%M}",
        "locationId": "DTI",
        "modality": "CR",
        "start": at.isoformat(),
        "end": (at + timedelta(minutes=30)).isoformat(),
        "durationMinutes": 30,
        "resource": "XR1",
    }
    shown = site.control("GET", f"/ris/slots?location=DTI&modality=CR&date={workday()}")["slots"]
    assert [slot["id"] for slot in slots] == [slot["id"] for slot in shown if slot["state"] == "open"]


def test_no_slot_is_an_empty_list(site: Site, workday: Callable[..., date]) -> None:
    answer = site.slots(f"?location=DTI&modality=MR&date={workday()}")
    assert (answer.status, answer.json["slots"]) == (200, [])


def test_a_booking(site: Site, booking: Booking, local: Local) -> None:
    procedure = {"code": "XRCHEST2", "description": "Chest X-ray 2 views", "system": "L"}
    provider = {"npi": "1234567893", "lastName": "Smith", "firstName": "Jane"}
    body = booking(procedure=procedure, orderingProvider=provider, notes="Booked by SMS via RadScheduler")
    body["patient"]["phoneHash"] = "0f" * 32
    answer = site.book(body, "first-booking")
    assert answer.status == 201, answer.text
    assert answer.json == {
        "status": "booked",
        "confirmationNumber": "ACC778899",
        "confirmationSource": "filler",
        "orderId": "ORDER123",
        "appointmentId": None,
        "appointment": {
            "locationId": "DTI",
            "locationName": "Downtown Imaging",
            "modality": "CR",
            "start": local(9).isoformat(),
            "durationMinutes": 30,
        },
        "correlationId": answer.headers["x-correlation-id"],
    }
    assert [held["orderId"] for held in site.control("GET", "/ris")["bookings"]] == ["ORDER123"]


def test_the_order_that_the_ris_gets_is_that_of_the_example(site: Site, booking: Booking, local: Local) -> None:
    procedure = {"code": "XRCHEST2", "description": "Chest X-ray 2 views", "system": "L"}
    provider = {"npi": "1234567893", "lastName": "Smith", "firstName": "Jane"}
    site.book(
        booking(procedure=procedure, orderingProvider=provider, notes="Booked by SMS via RadScheduler"), "example"
    )
    [sent] = site.received("ORM")
    start, end = f"{local(9):%Y%m%d%H%M%S}", f"{local(9, 30):%Y%m%d%H%M%S}"
    masked = re.sub(r"(\|)\d{14}(\|)", r"\1NOW\2", sent["body"]).rstrip("\r").split("\r")
    assert masked == [
        rf"MSH|^~\&|RADSCHED|RADORDERPAD|SYNAPSE|DTI|NOW||ORM^O01|{sent['controlId']}|P|2.3",
        "PID|1||MRN123456^^^DTI^MR||Doe^John||19800101|M",
        "PV1|1|O|DTI^XR1^^DTI",
        f"ORC|NW|ORDER123^RADSCHED||||N|1^^M30^{start}^{end}^R||NOW|RADSCHED^RadScheduler"
        "||1234567893^Smith^Jane^^^^^^NPI",
        "OBR|1|ORDER123^RADSCHED||XRCHEST2^Chest X-ray 2 views^L||||||||||||1234567893^Smith^Jane^^^^^^NPI"
        f"||DTI-XR1-{local(9):%Y%m%d%H%M}|DTI|||||CR|||1^^M30^{start}^{end}^R",
        "NTE|1|P|Booked by SMS via RadScheduler",
    ]
    assert re.fullmatch(r"[A-Za-z0-9]{1,20}", sent["controlId"])


def test_the_smallest_booking_takes_the_rest_from_the_order(site: Site, booking: Booking) -> None:
    body = booking("ORDER126")
    del body["durationMinutes"]
    answer = site.book(body, "smallest")
    assert (answer.status, answer.json["appointment"]["durationMinutes"]) == (201, 30)
    [sent] = site.received("ORM")
    assert "USABD^Ultrasound abdomen^L" in sent["body"]
    assert "1234567893^Smith^Jane" in sent["body"]


def test_a_name_with_an_umlaut_books(site: Site, booking: Booking) -> None:
    answer = site.book(booking("ORDER127"), "umlaut")
    assert answer.status == 201, (answer.text, site.received("ORM"))
    assert answer.json["confirmationNumber"] == "ACC778903"
    [sent] = site.received("ORM")
    charset = sent["body"].split("\r")[0].split("|")[17:18]
    encoding = {"8859/1": "latin-1", "UNICODE UTF-8": "utf-8"}[charset[0]]
    assert "|Müller^Eva|" in sent["body"].encode("latin-1").decode(encoding)


def test_a_patient_of_another_location_may_be_booked_there(site: Site, booking: Booking) -> None:
    answer = site.book(booking(location="NSI", room="XR1"), "elsewhere")
    assert (answer.status, answer.json["appointment"]["locationName"]) == (201, "Northside Imaging")


# -- correlation ids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["try-1", "A.b_c-9", "x" * 64])
def test_a_correlation_id_is_echoed(site: Site, given: str) -> None:
    answer = site.locations(headers={"X-Correlation-ID": given})
    assert answer.headers["x-correlation-id"] == answer.json["correlationId"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "with blank", 'quote"d', "umläut", "semi;colon", "Doe^John"])
def test_what_is_no_correlation_id_is_replaced_and_kept_nowhere(site: Site, given: str) -> None:
    answer = site.locations(headers={"X-Correlation-ID": given})
    made = answer.headers["x-correlation-id"]
    assert answer.status == 200
    assert made == answer.json["correlationId"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made)
    assert not given or given not in site.engine_log.read_text()


def test_without_a_correlation_id_every_answer_has_a_new_one(site: Site) -> None:
    assert len({site.locations().headers["x-correlation-id"] for _ in range(3)}) == 3


def test_an_error_carries_the_correlation_id_too(site: Site) -> None:
    answer = site.slots("?location=DTI", headers={"X-Correlation-ID": "lost-1"})
    assert answer.headers["x-correlation-id"] == answer.error["correlationId"] == "lost-1"


def test_one_command_shows_every_hop_of_a_booking(site: Site, booking: Booking, wait_for: Callable[..., Any]) -> None:
    site.book(booking("ORDER128"), "traced", headers={"X-Correlation-ID": "trace-1"})
    [sent] = site.received("ORM")
    done = site.cli("trace", "trace-1", "--json")
    assert done.returncode == 0, done.stderr
    assert sent["controlId"] in done.stdout
    [message] = site.messages(correlation_id="trace-1")
    assert message["channel"] == "radscheduler-book-appointment"
    [delivery] = message["deliveries"]
    assert delivery["state"] == "delivered"
    [found] = site.messages(control_id=sent["controlId"])
    assert found["id"] == message["id"]
    assert {line.get("correlation_id") for line in site.log_lines() if line.get("message_id") == message["id"]} == {
        "trace-1"
    }


# -- what is told to whom ------------------------------------------------------------------------------------------


def test_health_is_open_and_says_what_runs(site: Site) -> None:
    answer = site.health()
    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert set(answer.json["channels"].values()) == {"running"}


def test_the_admin_api_wants_its_key(site: Site) -> None:
    assert site.admin("GET", "/api/channels").status == 200
    assert site.rest("GET", "/api/ris/locations", key=site.secret("HL7ENGINE_ADMIN_KEY")).status == 401


def test_what_is_not_there_is_a_404_in_the_one_shape(site: Site) -> None:
    answer = site.rest("GET", "/api/ris/patients/MRN123456")
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert "MRN123456" not in answer.text


def test_another_method_is_a_405(site: Site) -> None:
    answer = site.rest("DELETE", "/api/ris/book-appointment")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/metrics", "/health", "/api/status"])
def test_no_door_that_needs_no_key_tells_of_a_patient(site: Site, booking: Booking, path: str) -> None:
    site.book(booking("ORDER124"), "planted")
    for port in ("REST", "ADMIN"):
        text = site.call(port, "GET", path).text
        assert "ORDER124" not in text
        assert "MRN123457" not in text
        assert "Roe" not in text


def test_views_of_the_command_line_show_no_content_unless_asked(site: Site, booking: Booking) -> None:
    answer = site.book(booking("ORDER125"), "viewed", headers={"X-Correlation-ID": "viewed-1"})
    assert answer.status == 201
    [message] = site.messages(correlation_id="viewed-1")
    plain = site.cli("message", str(message["id"]))
    assert plain.returncode == 0
    assert "Poe" not in plain.stdout
    assert "MRN123458" not in plain.stdout
    bodies = site.cli("message", str(message["id"]), "--bodies")
    assert "Poe^Edgar" in bodies.stdout
