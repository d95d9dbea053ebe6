"""Every EMR profile gives the bytes of systems.md D.6, from the inputs of both HL7 versions and from a cancellation."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.hl7.message import Message
from engine.hl7.validation import Level, Levels, validate
from engine.simulators.profiles import PROFILES

Sample = Callable[[str], bytes]

#: The generic profile at other versions, and with what the RIS wrote as receiver.
FILES: dict[str, Any] = {
    "emr/generic231": [{"build": {"extends": "emr/generic", "version": "2.3.1", "charset": ""}}],
    "emr/generic24": [{"build": {"extends": "emr/generic", "version": "2.4", "charset": ""}}],
    "emr/generic251": [{"build": {"extends": "emr/generic", "version": "2.5.1", "charset": ""}}],
    "emr/as_received": [
        {
            "build": {
                "extends": "emr/generic",
                "version": "2.3",
                "charset": "",
                "values": {"receiving_app": {"from": "MSH-5"}, "receiving_facility": {"from": "MSH-6"}},
            }
        }
    ],
}

RIS23, RIS251 = "N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251"
PAIRS = [
    *((f"emr/{name}", RIS23, f"P_{name}_S12") for name in ("athena", "epic", "cerner", "allscripts", "nextgen", "ecw")),
    ("emr/meditech", RIS23, "P_meditech_S12"),
    ("emr/generic", RIS23, "P_generic27_S12"),
    *(
        (f"emr/{name}", RIS251, f"P_{name}_S12_from_v251")
        for name in ("athena", "epic", "cerner", "allscripts", "nextgen", "ecw", "meditech")
    ),
    ("emr/generic", RIS251, "P_generic27_S12_from_v251"),
    *(
        (f"emr/{name}", f"N2_SIU_{event}_v23", f"P_{'generic27' if name == 'generic' else name}_{event}")
        for name in PROFILES
        for event in ("S13", "S14", "S15", "S17", "S26")
    ),
    ("emr/generic231", RIS23, "N1_SIU_S12_v231"),
    ("emr/generic24", RIS23, "N1_SIU_S12_v24"),
    ("emr/generic251", RIS23, "N1_SIU_S12_v251"),
    ("emr/as_received", "N3_SIU_seed_v23", "N3_SIU_seed_corrected_v23"),
    ("emr/athena", "N3_SIU_seed_v23", "N3_SIU_seed_athena_v231"),
]


def _route(kit: SimpleNamespace, envelope: Envelope, profile: str) -> Message:
    loading, context = kit.Loading(files=FILES), kit.Context()
    loading.chain([{"include": "ris/read_siu"}], ()).run(envelope, context)
    copy = envelope.fork()
    loading.chain([{"include": profile}], ()).run(copy, context)
    assert isinstance(copy.body, Message)
    return copy.body


@pytest.mark.parametrize(("profile", "received", "expected"), PAIRS)
def test_profile_gives_the_worked_example_byte_for_byte(
    profile: str, received: str, expected: str, kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    message = _route(kit, envelope(sample(received)), profile)
    seconds = "" if profile in ("emr/athena", "emr/epic") else "04"
    offset = "-0500" if profile in ("emr/cerner", "emr/generic", "emr/generic251") else ""
    assert message.read("MSH-7") == f"202501150832{seconds}{offset}"
    assert re.fullmatch(r"EN\d{10}", message.control_id)
    message.write("MSH-7", "@NOW")
    message.write("MSH-10", "@MSG")
    assert message.to_bytes("UTF-8") == sample(expected)


def made_at(kit: SimpleNamespace, envelope: Envelope, profile: str, **settings: str) -> Message:
    """The message of a profile with these settings of ``site.yaml``."""
    loading = kit.Loading()
    own = {**loading.site.get(profile, {}), **settings}
    loading, context = kit.Loading(site={**loading.site, profile: own}), kit.Context()
    loading.chain([{"include": "ris/read_siu"}, {"include": f"emr/{profile}"}], ()).run(envelope, context)
    assert isinstance(envelope.body, Message)
    return envelope.body


def test_enhanced_mode_is_two_settings_of_the_site(
    kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    made = made_at(kit, envelope(sample(RIS23)), "cerner", accept_ack="AL", application_ack="NE")
    made.write("MSH-10", "EN0000000105")
    assert made.to_bytes() == sample("N5_SIU_S12_enhanced_v251")


#: athena's bare patient number is none from 2.7, where every number has its type.
SETTINGS = [
    (profile, version)
    for profile in PROFILES
    for version in ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7")
    if (profile, version) != ("athena", "2.7")
]


@pytest.mark.parametrize(("profile", "version"), SETTINGS)
def test_a_profile_is_valid_at_whatever_version_the_site_says(
    profile: str, version: str, kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    for received in (RIS23, RIS251):
        made = made_at(kit, envelope(sample(received)), profile, version=version)
        found = validate(made, Levels(extra=Level.ERROR, withdrawn=Level.ERROR))
        assert made.version == version
        assert [str(each) for each in found if each.level is Level.ERROR] == []


def test_a_message_in_other_delimiters_gives_the_same(
    kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    odd = sample(RIS23).replace(b"|", b"$").replace(b"^", b"*").replace(b"MSH$*~", b"MSH$*~")
    for profile in ("emr/athena", "emr/epic", "emr/generic"):
        usual = _route(kit, envelope(sample(RIS23)), profile)
        assert _route(kit, envelope(odd), profile).to_bytes() == usual.to_bytes()


def test_a_blocked_slot_has_no_patient_to_make_a_visit_for(
    kit: SimpleNamespace, envelope: Callable[..., Envelope], sample: Sample
) -> None:
    lines = [line for line in sample(RIS23).split(b"\r") if not line.startswith((b"PID", b"PV1"))]
    message = _route(kit, envelope(b"\r".join(lines).replace(b"SIU^S12", b"SIU^S23")), "emr/athena")
    assert message.names() == ["MSH", "SCH", "NTE", "RGS", "AIG", "AIL"]
