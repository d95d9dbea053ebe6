"""Every EMR profile with every event: one engine sends each appointment to all simulated EMRs, strict ones all of them.

``CELLS`` is the matrix of ``docs/emr-profiles.md``; ``tests/docs/test_emr_profiles.py`` holds the page to it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from engine.hl7.message import Message
from engine.hl7.validation import Level, Levels, validate

from .peers import Sender, arrived, as_expected, expected, is_idle, sample, siu, told, value

Site = Any
WaitFor = Callable[..., Any]

EMRS = ("athena", "epic", "cerner", "allscripts", "nextgen", "ecw", "meditech", "generic")
EVENTS = tuple(f"S{number}" for number in (*range(12, 25), 26))
#: Epic's own list (systems' guide: open.epic.com); the others take what the standard has.
EPIC_EVENTS = frozenset({"S12", "S13", "S14", "S15", "S17", "S26"})
SENT, PARKED = "AA", "parked"
#: (EMR, event) → what becomes of it.
CELLS = {
    (emr, event): PARKED if emr == "epic" and event not in EPIC_EVENTS else SENT for emr in EMRS for event in EVENTS
}
VERSIONS = ("v23", "v251")
#: What a version does not have is an error. Not so codes: table 0278 had no Noshow before 2.4, and every RIS sends it.
STRICT = Levels(extra=Level.ERROR, withdrawn=Level.ERROR)
WORKED_OUT = ("S13", "S14", "S15", "S17", "S26")

#: DTI is a facility of all eight, and eClinicalWorks gets a sign for what ASCII lacks.
EDITS = (
    ("tables/facility_emr.csv", "DTI,athena", "\n".join(f"DTI,{emr}" for emr in EMRS)),
    ("transforms/emr/ecw.yaml", "    times:", "    unmappable: replace\n    times:"),
)
ACTIONS = {"S18": "A", "S20": "D", "S21": "D", "S22": "D", "S16": "D"}
STATUS = {"S16": "Dc", "S23": "Blocked"}


def announced(event: str, version: str) -> bytes:
    """The RIS's notification of this event; where the examples have none, the booking's with this event's values."""
    control_id = f"{event}{version}"
    name = f"N1_SIU_S12_RIS_{version}" if event == "S12" else f"N2_SIU_{event}_{version}"
    if event == "S12" or event in WORKED_OUT:
        text = sample(name).decode()
        return text.replace(value(text, "MSH-10"), control_id).encode()
    text = sample(f"N1_SIU_S12_RIS_{version}").decode()
    replacements = [
        (value(text, "MSH-10"), control_id),
        ("SIU^S12", f"SIU^{event}"),
        ("S12^New appointment^L", ""),
        ("Booked^^HL70278", f"{STATUS.get(event, 'Booked')}^^HL70278"),
        ("|1|A", f"|1|{ACTIONS.get(event, 'U')}"),
    ]
    for old, new in replacements:
        text = text.replace(old, new)
    if event in ("S23", "S24"):
        text = re.sub(r"(PID|PV1)\|.*?\r", "", text)
    return text.encode()


@dataclass
class Outcome:
    """What became of one message at one EMR."""

    state: str
    cause: str
    #: What the EMR received and answered; empty when nothing came.
    body: str = ""
    answer: str = ""


@pytest.fixture(scope="module")
def outcomes(running_site: Site, wait_for: WaitFor) -> dict[tuple[Any, ...], Outcome]:
    """(EMR, event, version) → outcome, of every event in every version."""
    return all_outcomes(running_site, wait_for, {(e, v): announced(e, v) for v in VERSIONS for e in EVENTS})


def all_outcomes(site: Site, wait_for: WaitFor, messages: dict[Any, bytes]) -> dict[tuple[Any, ...], Outcome]:
    """Send the messages and wait until nothing is owed; MSH-10 tells what the EMRs received of which."""
    site.control("POST", "/reset")
    with Sender(site.port("SIU")) as ris:
        for message in messages.values():
            assert told(ris.ask(message))[0] == "AA"
    wait_for(lambda: is_idle(site), "everything delivered or parked", 60)
    received = {emr: {entry["controlId"]: entry for entry in arrived(site, emr)} for emr in EMRS}
    listed = site.admin("GET", "/api/messages?channel=ris-siu-router&limit=100").json["messages"]
    ids = {each["control_id"]: each["id"] for each in listed}
    found = {}
    for key, message in messages.items():
        deliveries = site.admin("GET", f"/api/messages/{ids[value(message, 'MSH-10')]}").json["deliveries"]
        assert sorted(delivery["destination"] for delivery in deliveries) == sorted(EMRS)
        for delivery in deliveries:
            emr = delivery["destination"]
            entry = received[emr].get(delivery["control_id"])
            told_ = {"body": entry["body"], "answer": entry["answers"][-1]} if entry else {}
            found[(emr, *key)] = Outcome(delivery["state"], delivery["cause"], **told_)
    return found


@pytest.mark.parametrize(("emr", "event"), CELLS)
def test_each_emr_gets_the_events_it_takes(emr: str, event: str, outcomes: dict[Any, Outcome]) -> None:
    for version in VERSIONS:
        outcome = outcomes[emr, event, version]
        if CELLS[emr, event] == PARKED:
            assert (outcome.state, outcome.cause) == ("parked", "step require: requirement")
            continue
        assert (outcome.state, outcome.answer) == ("delivered", "AA"), outcome.cause
        found = validate(Message.parse(outcome.body.encode()), STRICT)
        assert [str(each) for each in found if each.level is Level.ERROR] == []


@pytest.mark.parametrize("emr", EMRS)
def test_each_emr_gets_the_worked_examples_field_for_field(emr: str, outcomes: dict[Any, Outcome]) -> None:
    name = "generic27" if emr == "generic" else emr
    for event in ("S12", *WORKED_OUT):
        assert as_expected(outcomes[emr, event, "v23"].body) == expected(f"P_{name}_{event}"), event
    assert as_expected(outcomes[emr, "S12", "v251"].body) == expected(f"P_{name}_S12_from_v251")


@pytest.mark.parametrize("emr", [emr for emr in EMRS if emr != "epic"])
def test_what_the_ris_left_out_is_filled_by_event(emr: str, outcomes: dict[Any, Outcome]) -> None:
    """SCH-6 is required; the RIS of these sent none."""
    assert value(outcomes[emr, "S16", "v23"].body, "SCH-6") == "S16^Discontinued appointment^L"
    assert value(outcomes[emr, "S18", "v251"].body, "SCH-6") == "S18^Appointment notification^L"


@pytest.mark.parametrize("emr", [emr for emr in EMRS if emr != "epic"])
def test_a_blocked_slot_goes_without_a_patient(emr: str, outcomes: dict[Any, Outcome]) -> None:
    body = outcomes[emr, "S23", "v23"].body
    assert "\rPID" not in body
    assert "\rPV1" not in body


# -- charset -------------------------------------------------------------------------------------------------------

#: EMR → what becomes of a name with ü, and of one with ž: the bytes, or the cause.
NAMES = {
    "athena": ("step encode: unmappable PID-5", "step encode: unmappable PID-5"),
    "allscripts": ("step encode: unmappable PID-5", "step encode: unmappable PID-5"),
    "nextgen": ("step encode: unmappable PID-5", "step encode: unmappable PID-5"),
    "ecw": ("M?ller", "?i?ka"),
    "epic": (r"M\xfcller", "step encode: unmappable PID-5"),
    "meditech": (r"M\xfcller", "step encode: unmappable PID-5"),
    "cerner": ("Müller", "Žižka"),
    "generic": ("Müller", "Žižka"),
}


@pytest.fixture(scope="module")
def names(running_site: Site, wait_for: WaitFor, outcomes: object) -> dict[tuple[str, str], Outcome]:
    """(EMR, name) → outcome of a booking of this patient. After the events: both look at what the EMRs hold."""
    messages = {}
    for name in ("Müller", "Žižka"):
        replace = [("|P|2.3\r", "|P|2.3||||||UNICODE UTF-8\r"), ("Doe^John", name)]
        messages[(name,)] = siu(f"N{len(messages)}", "DTI", control_id=f"NAME{len(messages)}", replace=replace)
    return all_outcomes(running_site, wait_for, messages)


@pytest.mark.parametrize("emr", EMRS)
def test_a_name_arrives_whole_or_as_the_admin_chose(emr: str, names: dict[Any, Outcome]) -> None:
    for name, wanted in zip(("Müller", "Žižka"), NAMES[emr], strict=True):
        outcome = names[emr, name]
        if wanted.startswith("step"):
            assert (outcome.state, outcome.cause, outcome.body) == ("parked", wanted, "")
        else:
            assert (outcome.state, value(outcome.body, "PID-5"), outcome.answer) == ("delivered", wanted, "AA")


# -- order ---------------------------------------------------------------------------------------------------------


def test_what_happens_to_an_appointment_arrives_in_order_although_its_booking_is_tried_again(
    site: Site, wait_for: WaitFor
) -> None:
    """Each EMR refuses the booking for the time being; the other patient does not wait for it."""
    for emr in EMRS:
        site.fault("error", f"emr/{emr}", ack="AE", condition=207, times=1)
    with Sender(site.port("SIU")) as ris:
        for event in ("S12", "S13", "S15"):
            base = siu("ORD1", "DTI", event if event == "S15" else "S12", control_id=f"ORD1{event}")
            assert told(ris.ask(base.replace(b"SIU^S12", f"SIU^{event}".encode())))[0] == "AA"
        other = siu("ORD2", "DTI", replace=[("MRN123456", "MRN800002")])
        assert told(ris.ask(other))[0] == "AA"
    wait_for(lambda: is_idle(site), "everything delivered", 60)
    for emr in EMRS:
        entries = [(entry["appointmentId"][:4], entry["kind"][-3:], entry["answers"]) for entry in arrived(site, emr)]
        assert [entry for entry in entries if entry[0] == "ORD1"] == [
            ("ORD1", "S12", ["AE"]),
            ("ORD1", "S12", ["AA"]),
            ("ORD1", "S13", ["AA"]),
            ("ORD1", "S15", ["AA"]),
        ]
        assert entries.index(("ORD2", "S12", ["AA"])) == 1, "another patient does not wait"
        state = site.control("GET", f"/emr/{emr}")
        assert (state["violations"], state["appointments"]["ORD1"]) == ([], "ended")
