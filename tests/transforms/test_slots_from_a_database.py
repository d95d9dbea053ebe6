"""`ris: {slots: db}`: a calendar table gives the same JSON as the RIS's messages, on either database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.config import SitePlan
from engine.envelope import Envelope
from engine.hl7.message import Message
from engine.simulators import calendar_table
from engine.simulators.calendar_table import CalendarTable
from engine.simulators.ris import Ris
from engine.testing import load_for_tests
from engine.transforms.base import Verdict
from tests.postgresql import server

Make = Callable[..., Envelope]
#: The day before the clocks change, in the zone of the locations.
NOW = datetime.fromisoformat("2027-03-12T11:10:00-06:00")
CHANNEL = "radscheduler-available-slots"


@pytest.fixture(params=["sqlite", "postgresql"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/calendar.sqlite"
        return
    with server() as address:
        yield f"{address}/postgres"


@pytest.fixture
def ris(dsn: str, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ris]:
    """The simulated RIS with its table; ORDER123's slot of Friday noon and one of Monday are taken."""
    monkeypatch.setattr(calendar_table, "DAYS", 6)
    ris, table = (
        Ris(kit.SITE / "tables" / "locations.csv", now=lambda: NOW, sends_orders=False),
        CalendarTable(dsn, kit.SITE),
    )
    table.fill(ris.calendar, NOW.date())
    ris.calendar.changed = table.slot_changed
    for number, name in enumerate(("DTI-XR1-202703121300", "DTI-XR1-202703150900", "WSI-MG1-202703130700")):
        slot = ris.calendar.find(name)
        assert slot is not None
        ris.calendar.book(slot, f"APT{number}")
    yield ris
    table.close()


@pytest.fixture
def site(tmp_path: Path, kit: SimpleNamespace, dsn: str) -> Callable[[str, str], SitePlan]:
    """The reference site with other settings of its RIS."""

    def load(slots: str, version: str) -> SitePlan:
        folder = tmp_path / f"{slots}-{version}"
        for name in ("channels", "transforms", "tables"):
            shutil.copytree(kit.SITE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        text = (kit.SITE / "site.yaml").read_text()
        assert "slots: qry" in text
        text = text.replace("slots: qry", f"slots: {slots}").replace('version: "2.3"', f'version: "{version}"', 1)
        (folder / "site.yaml").write_text(text)
        return load_for_tests(folder, {"RIS_CALENDAR_DSN": dsn})

    return load


async def test_every_way_of_asking_gives_the_same_slots(
    site: Callable[[str, str], SitePlan], ris: Ris, envelope: Make, kit: SimpleNamespace
) -> None:
    plans = {slots: site(slots, version) for slots, version in (("db", "2.3"), ("qry", "2.5.1"), ("sqm", "2.3"))}
    context = kit.Context(NOW)  # one for all: the RIS knows a message that comes again by its id
    found: dict[str, list[Any]] = {name: [] for name in plans}
    for day in ("2027-03-12", "2027-03-13", "2027-03-14", "2027-03-15"):
        for location, modality in (("DTI", "CR"), ("DTI", "DX"), ("DTI", "MR"), ("NSI", "CT"), ("WSI", "MG")):
            query = {"location": location, "modality": modality, "date": day, "procedure": "XRCHEST2"}
            for name, plan in plans.items():
                found[name].append(await asked(plan, ris, envelope(None, query=query), context))
    for name in plans:
        assert found[name] == found["db"], name
    friday, monday = found["db"][0], found["db"][15]
    assert friday[0]["start"] == "2027-03-12T11:30:00-06:00", "what has begun is left out"
    assert "DTI-XR1-202703121300" not in str(friday)
    assert monday[0]["start"] == "2027-03-15T08:00:00-05:00", "the clocks have changed"
    assert "DTI-XR1-202703150900" not in str(monday)
    assert found["db"][2] == [], "DTI has no MR"


async def asked(plan: SitePlan, ris: Ris, request: Envelope, context: Any) -> Any:
    """What RadScheduler hears: the channel's steps, the RIS or its table, the reply's steps."""
    channel = plan.channels[CHANNEL]
    context.request = context.response = None
    verdict = await channel.transform.run_async(request, context)
    answer = request.fork()
    if verdict is Verdict.CONTINUE:
        assert isinstance(request.body, Message)
        (raw,) = ris.handle(request.body.to_bytes())
        answer.body = Message.parse(raw)
    assert channel.reply is not None
    context.request, context.response = request, answer
    await channel.reply.transform.run_async(answer, context)
    return answer.body["slots"]
