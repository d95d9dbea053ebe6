"""The RIS's calendar: which slots exist and what state they are in."""

from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engine.simulators.calendar import Calendar, Location, read_locations, room_name, starts

TABLE = Path(__file__).parents[2] / "tables" / "locations.csv"
THURSDAY, SATURDAY, SUNDAY = date(2025, 1, 16), date(2025, 1, 18), date(2025, 1, 19)


@pytest.fixture
def calendar() -> Calendar:
    return Calendar(read_locations(TABLE))


def states(calendar: Calendar, location: str, day: date, modality: str) -> list[str]:
    place = calendar.locations[location]
    return [f"{slot.start:%H%M}{calendar.state(slot)[1]}" for slot in calendar.slots(place, day, modality)]


def test_a_day_is_open_but_for_lunch(calendar: Calendar) -> None:
    day = states(calendar, "DTI", THURSDAY, "CR")
    assert day[:2] == ["0800p", "0830p"]
    assert day[-1] == "1630p"
    assert [slot for slot in day if slot.endswith("l")] == ["1200l", "1230l"]


def test_slots_that_reach_into_lunch_are_blocked(calendar: Calendar) -> None:
    day = states(calendar, "WSI", SATURDAY, "US")
    assert [slot for slot in day if slot.endswith("l")] == ["1130l", "1215l"]
    assert (day[0], day[-1]) == ("0700p", "1815p")


@pytest.mark.parametrize(("location", "day"), [("DTI", SATURDAY), ("DTI", SUNDAY), ("WSI", SUNDAY)])
def test_closed_days_have_no_slots(calendar: Calendar, location: str, day: date) -> None:
    assert calendar.slots(calendar.locations[location], day) == []


def test_a_modality_chooses_the_rooms(calendar: Calendar) -> None:
    assert {slot.room for slot in calendar.slots(calendar.locations["NSI"], THURSDAY)} == {"XR1", "CT1", "MR1"}
    assert {slot.room for slot in calendar.slots(calendar.locations["NSI"], THURSDAY, "MR")} == {"MR1"}
    assert calendar.slots(calendar.locations["NSI"], THURSDAY, "US") == []


def test_a_slot_is_found_by_its_id_and_only_on_the_grid(calendar: Calendar) -> None:
    slot = calendar.find("DTI-XR1-202501160900")
    assert slot is not None
    assert (slot.start.isoformat(), slot.end.isoformat()) == ("2025-01-16T09:00:00-06:00", "2025-01-16T09:30:00-06:00")
    for wrong in (
        "DTI-XR1-202501160915", "DTI-XR9-202501160900", "ZZZ-XR1-202501160900", "DTI-XR1-202501180900",
        "DTI-XR1-2025", "DTI", "", "DTI-XR1-20250116090", "DTI-XR1-202501160900-1",
    ):  # fmt: skip
        assert calendar.find(wrong) is None, wrong


def test_a_slot_is_booked_once(calendar: Calendar) -> None:
    slot = calendar.find("DTI-XR1-202501160900")
    assert slot is not None
    calendar.book(slot, "APT1")
    assert calendar.state(slot) == "booked"
    with pytest.raises(ValueError, match="not open"):
        calendar.book(slot, "APT2")
    calendar.free(slot.id)
    assert calendar.state(slot) == "open"


def test_the_hour_that_summer_time_repeats_has_no_slots() -> None:
    zone = ZoneInfo("America/Chicago")
    night = Location(
        "N", "Night", "", "", zone, "N", ("CR",), {"X": ("CR",)}, time(0), time(4), frozenset(range(7)), 30
    )
    times = [f"{start:%H%M}" for start in starts(night, datetime(2025, 11, 2).date())]
    assert times == ["0000", "0030", "0200", "0230", "0300", "0330"]


def test_the_table_is_read_whole(calendar: Calendar) -> None:
    assert calendar.facilities == {"DTI", "NSI", "WSI"}
    assert calendar.locations["DTI"].rooms == {"XR1": ("CR", "DX"), "US1": ("US",)}
    assert room_name("XR1") == "X-ray room 1"


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    table = tmp_path / "locations.csv"
    table.write_text(TABLE.read_text().replace("08:00", "8 o'clock"))
    with pytest.raises(ValueError, match="location DTI"):
        read_locations(table)
