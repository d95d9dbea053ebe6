"""What a message has wrong is found where it is, and what is right passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.hl7.message import Message
from engine.hl7.validation import MOST_FINDINGS, STRICT, Check, Level, Levels, validate

Sample = Callable[[str], bytes]

# Samples whose faults are meant: the source document's own message, and the shape that Epic publishes.
FAULTY = {
    "N3_SIU_seed_v23": ["SCH-6", "SCH-11", "SCH-16", "SCH-20"],
    "X1_epic_published_shape_v23": ["SCH-1", "SCH-6", "SCH-16", "SCH-20"],
}
# DICOM modalities are no codes of table 0074, and sites name identifiers of their own.
OWN_CODES = {"OBR-24", "PID-3[2].5"}
# Noshow came into table 0278 with 2.4, the event of a no-show was there before.
NO_SHOW = {"SCH-25.1", "AIS-10.1", "AIG-14.1", "AIL-12.1", "AIP-12.1"}


def read(raw: bytes) -> Message:
    """A sample, with a time where it says ``@NOW``."""
    return Message.parse(raw.replace(b"@NOW", b"20260115083204"))


def paths(message: Message, *checks: Check, levels: Levels | None = None) -> list[str]:
    return [finding.path for finding in validate(message, levels) if not checks or finding.check in checks]


def test_every_sample_is_as_its_version_wants_or_has_the_faults_it_is_kept_for(
    each_sample: bytes, request: pytest.FixtureRequest
) -> None:
    expected = next((faults for name, faults in FAULTY.items() if f"[{name}]" in request.node.name), [])
    message = read(each_sample)
    own = OWN_CODES | NO_SHOW if message.event == "S26" and message.version < "2.4" else OWN_CODES
    findings = validate(message, STRICT)
    assert [found.path for found in findings if found.level is Level.ERROR and found.path not in own] == expected
    assert {found.check for found in findings if found.level is Level.WARN} <= {Check.LENGTHS}


@pytest.mark.parametrize(
    ("change", "check", "path"),
    [
        (lambda message: message.delete("RGS"), Check.STRUCTURE, "RGS"),
        (lambda message: message.insert(1, message.segments("PID")[0]), Check.STRUCTURE, "PID[1]"),
        (lambda message: message.insert(2, message.segments("SCH")[0]), Check.CARDINALITY, "SCH[2]"),
        (lambda message: message.add("OBR"), Check.STRUCTURE, "OBR"),
        (lambda message: message.add("QQQ"), Check.STRUCTURE, "QQQ"),
        (lambda message: message.delete("SCH-6"), Check.REQUIRED, "SCH-6"),
        (lambda message: message.write("SCH-6", "^^"), Check.REQUIRED, "SCH-6"),
        (lambda message: message.write("SCH-9", "half an hour"), Check.DATATYPES, "SCH-9"),
        (lambda message: message.write("SCH-11.4", "20260231"), Check.DATATYPES, "SCH-11.4.1"),
        (lambda message: message.write("PID-7", "19870230"), Check.DATATYPES, "PID-7.1"),
        (lambda message: message.write("SCH-2", "1~2"), Check.CARDINALITY, "SCH-2"),
        (lambda message: message.write("SCH-2", "1^2^3^4^5"), Check.EXTRA, "SCH-2.5"),
        (lambda message: message.write("SCH-40", "1"), Check.EXTRA, "SCH-40"),
        (lambda message: message.write("PID-5", "A&B&C&D&E&F^B"), Check.EXTRA, "PID-5.1.6"),
        (lambda message: message.write("SCH-6", "X" * 300), Check.LENGTHS, "SCH-6"),
        (lambda message: message.write("RGS-2", "Q"), Check.TABLES, "RGS-2"),
        (lambda message: message.write("PID-8", "Q"), Check.USER_TABLES, "PID-8"),
        (lambda message: message.write("MSH-9", "SIU^S99"), Check.STRUCTURE, "MSH-9"),
        (lambda message: message.write("MSH-9.3", "ADT_A01"), Check.TABLES, "MSH-9.3"),
        (lambda message: message.delete("MSH-10"), Check.REQUIRED, "MSH-10"),
    ],
)
def test_one_fault_is_found_where_it_is(
    sample: Sample, change: Callable[[Message], object], check: Check, path: str
) -> None:
    message = read(sample("N1_SIU_S12_RIS_v251"))
    levels = Levels(user_tables=Level.WARN)
    assert not validate(message, levels)
    change(message)
    found = validate(message, levels)
    assert path in [finding.path for finding in found if finding.check is check], [str(finding) for finding in found]


def test_a_level_of_ignore_is_not_looked_at_and_others_are_what_they_say(sample: Sample) -> None:
    message = read(sample("N1_SIU_S12_RIS_v251"))
    message.delete("SCH-6")
    assert [found.level for found in validate(message)] == [Level.ERROR]
    assert [found.level for found in validate(message, Levels(required=Level.WARN))] == [Level.WARN]
    assert validate(message, Levels(required=Level.IGNORE)) == ()
    assert validate(message, Levels.all(Level.IGNORE)) == ()


def test_findings_hold_nothing_of_the_content(sample: Sample) -> None:
    message = read(sample("N1_SIU_S12_RIS_v251"))
    for segment in message.segments()[1:]:
        for number in range(1, 30):
            segment.write(f"{segment.name}-{number}", "KOWALSKI^KOWALSKI&KOWALSKI&K~KOWALSKI" + "I" * 300)
    message.write("MSH-9", "Kowalski^Kow")
    found = validate(message, Levels.all(Level.ERROR))
    assert len(found) > 50
    assert "KOW" not in "".join(map(str, found)).upper()


def test_there_is_an_end_to_findings() -> None:
    message = Message.from_text("MSH|^~\\&|||||||SIU^S12|1|P|2.5.1\r" + "OBR|\r" * 5000)
    assert len(validate(message)) == MOST_FINDINGS


def test_a_null_is_a_value_and_z_segments_stand_anywhere(sample: Sample) -> None:
    message = read(sample("N1_SIU_S12_RIS_v251"))
    message.write("PID-7", '""')
    message.write("SCH-6", '""')
    line = message.insert(1, message.segments("NTE")[0] if message.count("NTE") else message.add("ZAA"))
    assert line.name in ("ZAA", "NTE")
    message.insert(3, message.segments("ZAA")[0]) if message.count("ZAA") else message.add("ZAA")
    assert [found for found in validate(message) if found.path not in ("NTE", "NTE[1]")] == []


def test_a_document_is_passed_over_and_stays_bytes(sample: Sample) -> None:
    raw = sample("O2_ORU_critical_v251") + b"OBX|9|ED|DOC^Report||^AP^PDF^Base64^" + b"QUJD" * 300_000 + b"|||||||F\r"
    message = read(raw)
    assert not [found for found in validate(message) if found.path.startswith("OBX[2]")]
    last = message.segments()[-1]
    assert [number for number, text in last.numbered() if text is None] == [5]
    assert message.to_bytes() == read(raw).to_bytes()


@pytest.mark.parametrize(
    ("kind", "text", "wrong"),
    [
        ("NM", "12.5", False),
        ("NM", ">100", True),
        ("SN", ">^100", False),
        ("SN", ">^many", True),
        ("TS", "20260230", True),
        ("TX", "a^b~c&d", False),
        ("QQ", "anything^at all", False),
    ],
)
def test_an_observation_has_the_type_that_it_names(sample: Sample, kind: str, text: str, wrong: bool) -> None:
    message = read(sample("O2_ORU_critical_v251"))
    message.write("OBX-2", kind)
    message.write("OBX-5", text)
    found = [finding for finding in validate(message) if finding.check is Check.DATATYPES]
    assert [finding.path.startswith("OBX") for finding in found] == [True] * wrong


def test_other_delimiters_are_those_of_the_message() -> None:
    text = "MSH$*@!%$$$$$20260115$$SIU*S12*SIU_S12$1$P$2.5.1\rSCH$1*2*3*4*5%x$$$$$E@F\rRGS$1\r"
    found = {(finding.check, finding.path) for finding in validate(Message.from_text(text))}
    assert found >= {(Check.EXTRA, "SCH-1.5"), (Check.CARDINALITY, "SCH-6")}


def test_a_version_without_tables_is_read_as_the_nearest_older_one() -> None:
    message = Message.from_text("MSH|^~\\&|||||20260115||SIU^S12^SIU_S12|1|P|2.7.1\rSCH|1\rRGS|1\r")
    assert {finding.source for finding in validate(message) if finding.path == "SCH-6"} == {"HL7 2.7 SCH-6"}


@pytest.mark.parametrize(
    ("version", "told"), [("2.9", 1), ("9.7", 1), ("2.5.2", 1), ("banana", 1), ("2.7.1", 0), ("2.6", 0)]
)
def test_a_version_that_there_is_not_is_told(version: str, told: int) -> None:
    message = Message.from_text(f"MSH|^~\\&|||||20260115||SIU^S12^SIU_S12|1|P|{version}\rSCH|1\rRGS|1\r")
    found = [finding for finding in validate(message) if finding.path.startswith("MSH-12")]
    assert [(finding.check, finding.level) for finding in found] == [(Check.TABLES, Level.WARN)] * told


def test_a_local_event_names_its_structure_itself() -> None:
    text = "MSH|^~\\&|||||20260115||SIU^Z12^{}|1|P|2.5.1\rSCH|||||||E||||||||||D^J||||D^J\rRGS|1\r"
    own = [finding.path for finding in validate(Message.from_text(text.format("SIU_S12"))) if finding.path[:3] == "MSH"]
    assert own == []
    (found,) = [finding for finding in validate(Message.from_text(text.format("SIU_Z12"))) if finding.path == "MSH-9"]
    assert (found.check, found.problem) == (Check.STRUCTURE, "SIU^Z12 has no structure")


def test_where_any_segment_may_stand_one_must() -> None:
    text = "MSH|^~\\&|||||20260115||MFN^M03^MFN_M03|1|P|2.6\rMFI|1\rMFE|1\rOM1|1\r"
    structural = [found for found in validate(Message.from_text(text)) if found.check is Check.STRUCTURE]
    assert [(found.path, found.problem) for found in structural] == [("segment 5", "a segment is missing at the end")]
    assert not [found for found in validate(Message.from_text(text + "OM2|1\r")) if found.check is Check.STRUCTURE]
