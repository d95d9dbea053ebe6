"""The RIS's calendar as a table: the same slots and states as the calendar has."""

import sqlite3
from datetime import date, timedelta
from pathlib import Path

import pytest

from engine.simulators import calendar_table
from engine.simulators.app import CALENDAR, calendar_dsn
from engine.simulators.calendar import Calendar, read_locations
from engine.simulators.calendar_table import CalendarTable, utc
from engine.simulators.dialect import Dialect

SITE = Path(__file__).parents[2]
TODAY = date(2027, 3, 12)


@pytest.fixture(autouse=True)
def a_short_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar_table, "DAYS", 4)


@pytest.fixture
def calendar() -> Calendar:
    return Calendar(read_locations(SITE / "tables" / "locations.csv"))


def test_the_table_is_the_calendar_and_follows_it(calendar: Calendar, tmp_path: Path) -> None:
    table = CalendarTable("sqlite:data/calendar.sqlite", tmp_path)
    table.fill(calendar, TODAY)
    calendar.changed = table.slot_changed
    rows = sqlite3.connect(tmp_path / "data" / "calendar.sqlite")

    def states(location: str, modality: str, day: date) -> list[tuple[str, str, str]]:
        query = "SELECT slot_id, starts_at, state FROM calendar WHERE location_id = ? AND modality = ? ORDER BY 2, 1"
        found = rows.execute(query, (location, modality)).fetchall()
        return [row for row in found if f"-{day:%Y%m%d}" in row[0]]

    def same(location: str, modality: str, day: date) -> bool:
        slots = calendar.slots(calendar.locations[location], day, modality)
        wanted = sorted((slot.id, utc(slot.start), calendar.state(slot)) for slot in slots)
        return sorted(states(location, modality, day)) == wanted

    clocks_change = TODAY + timedelta(days=2)
    for location in calendar.locations.values():
        assert all(same(location.id, modality, TODAY) for modality in location.modalities)
        assert same(location.id, location.modalities[0], clocks_change)
    slot = calendar.slots(calendar.locations["DTI"], TODAY, "CR")[0]
    calendar.book(slot, "APT1")
    assert states("DTI", "DX", TODAY)[0][2] == "booked", "the room is taken for all it does"
    assert same("DTI", "CR", TODAY)
    calendar.free(slot.id)
    assert same("DTI", "CR", TODAY)
    calendar.book(slot, "APT2")
    calendar.reset()
    assert same("DTI", "CR", TODAY)
    table.close()
    rows.close()


def test_the_table_is_made_anew_at_every_start(calendar: Calendar, tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        table = CalendarTable(f"sqlite://{tmp_path}/c.sqlite", SITE)
        table.fill(calendar, TODAY)
        table.close()
        rows = sqlite3.connect(tmp_path / "c.sqlite")
        counts.append(rows.execute("SELECT count(*) FROM calendar").fetchone())
        rows.close()
    assert counts[0] == counts[1]


def test_a_table_is_kept_where_it_is_asked_for() -> None:
    assert calendar_dsn(None, {}) == calendar_dsn(Dialect.of({"slots": "qry"}), {}) == ""
    assert calendar_dsn(None, {"RIS_CALENDAR_DSN": "sqlite:a"}) == "sqlite:a"
    assert calendar_dsn(None, {"RIS_CALENDAR_DSN": "b", "RIS_CALENDAR_OWNER_DSN": "a"}) == "a"
    assert calendar_dsn(Dialect.of({"slots": "db"}), {}) == calendar_dsn(Dialect.of({"slots": "any"}), {}) == CALENDAR
