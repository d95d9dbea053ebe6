"""Faults of a pilot: which booking meets which, and how the simulators are told.

Each is a thing that happens at a real hospital in a week: the slot is gone meanwhile, the RIS refuses (AE, AR), says
nothing, drops the connection, an EMR is down. A fault waits for the one order that it was dealt to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from engine.errors import HL7EngineError


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind. `answers` are the error codes that a caller may hear because of it."""

    name: str
    what: str
    answers: frozenset[str] = frozenset()
    #: What the simulated RIS is told; empty for faults that are made otherwise.
    spec: Mapping[str, Any] = field(default_factory=dict)


TAKEN = Fault("slot taken", "somebody at the desk books the slot first", frozenset({"slot_taken"}))
DOWN = Fault("EMR down", "an EMR takes no connections")
FAULTS: tuple[Fault, ...] = (
    TAKEN,
    Fault(
        "AE",
        "the RIS answers AE 207, application internal error",
        frozenset({"ris_error"}),
        {"fault": "error", "ack": "AE", "condition": 207},
    ),
    Fault(
        "AR",
        "the RIS answers AR 202, unsupported processing id",
        frozenset({"ris_rejected"}),
        {"fault": "error", "ack": "AR", "condition": 202},
    ),
    Fault("time-out", "the RIS books and never answers", frozenset({"ris_timeout"}), {"fault": "silence"}),
    Fault("dropped", "the RIS books and drops the connection", frozenset({"ris_timeout"}), {"fault": "drop"}),
    DOWN,
)

#: Seconds for an appointment to wait for an EMR that is down.
NOTICED = 10.0


def deal(bookings: int, percent: float, choice: random.Random) -> dict[int, Fault]:
    """Which booking (from 0) meets which fault: so many percent, every kind about equally often."""
    number = round(bookings * percent / 100)
    kinds = choice.sample(FAULTS, len(FAULTS))
    hit = choice.sample(range(bookings), number)
    return {booking: kinds[at % len(kinds)] for at, booking in enumerate(hit)}


#: An EMR that is no MLLP listener → its name at the control port.
PARTNERS = {"athena_rest": "athena-rest"}


class ControlFailed(HL7EngineError):
    """The simulators' control port said no; the text says to what."""


class Control:
    """The simulators' control port."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http, self.url = http, url
        self.outages: dict[str, asyncio.Lock] = {}

    async def get(self, path: str) -> Any:
        """GET a state. Raises ControlFailed."""
        return await self.call("GET", path)

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Tell the simulators something. Raises ControlFailed."""
        return await self.call("POST", path, body or {})

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            async with self.http.request(method, self.url + path, json=body) as answer:
                found = await answer.json()
        except (aiohttp.ClientError, ValueError) as failure:
            raise ControlFailed(f"the simulators did not answer {path} ({type(failure).__name__})") from None
        if answer.status >= 400:
            raise ControlFailed(f"the simulators refused {path}: {found['error']['message']}")
        return found

    async def inject(self, fault: Fault, order_id: str, slot_id: str) -> None:
        """Let the booking of this order meet a fault of the RIS."""
        if fault is TAKEN:
            try:
                await self.post("/ris/take", {"slotId": slot_id})
            except ControlFailed:
                return  # another patient of this pilot was quicker: it is taken all the same
        elif fault.spec:
            await self.post("/ris/faults", {**fault.spec, "containing": order_id})

    @asynccontextmanager
    async def outage(self, emrs: Sequence[str], noticed: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
        """One EMR is down for the body, and until `noticed` returns."""
        if not emrs:
            yield
            return
        name = emrs[0]
        partner = PARTNERS.get(name, f"emr/{name}")
        async with self.outages.setdefault(name, asyncio.Lock()):
            await self.post(f"/{partner}/down")
            try:
                yield
                await noticed(name)
            finally:
                await self.post(f"/{partner}/up")
