"""Every combination of words that `ris:` of site.yaml may have: the same answers to RadScheduler in each.

`docs/ris-dialects.md` names these tests, one per cell of its table.
"""

from pathlib import Path
from typing import Any

import pytest

from engine.config import load_site
from engine.errors import ConfigError
from tests.dialects.combinations import IMPOSSIBLE, POSSIBLE, Words, named
from tests.dialects.pair import Pair, at, booking, faults_of, known_locations, open_slots, running, workday, write_site

#: Words → what the engine asks locations, slots and bookings by.
LOCATIONS = {"qry": "QRY^Q01", "mfq": "MFQ^M05"}
SLOTS = {"qry": "QRY^Q01", "sqm": "SQM^S25", "db": "QRY^Q01"}  # db asks by QRY for booked slots alone
BOOKS = {"orm": "ORM^O01", "srm": "SRM^S01", "siu": "SIU^S12"}
CANCELS = {"orm": "ORM^O01", "srm": "SRM^S04", "siu": "SIU^S15"}
DEFAULT = {"version": "2.3", "locations": "qry", "slots": "qry", "booking": "orm", "order_control": "NW"}
#: The answers of each way of booking hold other numbers: a request's answer the appointment, a notice's none at all.
CONFIRMED = {
    "orm": ("ACC778899", "filler", None),
    "srm": ("APT556677", "filler", "APT556677"),
    "siu": ("ORDER123", "placer", None),
}


@pytest.mark.parametrize("words", [pytest.param(each, id=named(each)) for each in POSSIBLE])
async def test_a_dialect(words: Words, tmp_path: Path) -> None:
    async with running(tmp_path, words) as pair:
        await locations_are_told(pair)
        await slots_are_told(pair)
        await an_order_is_booked(pair, words["booking"])
        await a_duplicate_is_read_again(pair, words)
        await a_slot_that_is_taken_is_refused(pair)
        await an_unknown_outcome_is_repeated(pair)
        await a_booking_is_cancelled(pair)
        spoken(pair, words)


async def locations_are_told(pair: Pair) -> None:
    assert await pair.get("/api/ris/locations?modality=CR") == (200, known_locations("CR"))
    assert await pair.get("/api/ris/locations") == (200, known_locations())
    assert await pair.get("/api/ris/locations?modality=PT") == (200, {"locations": []})


async def slots_are_told(pair: Pair) -> None:
    query = f"/api/ris/available-slots?date={workday()}&location=DTI"
    expected = open_slots(pair.ris, "DTI", "CR")
    assert len(expected["slots"]) > 10
    assert await pair.get(f"{query}&modality=CR") == (200, expected)
    assert await pair.get(f"{query}&modality=CR&procedure=XRCHEST2") == (200, expected)
    assert await pair.get(f"{query}&modality=XA") == (200, {"slots": []})


async def an_order_is_booked(pair: Pair, how: str) -> None:
    body = booking("ORDER123", at(9))
    status, said, _ = await pair.book(body, "first")
    number, source, appointment = CONFIRMED[how]
    assert (status, said) == (
        201,
        {
            "status": "booked",
            "confirmationNumber": number,
            "confirmationSource": source,
            "orderId": "ORDER123",
            "appointmentId": appointment,
            "appointment": {
                "locationId": "DTI",
                "locationName": "Downtown Imaging",
                "modality": "CR",
                "start": at(9).isoformat(),
                "durationMinutes": 30,
            },
        },
    )
    sent = len(pair.ris.exchanges)
    again, same, headers = await pair.book(body, "first")
    assert (again, same, headers["Idempotent-Replayed"]) == (201, said, "true")
    assert len(pair.ris.exchanges) == sent, "what is known is not asked again"


async def a_duplicate_is_read_again(pair: Pair, words: Words) -> None:
    """The RIS answers 205 under a new key: booked as it was asked for, or not."""
    before = len(pair.ris.exchanges)
    status, said, _ = await pair.book(booking("ORDER123", at(9)), "same slot")
    # SRR and SQR have the accession from 2.4 on.
    number = "APT556677" if words["slots"] == "sqm" and words["version"] in ("2.3", "2.3.1") else "ACC778899"
    assert (status, said.get("confirmationNumber"), said.get("appointmentId")) == (201, number, "APT556677")
    booked, read = pair.ris.asked()[before:]
    assert f"{booked.type}^{booked.event}" == BOOKS[words["booking"]]
    assert (f"{read.type}^{read.event}", read.value("QRD-9")) == (SLOTS[words["slots"]], "SBK")
    status, said, _ = await pair.book(booking("ORDER123", at(9, 30)), "another slot")
    assert (status, said["error"]["code"]) == (409, "order_already_booked")
    assert said["error"]["hl7"] == {"ack": "AE", "condition": "205"}
    assert len(pair.ris.bookings.active) == 1


async def a_slot_that_is_taken_is_refused(pair: Pair) -> None:
    status, said, _ = await pair.book(booking("ORDER128", at(9)), "taken")
    assert (status, said["error"]["code"]) == (409, "slot_taken")
    assert said["error"]["hl7"] == {"ack": "AE", "condition": "206"}
    assert said["error"]["alternatives"] == open_slots(pair.ris, "DTI", "DX")["slots"]


async def an_unknown_outcome_is_repeated(pair: Pair) -> None:
    pair.ris.siu.hold()  # else the notice of the booking would tell how it ended
    await pair.ris.add_fault({"fault": "drop", "act": True})
    body, before = booking("ORDER126", at(10)), len(pair.ris.exchanges)
    status, said, _ = await pair.book(body, "unknown")
    assert (status, said["error"]["code"], said["error"]["outcome"]) == (504, "ris_timeout", "unknown")
    status, said, _ = await pair.book(body, "unknown")
    assert (status, said["status"]) == (201, "booked")
    first, second = pair.ris.asked()[before:]
    assert first.control_id == second.control_id
    assert [entry["event"] for entry in pair.ris.bookings.history if entry["orderId"] == "ORDER126"] == ["S12"]


async def a_booking_is_cancelled(pair: Pair) -> None:
    assert await pair.cancel("ORDER123") == (200, {"status": "cancelled", "orderId": "ORDER123"})
    assert set(pair.ris.bookings.active) == {"ORDER126"}
    status, said = await pair.cancel("ORDER123")
    assert (status, said["error"]["code"]) == (404, "unknown_order")
    status, said, headers = await pair.book(booking("ORDER123", at(9)), "first")
    assert (status, said["status"]) == (201, "booked"), "a cancelled booking may be made again under its key"
    assert "Idempotent-Replayed" not in headers


def spoken(pair: Pair, words: Words) -> None:
    """Only this dialect was spoken, and every message keeps to the structure of its version."""
    ways = {LOCATIONS[words["locations"]], SLOTS[words["slots"]], BOOKS[words["booking"]], CANCELS[words["booking"]]}
    asked = pair.ris.asked()
    assert {f"{message.type}^{message.event}" for message in asked} == ways
    everything = pair.ris.all_messages()
    assert {message.version for message in everything} == {words["version"]}
    faults = {f"{each.type}^{each.event}: {fault}" for each in everything for fault in faults_of(each)}
    assert not faults, sorted(faults)
    for message in asked:
        numbers_are_right(message, words)


def numbers_are_right(message: Any, words: Words) -> None:
    """Whose numbers an order goes under."""
    own, known, accession = "^RADSCHED", "^ATHENA", "^SYNAPSE"
    if message.type == "ORM":
        cancels = message.value("ORC-1") == "CA"
        assert message.value("ORC-1") in (words["order_control"], "CA")
        places = ("ORC-2", "ORC-3")
    elif message.type in ("SRM", "SIU") and words["version"] not in ("2.3", "2.3.1"):
        cancels = False
        places = ("ARQ-24", "ARQ-25") if message.type == "SRM" else ("SCH-26", "SCH-27")
    else:
        return
    placer, filler = (message.read(place) or "" for place in places)
    if words["order_control"] == "NW":
        assert placer.endswith(own)
        assert filler.endswith(accession) if cancels else not filler
    else:
        assert placer.endswith(known)
        assert filler.endswith(accession)


@pytest.mark.parametrize("version", ["2.3", "2.5.1"])
@pytest.mark.parametrize("how", BOOKS)
async def test_a_notice_tells_how_a_booking_ended(how: str, version: str, tmp_path: Path) -> None:
    words = DEFAULT | {"version": version, "booking": how}
    async with running(tmp_path, words) as pair:
        pair.ris.siu.hold()
        await pair.ris.add_fault({"fault": "drop", "act": True})
        status, said, _ = await pair.book(booking("ORDER123", at(9)), "lost")
        assert (status, said["error"]["outcome"]) == (504, "unknown")
        pair.ris.siu.release()
        await pair.until_resolved("radscheduler-book-appointment")
        sent = len(pair.ris.exchanges)
        status, said, _ = await pair.book(booking("ORDER123", at(9)), "lost")
        assert (status, said["status"], said["appointmentId"]) == (201, "booked", "APT556677")
        assert len(pair.ris.exchanges) == sent, "what the notice told is not asked again"


async def test_a_duplicate_that_cannot_be_read_again_stays_one(tmp_path: Path) -> None:
    async with running(tmp_path, DEFAULT) as pair:
        assert (await pair.book(booking("ORDER123", at(9)), "first"))[0] == 201
        await pair.ris.add_fault({"fault": "error", "only": "QRY"})
        status, said, _ = await pair.book(booking("ORDER123", at(9)), "second")
        assert (status, said["error"]["code"]) == (409, "order_already_booked")
        assert "booked" not in said["error"]


async def test_vxq_is_another_word_for_qry(tmp_path: Path) -> None:
    async with running(tmp_path, DEFAULT | {"locations": "vxq", "slots": "vxq"}) as pair:
        await locations_are_told(pair)
        await slots_are_told(pair)
        assert {message.type for message in pair.ris.asked()} == {"QRY"}
        notes = [problem for problem in pair.supervisor.plan.problems if "`vxq` is taken for `qry`" in problem.message]
        assert [(note.key, note.level) for note in notes] == [("ris.locations", "note"), ("ris.slots", "note")]


@pytest.mark.parametrize("words", [pytest.param(each, id=named(each)) for each in IMPOSSIBLE])
def test_what_cannot_be_is_told(words: Words, tmp_path: Path) -> None:
    write_site(tmp_path / "site", words)
    with pytest.raises(ConfigError) as refused:
        load_site(tmp_path / "site", tmp_path / "data", {"RADSCHEDULER_API_KEY": "x", "RADSCHEDULER_TOKEN": "x"})
    (problem,) = (each for each in refused.value.problems if each.level == "error")
    assert (problem.file, problem.key) == ("site.yaml", "ris.order_control")
    assert "no place for the RIS's own order number below 2.4" in problem.message
