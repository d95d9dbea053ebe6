"""Rules V2 to V5 and V7, and convert, which applies them to a whole message."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.message import Message
from engine.transforms.building.version_rules import segment_rules

Make = Callable[..., Envelope]
Convert = Callable[[str, Any], Message]


def _apply(version: str, text: str) -> str:
    fields = text.split("|")
    segment_rules(version, fields[0]).apply(fields)
    return "|".join(fields).rstrip("|")


@pytest.mark.parametrize(
    ("version", "text", "expected"),
    [
        ("2.3", "SCH|||||||Routine^^HL70276", "SCH|||||||Routine^^HL70276"),
        ("2.3", "SCH|||||||ROUTINE^^HL70276", "SCH|||||||Routine^^HL70276"),
        ("2.4", "SCH|||||||Routine^^HL70276", "SCH|||||||ROUTINE^^HL70276"),
        ("2.4", "ARQ|||||||Followup", "ARQ|||||||FOLLOWUP"),
        ("2.4", "SCH|||||||Own code^x^L", "SCH|||||||Own code^x^L"),
        ("2.3", "PID|||||||||||||||||||A^B^C^D^E^F^G^H^I", "PID|||||||||||||||||||A"),
        ("2.3", "PID||||||||||||||||||A^^^D^AN^^20250101", "PID||||||||||||||||||A^^^D^AN"),
        ("2.5.1", "PID||||||||||||||||||A^^^D^AN^^20250101", "PID||||||||||||||||||A^^^D^AN^^20250101"),
        ("2.3", "PID|||A^^^D^AN^F^G~B^^^E^MR^F^G", "PID|||A^^^D^AN^F~B^^^E^MR^F"),
        ("2.3", "SCH||F^X", "SCH||F^X"),
        ("2.3", "SCH||F" + "|" * 24 + "P^X|Q", "SCH|P^X|F"),
        ("2.3", "SCH|O|F" + "|" * 24 + "P^X|Q", "SCH|O|F"),
        ("2.4", "SCH|O|F" + "|" * 24 + "P^X|Q", "SCH|O|F" + "|" * 24 + "P^X|Q"),
        ("2.7", "SCH|O|F|||||||30|min|^^^2025|x", "SCH|O|F||||||||||x"),
        ("2.7", "PID|1|OLD|M1^^^A^MR|ALT^^^B|Doe", "PID|1||M1^^^A^MR~OLD^^^^PT~ALT^^^B^U||Doe"),
        ("2.7", "PID|1|M1|M1^^^A^MR||Doe", "PID|1||M1^^^A^MR||Doe"),
        ("2.7", "PID|1|OLD", "PID|1||OLD^^^^PT"),
        ("2.7", "PID|1||M1" + "|" * 16 + "123456789", "PID|1||M1~123456789^^^^SS"),
        ("2.3", "ZPI|a^b^c^d^e^f^g^h^i^j^k^l|" + "x|" * 70, "ZPI|a^b^c^d^e^f^g^h^i^j^k^l|" + ("x|" * 70).rstrip("|")),
        (
            "2.3",
            "OBX|1|TX|A^b^c^d^e^f^g||free ^ text ^ of ^ a ^ person",
            "OBX|1|TX|A^b^c^d^e^f||free ^ text ^ of ^ a ^ person",
        ),
    ],
)
def test_a_segment_is_brought_into_a_version(version: str, text: str, expected: str) -> None:
    assert _apply(version, text) == expected


@pytest.fixture
def convert(kit: SimpleNamespace, envelope: Make) -> Convert:
    def go(version: str, body: Any) -> Message:
        made = envelope(body)
        kit.Loading().chain([{"convert": {"version": version}}], ()).run(made, kit.Context())
        assert isinstance(made.body, Message)
        return made.body

    return go


def test_an_appointment_goes_down(convert: Convert, sample: Callable[[str], bytes]) -> None:
    message = convert("2.3", sample("N1_SIU_S12_RIS_v251"))
    assert "TQ1" not in message.names()
    assert (message.read("MSH-9"), message.version) == ("SIU^S12", "2.3")
    assert message.read("SCH-7") == "Routine^^HL70276"
    assert message.read("SCH-11") == "^^^20250116090000-0600^20250116093000-0600"
    assert message.read("SCH-26") is None
    assert message.read("PID-18") == "ACCT5566^^^DTI^AN"
    assert message.control_id == "SY0000000033"


def test_an_appointment_goes_up(convert: Convert, sample: Callable[[str], bytes]) -> None:
    message = convert("2.7", sample("N1_SIU_S12_RIS_v23"))
    assert (message.read("MSH-9"), message.version) == ("SIU^S12^SIU_S12", "2.7")
    assert not message.read("SCH-9")
    assert message.read("SCH-7") == "ROUTINE^^HL70276"


def test_going_to_the_same_version_changes_nothing(convert: Convert, sample: Callable[[str], bytes]) -> None:
    for name, version in (
        ("N1_SIU_S12_RIS_v23", "2.3"),
        ("N1_SIU_S12_RIS_v251", "2.5.1"),
        ("O3_ADT_A01_v251", "2.5.1"),
    ):
        assert convert(version, sample(name)).to_bytes() == sample(name)


def test_other_delimiters_become_the_usual_ones(convert: Convert) -> None:
    text = "MSH$*@!%$A$B$C$D$20250115$$ADT*A01$1$P$2.3\rPID$1$$M1$$Doe*J|n%Q\r"
    message = convert("2.4", text)
    assert message.read("MSH-2") == "^~\\&"
    assert message.read("MSH-9") == "ADT^A01^ADT_A01"
    assert message.value("PID-5.2") == "J|n&Q"


@pytest.mark.parametrize("version", ["2.4", "2.2"])  # 2.2 has no MSH-18
def test_letters_survive_a_conversion(
    version: str, kit: SimpleNamespace, envelope: Make, sample: Callable[[str], bytes]
) -> None:
    raw = (
        sample("N1_SIU_S12_RIS_v23")
        .replace(b"Doe^John", b"M\xfcller^Eva")
        .replace(b"|P|2.3\r", b"|P|2.3||||||8859/1\r")
        .replace(b"|SIU^S12|", b"|ZZZ^Z01|")
    )
    made = envelope(raw)
    kit.Loading().chain([{"convert": {"version": version}}], ()).run(made, kit.Context())
    assert b"M\xfcller^Eva" in made.body.to_bytes(made.charset, made.unmappable)
    if version == "2.4":
        kit.Loading().chain([{"set": {"MSH-18": "UNICODE UTF-8"}}], ()).run(made, kit.Context())
        assert "Müller^Eva".encode() in made.body.to_bytes(made.charset, made.unmappable)


@pytest.mark.parametrize("version", ["2.33", "x", "$now"])
def test_a_version_that_is_none_is_refused(version: str, kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError) as refused:
        kit.Loading().chain([{"convert": {"version": version}}], ())
    assert refused.value.at == ("version",)


def test_only_hl7_is_converted(kit: SimpleNamespace, envelope: Make) -> None:
    with pytest.raises(StepFailed, match="wrong_body"):
        kit.Loading().chain([{"convert": {"version": "2.4"}}], ()).run(envelope({"a": 1}), kit.Context())
