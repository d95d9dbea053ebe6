"""What partners may send: steps give a message or fail by name, and no text of theirs is in an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.envelope import Envelope, Origin
from engine.errors import MalformedMessage, Refused, StepFailed
from engine.hl7.message import Message
from engine.simulators.profiles import PROFILES

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["drop line", "double line", "empty field", "fill field", "cut field", "cut line"]),
        st.integers(0, 40),
        st.integers(1, 30),
        st.sampled_from(
            ["Doe", "", '""', "~~", "^^^^^", "Doe^Doe~Doe&Doe", "\\Xzz\\", "\\", "99999999", "2025", "\n", "é"]
        ),
    ),
    max_size=8,
)


def _changed(text: str, changes: list[tuple[str, int, int, str]]) -> str:
    lines = [line.split("|") for line in text.split("\r") if line]
    for kind, at, number, filler in changes:
        line = at % len(lines)
        if line == 0:
            continue
        fields = lines[line]
        if kind == "drop line":
            del lines[line]
        elif kind == "double line":
            lines.insert(line, list(fields))
        elif kind == "cut line":
            del fields[number:]
        elif number < len(fields):
            fields[number] = {"empty field": "", "fill field": filler, "cut field": fields[number][:3]}[kind]
    return "\r".join("|".join(fields) for fields in lines) + "\r"


@pytest.fixture(scope="module")
def chains() -> dict[str, Any]:
    return {}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, name=st.sampled_from(["N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251", "N3_SIU_seed_v23"]))
def test_a_changed_appointment_is_mapped_or_fails_by_name(
    changes: list[tuple[str, int, int, str]], name: str, kit: SimpleNamespace, chains: dict[str, Any]
) -> None:
    if not chains:
        loading = kit.Loading()
        chains["read"] = loading.include("ris/read_siu")
        chains["emr"] = [loading.include(f"emr/{profile}") for profile in PROFILES]
        chains["emr"].append(loading.chain([{"convert": {"version": "2.7"}}], ()))
    text = _changed((kit.SAMPLES / f"{name}.hl7").read_text("utf-8").replace("\n", "\r"), changes)
    try:
        message = Message.parse(text.encode())
    except MalformedMessage:
        return
    received, context = Envelope(message, Origin("mllp"), "c", "test", 1, 0.0), kit.Context()
    for chain in ([chains["read"], each] for each in chains["emr"]):
        envelope = received.fork()
        try:
            for part in chain:
                part.run(envelope, context)
        except (StepFailed, Refused) as error:
            failed = error
        else:
            failed = None
        if failed is not None:
            assert "Doe" not in f"{failed!r} {failed.__context__!r}"
            continue
        assert isinstance(envelope.body, Message)
        again = Message.parse(envelope.body.to_bytes("UTF-8", "replace"))
        assert again.names()[:2] == ["MSH", "SCH"]
        assert set(again.names()) <= {*["MSH", "SCH", "TQ1", "NTE", "PID", "PV1", "RGS", "AIS", "AIG", "AIL", "AIP"]}


ANSWERS = [
    "L2_DSR_Q01_v23",
    "S2_DSR_Q01_v251",
    "S5_SQR_S25_v23",
    "L6_MFR_M05_v251",
    "B2_ORR_O02_AA_v23",
    "B7_SRR_S01_AA_v251",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=CHANGES,
    name=st.sampled_from(ANSWERS),
    function=st.sampled_from(["locations", "slots", "confirmation", "cancelled"]),
)
def test_a_changed_answer_is_read_or_fails_by_name(
    changes: list[tuple[str, int, int, str]], name: str, function: str, kit: SimpleNamespace
) -> None:
    loading, context = kit.Loading(), kit.Context()
    (location,) = loading.table("locations").rows("DTI")
    body = {"orderId": "O1", "locationId": "DTI", "modality": "CR", "start": "2025-01-16T09:00:00-06:00"}
    context.request = Envelope(body, Origin("rest"), "c", "test", 1, 0.0, {"location": location}, body)
    text = _changed((kit.SAMPLES / f"{name}.hl7").read_text("utf-8").replace("\n", "\r"), changes)
    try:
        reply = Envelope(Message.parse(text.encode()), Origin("answer"), "c", "test", 1, 0.0)
    except MalformedMessage:
        return
    try:
        loading.chain([{"python": f"radscheduler:{function}"}], ()).run(reply, context)
    except (StepFailed, Refused) as error:
        failed = error
    else:
        failed = None
    if failed is not None:
        assert "Doe" not in f"{failed!r} {failed.__context__!r}"
        assert getattr(failed, "cause", "") != "python_failed"
        return
    assert isinstance(reply.body, dict)
