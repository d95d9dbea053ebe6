"""The simulated RadScheduler: what it asks, and what it does with each kind of answer."""

import dataclasses
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine.simulators.radscheduler import NO_SLOT, Outcome, RadScheduler, Wish

DAYS = [date(2027, 1, 28), date(2027, 1, 29)]
WISH = Wish("ORDER124", "MRN123457", "CT", DAYS, "try-1")
PLACES = {"locations": [{"id": "NSI"}, {"id": "WSI"}]}


def slot(number: int) -> dict[str, Any]:
    return {"id": f"WSI-CT1-{number}", "locationId": "WSI", "start": f"2027-01-28T0{number}:00:00-06:00"} | {
        "durationMinutes": 45
    }


def error(code: str, *, retryable: bool = False, **others: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"About {code}.", "retryable": retryable, **others}}


@dataclass
class Engine:
    """Answers bookings one after the other as told, and remembers what it was asked."""

    bookings: list[tuple[int, Any]] = field(default_factory=list)
    slots: list[Any] = field(default_factory=lambda: [slot(7)])
    asked: list[tuple[str, Mapping[str, str], Any, Mapping[str, str]]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else None
        what = request.path.rpartition("/")[2]
        self.asked.append((what, dict(request.query), body, dict(request.headers)))
        if what == "locations":
            return web.json_response(PLACES)
        if what == "available-slots":
            return web.json_response({"slots": self.slots})
        status, answer = self.bookings.pop(0)
        headers = {"Retry-After": "7"} if status == 503 else {}
        return web.json_response(answer, status=status, headers=headers)

    async def pause(self, seconds: float) -> None:
        self.waited.append(seconds)

    @property
    def keys(self) -> list[str]:
        return [headers["Idempotency-Key"] for what, _, _, headers in self.asked if what == "book-appointment"]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def caller(engine: Engine) -> AsyncIterator[RadScheduler]:
    app = web.Application()
    app.router.add_route("*", "/api/ris/{what}", engine.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        yield RadScheduler(http, f"http://127.0.0.1:{port}/", "the-key", engine.pause)
    await runner.cleanup()


async def converse(caller: RadScheduler) -> tuple[Outcome, list[str]]:
    chosen: list[str] = []

    async def choose(found: Mapping[str, Any]) -> None:
        chosen.append(found["id"])

    return await caller.converse(WISH, random.Random(1), choose), chosen


async def test_a_patient_asks_for_places_and_slots_and_books(caller: RadScheduler, engine: Engine) -> None:
    engine.bookings = [(201, {"status": "booked"})]
    outcome, chosen = await converse(caller)
    assert (outcome.booked, outcome.attempts, outcome.slots, outcome.setbacks) == (True, 1, 1, [])
    assert chosen == [outcome.slot["id"]] == ["WSI-CT1-7"]
    assert [what for what, *_ in engine.asked] == ["locations", "available-slots", "book-appointment"]
    assert engine.asked[0][1] == {"modality": "CT"}
    assert engine.asked[1][1].keys() == {"location", "modality", "date"}
    assert engine.asked[2][2]["patient"] == {"mrn": "MRN123457"}
    assert {headers["X-Correlation-ID"] for *_, headers in engine.asked} == {"try-1"}
    assert {headers["X-API-Key"] for *_, headers in engine.asked} == {"the-key"}


async def test_what_may_be_repeated_is_repeated_with_the_same_key(caller: RadScheduler, engine: Engine) -> None:
    again = error("ris_timeout", retryable=True)
    engine.bookings = [(504, again), (503, error("ris_unavailable", retryable=True)), (201, {})]
    outcome, chosen = await converse(caller)
    assert (outcome.booked, outcome.attempts, outcome.slots) == (True, 3, 1)
    assert engine.keys == ["try-1-1"] * 3
    assert engine.waited == [1.0, 7.0]
    assert [call.code for call in outcome.setbacks] == ["ris_timeout", "ris_unavailable"]
    assert len(chosen) == 1


async def test_it_ends_when_the_answers_stay_negative(caller: RadScheduler, engine: Engine) -> None:
    engine.bookings = [(504, error("ris_timeout", retryable=True))] * 3
    outcome, _ = await converse(caller)
    assert (outcome.booked, outcome.code, outcome.message) == (False, "ris_timeout", "About ris_timeout.")
    assert len(engine.waited) == 2


async def test_what_may_not_be_repeated_is_not(caller: RadScheduler, engine: Engine) -> None:
    engine.bookings = [(502, error("ris_rejected"))]
    outcome, _ = await converse(caller)
    assert (outcome.booked, outcome.attempts, outcome.code, engine.waited) == (False, 1, "ris_rejected", [])


async def test_a_slot_that_is_gone_is_left_for_an_alternative(caller: RadScheduler, engine: Engine) -> None:
    engine.bookings = [(409, error("slot_taken", alternatives=[slot(7), slot(8)])), (201, {})]
    outcome, chosen = await converse(caller)
    assert (outcome.booked, outcome.slots, outcome.slot["id"]) == (True, 2, "WSI-CT1-8")
    assert engine.keys == ["try-1-1", "try-1-2"]
    assert chosen == ["WSI-CT1-7"]  # a fault waits for the first choice only


async def test_without_alternatives_it_asks_for_slots_again(caller: RadScheduler, engine: Engine) -> None:
    engine.bookings = [(409, error("slot_taken")), (201, {})]
    outcome, _ = await converse(caller)
    assert outcome.booked
    assert [what for what, *_ in engine.asked].count("available-slots") == 2


async def test_every_place_and_day_is_asked_before_it_gives_up(caller: RadScheduler, engine: Engine) -> None:
    engine.slots = []
    outcome, chosen = await converse(caller)
    assert (outcome.booked, outcome.code, chosen) == (False, NO_SLOT, [])
    asked = {(query["location"], query["date"]) for what, query, *_ in engine.asked if what == "available-slots"}
    assert asked == {(place, day.isoformat()) for place in ("NSI", "WSI") for day in DAYS}


async def test_the_procedure_is_asked_with_where_the_ris_wants_it(caller: RadScheduler, engine: Engine) -> None:
    engine.bookings = [(201, {})]
    wish = dataclasses.replace(WISH, procedure="CTHEAD")

    async def choose(found: Mapping[str, Any]) -> None:
        assert found

    await caller.converse(wish, random.Random(1), choose)
    assert [query.get("procedure") for _, query, *_ in engine.asked] == [None, "CTHEAD", None]


async def test_an_engine_that_is_not_there_is_no_exception(engine: Engine) -> None:
    async with aiohttp.ClientSession() as http:
        outcome, _ = await converse(RadScheduler(http, "http://127.0.0.1:1", "key", engine.pause))
    assert (outcome.booked, outcome.code, len(outcome.calls)) == (False, "no_answer", 3)


def test_a_wish_does_not_show_whose_it_is() -> None:
    assert "MRN" not in repr(WISH)
