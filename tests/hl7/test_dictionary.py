"""The standard's tables, with the corrections they need."""

from __future__ import annotations

import pytest

from engine.hl7.dictionary import component_count, field_name, field_type, required_fields, structures, withdrawn
from engine.hl7.message import Message
from engine.hl7.versions import SUPPORTED_VERSIONS


@pytest.mark.parametrize(
    ("version", "datatype", "count"),
    [
        ("2.3", "CX", 6),
        ("2.3.1", "CX", 6),
        ("2.4", "CX", 8),
        ("2.5.1", "CX", 10),
        ("2.7", "CX", 12),
        ("2.3", "XPN", 8),
        ("2.3", "XCN", 14),
        ("2.3", "PL", 9),
        ("2.3", "CE", 6),
        ("2.5.1", "CWE", 9),
        ("2.5.1", "ST", 1),
        ("2.7", "DTM", 1),
        ("2.3", "CWE", None),
        ("2.5.1", "TX", None),
        ("2.5.1", "varies", None),
        ("2.5.1", "NONE", None),
    ],
)
def test_components_of_a_type(version: str, datatype: str, count: int | None) -> None:
    assert component_count(version, datatype) == count


@pytest.mark.parametrize(
    ("version", "segment", "field", "datatype"),
    [
        ("2.3", "PID", 3, "CX"),
        ("2.5.1", "SCH", 7, "CE"),
        ("2.7", "SCH", 7, "CWE"),
        ("2.7", "SCH", 9, None),
        ("2.8", "OBR", 16, "XCN"),
        ("2.8.1", "OBR", 16, "XCN"),
        ("2.8.2", "OBR", 24, "ID"),
        ("2.9", "PID", 5, "XPN"),
        ("2.5.1", "ZZZ", 1, None),
        ("2.3", "SCH", 26, None),
    ],
)
def test_types_of_fields_by_their_number(version: str, segment: str, field: int, datatype: str | None) -> None:
    assert field_type(version, segment, field) == datatype


@pytest.mark.parametrize("field", [2, 4, 9, 12, 19, 20])
@pytest.mark.parametrize("version", ["2.7", "2.7.1", "2.8", "2.8.2", "2.9"])
def test_old_patient_fields_are_withdrawn_from_2_7(version: str, field: int) -> None:
    assert withdrawn(version, "PID", field)
    assert not withdrawn("2.6", "PID", field)


@pytest.mark.parametrize(
    ("segment", "fields"), [("SCH", (9, 10, 11)), ("PV1", (52,)), ("ERR", (1,)), ("MSA", (3, 6)), ("OBR", (14, 15, 27))]
)
def test_other_fields_are_withdrawn_from_2_7(segment: str, fields: tuple[int, ...]) -> None:
    for field in fields:
        assert withdrawn("2.7", segment, field)
        assert withdrawn("2.8.1", segment, field)
        assert not withdrawn("2.5.1", segment, field)


def test_what_a_version_never_had_is_not_withdrawn() -> None:
    assert not withdrawn("2.3", "SCH", 26)
    assert not withdrawn("2.7", "SCH", 28)
    assert not withdrawn("2.7", "ZZZ", 1)
    assert not withdrawn("2.7", "SCH", 0)


@pytest.mark.parametrize(
    ("version", "segment", "fields"),
    [
        ("2.3", "SCH", (1, 6, 11, 16, 20)),
        ("2.5.1", "SCH", (6, 16, 20)),
        ("2.7", "SCH", (6, 16, 20)),
        ("2.3.1", "AIL", (1, 4)),
        ("2.5.1", "AIL", (1,)),
        ("2.5.1", "MSH", (1, 2, 7, 9, 10, 11, 12)),
        ("2.5.1", "ZZZ", ()),
    ],
)
def test_required_fields(version: str, segment: str, fields: tuple[int, ...]) -> None:
    assert required_fields(version, segment) == fields


def test_fields_have_the_standards_names() -> None:
    assert field_name("2.5.1", "PID", 5) == "patient name"
    assert field_name("2.5.1", "PID", 999) is None


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_every_version_has_tables(version: str) -> None:
    assert "ACK" in structures(version)
    assert field_type(version, "MSH", 10) == "ST"
    assert structures(version)["ACK"].startswith("MSH {[SFT]}" if version >= "2.5" else "MSH MSA")


def test_samples_made_for_an_emr_have_no_component_too_many(each_sample: bytes) -> None:
    message = Message.parse(each_sample)
    for segment in message.segments():
        for number, field in enumerate(segment.text.split("|")[2:] if segment.name != "MSH" else [], 2):
            count = component_count(message.version, field_type(message.version, segment.name, number) or "")
            for repetition in field.split("~"):
                assert count is None or repetition.count("^") < count, f"{segment.name}-{number}"
