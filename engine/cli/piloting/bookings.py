"""What a pilot does: orders arrive, patients book, and then it looks where their appointments went.

RadScheduler hears of the orders as in real life: the RIS sends them to the engine, the engine tells the order webhook.
"""

from __future__ import annotations

import asyncio
import csv
import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp

from engine.cli.piloting.faults import DOWN, NOTICED, Control, Fault, deal
from engine.cli.piloting.ground import ROUTER, Ground, NoGround
from engine.simulators.radscheduler import Outcome, RadScheduler, Wish

#: Seconds between two looks at what is awaited.
LOOK = 0.1
#: Seconds for the orders to reach the webhook, and for the last appointment to reach its EMRs.
ORDERS_ARRIVE = 120.0
SETTLE = 90.0
#: Looks at a delivery that is queued, after which it waits for its EMR.
STILL_QUEUED = 4
#: Letters of a run's name: none that is mistaken for another.
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True, slots=True)
class PilotPlan:
    """What was asked for. `faults` is a percentage of the bookings."""

    bookings: int
    days: Sequence[date]
    faults: float
    seed: int
    at_once: int


@dataclass(slots=True)
class Booking:
    """One patient of the pilot."""

    order_id: str
    modality: str
    correlation_id: str
    fault: Fault | None
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(frozen=True, slots=True)
class Routes:
    """Who should hear of what, as the site's tables say: location → facility, facility → EMRs."""

    facilities: Mapping[str, str]
    emrs: Mapping[str, tuple[str, ...]]

    def of_location(self, location: str) -> tuple[str, ...]:
        """The EMRs that hear of an appointment at a location."""
        return self.emrs.get(self.facilities.get(location, ""), ())


@dataclass(slots=True)
class Evidence:
    """What the RIS, the engine and the EMRs say afterwards."""

    #: Order id → the RIS's appointment.
    appointments: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Appointment id → MSH-10 of its S12.
    announced: dict[str, str] = field(default_factory=dict)
    #: MSH-10 of an S12 → the engine's message with its deliveries.
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: EMR → what it accepted of appointments.
    inboxes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def message_of(self, order_id: str) -> dict[str, Any] | None:
        """The engine's message that announced this order's appointment."""
        appointment = self.appointments.get(order_id)
        return self.messages.get(self.announced.get(appointment["appointmentId"], "")) if appointment else None


def read_routes(site: Path) -> Routes:
    """The tables of the site. Raises NoGround when they are not there or lack a column."""
    try:
        with (site / "tables" / "locations.csv").open(encoding="utf-8", newline="") as file:
            facilities = {row["id"]: row["facility"] for row in csv.DictReader(file)}
        emrs: dict[str, tuple[str, ...]] = defaultdict(tuple)
        with (site / "tables" / "facility_emr.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                emrs[row["facility"]] += (row["emr"],)
    except (OSError, KeyError) as error:
        raise NoGround(f"the site's tables locations.csv and facility_emr.csv cannot be read ({error})") from None
    return Routes(facilities, dict(emrs))


class Pilot:
    """One run. `told` is called whenever a patient is done."""

    def __init__(self, ground: Ground, plan: PilotPlan, http: aiohttp.ClientSession, told: Callable[[], None]) -> None:
        self.ground, self.plan, self.told = ground, plan, told
        self.control = Control(http, ground.control)
        self.caller = RadScheduler(http, ground.rest, ground.key)
        self.routes = read_routes(ground.site)
        #: Other than every run before, whatever the seed: the engine remembers order ids and idempotency keys.
        self.name = "P" + "".join(secrets.choice(LETTERS) for _ in range(5))

    async def run(self) -> list[Booking]:
        """Let every patient book. Raises ControlFailed, NoGround."""
        orders = await self.orders()
        faults = deal(len(orders), self.plan.faults, random.Random(self.plan.seed))  # noqa: S311 - the same seed, the same pilot
        places = asyncio.Semaphore(self.plan.at_once)
        bookings = [
            Booking(order["orderId"], order["modality"], f"pilot-{order['orderId']}", faults.get(number))
            for number, order in enumerate(orders)
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, booking in enumerate(bookings):
                    tasks.create_task(self.one(number, booking, orders[number], places), name=booking.order_id)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the others end because of it
        return bookings

    async def orders(self) -> list[dict[str, Any]]:
        """New orders, as RadScheduler hears of them. Raises NoGround when it does not."""
        made = await self.control.post("/ris/orders", {"count": self.plan.bookings, "prefix": self.name})
        wanted = made["orderIds"]
        heard: dict[str, Any] = {}
        for _ in range(round(ORDERS_ARRIVE / LOOK)):
            heard = {each["orderId"]: each for each in (await self.control.get("/webhook"))["received"]}
            if heard.keys() >= set(wanted):
                break
            await asyncio.sleep(LOOK)
        else:
            missing = len(set(wanted) - heard.keys())
            raise NoGround(f"{missing} of {len(wanted)} orders have not come from the RIS to RadScheduler's webhook")
        received = (await self.control.get("/webhook?bodies=1"))["received"]
        bodies = {each["orderId"]: each["body"] for each in received}
        return [bodies[order_id] for order_id in wanted]

    async def one(self, number: int, booking: Booking, order: Mapping[str, Any], places: asyncio.Semaphore) -> None:
        """One patient, with the fault that was dealt to it."""
        choice = random.Random(f"{self.plan.seed}-{number}")  # noqa: S311 - the same seed, the same pilot
        procedure = order["procedure"]["code"] if self.ground.asks_procedure else ""
        days, correlation_id = self.plan.days, booking.correlation_id
        wish = Wish(booking.order_id, order["mrn"], booking.modality, days, correlation_id, procedure)
        async with places, AsyncExitStack() as stack:

            async def chosen(slot: Mapping[str, Any]) -> None:
                if booking.fault is DOWN:
                    emrs = self.routes.of_location(slot["locationId"])
                    await stack.enter_async_context(self.control.outage(emrs, lambda emr: self.waits(booking, emr)))
                elif booking.fault is not None:
                    await self.control.inject(booking.fault, booking.order_id, slot["id"])

            booking.outcome = await self.caller.converse(wish, choice, chosen)
            self.told()

    async def waits(self, booking: Booking, emr: str) -> None:
        """Return when the booking waits for this EMR, be it behind another one, or when it takes too long."""
        seen = 0
        for _ in range(round(NOTICED / LOOK) if booking.outcome.booked else 0):
            message = (await self.look([booking])).message_of(booking.order_id)
            queued = [each for each in (message or {}).get("deliveries", ()) if each["state"] == "queued"]
            mine = [each for each in queued if each["destination"] == emr]
            # One that is queued has its turn a moment later; one that still is behind another was not tried at all.
            seen += bool(mine)
            if any(each["attempts"] for each in mine) or seen >= STILL_QUEUED:
                return
            await asyncio.sleep(LOOK)

    # -- afterwards ------------------------------------------------------------------------------------------------

    async def settled(self, bookings: Sequence[Booking]) -> Evidence:
        """The evidence, as soon as every appointment has reached its EMRs, or when it takes too long."""
        booked = [booking for booking in bookings if booking.outcome.booked]
        found = Evidence()
        for _ in range(round(SETTLE / LOOK)):
            found = await self.look(bookings, found)
            if all(self.has_arrived(found.message_of(booking.order_id)) for booking in booked):
                break
            await asyncio.sleep(LOOK)
        for emr in (await self.control.get("/"))["running"]["emr"]:
            received = (await self.control.get(f"/emr/{emr}"))["received"]
            found.inboxes[emr] = [entry for entry in received if was_accepted(entry)]
        return found

    async def look(self, bookings: Sequence[Booking], known: Evidence | None = None) -> Evidence:
        """What the RIS has of these orders, and the engine of their announcements; not again what has arrived."""
        ris = await self.control.get("/ris")
        orders = {booking.order_id for booking in bookings}
        found = Evidence(
            {each["orderId"]: each for each in ris["bookings"] if each["orderId"] in orders},
            {each["appointmentId"]: each["controlId"] for each in ris["history"] if each["event"] == "S12"},
            dict(known.messages) if known else {},
        )
        for appointment in found.appointments.values():
            control_id = found.announced.get(appointment["appointmentId"], "")
            if control_id and not self.has_arrived(found.messages.get(control_id)):
                message = await asyncio.to_thread(self.message, control_id)
                if message is not None:
                    found.messages[control_id] = message
        return found

    def message(self, control_id: str) -> dict[str, Any] | None:
        """The engine's message of this MSH-10 with its deliveries."""
        admin = self.ground.admin
        found = admin.get("messages", channel=ROUTER, control_id=control_id)["messages"]
        ids = [message["id"] for message in found if message["control_id"] == control_id]
        if not ids:
            return None
        whole = admin.get("messages", str(min(ids)))
        return {**whole["message"], "deliveries": whole["deliveries"]}

    def has_arrived(self, message: Mapping[str, Any] | None) -> bool:
        """Whether nothing of it is under way any more."""
        if message is None or message["state"] == "received":
            return False
        return all(each["state"] not in ("queued", "sending") for each in message["deliveries"])


def was_accepted(entry: Mapping[str, Any]) -> bool:
    """Whether an EMR answered a message positively, for the first time."""
    return not entry["duplicate"] and all(code in ("AA", "CA") for code in entry["answers"])
