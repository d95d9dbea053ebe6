"""Acknowledgements are made in the version of the request: every example of the exchange is made again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from engine.hl7.ack import CONDITIONS, AckCode, make_ack
from engine.hl7.answer import read_ack
from engine.hl7.header import Header
from engine.hl7.message import Message
from engine.hl7.modes import AcceptMode, Wanted

NOW = datetime(2025, 1, 15, 8, 32, 2, tzinfo=timezone(timedelta(hours=-5)))
Sample = Callable[[str], bytes]

# Example, the request it answers, the request's MSH-10 if that was set when it was sent, and what is refused.
EXAMPLES: list[tuple[str, str, str, str, tuple[int | None, str | None, str | None]]] = [
    ("B3_ACK_AA_v23", "B1_ORM_O01_v23", "", "AA", (None, None, None)),
    ("B3_ACK_AA_v251", "B1_ORM_O01_v251", "", "AA", (None, None, None)),
    ("B5_ACK_AR_v23", "B1_ORM_O01_v23", "", "AR", (203, None, None)),
    ("B5_ACK_AR_v251", "B1_ORM_O01_v251", "", "AR", (203, "MSH^1^12", None)),
    ("L4_ACK_AE_v23", "L1_QRY_Q01_v23", "", "AE", (103, "QRF^1^5", None)),
    ("L4_ACK_AE_v251", "L1_QRY_Q01_v251", "", "AE", (103, "QRF-5", "UNKNOWN_MODALITY")),
    ("S8_ACK_AE_badlocation_v23", "S1_QRY_Q01_v23", "", "AE", (204, "QRD^1^10", None)),
    ("S8_ACK_AE_badlocation_v251", "S1_QRY_Q01_v251", "", "AE", (204, "QRD-10", "UNKNOWN_LOCATION")),
    ("N4_ACK_SIU_AA_v23", "P_epic_S12", "EN0000000101", "AA", (None, None, None)),
    ("N4_ACK_SIU_AE_v251", "P_cerner_S12", "EN0000000102", "AE", (204, "PID^1^3", None)),
    ("N5_ACK_CA_v251", "N5_SIU_S12_enhanced_v251", "", "CA", (None, None, None)),
    ("N5_ACK_CE_v251", "N5_SIU_S12_enhanced_v251", "", "CE", (101, "SCH-2", None)),
]

# What an example may say in free text, and the two fields that differ by nature.
FREE = ("MSA-3", "ERR-5.2", "ERR-5.3", "ERR-7", "ERR-8", "MSH-7", "MSH-10")


def _comparable(raw: bytes) -> str:
    message = Message.parse(raw)
    for path in FREE:
        if message.read(path):
            message.delete(path)
    return message.text


@pytest.mark.parametrize(("name", "asked", "sent_as", "code", "refusal"), EXAMPLES, ids=[row[0] for row in EXAMPLES])
def test_the_examples_are_made_again(
    sample: Sample,
    name: str,
    asked: str,
    sent_as: str,
    code: str,
    refusal: tuple[Any, Any, Any],
) -> None:
    request = Message.parse(sample(asked))
    if sent_as:
        request.write("MSH-10", sent_as)
    condition, location, error = refusal
    named = {"condition": condition, "location": location, "application_error": error}
    made = make_ack(request.header, AckCode(code), "SY1", NOW, **named)
    assert _comparable(made) == _comparable(sample(name))


def test_a_refusal_without_a_place_is_byte_for_byte_the_example(sample: Sample) -> None:
    request = Message.parse(sample("B1_ORM_O01_v23")).header
    assert make_ack(request, AckCode.AR, "SY0000000024", NOW, condition=203) == sample("B5_ACK_AR_v23")


def _request(version: str, rest: str = "", kind: str = "ADT^A01") -> Header:
    return Message.from_text(f"MSH|^~\\&|A|B|C|D|20250115||{kind}|ID1|P|{version}{rest}\r").header


OLD = ("MSA|AE|ID1|Data type error|||102^Data type error^HL70357", "ERR|PID^1^8^102&Data type error&HL70357")
NEW = ("MSA|AE|ID1", "ERR||PID^1^8|102^Data type error^HL70357|E")


@pytest.mark.parametrize(
    ("version", "kind", "moment", "rest"),
    [
        ("2.2", "ACK", "20250115083202", OLD),
        ("2.3", "ACK", "20250115083202", OLD),
        ("2.3.1", "ACK^A01^ACK", "20250115083202", OLD),
        ("2.4", "ACK^A01^ACK", "20250115083202", OLD),
        ("2.5", "ACK^A01^ACK", "20250115083202-0500", NEW),
        ("2.7", "ACK^A01^ACK", "20250115083202-0500", NEW),
        ("2.9", "ACK^A01^ACK", "20250115083202-0500", NEW),
    ],
)
def test_each_version_has_its_own_form(version: str, kind: str, moment: str, rest: tuple[str, str]) -> None:
    made = make_ack(_request(version), AckCode.AE, "X1", NOW, condition=102, location="PID-8")
    header = f"MSH|^~\\&|C|D|A|B|{moment}||{kind}|X1|P|{version}"
    assert made.decode().split("\r") == [header, *rest, ""]


def test_processing_id_version_and_charset_are_copied_whole() -> None:
    text = "MSH|^~\\&|A|B|C|D|20250115||ADT^A01|ID1|T^A|2.5.1^DEU&x|||||DEU|8859/1~UNICODE UTF-8\r"
    request = Message.from_text(text).header
    made = Message.parse(make_ack(request, AckCode.AA, "X1", NOW))
    assert [made.read(f"MSH-{n}") for n in (11, 12, 17, 18)] == ["T^A", "2.5.1^DEU&x", "", "8859/1~UNICODE UTF-8"]


def test_the_delimiters_of_the_request_are_used() -> None:
    request = Message.from_text("MSH!@*?$!A@1!B!C!D!!!ADT@A01!ID1!P!2.3.1\r").header
    made = make_ack(request, AckCode.AE, "X1", NOW, condition=103, location="PID-3.2")
    assert made.decode().split("\r") == [
        "MSH!@*?$!C!D!A@1!B!20250115083202!!ACK@A01@ACK!X1!P!2.3.1",
        "MSA!AE!ID1!Table value not found!!!103@Table value not found@HL70357",
        "ERR!PID@1@3@103$Table value not found$HL70357",
        "",
    ]


def test_names_in_other_charsets_keep_their_bytes() -> None:
    raw = "MSH|^~\\&|Röntgen|B|C|D|||ADT^A01|ID1|P|2.5.1||||||8859/1\r".encode("latin-1")
    assert "Röntgen".encode("latin-1") in make_ack(Message.parse(raw).header, AckCode.AA, "X1", NOW)
    undeclared = raw.replace(b"8859/1", b"")
    assert "Röntgen".encode("latin-1") in make_ack(Message.parse(undeclared).header, AckCode.AA, "X1", NOW)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("PID^1^3", "PID^1^3"),
        ("PID-3", "PID^1^3"),
        ("PID-3.1", "PID^1^3^1^1"),
        ("PID-3[2].4.1", "PID^1^3^2^4^1"),
        ("OBX[2]-5", "OBX^2^5"),
        ("PID", "PID^1"),
    ],
)
def test_places_are_written_as_error_locations(location: str, place: str) -> None:
    made = Message.parse(make_ack(_request("2.5.1"), AckCode.AE, "X1", NOW, condition=101, location=location))
    assert made.read("ERR-2") == place


def test_a_reason_without_a_condition_is_an_internal_error() -> None:
    made = read_ack(make_ack(_request("2.5.1"), AckCode.AE, "X1", NOW, application_error="BUSY"))
    assert (made.condition, made.application_error) == ("207", "BUSY")
    assert b"ERR" not in make_ack(_request("2.5.1"), AckCode.AE, "X1", NOW)


def test_an_acceptance_carries_no_error() -> None:
    made = make_ack(_request("2.5.1"), AckCode.AA, "X1", NOW, condition=103, location="PID-3", application_error="X")
    assert made == make_ack(_request("2.5.1"), AckCode.AA, "X1", NOW)


def test_an_application_error_cannot_break_out_of_its_field() -> None:
    made = Message.parse(make_ack(_request("2.5.1"), AckCode.AE, "X1", NOW, application_error="A|B\rMSH|ü"))
    assert made.names() == ["MSH", "MSA", "ERR"]
    assert made.read("ERR-6") is None


def test_garbage_is_answered_in_the_form_everybody_reads() -> None:
    assert make_ack(None, AckCode.AR, "X1", NOW, condition=100).decode() == (
        "MSH|^~\\&|||||20250115083202||ACK|X1|P|2.3\r"
        "MSA|AR||Segment sequence error|||100^Segment sequence error^HL70357\r"
    )


@pytest.mark.parametrize("raw", [b"MSH|^~\\&", b"MSH|^~\\&|||||||ADT", b"MSH|^~\\&|A||||||ADT^A01||P|"])
def test_a_request_with_next_to_nothing_in_it_is_answered(raw: bytes) -> None:
    made = read_ack(make_ack(Message.parse(raw).header, AckCode.AE, "X1", NOW, condition=101, location="MSH-10"))
    assert (made.code, made.control_id, made.condition, made.location) == ("AE", "", "101", "MSH-10")
    assert made.message.version == "2.3"


def test_the_time_must_have_a_zone_and_is_told_in_it() -> None:
    with pytest.raises(ValueError, match="time zone"):
        make_ack(None, AckCode.AA, "X1", datetime(2025, 1, 1))
    made = Message.parse(make_ack(_request("2.5.1"), AckCode.AA, "X1", datetime(2025, 1, 1, 12, tzinfo=UTC)))
    assert made.read("MSH-7") == "20250101120000+0000"


def test_codes_know_their_level_and_whether_they_are_positive() -> None:
    assert [code for code in AckCode if code.positive] == ["AA", "CA"]
    assert [code for code in AckCode if code.level == "accept"] == ["CA", "CE", "CR"]
    assert CONDITIONS[207] == "Application internal error"


@pytest.mark.parametrize(
    ("accept", "application", "expected"),
    [
        ("", "", Wanted(None, None)),
        ("AL", "NE", Wanted(AcceptMode.AL, AcceptMode.NE)),
        ("", "er", Wanted(None, AcceptMode.ER)),
        ("??", " SU ", Wanted(None, AcceptMode.SU)),
    ],
)
def test_what_a_message_wants(accept: str, application: str, expected: Wanted) -> None:
    found = _request("2.5.1", f"|||{accept}|{application}").wanted
    assert found == expected
    assert found.enhanced is (expected != Wanted(None, None))


def test_original_mode_wants_one_application_answer() -> None:
    original = _request("2.3").wanted
    assert [original.accept_ack(True), original.accept_ack(False)] == [False, False]
    assert [original.application_ack(True), original.application_ack(False)] == [True, True]


@pytest.mark.parametrize(("word", "yes", "no"), [("AL", 1, 1), ("NE", 0, 0), ("ER", 0, 1), ("SU", 1, 0), ("", 0, 0)])
def test_enhanced_mode_wants_what_it_says(word: str, yes: int, no: int) -> None:
    accept = _request("2.5.1", f"|||{word}|NE").wanted
    assert [accept.accept_ack(True), accept.accept_ack(False)] == [bool(yes), bool(no)]
    application = _request("2.5.1", f"|||NE|{word}").wanted
    assert [application.application_ack(True), application.application_ack(False)] == [bool(yes), bool(no)]
