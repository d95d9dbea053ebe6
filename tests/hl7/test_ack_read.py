"""Reading answers: codes from all four places, and never the text that may name a patient."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.errors import MalformedMessage
from engine.hl7.answer import UnknownCode, read_ack

Sample = Callable[[str], bytes]

# Example → code, MSA-2, type, condition, location, application error.
EVIDENCE: dict[str, tuple[str, str, str, str | None, str | None, str | None]] = {
    "B2_ORR_O02_AA_v23": ("AA", "RS0000000003", "ORR", None, None, None),
    "B2_ORR_O02_AA_v251": ("AA", "RS0000000003", "ORR", None, None, None),
    "B3_ACK_AA_v23": ("AA", "RS0000000003", "ACK", None, None, None),
    "B3_ACK_AA_v251": ("AA", "RS0000000003", "ACK", None, None, None),
    "B4_ORR_taken_v23": ("AE", "RS0000000003", "ORR", "206", "OBR-18", None),
    "B4_ORR_taken_v251": ("AE", "RS0000000003", "ORR", "206", "OBR-18", "SLOT_TAKEN"),
    "B5_ACK_AR_v23": ("AR", "RS0000000003", "ACK", "203", None, None),
    "B5_ACK_AR_v251": ("AR", "RS0000000003", "ACK", "203", "MSH-12", None),
    "B7_SRR_S01_AA_v251": ("AA", "RS0000000003", "SRR", None, None, None),
    "B8_SRR_S01_AE_v23": ("AE", "RS0000000003", "SRR", "206", "ARQ-2", None),
    "B8_SRR_S01_AE_v251": ("AE", "RS0000000003", "SRR", "206", "ARQ-2", "SLOT_TAKEN"),
    "L2_DSR_Q01_v23": ("AA", "RS0000000001", "DSR", None, None, None),
    "L4_ACK_AE_v23": ("AE", "RS0000000001", "ACK", "103", "QRF-5", None),
    "L4_ACK_AE_v251": ("AE", "RS0000000001", "ACK", "103", "QRF-5", "UNKNOWN_MODALITY"),
    "L6_MFR_M05_v251": ("AA", "RS0000000001", "MFR", None, None, None),
    "S6_SQR_noslots_v251": ("AA", "RS0000000002", "SQR", None, None, None),
    "S7_SQR_AE_v251": ("AE", "RS0000000002", "SQR", "204", "AIL-3", "UNKNOWN_LOCATION"),
    "S8_ACK_AE_badlocation_v23": ("AE", "RS0000000002", "ACK", "204", "QRD-10", None),
    "S8_ACK_AE_badlocation_v251": ("AE", "RS0000000002", "ACK", "204", "QRD-10", "UNKNOWN_LOCATION"),
    "N4_ACK_SIU_AA_v23": ("AA", "EN0000000101", "ACK", None, None, None),
    "N4_ACK_SIU_AE_v251": ("AE", "EN0000000102", "ACK", "204", "PID-3", None),
    "N5_ACK_CA_v251": ("CA", "EN0000000105", "ACK", None, None, None),
    "N5_ACK_CE_v251": ("CE", "EN0000000105", "ACK", "101", "SCH-2", None),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_examples_say_what_they_say(sample: Sample, name: str) -> None:
    ack = read_ack(sample(name))
    found = (ack.code, ack.control_id, ack.message_type, ack.condition, ack.location, ack.application_error)
    assert found == EVIDENCE[name]


def test_text_that_may_name_a_patient_is_kept_out_of_sight(sample: Sample) -> None:
    ack = read_ack(sample("N4_ACK_SIU_AE_v251"))
    assert ack.text == "Patient MRN123456 not found"
    assert "MRN123456" not in f"{ack!r} {ack} {ack.message}"
    assert read_ack(sample("L4_ACK_AE_v23")).text == "Unknown modality ZZ"
    assert read_ack(sample("L4_ACK_AE_v251")).text == "Unknown modality ZZ\nModality ZZ is not configured"
    assert read_ack(sample("N5_ACK_CA_v251")).text is None


def _answer(status: str, *errors: str, version: str = "2.5.1") -> bytes:
    return "\r".join([f"MSH|^~\\&|A|B|C|D|||ACK|X|P|{version}", f"MSA|{status}", *errors, ""]).encode()


@pytest.mark.parametrize(
    ("status", "errors", "condition"),
    [
        ("AE|1||||207", ["ERR|PID^1^3^101|PID^1^3|204"], "204"),
        ("AE|1||||207", ["ERR|PID^1^3^101"], "207"),
        ("AE|1", ["ERR|PID^1^3^101"], "101"),
        ("AE|1", ["ERR|PID^1^3^101&Required field missing&HL70357"], "101"),
        ("AE|1", ["ERR|^^^207"], "207"),
        ("AE|1||||206^Application record locked", [], "206"),
        ("AE|1", ["ERR|||200|W", "ERR|||204|E"], "204"),
        ("AE|1", ["ERR|||200|W"], "200"),
        ("AE|1", [], None),
    ],
)
def test_conditions_are_preferred_in_the_order_err3_msa6_err1(
    status: str, errors: list[str], condition: str | None
) -> None:
    assert read_ack(_answer(status, *errors)).condition == condition


@pytest.mark.parametrize(
    ("error", "location"),
    [
        ("ERR||QRD^1^10", "QRD-10"),
        ("ERR|QRF^1^5^103&x|AIL^1^3", "AIL-3"),
        ("ERR|QRF^1^5^103&x", "QRF-5"),
        ("ERR||PID^1^5^2^1", "PID-5"),
        ("ERR||PID", "PID"),
        ("ERR||PID^^Doe", "PID"),
        ("ERR||Doe^John", None),
        ("ERR|||204", None),
    ],
)
def test_locations_are_read_as_paths(error: str, location: str | None) -> None:
    assert read_ack(_answer("AE|1", error)).location == location


def test_text_in_the_place_of_a_code_is_no_code() -> None:
    ack = read_ack(_answer("AE|1||||Patient Doe unknown", "ERR||Doe^1^3|Doe is not here|E|no such patient: Doe"))
    assert (ack.condition, ack.location, ack.application_error) == (None, None, None)
    assert "Doe" not in repr(ack)


def test_small_slips_in_the_code_are_forgiven() -> None:
    assert read_ack(_answer(" aa |1")).code == "AA"
    assert read_ack(_answer("AA^x| 1 ")).control_id == "1"
    assert read_ack(_answer("AA")).control_id == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"garbage", b"MSH|^~\\&|A|B|C|D|||ACK|X|P|2.3\r", _answer(""), _answer("XX|1"), _answer("A|1"),
        _answer('""|1'),
    ],
)  # fmt: skip
def test_what_says_nothing_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_ack(raw)


@pytest.mark.parametrize(
    ("segments", "wrong"),
    [
        ("MSA|AA|1\r", False),
        ("MSA|AA|1||||0^Message accepted\r", False),
        ("MSA|AA|1||||204^Unknown key\r", True),
        ("MSA|AA|1\rERR|PID^1^3^204&Unknown key\r", True),
        ("MSA|AA|1\rERR||PID^1^3|0^Message accepted^HL70357|I\r", False),
        ("MSA|AA|1\rERR||PID^1^3|101^Required field missing^HL70357|W\r", False),
        ("MSA|AA|1\rERR||PID^1^3|101^Required field missing^HL70357|E\r", True),
        ("MSA|AA|1\rERR||PID^1^3|LOCAL^^L|F\r", True),
        ("MSA|AA|1\rERR||PID^1^3|101^^HL70357|W\rERR|||207^^HL70357|E\r", True),
    ],
)
def test_an_answer_tells_whether_something_is_wrong(segments: str, wrong: bool) -> None:
    assert read_ack(f"MSH|^~\\&|A|B|C|D|1||ACK|1|P|2.5\r{segments}".encode()).wrong is wrong


@pytest.mark.parametrize(
    ("word", "told"), [("OK", "OK"), ("ok", "OK"), ("", "other"), ("Doe John", "other"), ("AAAA", "other")]
)
def test_a_code_that_table_0008_does_not_have_is_told_when_it_has_the_form_of_one(word: str, told: str) -> None:
    with pytest.raises(UnknownCode) as unknown:
        read_ack(f"MSH|^~\\&|A|B|C|D|1||ACK|1|P|2.5\rMSA|{word}|OUT1|Doe||207\r".encode())
    assert (unknown.value.word, unknown.value.control_id) == (told, "OUT1")
    assert "Doe" not in str(unknown.value)
