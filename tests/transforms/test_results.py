"""Results of the RIS as each EMR gets them: whole, in its version and charset, for its own patients."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from engine.config import load_site
from engine.envelope import Envelope
from engine.hl7.answer import read_ack
from engine.hl7.findings import Level, Levels
from engine.hl7.message import Message
from engine.hl7.validation import validate
from engine.simulators import Emr
from engine.simulators.profiles import PROFILES

from .conftest import SITE

Sample = Callable[[str], bytes]

ORU = "O2_ORU_critical_v251"
#: Version, MSH-5, MSH-6, MSH-9, MSH-18 and PID-3 of what each EMR gets.
GIVEN = {
    "athena": ("2.3.1", "ATHENANET", "12345", "ORU^R01^ORU_R01", "UNICODE UTF-8", "MRN123456"),
    "epic": ("2.3", "EPIC", "SA10", "ORU^R01", "8859/1", "MRN123456^^^DTI^MR"),
    "cerner": ("2.5.1", "CERNER", "SITEC", "ORU^R01^ORU_R01", "UNICODE UTF-8", "MRN123456^^^DTI^MR"),
    "allscripts": ("2.3.1", "ALLSCRIPTS", "SITED", "ORU^R01^ORU_R01", "UNICODE UTF-8", "MRN123456^^^DTI^MR"),
    "nextgen": ("2.3", "NEXTGEN", "SITEE", "ORU^R01", "UNICODE UTF-8", "MRN123456^^^DTI^MR"),
    "ecw": ("2.3", "ECW", "SITEF", "ORU^R01", "UNICODE UTF-8", "MRN123456^^^DTI^MR"),
    "meditech": ("2.3", "MEDITECH", "SITEG", "ORU^R01", "8859/1", "MRN123456^^^MT^MR"),
    "generic": ("2.7", "EMR", "SITEB", "ORU^R01^ORU_R01", "UNICODE UTF-8", "MRN123456^^^DTI^MR"),
}
#: The same result as a RIS of 2.3 sends it, in 8859/1 and asking for acks that are nobody else's.
OLD = (
    "MSH|^~\\&|SYNAPSE|DTI|PERFECTSERVE|PS|20250116101500||ORU^R01|SY51|P|2.3|||AL|NE||8859/1\r"
    "PID|1||MRN123456^^^DTI^MR||Müller^Jürgen||19800101|M\rPV1|1|O|DTI^XR1^^DTI\r"
    "ORC|RE|ORDER123^RADSCHED|ACC778899^SYNAPSE\r"
    "OBR|1|ORDER123^RADSCHED|ACC778899^SYNAPSE|XRCHEST2^Chest^L|||20250116090500|||||||||||||||20250116101000|||F\r"
    "NTE|1||see report\rOBX|1|TX|IMP^Impression^L||unauffällig||||||P\r"
    "OBR|2|ORDER124^RADSCHED|ACC778900^SYNAPSE|CTHEAD^CT head^L|||20250116090500|||||||||||||||20250116101000|||F\r"
    "OBX|1|TX|IMP^Impression^L||nothing||||||F\rZRI|1|kept\r"
).encode("latin-1")


def routed(kit: SimpleNamespace, envelope: Envelope, profile: str) -> bytes:
    """What the channel and its destination make of it, on the wire."""
    channel = yaml.safe_load((SITE / "channels" / "ris-oru-router.yaml").read_text())
    steps = [step for step in channel["transform"] if "lookup" not in step]
    (to,) = [item for item in channel["destinations"] if item["name"] == profile]
    kit.Loading().chain([*steps, *to["transform"]], ()).run(envelope, kit.Context())
    assert isinstance(envelope.body, Message)
    return envelope.body.to_bytes(envelope.charset)


def answered(profile: str, *messages: bytes) -> tuple[list[str], list[dict[str, Any]]]:
    emr = Emr(profile)
    codes = [read_ack(emr.handle(message)[-1]).code.value for message in messages]
    return codes, emr.describe()["violations"]


def test_every_emr_has_a_result_profile_and_a_destination() -> None:
    site = load_site(SITE, None, dict.fromkeys(("RADSCHEDULER_API_KEY", "RADSCHEDULER_TOKEN", "PHONE_SALT"), "x" * 16))
    names = [item.name for item in site.channels["ris-oru-router"].destinations]
    assert sorted(names) == sorted(PROFILES) == sorted(GIVEN)
    there, here = site.channels["ris-siu-router"], site.channels["ris-oru-router"]
    assert {each.name: each.to.address for each in here.destinations} == {
        each.name: each.to.address
        for each in there.destinations
        if each.name != "athena_rest"  # appointments alone
    }


@pytest.mark.parametrize("profile", GIVEN)
def test_the_sample_reaches_each_emr_field_for_field(
    profile: str, kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    raw = routed(kit, envelope(sample(ORU)), profile)
    message, received = Message.parse(raw), Message.parse(sample(ORU))
    fields = ("MSH-12", "MSH-5", "MSH-6", "MSH-9", "MSH-18", "PID-3")
    assert tuple(message.read(field) for field in fields) == GIVEN[profile]
    # Everything else is as the RIS wrote it.
    assert message.names() == received.names()
    for mine, theirs in zip(message.segments()[3:], received.segments()[3:], strict=True):
        assert mine.text == theirs.text
    # The published tables call fields required that the text has as conditional (OBX-4) or optional (ORC-7 at 2.3).
    levels = Levels(required=Level.IGNORE)
    assert not [finding for finding in validate(message, levels) if finding.level is Level.ERROR]
    assert answered(profile, raw) == (["AA"], [])


@pytest.mark.parametrize("profile", GIVEN)
def test_an_older_result_with_umlauts_and_several_orders_arrives_whole(
    profile: str, kit: SimpleNamespace, envelope: Callable[..., Envelope]
) -> None:
    raw = routed(kit, envelope(OLD), profile)
    message = Message.parse(raw)
    assert message.value("PID-5.1") == "Müller"
    assert [segment.value("OBX-5") for segment in message.segments("OBX")] == ["unauffällig", "nothing"]
    assert [name for name in message.names() if name != "TQ1"] == Message.parse(OLD).names()
    assert not message.read("MSH-15")
    assert not message.read("MSH-16")
    assert answered(profile, raw) == (["AA"], [])


@pytest.mark.parametrize("other", GIVEN)
def test_nobody_takes_what_is_for_another(
    other: str, kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    for profile in GIVEN.keys() - {other}:
        raw = routed(kit, envelope(sample(ORU)), profile)
        assert answered(other, raw)[0][0] in ("AE", "AR", "CE", "CR")


def change(raw: bytes, before: bytes, after: bytes, control_id: bytes = b"SY52") -> bytes:
    assert before in raw
    return raw.replace(before, after).replace(b"SY0000000051", control_id)


@pytest.mark.parametrize(
    ("before", "after", "condition", "location"),
    [
        (b"||||||F|||2025", b"|||||||||2025", "101", "OBX-11"),
        (b"|HH|||F", b"|HH|||Q", "103", "OBX-11"),
        (b"|TX|IMP", b"||IMP", "101", "OBX-2"),
        (b"|2823-3^Potassium^LN|", b"||", "101", "OBX-3"),
        (b"OBR|1|ORDER123^RADSCHED|ACC778899^SYNAPSE", b"OBR|1|ORDER123^RADSCHED|", "101", "OBR-3"),
        (b"OBR|", b"OBX|9|TX|A^B||c||||||F\rOBR|", "100", "MSH-9"),
    ],
)
def test_the_simulated_emr_is_strict_about_results(
    before: bytes,
    after: bytes,
    condition: str,
    location: str,
    kit: SimpleNamespace,
    envelope: Callable[..., Envelope],
    sample: Sample,
) -> None:
    raw = change(routed(kit, envelope(sample(ORU)), "cerner"), before, after)
    refused = read_ack(Emr("cerner").handle(raw)[-1])
    assert (refused.code.value, refused.condition, refused.location) == ("AE", condition, location)


def test_a_status_that_goes_back_is_a_violation(
    kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    final = routed(kit, envelope(sample(ORU)), "generic")
    corrected = change(final, b"|CR|F", b"|CR|C", b"SY52")
    preliminary = change(final, b"|CR|F", b"|CR|P", b"SY53")
    assert answered("generic", final, corrected) == (["AA", "AA"], [])
    codes, violations = answered("generic", final, preliminary)
    assert codes == ["AA", "AA"]
    assert [(each["result"], each["what"]) for each in violations] == [("ACC778899", "result P after F")]
