"""What the RIS asks of a booking before it looks at its calendar: patient, order numbers, place, time, service.

Field checks and error places are those of systems.md D.3 and D.5, for ORM^O01, SRM^S01 and SIU^S12 alike. Each
raises `Refused`. What is done with a request that passes is in `booking.py`.
"""

from dataclasses import dataclass

from engine.simulators.calendar import Location, Slot
from engine.simulators.checks import MODALITIES, check_date, refuse, require, require_one_of, require_time
from engine.simulators.dialect import Dialect
from engine.simulators.notices import location_type
from engine.simulators.orders import Order
from engine.simulators.wire import Message, at_least


@dataclass(frozen=True, slots=True)
class Places:
    """Where one kind of request carries what; errors name the same places.

    `placer_order` and `filler_order` are the order's own numbers, in versions that have them there; `durations` are
    all fields that repeat how long it takes.
    """

    order: str
    slot: str
    location: str
    modality: str
    start: str
    end: str
    placer_order: str = ""
    filler_order: str = ""
    durations: tuple[str, ...] = ()

    def check_numbers(self, request: Message, dialect: Dialect, order: Order) -> None:
        """The order's own numbers, which a scheduling request has from 2.4. See `numbers_allowed`."""
        if not at_least(request.version, "2.4"):
            return
        require(request, self.placer_order)
        found = request.raw(self.placer_order), request.raw(self.filler_order)
        if found not in numbers_allowed(dialect, order, request.raw(self.order)):
            raise refuse(103, self.placer_order)


ORM_PLACES = Places("ORC-2", "OBR-18", "PV1-3", "OBR-24", "ORC-7.4", "ORC-7.5", filler_order="ORC-3")
SRM_PLACES = Places("ARQ-1", "ARQ-2", "AIL-3", "AIG-3", "ARQ-11.1", "ARQ-11.2", "ARQ-24", "ARQ-25", ("ARQ-9", "AIS-7"))


def siu_places(version: str) -> Places:
    """Of a booking told as SIU: the times moved from SCH-11 to TQ1 with 2.5."""
    start, end = ("TQ1-7", "TQ1-8") if at_least(version, "2.5") else ("SCH-11.4", "SCH-11.5")
    return Places("SCH-1", "SCH-2", "AIL-3", "AIG-3", start, end, "SCH-26", "SCH-27", ("SCH-9", "AIS-7"))


def numbers_allowed(dialect: Dialect, order: Order, own: str) -> list[tuple[str, str]]:
    """Placer and filler number by order control: NW has the sender's `own`, XO and SC name the order as it is."""
    allowed = [(own, "")] if "NW" in dialect.order_control else []
    return allowed + ([(order.placer, order.accession)] if {"XO", "SC"} & set(dialect.order_control) else [])


def check_patient(request: Message, order: Order) -> None:
    """PID against the order's own patient: 204 where they differ."""
    known = order.patient
    told = f"Patient of order {order.id} is {known.told}"
    if (request.text("PID-3.1"), request.text("PID-3.4")) != (known.mrn, known.authority):
        raise refuse(204, "PID-3", told, "UNKNOWN_PATIENT", "Patient does not match the order")
    if request.text("PID-3.5") != "MR":
        raise refuse(103, "PID-3")
    if (request.text("PID-5.1"), request.text("PID-5.2")) != (known.family, known.given):
        raise refuse(204, "PID-5", told, "UNKNOWN_PATIENT", "Patient does not match the order")
    check_date(request, "PID-7")
    if request.text("PID-7") not in ("", known.birth_date):
        raise refuse(204, "PID-7", told)
    if request.text("PID-8") and require_one_of(request, "PID-8", ("F", "M", "O", "U")) != known.sex:
        raise refuse(204, "PID-8", told)


def check_order(request: Message, control: str, order: Order) -> None:
    """ORC and OBR of a booking. NW comes under the sender's own namespace; XO and SC name the order as it is."""
    require(request, "PV1-2", "PV1-3", "PV1-3.4", "OBR-2", "OBR-4", "OBR-18", "OBR-24", "ORC-7.3", "ORC-7.4", "ORC-7.5")
    require_one_of(request, "PV1-2", ("O",))
    if control == "NW":
        if request.text("ORC-2.2") != request.text("MSH-3"):
            raise refuse(103, "ORC-2")
        if request.raw("ORC-3") or request.raw("OBR-3"):
            raise refuse(103, "ORC-3")
    elif (request.raw("ORC-2"), request.raw("ORC-3")) != (order.placer, order.accession):
        raise refuse(204, "ORC-2", f"Order of {order.patient.told} has other numbers")
    if request.text("ORC-6"):
        require_one_of(request, "ORC-6", ("D", "E", "F", "N", "R"))
    for one, other in (("ORC-2", "OBR-2"), ("ORC-3", "OBR-3"), ("ORC-7", "OBR-27")):
        if request.raw(one) != request.raw(other):
            raise refuse(103, other)


def check_cancelled_order(request: Message, dialect: Dialect, order: Order) -> None:
    """A cancellation comes under the number that the order was booked under, with the accession or without."""
    placers = {placer for placer, _ in numbers_allowed(dialect, order, f"{order.id}^{request.text('MSH-3')}")}
    if request.raw("ORC-2") not in placers:
        raise refuse(204, "ORC-2", f"Order of {order.patient.told} has other numbers")


def check_visit(request: Message, slot: Slot) -> None:
    if request.text("OBR-19") not in ("", slot.location.id):
        raise refuse(103, "OBR-19")
    if request.text("ORC-7.3") != f"M{slot.minutes}":
        raise refuse(103, "ORC-7")
    if request.text("ORC-9"):
        require_time(request, "ORC-9", slot.location.zone)


def check_place(request: Message, path: str, location: Location, slot: Slot) -> None:
    """Room and facility of the PL at `path`."""
    room, facility = request.text(f"{path}.2"), request.text(f"{path}.4")
    if room not in ("", slot.room) or facility != location.facility:
        raise refuse(103, path, f"Slot {slot.id} is in another room or facility")


def check_modality(request: Message, places: Places, slot: Slot, order: Order) -> None:
    """The modality, where the request names one, must be one of the room's and the order's own."""
    modality = request.text(places.modality)
    if modality and modality not in MODALITIES:
        raise refuse(103, places.modality, f"Unknown modality {modality}", "UNKNOWN_MODALITY", "Not configured")
    if modality not in ("", order.modality) or order.modality not in slot.modalities:
        raise refuse(103, places.modality, f"Order {order.id} is for {order.modality}, slot {slot.id} is not")


def check_schedule_request(request: Message, places: Places, *, is_booking: bool) -> None:
    """What an SRM or SIU of a booking must hold; one that cancels needs no resources."""
    require(request, places.order, "PID-3", "PID-5", "RGS-1")
    if places.order == "ARQ-1":
        require(request, "ARQ-19", *(["ARQ-15"] if at_least(request.version, "2.3.1") else []))
    else:
        require(request, "SCH-6", "SCH-16", "SCH-20")
        if not at_least(request.version, "2.5") and not request.raw("SCH-11").strip("^"):
            raise refuse(101, "SCH-11")
    if is_booking:
        require(request, "AIS-1", "AIS-3", "AIL-1", "AIL-3", *(["AIL-4"] if location_type(request.version) else []))
    if request.text(f"{places.order}.2") != request.text("MSH-3"):
        raise refuse(103, places.order)
    # ARQ-22 and SCH-23 are the parent placer, not a second place for the order.
    parent = "ARQ-22" if places.order == "ARQ-1" else "SCH-23"
    if request.raw(parent):
        raise refuse(103, parent)


def check_service(request: Message, places: Places, slot: Slot) -> None:
    if require_time(request, "AIS-4", slot.location.zone) != slot.start:
        raise refuse(103, "AIS-4")
    for path in places.durations:
        if request.text(path) not in ("", str(slot.minutes)):
            raise refuse(103, path)
