"""What became of each booking, and whether the pilot is passed. Pure: evidence in, verdicts out.

Passed is a pilot when at least 95 of 100 bookings were made, every other one has a reason that is known, and every
appointment is where it belongs: once in the RIS, in the slot that the caller was told, and once in each EMR of its
facility and in no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from engine.cli.piloting.bookings import Booking, Evidence, Routes
from engine.simulators.radscheduler import NO_SLOT, Kind

#: Of the bookings, in percent.
BAR = 95.0
#: Of the bookings, in percent: phase 2 opens when fewer than these go wrong.
PHASE_2 = 2.0
#: Milliseconds: what waited for an EMR that was down, or behind another that did, took longer.
LATE = 400.0


@dataclass(slots=True)
class Verdict:
    """One booking: what is wrong with it, and how long each EMR took to hear of it (milliseconds)."""

    booking: Booking
    #: Whether a booking that was not made has a reason that is known.
    explained: bool = True
    problems: list[str] = field(default_factory=list)
    arrivals: dict[str, float] = field(default_factory=dict)

    @property
    def late(self) -> dict[str, float]:
        """EMRs that heard of it late."""
        return {emr: took for emr, took in self.arrivals.items() if took >= LATE}

    @property
    def became(self) -> str:
        """In words."""
        outcome = self.booking.outcome
        if not outcome.booked:
            return "not booked"
        if outcome.slots > 1:
            return "booked in another slot"
        return "booked at another try" if outcome.attempts > 1 else "booked"


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one kind of call."""

    number: int
    positive: int
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Result:
    """A whole pilot."""

    verdicts: Sequence[Verdict]

    @property
    def booked(self) -> int:
        return sum(verdict.booking.outcome.booked for verdict in self.verdicts)

    @property
    def share(self) -> float:
        """Percent of the bookings that were made."""
        return 100 * self.booked / len(self.verdicts)

    @property
    def unexplained(self) -> int:
        return sum(not verdict.explained for verdict in self.verdicts)

    @property
    def misplaced(self) -> int:
        """Bookings with a problem behind the answer."""
        return sum(bool(verdict.problems) for verdict in self.verdicts)

    @property
    def passed(self) -> bool:
        return self.share >= BAR and not self.unexplained and not self.misplaced

    def times(self, kind: Kind) -> Times | None:
        """Of all calls of a kind, those that failed included."""
        calls = [call for verdict in self.verdicts for call in verdict.booking.outcome.calls if call.kind == kind]
        return timed([call.milliseconds for call in calls], sum(call.positive for call in calls))

    def arrival_times(self) -> Times | None:
        """From the RIS's announcement to the EMR's ack."""
        found = [time for verdict in self.verdicts for time in verdict.arrivals.values()]
        return timed(found, len(found))


def timed(milliseconds: Sequence[float], positive: int) -> Times | None:
    """Percentiles by the nearest rank; None when there is nothing."""
    if not milliseconds:
        return None
    ranked = sorted(milliseconds)
    p50, p95, p99 = (ranked[math.ceil(len(ranked) * part) - 1] for part in (0.5, 0.95, 0.99))
    return Times(len(ranked), positive, p50, p95, p99, ranked[-1])


def judge(bookings: Sequence[Booking], evidence: Evidence, routes: Routes) -> Result:
    """A verdict for each booking."""
    return Result([verdict_of(booking, evidence, routes) for booking in bookings])


def verdict_of(booking: Booking, evidence: Evidence, routes: Routes) -> Verdict:
    verdict = Verdict(booking)
    if booking.outcome.booked:
        verdict.problems += misplaced(booking, evidence)
        verdict.problems += unheard(booking, evidence, routes, verdict)
        return verdict
    verdict.explained = is_explained(booking, evidence)
    if booking.order_id in evidence.appointments:
        verdict.problems.append("the caller was refused, and the RIS has booked it")
    return verdict


def is_explained(booking: Booking, evidence: Evidence) -> bool:
    """Whether the last answer is one that the fault, or a full calendar, brings about."""
    outcome = booking.outcome
    if outcome.code == NO_SLOT or (booking.fault is not None and outcome.code in booking.fault.answers):
        return True
    others = (each for order_id, each in evidence.appointments.items() if order_id != booking.order_id)
    return outcome.code == "slot_taken" and outcome.slot.get("id") in {each["slotId"] for each in others}


def misplaced(booking: Booking, evidence: Evidence) -> Iterator[str]:
    """What the RIS has otherwise than the caller was told."""
    appointment = evidence.appointments.get(booking.order_id)
    if appointment is None:
        yield "the RIS has no such appointment"
    elif appointment["slotId"] != booking.outcome.slot["id"]:
        yield f"the RIS has it in slot {appointment['slotId']}, the caller was told {booking.outcome.slot['id']}"


def unheard(booking: Booking, evidence: Evidence, routes: Routes, verdict: Verdict) -> Iterator[str]:
    """What is wrong at the EMRs; notes in the verdict how long each took."""
    appointment = evidence.appointments.get(booking.order_id)
    if appointment is None:
        return
    message = evidence.message_of(booking.order_id)
    if message is None:
        announced = evidence.announced.get(appointment["appointmentId"])
        yield f"the engine has no message {announced}" if announced else "the RIS has not announced it"
        return
    wanted = routes.emrs.get(appointment["facility"], ())
    deliveries = {each["destination"]: each for each in message["deliveries"]}
    for emr in sorted({*wanted, *deliveries, *evidence.inboxes}):
        inbox = [
            each for each in evidence.inboxes.get(emr, ()) if each["appointmentId"] == appointment["appointmentId"]
        ]
        delivery = deliveries.get(emr)
        if emr not in wanted:
            if delivery or inbox:
                yield f"{emr} got it, and facility {appointment['facility']} is not among its own"
        elif delivery is None:
            yield f"the engine has nothing for {emr}: message {message['state']} {message['cause']}".rstrip()
        elif delivery["state"] != "delivered":
            yield f"{emr}: {delivery['state']} {delivery['cause']}".rstrip()
        elif emr in evidence.inboxes and [each["controlId"] for each in inbox] != [delivery["control_id"]]:
            yield f"{emr}: delivered says the engine, its inbox has it {len(inbox)} times"
        else:
            verdict.arrivals[emr] = 1000 * (moment(delivery["settled_at"]) - moment(message["received_at"]))


def moment(text: str) -> float:
    """Seconds of a time of the API."""
    return datetime.fromisoformat(text).timestamp()
