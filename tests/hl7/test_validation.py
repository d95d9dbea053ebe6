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
