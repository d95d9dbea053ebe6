"""Times and telephone numbers: read, written, never made up."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from engine.errors import StepFailed
from engine.transforms.values.formats import Formatted
from engine.transforms.values.readers import Literal
from engine.transforms.values.scope import Scope, Times
from engine.transforms.values.times import Moment, day_end, day_start, hl7_time, read_moment, zone_named

CHICAGO = ZoneInfo("America/Chicago")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("text", "minutes_only", "offset", "expected"),
    [
        ("20250116090000", False, False, "20250116090000"),
        ("20250116090000", True, False, "202501160900"),
        ("20250116090000", False, True, "20250116090000-0600"),
        ("202501160900", False, False, "202501160900"),
        ("202501160900", False, True, "202501160900-0600"),
        ("2025011609", False, True, "2025011609-0600"),
        ("20250116", False, True, "20250116"),
        ("202501", True, True, "202501"),
        ("2025", False, False, "2025"),
        ("20250116100000-0500", False, False, "20250116090000"),
        ("20250116100000.1234-0500", False, True, "20250116090000-0600"),
        ("20250716090000", False, True, "20250716090000-0500"),
        ("2025-01-16T09:00:00-06:00", False, False, "20250116090000"),
        ("2025-01-16T15:00:00Z", False, True, "20250116090000-0600"),
        ("2025-01-16T09:00", False, False, "202501160900"),
        ("2025-01-16", False, True, "20250116"),
    ],
)
def test_a_time_is_written_with_what_is_known_of_it(text: str, minutes_only: bool, offset: bool, expected: str) -> None:
    moment = read_moment(text, CHICAGO)
    assert moment is not None
    assert hl7_time(moment, minutes_only, offset, CHICAGO) == expected


@pytest.mark.parametrize(
    "text", ["", "TBD", "20250230", "2025-02-30", "20250116250000", "20250116090000-9", "2025-1-6"]
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_moment(text, CHICAGO) is None


def test_what_is_too_long_for_a_time_is_not_remembered() -> None:
    text = "20250116 and more " * 1000
    value = Formatted(Literal(text), "timestamp", zone=Literal("America/Chicago"))
    held = sys.getrefcount(text)
    assert read_moment(text, CHICAGO) is None
    with pytest.raises(StepFailed):
        value.hl7(Scope(cast("Any", None), cast("Any", None), Times(False, False)))
    assert sys.getrefcount(text) == held


def test_a_time_goes_into_another_zone() -> None:
    moment = read_moment("20250116090000", CHICAGO)
    assert moment is not None
    assert hl7_time(moment, False, True, NEW_YORK) == "20250116100000-0500"
    assert moment.iso(NEW_YORK) == "2025-01-16T10:00:00-05:00"
    assert moment.day(ZoneInfo("Asia/Tokyo")) == date(2025, 1, 17)


def test_a_day_has_the_offsets_of_its_start_and_end() -> None:
    change = date(2025, 11, 2)
    assert hl7_time(day_start(change, CHICAGO), False, True, None) == "20251102000000-0500"
    assert hl7_time(day_end(change, CHICAGO), False, True, None) == "20251102235959-0600"


def test_a_json_caller_may_have_written_a_time_in_several_ways() -> None:
    moment = read_moment("20250116090000", CHICAGO)
    assert moment is not None
    assert moment.forms() == (
        "2025-01-16T09:00:00-06:00",
        "2025-01-16T15:00:00+00:00",
        "2025-01-16T15:00:00Z",
        "2025-01-16T09:00-06:00",
        "2025-01-16T15:00+00:00",
        "2025-01-16T15:00Z",
    )


def test_minutes_between_and_after() -> None:
    start, end = read_moment("202501160900", CHICAGO), read_moment("202501160945", CHICAGO)
    assert start is not None
    assert end is not None
    assert start.minutes_until(end) == 45
    assert start.plus(45).at == end.at
    assert start.plus(45).digits == 12


@pytest.mark.parametrize("name", ["Nowhere/Else", "", "../etc/passwd", "America"])
def test_an_unknown_zone_is_none(name: str) -> None:
    assert zone_named(name) is None


def test_each_time_is_a_key_of_its_own() -> None:
    """The same moment in two zones is written differently, so none stands for another; nor do they share a hash."""
    some = [Moment(datetime(2026, 3, 8, 12, tzinfo=UTC)) for _ in range(3)]
    assert len({*some}) == len({*map(hash, some)}) == 3
