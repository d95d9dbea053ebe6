"""The lines that ``run --simulators`` prints to try things with."""

import json
import re
import shlex
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.cli import tour
from engine.config.plan import SitePlan
from engine.config.settings import SiteSettings

REST = "http://127.0.0.1:8080"
FRIDAY = date(2026, 11, 20)
ADDRESSES = {"control": "http://127.0.0.1:8071", "ris": "127.0.0.1:2576"}


@pytest.fixture
def plan(tmp_path: Path) -> SitePlan:
    channels: dict[str, Any] = dict.fromkeys((tour.LOCATIONS, tour.SLOTS, tour.BOOKING))
    return SitePlan(tmp_path, tmp_path / "data", SiteSettings(), channels, {}, ())


@pytest.mark.parametrize(
    ("today", "day"),
    [
        ("2026-11-18", "2026-11-19"),
        ("2026-11-20", "2026-11-23"),
        ("2026-11-21", "2026-11-23"),
        ("2026-11-22", "2026-11-23"),
    ],
)
def test_the_day_is_the_next_weekday(today: str, day: str) -> None:
    assert tour.next_weekday(date.fromisoformat(today)) == date.fromisoformat(day)


def test_the_three_calls_are_lines_that_a_shell_understands(plan: SitePlan) -> None:
    calls = list(tour.calls(plan, REST, tour.next_weekday(FRIDAY)))
    words = [shlex.split(call) for call in calls]
    assert [call[-1] for call in words] == [
        "http://127.0.0.1:8080/api/ris/locations?modality=CR",
        "http://127.0.0.1:8080/api/ris/available-slots?location=DTI&modality=CR&date=2026-11-23",
        "http://127.0.0.1:8080/api/ris/book-appointment",
    ]
    body = json.loads(words[2][words[2].index("-d") + 1])
    assert body["slotId"] == "DTI-XR1-202611230900"
    assert datetime.fromisoformat(body["start"]) == datetime(2026, 11, 23, 9, tzinfo=tour.ZONE)


def test_the_key_is_read_by_the_shell_and_never_printed(plan: SitePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tour.KEY, raising=False)
    monkeypatch.chdir(plan.folder)
    assert f"$(sed -n 's/^{tour.KEY}=//p' .env)" in next(tour.calls(plan, REST, FRIDAY))
    monkeypatch.setenv(tour.KEY, "planted-secret")
    assert f'"X-API-Key: ${tour.KEY}"' in next(tour.calls(plan, REST, FRIDAY))
    assert "planted-secret" not in "\n".join(tour.tour(plan, REST, ADDRESSES, FRIDAY))


def test_commands_name_the_site_and_its_data_unless_they_are_the_usual_ones(
    plan: SitePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plan.folder)
    assert tour.command(plan, "messages") == "hl7engine messages"
    (plan.folder / "elsewhere").mkdir()
    monkeypatch.chdir(plan.folder / "elsewhere")
    assert tour.command(plan, "messages") == f"hl7engine messages --site {plan.folder}"
    elsewhere = replace(plan, data=plan.folder / "elsewhere" / "data")
    assert tour.command(elsewhere, "messages") == f"hl7engine messages --site {plan.folder} --data data"


def test_only_channels_that_are_there_are_called(plan: SitePlan, tmp_path: Path) -> None:
    some: dict[str, Any] = {tour.SLOTS: None}
    assert len(list(tour.calls(SitePlan(tmp_path, tmp_path, SiteSettings(), some, {}, ()), REST, FRIDAY))) == 1
    assert tour.tour(SitePlan(tmp_path, tmp_path, SiteSettings(), {}, {}, ()), REST, ADDRESSES, FRIDAY) == []


def test_faults_are_shown_where_the_control_port_is(plan: SitePlan) -> None:
    text = "\n".join(tour.tour(plan, REST, ADDRESSES, FRIDAY))
    assert re.search(r"-X POST http://127.0.0.1:8071/ris/faults -d '\{\"fault\": \"silence\"\}'", text)
    assert "8071" not in "\n".join(tour.tour(plan, REST, {}, FRIDAY))
