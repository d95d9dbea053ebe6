"""How the RIS books, moves and cancels: ORM^O01 with ORR^O02 or ACK, SRM^S01 to S04 with SRR, SIU^S12 to S15 with ACK.

Answers are those of systems.md D.3 and D.5. An order is matched by its placer id or its accession and is booked at
most once; a slot goes to the first who asks. Notices are handed to `announce`, which returns their MSH-10. What a
request must hold is checked in `booking_checks.py`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from engine.simulators.answers import Voice, accepted
from engine.simulators.booking_checks import (
    ORM_PLACES,
    SRM_PLACES,
    Places,
    check_cancelled_order,
    check_modality,
    check_order,
    check_patient,
    check_place,
    check_schedule_request,
    check_service,
    check_visit,
    siu_places,
)
from engine.simulators.calendar import Calendar, Slot
from engine.simulators.checks import refuse, require, require_one_of, require_time
from engine.simulators.dialect import Dialect
from engine.simulators.notices import (
    REQUESTER,
    SCHEDULER,
    Appointment,
    location_line,
    schedule_lines,
    service_line,
)
from engine.simulators.orders import Order
from engine.simulators.queries import find_location
from engine.simulators.wire import Message, at_least, encode, line

log = structlog.get_logger("engine.simulators")

FIRST_APPOINTMENT = 556677
#: Holds slots that were booked at the desk.
DESK = "DESK"
#: SRM event → what SCH-6 of the SRR says and the notice that follows.
REQUESTS = {
    "S01": ("S01^New appointment^L", "S12"),
    "S02": ("S02^Rescheduled appointment^L", "S13"),
    "S03": ("S03^Modified appointment^L", "S14"),
    "S04": ("S04^Cancelled appointment^L", "S15"),
}
#: SIU event by which a caller tells of a booking → the SRM event that would ask for the same.
TOLD = {"S12": "S01", "S13": "S02", "S14": "S03", "S15": "S04"}


class Bookings:
    """Orders and their appointments. `plain_ack` answers orders by ACK, with the accession in MSA-3 below 2.5."""

    def __init__(
        self,
        calendar: Calendar,
        orders: Iterable[Order],
        voice: Voice,
        announce: Callable[[Appointment, str], str],
        dialect: Dialect,
        *,
        plain_ack: bool = False,
    ) -> None:
        self.calendar, self.voice, self.announce, self.plain_ack = calendar, voice, announce, plain_ack
        self.dialect = dialect
        self.first_orders = {order.id: order for order in orders}
        self.reset()

    def reset(self) -> None:
        self.calendar.reset()
        self.orders = dict(self.first_orders)
        self.next_number = FIRST_APPOINTMENT
        self.appointments: dict[str, Appointment] = {}
        self.active: dict[str, Appointment] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=20_000)

    def add(self, orders: Iterable[Order]) -> None:
        """Know further orders until the next `reset`. Raises Refused when one of them is known."""
        further = {order.id: order for order in orders}
        if known := further.keys() & self.orders.keys():
            raise refuse(205, "ORC-2", f"There is an order {min(known)}")
        self.orders |= further

    def take(self, slot: Slot) -> None:
        """Book a slot for somebody at the desk: it is gone, and nothing is announced. Raises Refused."""
        self.check_free(slot, ORM_PLACES)
        self.calendar.book(slot, DESK)

    def booking_of(self, slot_id: str) -> Appointment | None:
        return self.appointments.get(self.calendar.booked.get(slot_id, ""))

    def orm(self, request: Message) -> bytes:
        """Book (NW, XO, SC, as the dialect has it) or cancel (CA). Raises Refused."""
        require(request, "PID-3", "PID-5")
        control = require_one_of(request, "ORC-1", (*self.dialect.order_control, "CA"))
        require(request, "ORC-2")
        if len(request.all("ORC")) != 1:
            raise refuse(100, "ORC-1")
        order = self.find_order(request, "ORC-2", "ORC-3")
        if control == "CA":
            check_patient(request, order)
            check_cancelled_order(request, self.dialect, order)
            return self.order_answer(request, self.cancel(order, request, "ORC-2"), "CR", "CA")
        check_order(request, control, order)
        slot = self.wanted_slot(request, ORM_PLACES, order)
        check_visit(request, slot)
        appointment = self.book(request, order, slot, ORM_PLACES, request.raw("ORC-2"))
        return self.order_answer(request, appointment, "OK", "SC")

    def srm(self, request: Message) -> bytes:
        """Book (S01), move (S02), change nothing but say so (S03) or cancel (S04). Raises Refused."""
        event = request.text("MSH-9.2")
        appointment = self.scheduled(request, event, SRM_PLACES)
        return self.schedule_answer(request, appointment, event)

    def siu(self, request: Message) -> bytes:
        """The same, told as a notice (S12 to S15) and answered by ACK. Raises Refused."""
        appointment = self.scheduled(request, TOLD[request.text("MSH-9.2")], siu_places(request.version))
        return self.plain_answer(request, appointment)

    def scheduled(self, request: Message, event: str, places: Places) -> Appointment:
        """Do what the SRM event says."""
        books = event in ("S01", "S02")
        check_schedule_request(request, places, is_booking=books)
        order = self.find_order(request, places.order, places.filler_order)
        check_patient(request, order)
        places.check_numbers(request, self.dialect, order)
        if event == "S04":
            return self.cancel(order, request, places.order)
        if event == "S03":
            appointment = self.held(order, places.order)
            self.record(appointment, "S14")
            return appointment
        slot = self.wanted_slot(request, places, order)
        check_service(request, places, slot)
        if event == "S02":
            return self.move(self.held(order, places.order), slot, places)
        return self.book(request, order, slot, places, request.raw(places.order))

    def find_order(self, request: Message, placer: str, accession: str) -> Order:
        name = request.text(placer)
        number = request.text(accession)
        found = self.orders.get(name) or next(
            (order for order in self.orders.values() if number and order.accession_id == number), None
        )
        if found is None:
            raise refuse(204, placer, f"Unknown order {name}", "UNKNOWN_ORDER", f"Order {name} not found")
        return found

    def wanted_slot(self, request: Message, places: Places, order: Order) -> Slot:
        """The slot that is asked for, after every check but whether it is free. Raises Refused."""
        require(request, places.slot)
        check_patient(request, order)
        location = find_location(self.calendar, request, places.location)
        slot = self.calendar.find(request.text(places.slot))
        if slot is None or slot.location != location:
            raise refuse(103, places.slot, f"{request.text(places.slot)} is no slot of {location.id}")
        check_place(request, places.location, location, slot)
        check_modality(request, places, slot, order)
        start = require_time(request, places.start, location.zone)
        end = require_time(request, places.end, location.zone)
        if (start, end) != (slot.start, slot.end):
            raise refuse(103, places.start, f"Slot {slot.id} is at another time")
        if slot.start <= self.voice.now():
            raise refuse(102, places.start, f"Slot {slot.id} lies in the past")
        return slot

    def book(self, request: Message, order: Order, slot: Slot, places: Places, placer: str) -> Appointment:
        if order.id in self.active:
            text = f"Order {order.id} of {order.patient.told} is already booked"
            raise refuse(205, places.order, text, "ORDER_BOOKED", "Order already booked")
        self.check_free(slot, places)
        appointment = Appointment(
            f"APT{self.next_number}", order, placer, "", "", "", "", slot.start, slot.minutes, request.version
        )
        appointment.move(slot)
        self.next_number += 1
        self.calendar.book(slot, appointment.id)
        self.appointments[appointment.id] = self.active[order.id] = appointment
        self.record(appointment, "S12")
        return appointment

    def check_free(self, slot: Slot, places: Places) -> None:
        state = self.calendar.state(slot)
        if state == "booked":
            text = f"Slot {slot.id} is no longer available"
            raise refuse(206, places.slot, text, "SLOT_TAKEN", "Slot already booked")
        if state == "blocked":
            raise refuse(206, places.slot, f"Slot {slot.id} is blocked", "SLOT_BLOCKED", "Slot is blocked")

    def held(self, order: Order, place: str) -> Appointment:
        appointment = self.active.get(order.id)
        if appointment is None:
            text = f"Order {order.id} of {order.patient.told} has no appointment"
            raise refuse(204, place, text, "NOT_BOOKED", "Order has no appointment")
        return appointment

    def cancel(self, order: Order, request: Message, place: str) -> Appointment:
        appointment = self.held(order, place)
        appointment.version = request.version
        self.end(appointment, "Cancelled", "S15")
        return appointment

    def end(self, appointment: Appointment, status: str, event: str) -> None:
        """Free the slot and the order, and announce it."""
        appointment.status = status
        self.calendar.free(appointment.slot_id)
        self.active.pop(appointment.order.id, None)
        self.record(appointment, event)

    def move(self, appointment: Appointment, slot: Slot, places: Places = ORM_PLACES) -> Appointment:
        """Give the appointment another open slot and announce S13. Raises Refused when it is not open."""
        self.check_free(slot, places)
        self.calendar.free(appointment.slot_id)
        appointment.move(slot)
        self.calendar.book(slot, appointment.id)
        self.record(appointment, "S13")
        return appointment

    def record(self, appointment: Appointment, event: str) -> None:
        entry = {"event": event, "appointmentId": appointment.id, "orderId": appointment.order.id}
        log.info("ris.appointment", transition=event, appointment=appointment.id, order=appointment.order.id)
        announced = self.announce(appointment, event)
        self.history.append(entry | {"slotId": appointment.slot_id, "controlId": announced})

    def order_answer(self, request: Message, appointment: Appointment, control: str, status: str) -> bytes:
        """ORR^O02 with the accession, or in plain-ACK mode an ACK."""
        order = appointment.order
        if self.plain_ack:
            return self.plain_answer(request, appointment)
        ids = {2: request.raw("ORC-2"), 3: order.accession}
        timing = request.raw("ORC-7")
        service = {1: "1", 4: request.raw("OBR-4") or order.procedure, 19: appointment.location, 24: order.modality}
        lines = [
            self.voice.header(request, "ORR^O02", "ORR_O02"),
            accepted(request),
            patient_line(request),
            line("ORC", {1: control, 5: status, 7: timing} | ids),
            line("OBR", service | ids | {27: timing}),
        ]
        return encode(lines, request.raw("MSH-18"))

    def plain_answer(self, request: Message, appointment: Appointment) -> bytes:
        """ACK, below 2.5 with the accession in MSA-3."""
        accession = appointment.order.accession_id
        return self.voice.ack(request, "AA", "" if at_least(request.version, "2.5") else accession)

    def schedule_answer(self, request: Message, appointment: Appointment, event: str) -> bytes:
        """SRR of the request's event."""
        is_new = at_least(request.version, "2.5")
        contact, entered_by = ("SYNAPSE", "RADSCHED") if is_new else (SCHEDULER, REQUESTER)
        reason, status = REQUESTS[event][0], appointment.status
        lines = [
            self.voice.header(request, f"SRR^{event}", "SRR_S01"),
            accepted(request),
            *schedule_lines(appointment, reason, contact, entered_by, status, priority="R"),
            patient_line(request),
            line("RGS", {1: "1", 2: request.raw("RGS-2")}),
            service_line(appointment, request.raw("AIS-2"), status),
            location_line(appointment, request.raw("AIL-2"), status, is_named=False),
        ]
        return encode(lines, request.raw("MSH-18"))


def patient_line(request: Message) -> str:
    """PID of an answer: who the request was about, as the request wrote it."""
    return line("PID", {number: request.raw(f"PID-{number}") for number in (1, 3, 5, 7, 8)})
