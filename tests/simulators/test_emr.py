"""The simulated EMRs: what each profile takes and refuses, how it answers, what it keeps."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import tls
from engine.simulators import Emr
from engine.simulators.profiles import PROFILES
from engine.simulators.wire import frame, parse

Sample = Callable[..., bytes]
Change = Callable[[bytes, dict[str, str]], bytes]
Lines = Callable[[bytes], list[str]]
MakeEmr = Callable[..., Awaitable[Emr]]

ACCEPTED = [
    ("athena", "P_athena_S12"),
    ("athena", "P_athena_S12_from_v251"),
    ("athena", "N3_SIU_seed_athena_v231"),
    ("epic", "P_epic_S12"),
    ("epic", "P_epic_S12_from_v251"),
    ("cerner", "P_cerner_S12"),
    ("cerner", "P_cerner_S12_from_v251"),
    ("cerner", "N5_SIU_S12_enhanced_v251"),
    ("allscripts", "P_allscripts_S12"),
    ("allscripts", "P_allscripts_S12_from_v251"),
    ("nextgen", "P_nextgen_S12"),
    ("nextgen", "P_nextgen_S12_from_v251"),
    ("ecw", "P_ecw_S12"),
    ("ecw", "P_ecw_S12_from_v251"),
    ("meditech", "P_meditech_S12"),
    ("meditech", "P_meditech_S12_from_v251"),
    ("generic", "P_generic27_S12"),
    ("generic", "P_generic27_S12_from_v251"),
    ("generic", "N1_SIU_S12_v231"),
    ("generic", "N1_SIU_S12_v24"),
    ("generic", "N1_SIU_S12_v251"),
]
MINUTES = ("athena", "epic")
OFFSETS = ("cerner", "generic")


def right(sample: Sample, profile: str, name: str) -> bytes:
    """The sample with MSH-7 in the form of its profile."""
    message = parse(sample(name))
    time = "202501150832" if profile in MINUTES else "20250115083204"
    if profile in OFFSETS and message.version in ("2.5.1", "2.7"):
        time += "-0500"
    return sample(name, now=time)


def only(emr: Emr, message: bytes) -> bytes:
    (answer,) = emr.handle(message)
    return answer


def told(answer: bytes) -> tuple[str, str, str]:
    message = parse(answer)
    place = message.raw("ERR-2") or "^".join(message.raw("ERR-1").split("^")[:3])
    return message.text("MSA-1"), message.text("ERR-3") or message.text("MSA-6"), place


@pytest.mark.parametrize(("profile", "name"), ACCEPTED)
async def test_the_matching_profile_accepts_the_expected_outputs(
    make_emr: MakeEmr, sample: Sample, profile: str, name: str
) -> None:
    emr = await make_emr(profile)
    code = "CA" if name.startswith("N5") else "AA"
    assert told(only(emr, right(sample, profile, name))) == (code, "", "")
    assert emr.describe()["violations"] == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("last", ["S15", "S17", "S26"])
async def test_an_appointment_is_moved_changed_and_ended(
    make_emr: MakeEmr, sample: Sample, change: Change, profile: str, last: str
) -> None:
    emr = await make_emr(profile)
    name = "generic27" if profile == "generic" else profile
    sent = [right(sample, profile, f"P_{name}_{event}") for event in ("S12", "S13", "S14", last)]
    numbered = [change(data, {"MSH-10": f"EN{number}"}) for number, data in enumerate(sent)]
    assert [told(only(emr, data)) for data in numbered] == [("AA", "", "")] * 4
    state = "noshow" if last == "S26" else "ended"
    assert (emr.describe()["appointments"], emr.describe()["violations"]) == ({"APT556677": state}, [])


@pytest.mark.parametrize("profile", [profile for profile in PROFILES if profile != "epic"])
@pytest.mark.parametrize(("event", "code"), [("S23", "AA"), ("S24", "AA"), ("S12", "AE")])
async def test_a_slot_has_no_patient_and_an_appointment_has_one(
    make_emr: MakeEmr, sample: Sample, change: Change, profile: str, event: str, code: str
) -> None:
    emr = await make_emr(profile)
    name = "generic27" if profile == "generic" else profile
    booked = right(sample, profile, f"P_{name}_S12").replace(b"SIU^S12", f"SIU^{event}".encode())
    lines = [line for line in booked.split(b"\r") if not line.startswith((b"PID", b"PV1"))]
    assert told(only(emr, b"\r".join(lines)))[0] == code


@pytest.mark.parametrize(("profile", "name"), ACCEPTED)
async def test_every_other_profile_refuses_them(make_emr: MakeEmr, sample: Sample, profile: str, name: str) -> None:
    for other in PROFILES.keys() - {profile}:
        emr = await make_emr(other)
        code = told(only(emr, right(sample, profile, name)))[0]
        assert code in ("AE", "AR", "CE", "CR"), other


#: Profiles whose messages differ in nothing but the receiver.
TWINS = ({"nextgen", "ecw"},)


@pytest.mark.parametrize("profile", sorted(PROFILES))
async def test_the_receivers_name_alone_does_not_help(
    make_emr: MakeEmr, sample: Sample, change: Change, profile: str
) -> None:
    name = "P_generic27_S12" if profile == "generic" else f"P_{profile}_S12"
    for other in sorted(PROFILES.keys() - {profile}):
        emr = await make_emr(other)
        receiver = {"MSH-5": PROFILES[other].receiving_app, "MSH-6": PROFILES[other].receiving_facility}
        code = told(only(emr, change(right(sample, profile, name), receiver)))[0]
        assert (code == "AA") is ({profile, other} in TWINS), other


@pytest.mark.parametrize(
    ("profile", "name", "fields", "condition", "place"),
    [
        ("epic", "P_epic_S12", {"MSH-5": "CERNER"}, "103", "MSH^1^5"),
        ("epic", "P_epic_S12", {"MSH-6": "SA11"}, "103", "MSH^1^6"),
        ("epic", "P_epic_S12", {"MSH-7": "20250115083204"}, "102", "MSH^1^7"),
        ("epic", "P_epic_S12", {"MSH-9": "SIU^S12^SIU_S12"}, "102", "MSH^1^9"),
        ("epic", "P_epic_S12", {"MSH-10": "EN00000001010000000001"}, "102", "MSH^1^10"),
        ("epic", "P_epic_S12", {"MSH-13": "1"}, "103", "MSH^1^13"),
        ("epic", "P_epic_S12", {"MSH-18": ""}, "103", "MSH^1^18"),
        ("epic", "P_epic_S12", {"MSH-18": "UNICODE UTF-8"}, "103", "MSH^1^18"),
        ("epic", "P_epic_S12", {"SCH-1": ""}, "101", "SCH^1^1"),
        ("epic", "P_epic_S12", {"SCH-2": ""}, "101", "SCH^1^2"),
        ("epic", "P_epic_S12", {"SCH-6": ""}, "101", "SCH^1^6"),
        ("epic", "P_epic_S12", {"SCH-7": "ROUTINE^^HL70276"}, "103", "SCH^1^7"),
        ("epic", "P_epic_S12", {"SCH-8": ""}, "101", "SCH^1^8"),
        ("epic", "P_epic_S12", {"SCH-8": "Normal^^HL70277"}, "103", "SCH^1^8"),
        ("epic", "P_epic_S12", {"SCH-8": "1010^CT HEAD"}, "103", "SCH^1^8"),
        ("epic", "P_epic_S12", {"SCH-9": "half an hour"}, "102", "SCH^1^9"),
        ("epic", "P_epic_S12", {"SCH-10": "min"}, "103", "SCH^1^10"),
        ("epic", "P_epic_S12", {"SCH-11": ""}, "101", "SCH^1^11"),
        ("epic", "P_epic_S12", {"SCH-11": "^^^20250116090000"}, "102", "SCH^1^11"),
        ("epic", "P_epic_S12", {"SCH-11": "^^^202501160900^202501160930"}, "103", "SCH^1^11"),
        ("epic", "P_epic_S12", {"SCH-11": "^^60^202501160900"}, "103", "SCH^1^11"),
        ("epic", "P_epic_S12", {"SCH-16": ""}, "101", "SCH^1^16"),
        ("epic", "P_epic_S12", {"SCH-20": ""}, "101", "SCH^1^20"),
        ("epic", "P_epic_S12", {"SCH-24": "ACTIVE"}, "103", "SCH^1^24"),
        ("epic", "P_epic_S12", {"SCH-25": "Booked^^HL70278"}, "103", "SCH^1^25"),
        ("epic", "P_epic_S12", {"SCH-26": "ORDER123^RADSCHED"}, "103", "SCH^1^26"),
        ("epic", "P_epic_S12", {"PID-3": ""}, "101", "PID^1^3"),
        ("epic", "P_epic_S12", {"PID-3": "MRN123456"}, "101", "PID^1^3"),
        ("epic", "P_epic_S12", {"PID-3": "MRN123456^^^DTI^PI"}, "103", "PID^1^3"),
        ("epic", "P_epic_S12", {"PID-5": ""}, "101", "PID^1^5"),
        ("epic", "P_epic_S12", {"PID-7": "19801301"}, "102", "PID^1^7"),
        ("epic", "P_epic_S12", {"PID-8": "Z"}, "103", "PID^1^8"),
        ("epic", "P_epic_S12", {"PID-13": "(217)555-0111"}, "103", "PID^1^13"),
        ("epic", "P_epic_S12", {"PID-18": "ACCT5566^^^DTI^AN^^20250101"}, "102", "PID^1^18"),
        ("epic", "P_epic_S12", {"PV1-2": ""}, "101", "PV1^1^2"),
        ("epic", "P_epic_S12", {"PV1-3": "DTI^^^DTI"}, "103", "PV1^1^3"),
        ("epic", "P_epic_S12", {"PV1-19": ""}, "101", "PV1^1^19"),
        ("epic", "P_epic_S12", {"PV1-19": "V556677"}, "103", "PV1^1^19"),
        ("epic", "P_epic_S12", {"RGS-1": ""}, "101", "RGS^1^1"),
        ("epic", "P_epic_S12", {"RGS-3": ""}, "101", "RGS^1^3"),
        ("epic", "P_epic_S12", {"RGS-3": "DTI"}, "103", "RGS^1^3"),
        ("epic", "P_epic_S12", {"AIS-1": ""}, "101", "AIS^1^1"),
        ("epic", "P_epic_S12", {"AIS-4": "20250116090000"}, "102", "AIS^1^4"),
        ("epic", "P_epic_S12", {"AIS-4": ""}, "101", "AIS^1^4"),
        ("epic", "P_epic_S12", {"AIS-7": ""}, "101", "AIS^1^7"),
        ("epic", "P_epic_S12", {"AIS-7": "x"}, "102", "AIS^1^7"),
        ("epic", "P_epic_S12", {"AIS-8": "min"}, "103", "AIS^1^8"),
        ("epic", "P_epic_S12", {"AIG-4": ""}, "101", "AIG^1^4"),
        ("athena", "P_athena_S12", {"MSH-9": "SIU^S12"}, "103", "MSH^1^9"),
        ("athena", "P_athena_S12", {"MSH-15": "AL"}, "103", "MSH^1^15"),
        ("athena", "P_athena_S12", {"SCH-1": "ORDER123^RADSCHED"}, "103", "SCH^1^1"),
        ("athena", "P_athena_S12", {"PID-3": "MRN123456^^^DTI^MR"}, "102", "PID^1^3"),
        ("athena", "P_athena_S12", {"AIL-4": ""}, "101", "AIL^1^4"),
        ("athena", "P_athena_S12", {"AIL-3": "DTI^^^DTI"}, "103", "AIL^1^3"),
        ("athena", "P_athena_S12", {"AIL-3": ""}, "101", "AIL^1^3"),
        ("athena", "P_athena_S12", {"SCH-25": "ACTIVE"}, "103", "SCH^1^25"),
        ("generic", "P_generic27_S12", {"SCH-9": "30"}, "103", "SCH^1^9"),
        ("generic", "P_generic27_S12", {"SCH-11": "^^^20250116090000-0600"}, "103", "SCH^1^11"),
        ("generic", "P_generic27_S12", {"TQ1-7": ""}, "101", "TQ1^1^7"),
        ("generic", "P_generic27_S12", {"TQ1-8": "20250116093000"}, "102", "TQ1^1^8"),
        ("generic", "P_generic27_S12", {"AIL-6": "20250116090000"}, "102", "AIL^1^6"),
        ("generic", "P_generic27_S12", {"SCH-7": "Routine^^HL70276"}, "103", "SCH^1^7"),
        ("generic", "N1_SIU_S12_v24", {"SCH-27": "ACC778899^SYNAPSE", "AIL-4": ""}, "101", "AIL^1^4"),
        ("generic", "N1_SIU_S12_v231", {"SCH-26": "ORDER123^RADSCHED"}, "103", "SCH^1^26"),
        ("meditech", "P_meditech_S12", {"PID-3": "MRN123456^^^DTI^MR"}, "103", "PID^1^3"),
        ("meditech", "P_meditech_S12", {"PV1-19": "APT556677"}, "103", "PV1^1^19"),
        ("cerner", "P_cerner_S12", {"TQ1-7": "20250116090000"}, "102", "TQ1^1^7"),
    ],
)
async def test_a_wrong_field_is_refused(
    make_emr: MakeEmr, sample: Sample, change: Change, profile: str, name: str, fields: dict[str, str], condition: str,
    place: str,
) -> None:  # fmt: skip
    emr = await make_emr(profile)
    assert told(only(emr, change(right(sample, profile, name), fields))) == ("AE", condition, place)
    assert emr.describe()["appointments"] == {}


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({"MSH-12": "2.5.1"}, "203"),
        ({"MSH-9": "ADT^A01"}, "200"),
        ({"MSH-9": "SIU^S16"}, "201"),
        ({"MSH-11": "T"}, "202"),
    ],
)
async def test_a_message_of_another_kind_is_rejected(
    make_emr: MakeEmr, sample: Sample, change: Change, fields: dict[str, str], condition: str
) -> None:
    emr = await make_emr("epic")
    answer = told(only(emr, change(right(sample, "epic", "P_epic_S12"), fields)))
    assert answer[:2] == ("AR", condition)


async def test_a_segment_that_the_profile_does_not_send_is_refused(make_emr: MakeEmr, sample: Sample) -> None:
    emr = await make_emr("nextgen")
    data = right(sample, "nextgen", "P_nextgen_S12")
    extra = b"AIS|1|A|XRCHEST2^Chest X-ray 2 views^L|20250116090000|||30|MIN\rAIL"
    assert told(only(emr, data.replace(b"AIL", extra, 1)))[:2] == ("AE", "100")
    swapped = data.replace(b"NTE|1||X-ray scheduled at Downtown Imaging\r", b"") + b"SCH|1\r"
    assert told(only(emr, swapped))[:2] == ("AE", "100")


async def test_bytes_that_contradict_msh_18_are_refused(make_emr: MakeEmr, sample: Sample, change: Change) -> None:
    athena, generic = await make_emr("athena"), await make_emr("generic")
    latin = right(sample, "athena", "P_athena_S12").replace(b"Doe^John", "Müller^Eva".encode("latin-1"))
    assert told(only(athena, latin)) == ("AE", "102", "MSH^1^18")
    unicode = right(sample, "generic", "P_generic27_S12").replace(b"Doe^John", "Müller^Eva".encode("latin-1"))
    assert told(only(generic, unicode)) == ("AE", "102", "MSH^1^18")
    right_bytes = right(sample, "generic", "P_generic27_S12").replace(b"Doe^John", "Müller^Eva".encode())
    assert told(only(generic, right_bytes))[0] == "AA"


async def test_umlauts_in_8859_1_are_taken_by_epic(make_emr: MakeEmr, sample: Sample) -> None:
    emr = await make_emr("epic")
    data = right(sample, "epic", "P_epic_S12").replace(b"Doe^John", "Müller^Eva".encode("latin-1"))
    assert told(only(emr, data))[0] == "AA"
    assert parse(emr.received[0].body).text("PID-5") == "Müller"


async def test_the_positive_answer_has_the_samples_shape(make_emr: MakeEmr, sample: Sample, lines: Lines) -> None:
    emr = await make_emr("epic")
    answer = only(emr, right(sample, "epic", "P_epic_S12"))
    assert lines(answer) == lines(sample("N4_ACK_SIU_AA_v23"))
    assert (parse(answer).text("MSH-7"), parse(answer).control_id) == ("202501150830", "EP0000000001")


async def test_a_refusal_names_the_patient_as_the_sample_does(make_emr: MakeEmr, sample: Sample, lines: Lines) -> None:
    emr = await make_emr("cerner")
    await emr.add_fault(
        {"fault": "error", "condition": 204, "location": "PID-3", "text": "Patient MRN123456 not found"}
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", emr.port)
    writer.write(frame(sample("P_cerner_S12", now="20250115083204-0500", control_id="EN0000000102")))
    async with asyncio.timeout(20):
        answer = (await reader.readuntil(b"\x1c\r"))[1:-2]
    writer.close()
    await writer.wait_closed()
    assert lines(answer) == lines(sample("N4_ACK_SIU_AE_v251"))


async def test_own_refusals_name_the_patient_too(make_emr: MakeEmr, sample: Sample, change: Change) -> None:
    emr = await make_emr("epic")
    answer = parse(only(emr, change(right(sample, "epic", "P_epic_S12"), {"SCH-6": ""})))
    assert "Doe John MRN123456" in answer.text("MSA-3")


@pytest.mark.parametrize(
    ("modes", "fields", "codes"),
    [
        (("AL", "NE"), {}, ["CA"]),
        (("AL", "AL"), {}, ["CA", "AA"]),
        (("NE", "AL"), {}, ["AA"]),
        (("ER", "NE"), {}, []),
        (("SU", "NE"), {}, ["CA"]),
        (("AL", "NE"), {"SCH-2": ""}, ["CE"]),
        (("ER", "NE"), {"SCH-2": ""}, ["CE"]),
        (("AL", "AL"), {"SCH-2": ""}, ["CA", "AE"]),
        (("AL", "ER"), {}, ["CA"]),
        (("AL", "AL"), {"MSH-12": "2.3"}, ["CR"]),
        (("NE", "NE"), {}, []),
    ],
)
async def test_enhanced_mode_answers_what_msh_15_and_16_ask(
    make_emr: MakeEmr, sample: Sample, change: Change, modes: tuple[str, str], fields: dict[str, str],
    codes: list[str],
) -> None:  # fmt: skip
    emr = await make_emr("cerner")
    request = change(sample("N5_SIU_S12_enhanced_v251"), {"MSH-15": modes[0], "MSH-16": modes[1]} | fields)
    answers = [parse(answer) for answer in emr.handle(request)]
    assert [answer.text("MSA-1") for answer in answers] == codes
    assert {answer.text("MSA-2") for answer in answers} <= {"EN0000000105"}


async def test_accept_answers_have_the_samples_shape(
    make_emr: MakeEmr, sample: Sample, change: Change, lines: Lines
) -> None:
    emr = await make_emr("cerner")
    assert lines(only(emr, sample("N5_SIU_S12_enhanced_v251"))) == lines(sample("N5_ACK_CA_v251"))
    refused = only(emr, change(sample("N5_SIU_S12_enhanced_v251"), {"SCH-2": "", "PV1-19": ""}))
    assert lines(refused) == lines(sample("N5_ACK_CE_v251"))


async def test_the_accept_ack_of_an_application_answer_is_kept_and_not_answered(
    make_emr: MakeEmr, sample: Sample
) -> None:
    emr = await make_emr("cerner")
    assert emr.handle(sample("N5_ACK_CA_v251")) == []
    assert emr.describe()["acceptAcks"] == ["EN0000000105"]


async def test_everything_received_is_kept_in_order(make_emr: MakeEmr, sample: Sample, change: Change) -> None:
    emr = await make_emr("epic")
    booked, cancelled = right(sample, "epic", "P_epic_S12"), right(sample, "epic", "P_epic_S15")
    emr.handle(booked)
    emr.handle(change(booked, {"MSH-7": "202501150900"}))
    emr.handle(change(cancelled, {"MSH-10": "EN2"}))
    emr.handle(change(booked, {"MSH-10": "EN3", "MSH-12": "2.4"}))
    state = emr.describe()
    assert [
        (entry["sequence"], entry["kind"], entry["controlId"], entry["duplicate"]) for entry in state["received"]
    ] == [
        (1, "SIU^S12", "EN0000000101", False),
        (2, "SIU^S12", "EN0000000101", True),
        (3, "SIU^S15", "EN2", False),
        (4, "SIU^S12", "EN3", False),
    ]
    assert (state["count"], state["duplicates"], state["refused"]) == (4, 1, 1)
    assert state["appointments"] == {"APT556677": "ended"}
    assert state["violations"] == []
    assert "Doe" not in str(state)
    assert "Doe^John" in str(emr.describe(bodies=True))


async def test_a_repeated_message_gets_the_same_answer(make_emr: MakeEmr, sample: Sample, change: Change) -> None:
    emr = await make_emr("epic")
    booked = right(sample, "epic", "P_epic_S12")
    assert emr.handle(booked) == emr.handle(booked)
    other = change(booked, {"SCH-2": "APT9^SYNAPSE", "PV1-19": "APT9"})
    assert told(only(emr, other)) == ("AE", "205", "MSH^1^10")


@pytest.mark.parametrize(
    ("events", "violations"),
    [
        (["S12", "S13", "S14", "S26", "S15"], []),
        (["S15"], ["S15 before S12"]),
        (["S15", "S12"], ["S15 before S12", "S12 after the end"]),
        (["S12", "S12"], ["S12 twice"]),
        (["S12", "S15", "S13"], ["S13 after the end"]),
        (["S14", "S12"], ["S14 before S12", "S12 twice"]),
    ],
)
async def test_the_wrong_order_is_taken_and_recorded(
    make_emr: MakeEmr, sample: Sample, change: Change, events: list[str], violations: list[str]
) -> None:
    emr = await make_emr("epic")
    for number, event in enumerate(events):
        message = change(right(sample, "epic", "P_epic_S12"), {"MSH-9": f"SIU^{event}", "MSH-10": f"EN{number}"})
        assert told(only(emr, message))[0] == "AA"
    assert [entry["what"] for entry in emr.describe()["violations"]] == violations


async def test_down_and_up(make_emr: MakeEmr, connect: Any, sample: Sample) -> None:
    emr = await make_emr("epic")
    await emr.down()
    with pytest.raises(OSError):
        await connect(emr.port)
    await emr.up()
    client = await connect(emr.port)
    assert (await client.ask(right(sample, "epic", "P_epic_S12"))).text("MSA-1") == "AA"
    async with asyncio.timeout(20):
        await emr.wait_for(1)


async def test_versions_and_facility_can_be_another_sites(make_emr: MakeEmr, sample: Sample, change: Change) -> None:
    emr = await make_emr("epic", versions=["2.5.1"], receiving_facility="SITEA")
    newer = {"MSH-12": "2.5.1", "MSH-6": "SITEA", "MSH-9": "SIU^S12^SIU_S12", "SCH-7": "ROUTINE^^HL70276"}
    data = right(sample, "epic", "P_epic_S12")
    assert told(only(emr, data))[:2] == ("AR", "203")
    assert told(only(emr, change(data, newer)))[0] == "AA"


async def test_unreadable_bytes_are_rejected(make_emr: MakeEmr) -> None:
    emr = await make_emr("athena")
    assert told(only(emr, b"hello"))[0] == "AR"
    assert told(emr.refuse(b"hello", ValueError)[0])[0] == "AR"  # type: ignore[arg-type]


async def test_tls_is_spoken_when_a_context_is_given(make_emr: MakeEmr, sample: Sample, tmp_path: Path) -> None:
    tls.ensure_certificates(tmp_path)
    context = tls.server_context(tmp_path / "server.pem", tmp_path / "server.key")
    emr = await make_emr("epic", context=context)
    client: ssl.SSLContext = tls.client_context(tmp_path / "ca.pem")
    reader, writer = await asyncio.open_connection("127.0.0.1", emr.port, ssl=client)
    writer.write(frame(right(sample, "epic", "P_epic_S12")))
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"\x1c\r")
    writer.close()
    await writer.wait_closed()
    assert b"MSA|AA|EN0000000101" in answer


async def test_a_plain_client_at_a_tls_port_gets_nothing(make_emr: MakeEmr, sample: Sample, tmp_path: Path) -> None:
    tls.ensure_certificates(tmp_path)
    emr = await make_emr("epic", context=tls.server_context(tmp_path / "server.pem", tmp_path / "server.key"))
    reader, writer = await asyncio.open_connection("127.0.0.1", emr.port)
    writer.write(frame(right(sample, "epic", "P_epic_S12")))
    async with asyncio.timeout(20):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readuntil(b"\x1c\r")
    writer.close()
    assert emr.received == []
