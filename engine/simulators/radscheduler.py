"""The simulated RadScheduler: a patient's conversation as calls to the engine. Locations, slots, booking.

What it does with a negative answer is what the real one does: the same request again where the answer says `retryable`,
another slot where this one is gone, another day or location where nothing is open, else the patient is asked to call.
Every call is timed. It knows of an order what the order webhook told; nothing of the patient is kept in an outcome.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import aiohttp

Kind = Literal["locations", "slots", "book"]

PATHS: Mapping[Kind, str] = {
    "locations": "/api/ris/locations",
    "slots": "/api/ris/available-slots",
    "book": "/api/ris/book-appointment",
}
#: How often the same request is sent when each answer says that it may be.
TRIES = 3
#: How many slots a patient is offered, one after the other.
SLOTS = 4
#: Seconds before the same request, unless `Retry-After` says otherwise, and what it may say at most.
PAUSE, LONGEST_PAUSE = 1.0, 15.0
#: Seconds for one call; the engine answers sooner.
TIMEOUT = 60.0

NO_SLOT = "no_open_slot"
NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a patient wants: an order as RadScheduler heard of it, and the days that suit."""

    order_id: str
    mrn: str = field(repr=False)
    modality: str
    days: Sequence[date]
    correlation_id: str
    #: Sent with the question for slots where the RIS wants it (SQM^S25).
    procedure: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call. `status` 0: no answer came; `code` is the engine's error code."""

    kind: Kind
    milliseconds: float
    status: int
    code: str = ""
    message: str = ""
    retryable: bool = False

    @property
    def positive(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Outcome:
    """What became of a conversation. `slot` is the one that was booked, or asked for last."""

    booked: bool = False
    slot: Mapping[str, Any] = field(default_factory=dict)
    #: Bookings asked for, and different slots among them.
    attempts: int = 0
    slots: int = 0
    calls: list[Call] = field(default_factory=list)
    #: Why nothing was booked, as the last answer said.
    code: str = ""
    message: str = ""

    @property
    def setbacks(self) -> list[Call]:
        """The calls that were answered negatively."""
        return [call for call in self.calls if not call.positive]


#: Called with the slot that the patient chose first, before it is booked.
Chosen = Callable[[Mapping[str, Any]], Awaitable[None]]


class RadScheduler:
    """Calls one engine's REST listener with one API key. `pause` waits between two tries."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, key: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.http, self.url, self.key, self.pause = http, url.rstrip("/"), key, pause

    async def converse(self, wish: Wish, choice: random.Random, chosen: Chosen) -> Outcome:
        """One patient, from the first question to the appointment or the end. Raises nothing of the network."""
        outcome = Outcome()
        slot = await self.find_slot(wish, choice, outcome)
        if slot is not None:
            await chosen(slot)
        tried: set[str] = set()
        while slot is not None and len(tried) < SLOTS:
            tried.add(slot["id"])
            outcome.slot, outcome.slots = slot, len(tried)
            body = await self.book(wish, slot, outcome)
            if outcome.booked or outcome.code != "slot_taken":
                return outcome
            others = [each for each in alternatives(body) if each["id"] not in tried]
            slot = choice.choice(others) if others else await self.find_slot(wish, choice, outcome)
        return outcome

    async def find_slot(self, wish: Wish, choice: random.Random, outcome: Outcome) -> Mapping[str, Any] | None:
        """An open slot of any location and day that suits; None when there is none, or when nobody could say."""
        body = await self.ask(outcome, "locations", wish, {"modality": wish.modality})
        for place, day in in_any_order(names(body, "locations"), wish.days, choice):
            query = {"location": place, "modality": wish.modality, "date": day.isoformat()}
            query |= {"procedure": wish.procedure} if wish.procedure else {}
            found = (await self.ask(outcome, "slots", wish, query)).get("slots") or []
            if found:
                slot: Mapping[str, Any] = choice.choice(found)
                return slot
        if outcome.calls[-1].positive:
            outcome.code, outcome.message = NO_SLOT, "No slot is open at any location on these days."
        return None

    async def book(self, wish: Wish, slot: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
        """Ask for this slot; the answer's body."""
        booking = {
            "orderId": wish.order_id,
            "slotId": slot["id"],
            "locationId": slot["locationId"],
            "modality": wish.modality,
            "start": slot["start"],
            "durationMinutes": slot["durationMinutes"],
            "patient": {"mrn": wish.mrn},
        }
        # The same key for the same slot, so that a repetition is known; another slot is another booking.
        headers = {"Idempotency-Key": f"{wish.correlation_id}-{outcome.slots}"}
        body = await self.ask(outcome, "book", wish, {}, booking, headers)
        outcome.booked = outcome.calls[-1].positive
        return body

    async def ask(
        self,
        outcome: Outcome,
        kind: Kind,
        wish: Wish,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One question, repeated where its answer says so; the last answer's body. A failure is noted as the reason."""
        given = {"X-API-Key": self.key, "X-Correlation-ID": wish.correlation_id, **(headers or {})}
        answered: dict[str, Any] = {}
        for left in reversed(range(TRIES)):
            outcome.attempts += kind == "book"
            call, answered, wait = await self.call(kind, query, body, given)
            outcome.calls.append(call)
            outcome.code, outcome.message = call.code, call.message
            if call.positive or not call.retryable or not left:
                break
            await self.pause(wait)
        return answered

    async def call(
        self, kind: Kind, query: Mapping[str, str], body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[Call, dict[str, Any], float]:
        """One HTTP request: how it went, its JSON, and how long to wait before the next."""
        method, started = "GET" if body is None else "POST", time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT), self.http.request(
                method, self.url + PATHS[kind], params=query, json=body, headers=headers
            ) as response:  # fmt: skip
                status, after = response.status, response.headers.get("Retry-After", "")
                found = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as failure:
            took = (time.perf_counter() - started) * 1000
            text = f"The engine did not answer ({type(failure).__name__})."
            return Call(kind, took, 0, NO_ANSWER, text, retryable=True), {}, PAUSE
        took = (time.perf_counter() - started) * 1000
        answer = found if isinstance(found, dict) else {}
        error = answer.get("error") or {}
        told = (str(error.get("code", "")), str(error.get("message", "")), error.get("retryable") is True)
        wait = min(float(after), LONGEST_PAUSE) if after.isdigit() else PAUSE
        return Call(kind, took, status, *told), answer, wait


def names(body: Mapping[str, Any], member: str) -> list[str]:
    """The ids of a list in an answer."""
    return [each["id"] for each in body.get(member) or []]


def alternatives(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Other open slots of that day, which the engine offers with `slot_taken`."""
    return list((body.get("error") or {}).get("alternatives") or [])


def in_any_order(places: Sequence[str], days: Sequence[date], choice: random.Random) -> Iterator[tuple[str, date]]:
    """Every place on every day: a patient stays with the place as long as one of the days suits."""
    for place in choice.sample(places, len(places)):
        for day in choice.sample(days, len(days)):
            yield place, day
