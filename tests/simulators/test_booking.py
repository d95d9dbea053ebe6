"""Booking, moving and cancelling at the RIS: shapes, double booking, de-duplication, and each refusal."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.simulators import Ris
from engine.simulators.wire import Message, parse

Sample = Callable[..., bytes]
Change = Callable[[bytes, dict[str, str]], bytes]
Lines = Callable[[bytes], list[str]]
VERSIONS = ["v23", "v251"]
NEW_ID = {"MSH-10": "RS0000000099"}
TIME_0930 = "1^^M30^20250116093000^20250116100000^R"
SLOT_0930 = {"OBR-18": "DTI-XR1-202501160930", "ORC-7": TIME_0930, "OBR-27": TIME_0930}
#: ORDER128 (DX) competes with ORDER123 (CR) for the room DTI-XR1.
ORDER128 = NEW_ID | {
    "PID-3": "MRN123461^^^DTI^MR", "PID-5": "Loe^Sam", "PID-7": "20010515", "ORC-2": "ORDER128^RADSCHED",
    "OBR-2": "ORDER128^RADSCHED", "OBR-4": "XRWRIST^X-ray wrist^L", "OBR-24": "DX",
}  # fmt: skip


def only(ris: Ris, message: bytes) -> bytes:
    (answer,) = ris.handle(message)
    return answer


def told(answer: Message) -> tuple[str, str, str]:
    """Acknowledgement, condition and place, wherever the version has them."""
    place = answer.raw("ERR-2") or "^".join(answer.raw("ERR-1").split("^")[:3])
    return answer.text("MSA-1"), answer.text("ERR-3") or answer.text("MSA-6"), place


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("request_name", "answer_name"), [("B1_ORM_O01", "B2_ORR_O02_AA"), ("B6_SRM_S01", "B7_SRR_S01_AA")]
)
def test_a_booking_is_accepted_in_the_samples_shape(
    ris: Ris, sample: Sample, lines: Lines, version: str, request_name: str, answer_name: str
) -> None:
    answer = only(ris, sample(f"{request_name}_{version}"))
    assert lines(answer) == lines(sample(f"{answer_name}_{version}"))
    assert [item["slotId"] for item in ris.describe()["bookings"]] == ["DTI-XR1-202501160900"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_plain_ack_mode_gives_the_accession_at_23_only(
    make_ris: Callable[..., Awaitable[Ris]], sample: Sample, lines: Lines, version: str
) -> None:
    ris = await make_ris(plain_ack=True)
    assert lines(only(ris, sample(f"B1_ORM_O01_{version}"))) == lines(sample(f"B3_ACK_AA_{version}"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("request_name", "answer_name"), [("B1_ORM_O01", "B4_ORR_taken"), ("B6_SRM_S01", "B8_SRR_S01_AE")]
)
def test_a_taken_slot_is_refused_in_the_samples_shape(
    ris: Ris, sample: Sample, change: Change, lines: Lines, version: str, request_name: str, answer_name: str
) -> None:
    other = change(sample("B1_ORM_O01_v23"), ORDER128)
    assert parse(only(ris, other)).text("MSA-1") == "AA"
    assert lines(only(ris, sample(f"{request_name}_{version}"))) == lines(sample(f"{answer_name}_{version}"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rejection_has_the_samples_shape(
    ris: Ris, sample: Sample, change: Change, lines: Lines, version: str
) -> None:
    unsupported = "2.3.0" if version == "v23" else "2.6"
    answer = only(ris, change(sample(f"B1_ORM_O01_{version}"), {"MSH-12": unsupported}))
    expected = change(sample(f"B5_ACK_AR_{version}"), {"MSH-12": unsupported})
    if version == "v23":
        expected = change(expected, {"MSH-9": parse(answer).raw("MSH-9")})
    assert lines(answer) == lines(expected)


def test_of_two_bookings_of_one_slot_exactly_one_is_accepted(ris: Ris, sample: Sample, change: Change) -> None:
    first = parse(only(ris, sample("B1_ORM_O01_v23")))
    second = parse(only(ris, change(sample("B1_ORM_O01_v23"), ORDER128)))
    assert [first.text("MSA-1"), *told(second)] == ["AA", "AE", "206", "OBR^1^18"]
    assert len(ris.describe()["bookings"]) == 1


async def test_two_connections_at_the_same_moment_book_once(
    ris: Ris, sample: Sample, change: Change, connect: Callable[..., Awaitable[Any]]
) -> None:
    one, two = await connect(ris.port), await connect(ris.port)
    await one.send(sample("B1_ORM_O01_v23"))
    await two.send(change(sample("B1_ORM_O01_v23"), ORDER128))
    answers = [parse(await one.answer()), parse(await two.answer())]
    assert sorted(answer.text("MSA-1") for answer in answers) == ["AA", "AE"]


def test_the_same_message_gets_the_same_bytes_and_books_once(ris: Ris, sample: Sample, change: Change) -> None:
    first = ris.handle(sample("B1_ORM_O01_v23"))
    again = ris.handle(change(sample("B1_ORM_O01_v23"), {"MSH-7": "20250115083299"}))
    assert first == again
    state = ris.describe()
    [happened] = state["history"]
    assert happened["controlId"] == parse(ris.siu.waiting[-1].data).text("MSH-10")
    assert [entry["duplicate"] for entry in state["received"]] == [False, True]


def test_a_control_id_of_another_message_is_refused(ris: Ris, sample: Sample, change: Change) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    answer = parse(only(ris, change(sample("B1_ORM_O01_v23"), SLOT_0930)))
    assert told(answer) == ("AE", "205", "MSH^1^10")


@pytest.mark.parametrize("fields", [{}, SLOT_0930], ids=["same slot", "other slot"])
def test_an_order_is_booked_once(ris: Ris, sample: Sample, change: Change, fields: dict[str, str]) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    answer = parse(only(ris, change(sample("B1_ORM_O01_v23"), NEW_ID | fields)))
    assert told(answer) == ("AE", "205", "ORC^1^2")
    assert "MRN123456" in answer.text("MSA-3")


@pytest.mark.parametrize("control", ["XO", "SC"])
def test_a_known_order_is_scheduled_under_its_own_numbers(
    ris: Ris, sample: Sample, change: Change, control: str
) -> None:
    own = {"ORC-1": control, "ORC-2": "ORDER123^ATHENA", "OBR-2": "ORDER123^ATHENA"}
    numbers = {"ORC-3": "ACC778899^SYNAPSE", "OBR-3": "ACC778899^SYNAPSE"}
    assert told(parse(only(ris, change(sample("B1_ORM_O01_v23"), NEW_ID | own)))) == ("AE", "204", "ORC^1^2")
    answer = parse(only(ris, change(sample("B1_ORM_O01_v23"), own | numbers)))
    assert (answer.text("MSA-1"), answer.raw("ORC-2")) == ("AA", "ORDER123^ATHENA")
    assert [item["orderId"] for item in ris.describe()["bookings"]] == ["ORDER123"]


def test_a_cancellation_frees_slot_and_order(ris: Ris, sample: Sample, change: Change) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    answer = parse(only(ris, sample("B9_ORM_CA_v23")))
    assert answer.kind == "ORR^O02"
    assert [answer.text(path) for path in ("MSA-1", "ORC-1", "ORC-3", "ORC-5")] == ["AA", "CR", "ACC778899", "CA"]
    again = parse(only(ris, change(sample("B1_ORM_O01_v23"), NEW_ID)))
    assert again.text("MSA-1") == "AA"
    assert [item["appointmentId"] for item in ris.describe()["bookings"]] == ["APT556678"]


def test_cancelling_what_is_not_booked_is_refused(ris: Ris, sample: Sample) -> None:
    assert told(parse(only(ris, sample("B9_ORM_CA_v23")))) == ("AE", "204", "ORC^1^2")


def test_an_order_with_an_umlaut_is_booked_in_the_requests_charset(ris: Ris, sample: Sample, change: Change) -> None:
    timing = "1^^M45^20250116070000^20250116074500^R"
    order = {
        "MSH-6": "WSI", "PID-3": "MRN123460^^^WSI^MR", "PID-5": "Müller^Eva", "PID-7": "19710930", "PID-8": "F",
        "PV1-3": "WSI^MG1^^WSI", "ORC-2": "ORDER127^RADSCHED", "OBR-2": "ORDER127^RADSCHED", "ORC-7": timing,
        "OBR-27": timing, "OBR-18": "WSI-MG1-202501160700", "OBR-19": "WSI", "OBR-24": "MG",
    }  # fmt: skip
    for number, charset in enumerate(("8859/1", "UNICODE UTF-8")):
        message = change(sample("B1_ORM_O01_v23"), {"MSH-18": charset, "MSH-10": f"RS{number}"} | order)
        answer = parse(only(ris, message))
        assert (answer.text("MSA-1"), answer.raw("MSH-18"), answer.text("PID-5")) == ("AA", charset, "Müller")
        assert parse(only(ris, cancel_of(message, f"RC{number}"))).text("MSA-1") == "AA"


def cancel_of(booking: bytes, control_id: str) -> bytes:
    """CA for the order of this booking: MSH, PID and ORC of it."""
    lines = booking.split(b"\r")
    lines[0] = lines[0].replace(b"|RS", b"|RC")
    assert control_id.encode() in lines[0]
    orc = lines[3].replace(b"ORC|NW", b"ORC|CA")
    return b"\r".join([lines[0], lines[1], orc, b""])


def test_srm_moves_modifies_and_cancels(ris: Ris, sample: Sample, change: Change) -> None:
    request = sample("B6_SRM_S01_v251")
    ris.handle(request)
    moved = {"ARQ-2": "DTI-XR1-202501161000^SYNAPSE", "ARQ-11": "20250116100000-0600^20250116103000-0600"}
    later = {"AIS-4": "20250116100000-0600", "AIL-6": "20250116100000-0600"}
    events = [("S02", moved | later), ("S03", {}), ("S04", {})]
    answers = [
        parse(only(ris, change(request, {"MSH-9": f"SRM^{event}^SRM_S01", "MSH-10": f"RS{event}"} | fields)))
        for event, fields in events
    ]
    assert [(item.kind, item.text("MSA-1"), item.text("SCH-25")) for item in answers] == [
        ("SRR^S02", "AA", "Booked"),
        ("SRR^S03", "AA", "Booked"),
        ("SRR^S04", "AA", "Cancelled"),
    ]
    history = [(entry["event"], entry["slotId"][-4:]) for entry in ris.describe()["history"]]
    assert history == [("S12", "0900"), ("S13", "1000"), ("S14", "1000"), ("S15", "1000")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("fields", "condition", "place"),
    [
        ({"PID-5": ""}, "101", "PID^1^5"),
        ({"PID-3": ""}, "101", "PID^1^3"),
        ({"PID-3": "MRN999999^^^DTI^MR"}, "204", "PID^1^3"),
        ({"PID-3": "MRN123456^^^NSI^MR"}, "204", "PID^1^3"),
        ({"PID-3": "MRN123456^^^DTI"}, "103", "PID^1^3"),
        ({"PID-5": "Doe^Jack"}, "204", "PID^1^5"),
        ({"PID-7": "1980"}, "102", "PID^1^7"),
        ({"PID-7": "19800102"}, "204", "PID^1^7"),
        ({"PID-8": "X"}, "103", "PID^1^8"),
        ({"PV1-2": "I"}, "103", "PV1^1^2"),
        ({"PV1-3": "ZZZ^XR1^^ZZZ"}, "204", "PV1^1^3"),
        ({"PV1-3": "NSI^XR1^^NSI"}, "103", "OBR^1^18"),
        ({"PV1-3": "DTI^US1^^DTI"}, "103", "PV1^1^3"),
        ({"PV1-3": "DTI^XR1"}, "101", "PV1^1^3"),
        ({"ORC-1": "ZZ"}, "103", "ORC^1^1"),
        ({"ORC-2": ""}, "101", "ORC^1^2"),
        ({"ORC-2": "ORDER999^RADSCHED", "OBR-2": "ORDER999^RADSCHED"}, "204", "ORC^1^2"),
        ({"ORC-2": "ORDER123^ATHENA", "OBR-2": "ORDER123^ATHENA"}, "103", "ORC^1^2"),
        ({"ORC-3": "ACC778899^SYNAPSE"}, "103", "ORC^1^3"),
        ({"ORC-6": "X"}, "103", "ORC^1^6"),
        ({"OBR-2": "ORDER124^RADSCHED"}, "103", "OBR^1^2"),
        ({"OBR-4": ""}, "101", "OBR^1^4"),
        ({"OBR-18": ""}, "101", "OBR^1^18"),
        ({"OBR-18": "DTI-XR1-202501160915"}, "103", "OBR^1^18"),
        ({"OBR-18": "DTI-XR1-202501160930"}, "103", "ORC^1^7"),
        ({"OBR-19": "NSI"}, "103", "OBR^1^19"),
        ({"OBR-24": ""}, "101", "OBR^1^24"),
        ({"OBR-24": "ZZ"}, "103", "OBR^1^24"),
        ({"OBR-24": "DX"}, "103", "OBR^1^24"),
        ({"OBR-27": ""}, "103", "OBR^1^27"),
        ({"ORC-7": "1^^M30^^^R"}, "101", "ORC^1^7"),
        ({"MSH-18": "8859/99"}, "102", "MSH^1^18"),
    ],
)
def test_a_wrong_booking_is_refused_and_changes_nothing(
    ris: Ris, sample: Sample, change: Change, version: str, fields: dict[str, str], condition: str, place: str
) -> None:
    answer = parse(only(ris, change(sample(f"B1_ORM_O01_{version}"), fields)))
    assert told(answer) == ("AE", condition, place)
    assert answer.kind == ("ORR^O02" if not place.startswith("MSH") else answer.kind)
    assert ris.describe()["bookings"] == []


@pytest.mark.parametrize(
    ("slot", "timing", "condition"),
    [
        ("DTI-XR1-202501161200", "1^^M30^20250116120000^20250116123000^R", "206"),
        ("DTI-XR1-202501140900", "1^^M30^20250114090000^20250114093000^R", "102"),
        ("DTI-XR1-202501160900", "1^^M45^20250116090000^20250116093000^R", "103"),
        ("DTI-XR1-202501160900", "1^^M30^20250116090000-0600^20250116093000-0600^R", "102"),
    ],
    ids=["blocked", "past", "other duration", "offset at 2.3"],
)
def test_times_that_cannot_be_booked(
    ris: Ris, sample: Sample, change: Change, slot: str, timing: str, condition: str
) -> None:
    fields = {"OBR-18": slot, "ORC-7": timing, "OBR-27": timing}
    assert told(parse(only(ris, change(sample("B1_ORM_O01_v23"), fields))))[:2] == ("AE", condition)


@pytest.mark.parametrize(
    ("fields", "condition", "place"),
    [
        ({"ARQ-1": "ORDER999^RADSCHED", "ARQ-24": "ORDER999^RADSCHED"}, "204", "ARQ^1^1"),
        ({"ARQ-1": "ORDER123^ATHENA", "ARQ-24": "ORDER123^ATHENA"}, "103", "ARQ^1^1"),
        ({"ARQ-2": ""}, "101", "ARQ^1^2"),
        ({"ARQ-2": "DTI-XR1-202501160930^SYNAPSE"}, "103", "ARQ^1^11"),
        ({"ARQ-9": "45"}, "103", "ARQ^1^9"),
        ({"ARQ-15": ""}, "101", "ARQ^1^15"),
        ({"ARQ-22": "ORDER123^RADSCHED"}, "103", "ARQ^1^22"),
        ({"ARQ-24": ""}, "101", "ARQ^1^24"),
        ({"AIS-4": "20250116093000-0600"}, "103", "AIS^1^4"),
        ({"AIL-3": "ZZZ^XR1^^ZZZ"}, "204", "AIL^1^3"),
        ({"PID-3": "MRN1^^^DTI^MR"}, "204", "PID^1^3"),
        ({"PID-5": ""}, "101", "PID^1^5"),
    ],
)
def test_a_wrong_schedule_request_is_refused(
    ris: Ris, sample: Sample, change: Change, fields: dict[str, str], condition: str, place: str
) -> None:
    answer = parse(only(ris, change(sample("B6_SRM_S01_v251"), fields)))
    assert told(answer) == ("AE", condition, place)
    assert answer.kind == "SRR^S01"


def test_refusals_of_patients_name_them_as_real_systems_do(ris: Ris, sample: Sample, change: Change) -> None:
    answer = parse(only(ris, change(sample("B1_ORM_O01_v251"), {"PID-5": "Doe^Jack"})))
    assert "Doe, John (MRN123456)" in answer.text("ERR-8")


def test_in_enhanced_mode_the_accept_level_comes_first(ris: Ris, sample: Sample, change: Change) -> None:
    both = change(sample("B1_ORM_O01_v251"), {"MSH-15": "AL", "MSH-16": "AL"})
    answers = [parse(answer) for answer in ris.handle(both)]
    assert [(item.kind, item.text("MSA-1")) for item in answers] == [("ACK^O01", "CA"), ("ORR^O02", "AA")]


def test_without_an_application_level_only_ca_comes(ris: Ris, sample: Sample, change: Change) -> None:
    accept = change(sample("B1_ORM_O01_v251"), {"MSH-15": "AL", "MSH-16": "NE"})
    assert [parse(answer).text("MSA-1") for answer in ris.handle(accept)] == ["CA"]
