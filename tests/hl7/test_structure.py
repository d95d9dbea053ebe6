"""Which structure an event has, how MSH-9 says it, in which order its segments stand."""

from __future__ import annotations

import pytest

from engine.hl7.message import Message
from engine.hl7.structure import message_type_field, segment_order, structure_of

SIU_EVENTS = [f"S{number}" for number in (*range(12, 25), 26)]


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5.1", "2.7", "2.8.2"])
@pytest.mark.parametrize("event", SIU_EVENTS)
def test_all_scheduling_events_share_one_structure(event: str, version: str) -> None:
    assert structure_of("SIU", event, version) == "SIU_S12"


@pytest.mark.parametrize(
    ("kind", "event", "version", "structure"),
    [
        ("ADT", "A01", "2.5.1", "ADT_A01"),
        ("ADT", "A08", "2.3", "ADT_A01"),
        ("ADT", "A08", "2.2", "ADT_A08"),
        ("ADT", "A28", "2.3.1", "ADT_A01"),
        ("ADT", "A28", "2.4", "ADT_A05"),
        ("ADT", "A12", "2.4", "ADT_A09"),
        ("ADT", "A12", "2.5", "ADT_A12"),
        ("ADT", "A40", "2.5.1", "ADT_A39"),
        ("SRM", "S04", "2.5.1", "SRM_S01"),
        ("SRR", "S01", "2.3", "SRR_S01"),
        ("QRY", "Q01", "2.3", "QRY_Q01"),
        ("QRY", "Q01", "2.7", None),
        ("SQM", "S25", "2.7", None),
        ("ORM", "O01", "2.3", "ORM_O01"),
        ("ORR", "O02", "2.5.1", "ORR_O02"),
        ("ORM", "O01", "2.7", None),
        ("MFQ", "M05", "2.3", "MFQ_M01"),
        ("MFQ", "M05", "2.5.1", "MFQ_M01"),
        ("MFR", "M05", "2.3.1", "MFR_M01"),
        ("MFR", "M05", "2.5.1", "MFR_M05"),
        ("MDM", "T06", "2.5.1", "MDM_T02"),
        ("ORU", "R01", "2.9", "ORU_R01"),
        ("DFT", "P03", "2.3", "DFT_P03"),
        ("ACK", "S12", "2.5.1", "ACK"),
        ("ACK", "", "2.3", "ACK"),
        ("ZZZ", "Z01", "2.5.1", None),
        ("SIU", "S12", "2.2", None),
    ],
)
def test_structures_by_event_and_version(kind: str, event: str, version: str, structure: str | None) -> None:
    assert structure_of(kind, event, version) == structure


def test_message_type_of_every_sample_is_what_the_map_says(each_sample: bytes) -> None:
    message = Message.parse(each_sample)
    assert message_type_field(message.type, message.event, message.version) == message.read("MSH-9")


@pytest.mark.parametrize(
    ("kind", "event", "version", "text"),
    [
        ("ACK", "S12", "2.3", "ACK"),
        ("ACK", "S12", "2.3.1", "ACK^S12^ACK"),
        ("ACK", "", "2.5.1", "ACK"),
        ("ORM", "O01", "2.7", "ORM^O01"),
        ("ZZZ", "Z01", "2.5.1", "ZZZ^Z01"),
    ],
)
def test_message_type_without_a_structure(kind: str, event: str, version: str, text: str) -> None:
    assert message_type_field(kind, event, version) == text


def test_order_of_segments_follows_the_structure() -> None:
    order = segment_order("SIU_S12", "2.5.1")
    assert order == (
        "MSH",
        "SCH",
        "TQ1",
        "NTE",
        "PID",
        "PD1",
        "PV1",
        "PV2",
        "OBX",
        "DG1",
        "RGS",
        "AIS",
        "AIG",
        "AIL",
        "AIP",
    )
    assert "PD1" not in segment_order("SIU_S12", "2.3")
    assert "TQ1" not in segment_order("SIU_S12", "2.4")
    assert segment_order("MFQ_M01", "2.3") == ("MSH", "QRD", "QRF", "DSC")
    assert segment_order("NOT_ONE", "2.5.1") == ()


def test_segments_of_the_samples_are_in_their_structure(each_sample: bytes) -> None:
    message = Message.parse(each_sample)
    structure = structure_of(message.type, message.event, message.version)
    assert structure is not None
    assert set(message.names()) <= set(segment_order(structure, message.version)) | {"NTE"}
