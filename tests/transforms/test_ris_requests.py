"""What goes to the RIS for each call of RadScheduler: the bytes of systems.md D.1 to D.3, in both HL7 versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from engine.cache import CacheForget, CachePut
from engine.envelope import Envelope
from engine.errors import Refused, Unmappable
from engine.hl7.message import Message
from engine.transforms.base import Verdict

Sample = Callable[[str], bytes]
Make = Callable[..., Envelope]

BOOKING = {
    "orderId": "ORDER123",
    "slotId": "DTI-XR1-202501160900",
    "locationId": "DTI",
    "modality": "CR",
    "start": "2025-01-16T09:00:00-06:00",
    "durationMinutes": 30,
    "patient": {"mrn": "MRN123456"},
    "procedure": {"code": "XRCHEST2", "description": "Chest X-ray 2 views", "system": "L"},
    "orderingProvider": {"npi": "1234567893", "lastName": "Smith", "firstName": "Jane"},
    "notes": "Booked by SMS via RadScheduler",
}


class Site:
    """The site's channels at a time of day, with the order of O1 in the cache."""

    def __init__(self, kit: SimpleNamespace, version: str, now: str, ris: Mapping[str, str] | None = None) -> None:
        self.loading = kit.Loading()
        self.loading.site["ris"].update({"version": version, **(ris or {})})
        self.context = kit.Context(datetime.fromisoformat(now))
        self.folder = kit.SITE

    def channel(self, name: str) -> Any:
        return yaml.safe_load((self.folder / "channels" / f"{name}.yaml").read_text("utf-8"))

    def send(self, name: str, envelope: Envelope) -> Message:
        """What the channel sends for a request."""
        verdict = self.loading.chain(self.channel(name)["transform"], ()).run(envelope, self.context)
        assert verdict is Verdict.CONTINUE
        assert isinstance(envelope.body, Message)
        return envelope.body

    def remember(self, envelope: Envelope) -> None:
        """Take an order of the RIS in, as ris-orders does."""
        self.loading.chain(self.channel("ris-orders")["transform"], ()).run(envelope, self.context)
        for effect in self.context.effects:
            if isinstance(effect, CachePut):
                self.context.cache[(effect.cache, effect.key)] = effect.value
            elif isinstance(effect, CacheForget):
                self.context.cache.pop((effect.cache, effect.key), None)
        self.context.effects.clear()


VERSIONS = [("2.3", "v23"), ("2.5.1", "v251")]


def _same(message: Message, expected: bytes, *places: str) -> None:
    """The bytes are those of the example, but for the ids of the engine and ``places``."""
    example = Message.parse(expected)
    for place in ("MSH-10", *places):
        assert message.value(place)
        message.write(place, example.read(place) or "")
    assert message.to_bytes() == expected


@pytest.mark.parametrize(("version", "suffix"), VERSIONS)
def test_locations_are_asked_for(
    version: str, suffix: str, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, version, "2025-01-15T08:30:00-05:00")
    message = site.send("radscheduler-locations", envelope(None, query={"modality": "CR"}))
    assert len(message.value("QRD-4")) == 10
    _same(message, sample(f"L1_QRY_Q01_{suffix}"), "QRD-4")


def test_locations_of_every_modality_are_asked_for_without_a_filter(kit: SimpleNamespace, envelope: Make) -> None:
    message = Site(kit, "2.3", "2025-01-15T08:30:00-05:00").send("radscheduler-locations", envelope(None))
    assert message.read("QRF-1") == "SYNAPSE"
    assert not message.read("QRF-5")


def test_a_master_file_query_asks_for_locations_too(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.5.1", "2025-01-15T08:30:00-05:00", {"locations": "mfq"})
    message = site.send("radscheduler-locations", envelope(None, query={"modality": "CR"}))
    _same(message, sample("L5_MFQ_M05_v251"), "QRD-4")


@pytest.mark.parametrize(("version", "suffix"), VERSIONS)
def test_slots_are_asked_for_the_calendar_day_of_the_location(
    version: str, suffix: str, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, version, "2025-01-15T08:31:00-05:00")
    query = {"location": "DTI", "modality": "CR", "date": "2025-01-16"}
    _same(
        site.send("radscheduler-available-slots", envelope(None, query=query)), sample(f"S1_QRY_Q01_{suffix}"), "QRD-4"
    )


@pytest.mark.parametrize(("version", "suffix"), VERSIONS)
def test_slots_may_be_asked_for_in_the_words_of_scheduling(
    version: str, suffix: str, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, version, "2025-01-15T08:31:00-05:00", {"slots": "sqm"})
    query = {"location": "DTI", "modality": "CR", "date": "2025-01-16", "procedure": "XRCHEST2"}
    message = site.send("radscheduler-available-slots", envelope(None, query=query))
    assert message.read("ARQ-1.1") == message.read("QRD-4")
    _same(message, sample(f"S4_SQM_S25_{suffix}"), "QRD-4", "ARQ-1.1")
    del query["procedure"]
    assert "AIS" not in site.send("radscheduler-available-slots", envelope(None, query=query)).names()


def test_a_day_has_its_own_offsets_when_the_clocks_change(kit: SimpleNamespace, envelope: Make) -> None:
    site = Site(kit, "2.5.1", "2025-03-01T08:31:00-05:00")
    query = {"location": "DTI", "modality": "CR", "date": "2025-03-09"}
    message = site.send("radscheduler-available-slots", envelope(None, query=query))
    assert message.read("QRF-2") == "20250309000000-0600"
    assert message.read("QRF-3") == "20250309235959-0500"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"location": "ZZZ", "modality": "CR", "date": "2025-01-16"}, "unknown_location"),
        ({"location": "DTI", "modality": "CR", "date": "2025-01-14"}, "invalid_date"),
    ],
)
def test_a_slot_query_that_cannot_be_is_refused(
    query: dict[str, str], code: str, kit: SimpleNamespace, envelope: Make
) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:31:00-05:00")
    with pytest.raises(Refused) as refused:
        site.send("radscheduler-available-slots", envelope(None, query=query))
    assert refused.value.code == code


def test_today_is_the_locations_today(kit: SimpleNamespace, envelope: Make) -> None:
    # Half past midnight at the engine's host is still the evening before in Chicago.
    site = Site(kit, "2.3", "2025-01-16T00:30:00-05:00")
    query = {"location": "DTI", "modality": "CR", "date": "2025-01-15"}
    assert site.send("radscheduler-available-slots", envelope(None, query=query)).type == "QRY"


@pytest.mark.parametrize(("version", "suffix"), VERSIONS)
def test_an_order_is_booked_into_a_slot(
    version: str, suffix: str, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, version, "2025-01-15T08:32:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    message = site.send("radscheduler-book-appointment", envelope(None, request=BOOKING))
    _same(message, sample(f"B1_ORM_O01_{suffix}"))


@pytest.mark.parametrize(("version", "suffix"), VERSIONS)
def test_an_appointment_may_be_asked_for_instead(
    version: str, suffix: str, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, version, "2025-01-15T08:32:00-05:00", {"booking": "srm"})
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    body = {name: value for name, value in BOOKING.items() if name != "notes"}
    message = site.send("radscheduler-book-appointment", envelope(None, request=body))
    _same(message, sample(f"B6_SRM_S01_{suffix}"))


def test_an_order_is_booked_with_what_the_cache_knows(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:32:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    short = {name: BOOKING[name] for name in ("orderId", "slotId", "locationId", "modality", "start", "patient")}
    message = site.send("radscheduler-book-appointment", envelope(None, request=short | {"slotId": "opaque/1"}))
    assert message.names() == ["MSH", "PID", "PV1", "ORC", "OBR"]
    assert message.read("OBR-4") == "XRCHEST2^Chest X-ray 2 views^L"
    assert message.read("ORC-12") == "1234567893^Smith^Jane^^^^^^NPI"
    assert message.read("ORC-7") == "1^^M30^20250116090000^20250116093000^R"
    assert message.read("PV1-3") == "DTI^^^DTI"
    assert message.read("OBR-18") == "opaque/1"


def test_an_order_of_the_ris_is_changed_instead_of_doubled(
    kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:32:00-05:00", {"order_control": "XO"})
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    message = site.send("radscheduler-book-appointment", envelope(None, request=BOOKING))
    assert [message.read(f"ORC-{number}") for number in (1, 2, 3)] == ["XO", "ORDER123^ATHENA", "ACC778899^SYNAPSE"]
    assert message.read("OBR-3") == "ACC778899^SYNAPSE"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"locationId": "ZZZ"}, "unknown_location"),
        ({"orderId": "ORDER999"}, "unknown_order"),
        ({"patient": {"mrn": "MRN000000"}}, "order_patient_mismatch"),
        ({"locationId": "NSI"}, "inconsistent_request"),
        ({"modality": "US"}, "inconsistent_request"),
        ({"modality": "PT"}, "inconsistent_request"),
        ({"start": "2025-01-16T09:30:00-06:00"}, "inconsistent_request"),
        ({"start": "2025-02-30T09:30:00-06:00"}, "invalid_date"),
        ({"start": "0001-01-01T00:00:00Z"}, "invalid_date"),
        ({"start": "9999-12-31T23:59:00-06:00"}, "invalid_date"),
    ],
)
def test_a_booking_that_cannot_be_is_refused(
    change: dict[str, Any], code: str, kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:32:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    with pytest.raises(Refused) as refused:
        site.send("radscheduler-book-appointment", envelope(None, request=BOOKING | change))
    assert refused.value.code == code


def test_the_same_moment_in_another_offset_fits(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:32:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    message = site.send(
        "radscheduler-book-appointment", envelope(None, request=BOOKING | {"start": "2025-01-16T15:00:00Z"})
    )
    assert message.read("ORC-7.4") == "20250116090000"


def test_delimiters_in_a_request_cannot_reach_other_fields(
    kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:32:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    notes = "one|two^three~four&five\\six\rPID|9"
    message = site.send("radscheduler-book-appointment", envelope(None, request=BOOKING | {"notes": notes}))
    assert message.names().count("PID") == 1
    assert Message.parse(message.to_bytes()).value("NTE-3") == notes


def test_free_text_gives_way_to_the_charset_and_a_name_never_does(
    kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:32:00-05:00")
    request = BOOKING | {"notes": "X‑ray – booked by SMS"}
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    message = site.send("radscheduler-book-appointment", envelope(None, request=request))
    assert b"NTE|1|P|X?ray ? booked by SMS\r" in message.to_bytes()
    undeclared = sample("O1_ORM_order_from_RIS_v23").replace(b"Doe^John", "Müller^Eva".encode("latin-1"))
    site.remember(envelope(undeclared))
    message = site.send("radscheduler-book-appointment", envelope(None, request=request))
    with pytest.raises(Unmappable):
        message.to_bytes()


def test_a_booking_is_taken_back(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.3", "2025-01-15T09:00:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    _same(site.send("radscheduler-cancel", envelope(None, request={"orderId": "ORDER123"})), sample("B9_ORM_CA_v23"))


@pytest.mark.parametrize(("request_", "code"), [({}, "missing_parameter"), ({"orderId": "X"}, "unknown_order")])
def test_a_cancellation_of_nothing_is_refused(
    request_: dict[str, str], code: str, kit: SimpleNamespace, envelope: Make
) -> None:
    with pytest.raises(Refused) as refused:
        Site(kit, "2.3", "2025-01-15T09:00:00-05:00").send("radscheduler-cancel", envelope(None, request=request_))
    assert refused.value.code == code


def test_the_cache_keeps_no_telephone_number(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:00:00-05:00")
    site.remember(envelope(sample("O1_ORM_order_from_RIS_v23")))
    record = json.loads(site.context.cache[("orders", "ORDER123")])
    assert "555" not in json.dumps(record)
    assert (record["mrn"], record["authority"], record["name"]) == ("MRN123456", "DTI", "Doe^John")
    assert (record["filler"], record["placer_namespace"]) == ("ACC778899", "ATHENA")


@pytest.mark.parametrize("control", ["CA", "OC"])
def test_a_cancelled_order_is_forgotten(control: str, kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:00:00-05:00")
    order = sample("O1_ORM_order_from_RIS_v23")
    site.remember(envelope(order))
    site.remember(envelope(order.replace(b"ORC|NW", f"ORC|{control}".encode())))
    assert not site.context.cache


def test_the_webhook_hears_of_an_order(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    site = Site(kit, "2.3", "2025-01-15T08:00:00-05:00")
    received = envelope(sample("O1_ORM_order_from_RIS_v23"))
    (destination,) = site.channel("ris-orders")["destinations"]
    site.loading.chain(destination["transform"], ()).run(received, site.context)
    assert received.body == {
        "orderId": "ORDER123",
        "event": "new",
        "accession": "ACC778899",
        "mrn": "MRN123456",
        "facility": "DTI",
        "modality": "CR",
        "procedure": {"code": "XRCHEST2", "description": "Chest X-ray 2 views"},
        "orderingPractice": "ATHENA",
        "phone": "+12175550111",
        "receivedAt": "2025-01-15T08:32:04-05:00",
        "correlationId": "corr-1",
    }
    assert destination["secret"] == ["phone"]
