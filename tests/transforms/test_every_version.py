"""``convert`` between every two versions of an appointment: valid, complete, and back again where it came from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.message import Message
from engine.hl7.validation import Level, Levels, validate

Make = Callable[..., Envelope]
Sample = Callable[[str], bytes]
Convert = Callable[..., Message]

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7")
PAIRS = list(permutations(VERSIONS, 2))
#: Required at 2.3.1 and 2.4 only: no other version fills it.
DEFAULTS = {"AIL-4": "C^Clinic^HL70305"}
#: What a version does not have is an error here.
STRICT = Levels(extra=Level.ERROR, withdrawn=Level.ERROR)

#: An appointment that says everything there is to say about times, resources and the patient.
FULL = """\
MSH|^~\\&|SYNAPSE|DTI|X|Y|20250115083203||SIU^S12|C1|P|2.3
SCH|P1^A|F1^B|||R^Room^L|S12^New^L|Routine^^HL70276|Normal^^HL70277|30|min|2&units^Q6H&0600,1200^^20250116090000^20250116093000^S~^^M45^20250117090000|||||W^Who||||E^Enter
NTE|1||head
PID|1|EXT9^^^OUT|M1^^^DTI^MR|ALT7|Doe^John||19800101|M|Duck^Joe~Doe^Jack||1 Elm St^^Town^IL^62701|SAN|(217)555-0111||||||123-45-6789|D5550101^IL^20300101
PV1|1|O|DTI^XR1^^DTI
RGS|1|A
AIS|1|A|XR^X-ray^L|20250116090000|||30|min
AIL|1|A|DTI^XR1^^DTI|||20250116090000|||30|min
AIP|1|A|RAD01^Ray^Alex|RAD^Radiologist^L||20250116090000|||30|min
""".replace("\n", "\r")  # noqa: E501


@pytest.fixture
def convert(kit: SimpleNamespace, envelope: Make) -> Convert:
    def go(version: str, body: Any, **more: Any) -> Message:
        made = envelope(body)
        kit.Loading().chain([{"convert": {"version": version, **more}}], ()).run(made, kit.Context())
        assert isinstance(made.body, Message)
        return made.body

    return go


def wrong(message: Message) -> list[str]:
    return [str(found) for found in validate(message, STRICT) if found.level is Level.ERROR]


def written(version: str, convert: Convert, sample: Sample) -> Message:
    """The RIS's appointment at this version."""
    name = "N1_SIU_S12_RIS_v251" if version in ("2.5", "2.5.1", "2.6", "2.7") else "N1_SIU_S12_RIS_v23"
    return convert(version, sample(name), defaults=DEFAULTS)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_an_appointment_is_valid_at_every_version_it_is_brought_to(
    old: str, new: str, convert: Convert, sample: Sample
) -> None:
    before = written(old, convert, sample)
    assert (before.version, wrong(before)) == (old, [])
    after = convert(new, before.to_bytes(), defaults=DEFAULTS)
    assert (after.version, wrong(after)) == (new, [])
    assert after.read("MSH-9") == ("SIU^S12" if new == "2.3" else "SIU^S12^SIU_S12")
    assert after.control_id == before.control_id
    start = after.read("SCH-11.4") or after.read("TQ1-7")
    assert start is not None
    assert start.startswith("20250116090000")
    assert after.read("SCH-9") or (after.read("TQ1-6") or "").startswith("30^min")
    assert (after.read("SCH-7") or "").startswith("Routine" if new in ("2.3", "2.3.1") else "ROUTINE")


@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if "2.3" in pair])
def test_everything_that_is_said_survives_the_way_there_and_back(old: str, new: str, convert: Convert) -> None:
    first = convert(old, FULL, defaults=DEFAULTS)
    there = convert(new, first.to_bytes(), defaults=DEFAULTS)
    back = convert(old, there.to_bytes(), defaults=DEFAULTS)
    assert wrong(there) == wrong(back) == []
    for path in ("SCH-1", "SCH-7", "SCH-9", "SCH-10", "SCH-11", "TQ1-7", "PID-7", "AIL-3", "AIP-3", "NTE-3"):
        assert back.read(path) == first.read(path), path
    for text in ("EXT9", "ALT7", "123-45-6789", "D5550101", "Duck", "Jack", "SAN", "(217)555-0111"):
        for message in (first, there, back):
            assert text in message.text, text


def test_times_move_into_tq1_and_back(convert: Convert) -> None:
    up = convert("2.7", FULL)
    assert [line for line in up.text.split("\r") if line.startswith("TQ1")] == [
        "TQ1|1|2^units|Q6H|0600~1200||30^min|20250116090000|20250116093000|S",
        "TQ1|2|||||45^min|20250117090000",
    ]
    assert (up.read("SCH-9"), up.read("SCH-10"), up.read("SCH-11")) == ("", "", "")
    down = convert("2.4", up.to_bytes())
    assert "TQ1" not in down.names()
    assert (down.read("SCH-9"), down.read("SCH-10")) == ("30", "min")
    timing = "2&units^Q6H&0600,1200^^20250116090000^20250116093000^S~^^M45^20250117090000"
    assert down.read("SCH-11") == timing


def test_a_duration_with_coded_units_stays_whole(convert: Convert, sample: Sample) -> None:
    up = convert("2.7", sample("N1_SIU_S12_RIS_v251"))
    assert up.read("TQ1-6") == "30^min&minute&UCUM"
    down = convert("2.3", up.to_bytes())
    assert (down.read("SCH-9"), down.read("SCH-10")) == ("30", "min^minute^UCUM")


def test_a_start_that_stands_with_a_resource_only_becomes_the_appointments(convert: Convert, sample: Sample) -> None:
    lines = [line for line in sample("N1_SIU_S12_RIS_v251").split(b"\r") if not line.startswith(b"TQ1")]
    assert convert("2.3", b"\r".join(lines)).read("SCH-11") == "^^^20250116090000-0600"


def test_numbers_of_the_patient_become_identifiers_and_come_back(convert: Convert) -> None:
    up = convert("2.7", FULL)
    assert (up.read("PID-3") or "").split("~") == [
        "M1^^^DTI^MR",
        "D5550101^^^^DL^^^20300101^IL",
        "EXT9^^^OUT^PT",
        "ALT7^^^^U",
        "123-45-6789^^^^SS",
    ]
    assert (up.read("PID-5") or "").split("~") == ["Doe^John", "Duck^Joe^^^^^A", "Doe^Jack^^^^^A"]
    assert up.read("PID-11") == "1 Elm St^^Town^IL^62701^^^^SAN"
    assert [up.read(f"PID-{number}") or "" for number in (2, 4, 9, 12, 19, 20)] == [""] * 6
    down = convert("2.3", up.to_bytes())
    assert (down.read("PID-4"), down.read("PID-19")) == ("ALT7^^^^U", "123-45-6789")
    assert (down.read("PID-5"), down.read("PID-9")) == ("Doe^John", "Duck^Joe^^^^^A~Doe^Jack^^^^^A")


def test_rooms_of_one_segment_become_segments_of_their_own(convert: Convert, sample: Sample) -> None:
    one = b"DTI^XR1^^DTI^^^^^Downtown Imaging"
    two = sample("N1_SIU_S12_RIS_v251").replace(one, b"DTI^XR1~DTI^XR2")
    down = convert("2.3", two.replace(b"\rAIP", b"\rNTE|1||both rooms\rAIP"))
    found = [line.split("|")[:4] for line in down.text.split("\r") if line.startswith("AIL")]
    assert found == [["AIL", "1", "A", "DTI^XR1"], ["AIL", "2", "A", "DTI^XR2"]]
    assert down.names()[-4:] == ["AIL", "NTE", "AIL", "AIP"]
    assert wrong(down) == []


def test_what_never_repeated_and_does_is_left_to_its_sender(convert: Convert) -> None:
    text = FULL.replace("|19800101|", "|19800101~19810202|")
    assert convert("2.7", text).read("PID-7") == "19800101~19810202"


def test_results_keep_the_timing_of_their_order(convert: Convert, sample: Sample) -> None:
    timed = sample("O2_ORU_critical_v251").replace(b"\rOBX|1", b"\rTQ1|1||||||20250116090000||S\rOBX|1")
    assert convert("2.3", timed).read("OBR-27") == "^^^20250116090000^^S"
    old = convert("2.3", timed).to_bytes()
    assert convert("2.7", old).read("TQ1-7") == "20250116090000"


def test_segments_go_that_the_version_does_not_know(convert: Convert) -> None:
    newer = FULL.replace("SIU^S12|C1|P|2.3\r", "SIU^S12^SIU_S12|C1|P|2.5.1\r")
    names = convert("2.3", newer.replace("\rPV1", "\rPD1|||Clinic\rZPD|own\rPV1")).names()
    assert "PD1" not in names
    assert "ZPD" in names
    order = "MSH|^~\\&|A|B|C|D|20250101||ORM^O01^ORM_O01|1|P|2.5.1\rPID|1||M1\rPD1|||Clinic\rORC|NW|1\rOBR|1|1||X^Y\r"
    assert "PD1" in convert("2.3", order).names(), "an order has one at 2.3 already"


def test_what_needs_no_change_stays_as_it_stands(convert: Convert) -> None:
    lines = "PID|1||M1^^^H^MR~M2^^||Doe^Jane^\rAIL|007||Room^a\rAIL|008||Room^b\r"
    head = "MSH|^~\\&|A|B|C|D|20250101||SIU^S12^SIU_S12|1|P|2.5.1\rSCH|1||||||Routine||||^^^2025\r"
    assert convert("2.3.1", head + lines).text.endswith(lines)
    parted = convert("2.3.1", head + lines.replace("Room^b", "Room^b~Room^c"))
    assert [segment.value("AIL-1") for segment in parted.segments("AIL")] == ["1", "2", "3"]


def test_fields_of_the_header_that_came_later_go(convert: Convert) -> None:
    late = "|P|2.5.1||||||UNICODE UTF-8|||profile"
    down = convert("2.3", FULL.replace("|P|2.3\r", f"{late}\r"))
    assert (down.read("MSH-18"), down.read("MSH-21") or "") == ("UNICODE UTF-8", "")


@pytest.mark.parametrize("name", ["L1_QRY_Q01_v251", "B1_ORM_O01_v251", "S4_SQM_S25_v251"])
def test_a_message_that_a_version_has_given_up_is_not_made_up(name: str, convert: Convert, sample: Sample) -> None:
    with pytest.raises(StepFailed, match="not_in_version"):
        convert("2.7", sample(name))


def test_defaults_fill_what_this_version_requires_and_nothing_else(convert: Convert, sample: Sample) -> None:
    values = {"SCH-16": {"from": "MSH-3.1"}, "SCH-5": "unused", "SCH-1": {"from": "SCH-2"}}
    bare = sample("N1_SIU_S12_RIS_v251").replace(b"SYN01^Scheduler^Synapse", b"").replace(b"ORDER123^RADSCHED", b"")
    bare = bare.replace(b"XR1^X-ray room 1^L|S12", b"|S12")
    made = {version: convert(version, bare, defaults={**DEFAULTS, **values}) for version in ("2.3", "2.4", "2.5")}
    paths = ("SCH-1", "SCH-5", "SCH-16", "AIL-4")
    assert {version: [message.read(path) or "" for path in paths] for version, message in made.items()} == {
        "2.3": ["APT556677^SYNAPSE", "", "SYNAPSE", ""],
        "2.4": ["", "", "SYNAPSE", "C^Clinic^HL70305"],
        "2.5": ["", "", "SYNAPSE", ""],
    }


@pytest.mark.parametrize("name", ["AIL", "AIL-4.1", "MSH-3", "nothing"])
def test_a_default_is_for_a_field(name: str, kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError) as refused:
        kit.Loading().chain([{"convert": {"version": "2.4", "defaults": {name: "x"}}}], ())
    assert refused.value.at == ("defaults", name)


def test_components_that_2_7_withdrew_move_and_come_back(convert: Convert) -> None:
    doctor = "PV1|1|O|DTI^XR1^^DTI||||9^Ray^^^^^PhD"
    text = FULL.replace("Doe^John|", "Doe^John^^^^MD^L^^^2020&2030|").replace("PV1|1|O|DTI^XR1^^DTI", doctor)
    up = convert("2.7", text)
    assert (up.read("PID-5[1]") or "") == "Doe^John^^^^^L^^^^^2020^2030^MD"
    assert up.read("PID-13") == "^^PH^^^^^^^^^(217)555-0111"
    assert up.read("PV1-7.21") == "PhD"
    assert wrong(up) == []
    down = convert("2.4", up.to_bytes(), defaults=DEFAULTS)
    assert [down.read(path) for path in ("PID-13.1", "PID-5[1].6", "PV1-7.7")] == ["(217)555-0111", "MD", "PhD"]
    assert wrong(down) == []
