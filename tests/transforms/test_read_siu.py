"""Reading the RIS's SIU: each repair, on and off, and the working values (systems.md D.6, step 1)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import StepFailed
from engine.transforms.values.text import as_json

Sample = Callable[[str], bytes]
Read = Callable[..., Envelope]


@pytest.fixture
def read(kit: SimpleNamespace, envelope: Callable[..., Envelope]) -> Read:
    """Run ris/read_siu, with switches changed, on a message."""

    def go(raw: bytes, **switches: Any) -> Envelope:
        loading = kit.Loading()
        steps = copy.deepcopy(loading.fragment("ris/read_siu").data)
        for step in steps:
            known = step.get("python", {}).get("with", {})
            known.update({name: value for name, value in switches.items() if name in known})
        made = envelope(raw)
        loading.chain(steps, ()).run(made, kit.Context())
        return made

    return go


def test_the_seed_sample_is_mended(read: Read, sample: Sample) -> None:
    message = read(sample("N3_SIU_seed_v23")).body
    assert [message.read(f"AIS-{number}") for number in (4, 6, 7, 8, 9)] == ["20250115090000", "", "30", "min", ""]
    assert [message.read(f"SCH-{number}") for number in (1, 2, 8, 24, 25)] == [
        *("ORDER123^RADORDERPAD", "", "", "", "Booked^^HL70278")
    ]
    assert message.read("PID-3") == "MRN123456^^^FACILITY^MR"
    assert [message.read(f"AIL-{number}") for number in (1, 2, 3)] == ["1", "A", "^^^FACILITY"]


def test_a_correct_message_stays_as_it_is(read: Read, sample: Sample) -> None:
    for name in ("N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251", "N2_SIU_S15_v23", "N2_SIU_S15_v251"):
        assert read(sample(name)).body.to_bytes() == sample(name)


@pytest.mark.parametrize(
    ("switches", "path", "expected"),
    [
        ({"shifted_ais": False}, "AIS-6", "20250115090000"),
        ({"status_map": {}}, "SCH-24", "ACTIVE"),
        ({"status_map": {"ACTIVE": "Pending", "Scheduled": "Pending"}}, "SCH-25.1", "Pending"),
        ({"status_map": {"ACTIVE": "Pending", "Scheduled": "Booked"}}, "SCH-8", "Scheduled"),
        ({"sch1_set_id": False}, "SCH-1", "1^RADORDERPAD"),
        ({"namespace": ""}, "SCH-1", "ORDER123"),
        ({"namespace": "SYN"}, "SCH-1", "ORDER123^SYN"),
        ({"mrn_authority": ""}, "PID-3", "MRN123456"),
        ({"mrn_authority": "OWN", "mrn_type": "PI"}, "PID-3", "MRN123456^^^OWN^PI"),
        ({"location_missing": "omit"}, "AIL-3", None),
    ],
)
def test_every_repair_is_a_switch(
    switches: dict[str, Any], path: str, expected: str | None, read: Read, sample: Sample
) -> None:
    assert read(sample("N3_SIU_seed_v23"), **switches).body.read(path) == expected


def test_a_missing_location_can_be_an_error(read: Read, sample: Sample) -> None:
    with pytest.raises(StepFailed, match="required_missing at AIL-3"):
        read(sample("N3_SIU_seed_v23"), location_missing="error")


def test_a_status_that_is_there_is_not_replaced(read: Read, sample: Sample) -> None:
    raw = sample("N3_SIU_seed_v23").replace(b"ACTIVE", b"ACTIVE|Cancelled")
    message = read(raw).body
    assert message.read("SCH-25") == "Cancelled"
    assert message.read("SCH-24") == "ACTIVE"


def _values(read: Read, raw: bytes, **switches: Any) -> dict[str, Any]:
    return {name: as_json(value) for name, value in read(raw, **switches).variables.items()}


def test_working_values(read: Read, sample: Sample) -> None:
    for name in ("N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251"):
        assert _values(read, sample(name)) == {
            "placer": "ORDER123^RADSCHED",
            "filler": "APT556677^SYNAPSE",
            "facility": "DTI",
            "zone": "America/Chicago",
            "start": "2025-01-16T09:00:00-06:00",
            "end": "2025-01-16T09:30:00-06:00",
            "duration": "30",
        }


@pytest.mark.parametrize(("switch", "expected"), [("placer", "ORDER123^RADORDERPAD"), ("empty", None)])
def test_an_appointment_id_is_never_made_up(switch: str, expected: str | None, read: Read, sample: Sample) -> None:
    assert _values(read, sample("N3_SIU_seed_v23"), filler_missing=switch)["filler"] == expected
    with pytest.raises(StepFailed, match="required_missing at SCH-2"):
        read(sample("N3_SIU_seed_v23"), filler_missing="error")


def test_the_visit_number_serves_when_neither_id_is_there(read: Read, sample: Sample) -> None:
    raw = sample("N1_SIU_S12_RIS_v23").replace(b"SCH|ORDER123^RADSCHED|APT556677^SYNAPSE", b"SCH||")
    assert _values(read, raw)["filler"] == "V556677^^^DTI^VN"


@pytest.mark.parametrize(
    ("change", "start", "end", "duration"),
    [
        ([(b"^^^20250116090000^20250116093000", b"")], "09:00", "09:30", "30"),
        ([(b"^^^20250116090000^20250116093000", b"^^^20250116090000")], "09:00", "09:30", "30"),
        ([(b"|30|min|", b"|||")], "09:00", "09:30", "30"),
        ([(b"|30|min", b"||")], "09:00", "09:30", "30"),
        ([(b"|30|min|", b"|1|hours|"), (b"^20250116093000|", b"|")], "09:00", "10:00", "60"),
        ([(b"|30|min|", b"|45|Min|"), (b"^20250116093000|", b"|")], "09:00", "09:45", "45"),
        ([(b"|30|min|", b"|30|m|")], "09:00", "09:30", "30"),
        ([(b"|30|min|", b"|30|fortnights|")], "09:00", "09:30", "30"),
    ],
)
def test_times_come_from_the_first_place_that_has_them(
    change: list[tuple[bytes, bytes]], start: str, end: str, duration: str, read: Read, sample: Sample
) -> None:
    raw = sample("N1_SIU_S12_RIS_v23")
    for old, new in change:
        assert old in raw
        raw = raw.replace(old, new, 1) if old == b"|30|min|" else raw.replace(old, new)
    values = _values(read, raw)
    assert values["start"] == f"2025-01-16T{start}:00-06:00"
    assert values["end"] == f"2025-01-16T{end}:00-06:00"
    assert values["duration"] == duration


def test_a_location_without_a_zone_of_its_own_has_the_sites(read: Read, sample: Sample) -> None:
    assert _values(read, sample("N3_SIU_seed_v23"))["zone"] == "America/Chicago"


def test_a_message_without_a_schedule_fails(read: Read, sample: Sample) -> None:
    with pytest.raises(StepFailed, match="required_missing at SCH"):
        read(b"MSH|^~\\&|A|B|C|D|2025||SIU^S12|1|P|2.3\rPID|1||M1\r")
