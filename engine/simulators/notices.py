"""What the RIS announces about an appointment: SIU^S12 to S26 in the shapes N1 and N2, and ORU^R01 in the shape O2.

The notice carries the facility of the location that was booked, whatever facility the order came from (systems.md
D.8). Made-up appointments, for traffic without bookings, come from here as well. Sending is the outbox's work.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from engine.simulators.calendar import Location, Slot, room_name, starts
from engine.simulators.orders import (
    MODALITY_WORDS,
    Order,
    Patient,
    charset_for,
    made_up_order,
    message_header,
    patient_fields,
    provider,
)
from engine.simulators.wire import at_least, components, encode, escape, line, stamp

SCHEDULER = "SYN01^Scheduler^Synapse"
REQUESTER = "RADSCHED^RadScheduler"
EQUIPMENT = "EQUIP^Equipment^L"

#: event → (SCH-6, segment action, SCH-25)
EVENTS = {
    "S12": ("S12^New appointment^L", "A", "Booked"),
    "S13": ("S13^Rescheduled appointment^L", "U", "Booked"),
    "S14": ("S14^Modified appointment^L", "U", "Booked"),
    "S15": ("PT^Patient request^L", "D", "Cancelled"),
    "S16": ("S16^Discontinued appointment^L", "D", "Dc"),
    "S17": ("S17^Deleted appointment^L", "D", "Deleted"),
    "S26": ("S26^No show^L", "U", "Noshow"),
}
EVENTS |= {f"S{number}": (f"S{number}^Appointment notification^L", "U", "Booked") for number in range(18, 25)}

CENTRAL = ZoneInfo("America/Chicago")


@dataclass(slots=True)
class Appointment:
    """A booking in the RIS. `placer` is the EI it was asked for under; `version` the one its notices are written in."""

    id: str
    order: Order
    placer: str
    location: str
    location_name: str
    facility: str
    room: str
    start: datetime
    minutes: int
    version: str
    slot_id: str = ""
    status: str = "Booked"

    @property
    def end(self) -> datetime:
        return self.start + timedelta(minutes=self.minutes)

    @property
    def place(self) -> str:
        """The room as PL."""
        return components(escape(self.location), escape(self.room), "", escape(self.facility))

    def move(self, slot: Slot) -> None:
        self.location, self.location_name, self.facility = slot.location.id, slot.location.name, slot.location.facility
        self.room, self.start, self.minutes, self.slot_id = slot.room, slot.start, slot.minutes, slot.id


def notice(appointment: Appointment, event: str, control_id: str, now: datetime) -> bytes:
    """SIU of this event about the appointment, in its version."""
    version, person = appointment.version, appointment.order.patient
    kind = f"SIU^{event}^SIU_S12" if at_least(version, "2.3.1") else f"SIU^{event}"
    reason, action, status = EVENTS[event]
    entered_by = REQUESTER if event == "S12" else SCHEDULER
    lines = [
        message_header(appointment.facility, kind, control_id, now, version, charset_for(person)),
        *schedule_lines(appointment, reason, SCHEDULER, entered_by, status),
        line("PID", patient_fields(person, version) | {18: account(person, version)}),
        line("PV1", {1: "1", 2: "O", 3: appointment.place, 8: provider(version), 19: visit(appointment)}),
        line("RGS", {1: "1", 2: action}),
        *resource_lines(appointment, action, status, note(appointment, event)),
    ]
    return encode(lines, charset_for(person))


def schedule_lines(
    appointment: Appointment, reason: str, contact: str, entered_by: str, status: str, priority: str = ""
) -> list[str]:
    """SCH, and from 2.5 TQ1 instead of SCH-11; SCH-26 and SCH-27 exist from 2.4."""
    version = appointment.version
    start, end = stamp(appointment.start, version), stamp(appointment.end, version)
    fields = {1: appointment.placer, 2: f"{appointment.id}^SYNAPSE", 5: resource(appointment.room), 6: reason}
    fields |= {7: f"{'ROUTINE' if at_least(version, '2.4') else 'Routine'}^^HL70276", 8: "Normal^^HL70277"}
    fields |= {9: str(appointment.minutes), 10: units(version), 16: contact, 20: entered_by, 25: f"{status}^^HL70278"}
    if at_least(version, "2.4"):
        fields |= {26: appointment.placer, 27: appointment.order.accession}
    if not at_least(version, "2.5"):
        return [line("SCH", fields | {11: f"^^^{start}^{end}"})]
    return [line("SCH", fields), line("TQ1", {1: "1", 7: start, 8: end, 9: priority})]


def resource_lines(appointment: Appointment, action: str, status: str, text: str) -> Iterable[str]:
    version = appointment.version
    start, minutes, unit = stamp(appointment.start, version), str(appointment.minutes), units(version)
    head, state = {1: "1", 2: action}, {12: f"{status}^^HL70278"}
    when = {6: start, 9: minutes, 10: unit}
    yield service_line(appointment, action, status)
    yield line("NTE", {1: "1", 3: escape(text)})
    yield line("AIG", head | {3: resource(appointment.room), 4: EQUIPMENT, 8: start, 11: minutes, 12: unit})
    yield location_line(appointment, action, status, is_named=True)
    yield line("AIP", head | {3: "RAD01^Ray^Alex^^^^^^SYNAPSE", 4: "RAD^Radiologist^L"} | when | state)


def service_line(appointment: Appointment, action: str, status: str) -> str:
    version = appointment.version
    fields = {1: "1", 2: action, 3: appointment.order.procedure, 4: stamp(appointment.start, version)}
    return line("AIS", fields | {7: str(appointment.minutes), 8: units(version), 10: f"{status}^^HL70278"})


def location_line(appointment: Appointment, action: str, status: str, *, is_named: bool) -> str:
    """AIL; notices carry the location's name in AIL-3.9, answers do not."""
    place, version = appointment.place, appointment.version
    if is_named and appointment.location_name:
        place = components(*[*place.split("^"), "", "", "", ""][:8], escape(appointment.location_name))
    fields = {1: "1", 2: action, 3: place, 4: location_type(version), 6: stamp(appointment.start, version)}
    return line("AIL", fields | {9: str(appointment.minutes), 10: units(version), 12: f"{status}^^HL70278"})


def location_type(version: str) -> str:
    """AIL-4, which is required from 2.3.1 until 2.5 made it optional; this RIS leaves it out where it may."""
    return "C^Clinic^HL70305" if at_least(version, "2.3.1") and not at_least(version, "2.5") else ""


def result(order: Order, appointment: Appointment | None, control_id: str, now: datetime) -> bytes:
    """ORU^R01 with a critical finding, at 2.5.1."""
    version = "2.5.1"
    fields = {3: "SYNAPSE", 4: order.facility, 5: "PERFECTSERVE", 6: "PS", 7: stamp(now, version)}
    fields |= {9: "ORU^R01^ORU_R01", 10: control_id, 11: "P", 12: version, 18: charset_for(order.patient)}
    place = appointment.place if appointment else order.facility
    seen = stamp(appointment.start if appointment else now, version)
    read = stamp(now, version)
    ids = {2: order.placer, 3: order.accession}
    lines = [
        line("MSH", fields),
        line("PID", patient_fields(order.patient, version)),
        line("PV1", {1: "1", 2: "O", 3: place}),
        line("ORC", {1: "RE"} | ids),
        line("OBR", {1: "1", 4: order.procedure, 7: seen, 16: provider(version), 22: read, 24: order.modality, 25: "F"}
             | ids),
        line("OBX", {1: "1", 2: "TX", 3: "IMP^Impression^L", 5: "Tension pneumothorax, called to referring provider"}
             | {11: "F", 14: read}),
        line("OBX", {1: "2", 2: "NM", 3: "2823-3^Potassium^LN", 5: "6.8", 6: "mmol/L", 7: "3.5-5.1", 8: "HH", 11: "F"}),
    ]  # fmt: skip
    return encode(lines, charset_for(order.patient))


def invented(number: int, facility: str, location: Location | None, location_id: str, now: datetime,
             version: str) -> Appointment:  # fmt: skip
    """A made-up appointment: the number makes its ids, its patient and its time. Nothing in the calendar is taken."""
    modality = location.modalities[number % len(location.modalities)] if location else "CR"
    room = next(name for name, offered in location.rooms.items() if modality in offered) if location else "XR1"
    order = made_up_order(f"MADE{number:06d}", f"8{number:06d}", facility, modality)
    minutes = location.slot_minutes if location else 30
    return Appointment(f"APT8{number:06d}", order, order.placer, location_id, location.name if location else "",
                       facility, room, invented_start(number, location, now), minutes, version)  # fmt: skip


def invented_start(number: int, location: Location | None, now: datetime) -> datetime:
    day = now.astimezone(location.zone if location else CENTRAL).date() + timedelta(days=7 + number % 28)
    if location is None:
        return datetime.combine(day, time(9), CENTRAL)
    times = list(starts(location, day))
    return next(islice(times, number % len(times), None))


def note(appointment: Appointment, event: str) -> str:
    if event in ("S15", "S16", "S17"):
        return "Cancelled by phone"
    if event == "S26":
        return "Patient did not come"
    word = MODALITY_WORDS.get(appointment.order.modality, appointment.order.modality)
    return f"{word} scheduled at {appointment.location_name or appointment.facility}"


def account(patient: Patient, version: str) -> str:
    number = f"{patient.account}^^^{escape(patient.authority)}^AN"
    return f"{number}^^20250101" if at_least(version, "2.5") else number


def visit(appointment: Appointment) -> str:
    return f"V{appointment.id.removeprefix('APT')}^^^{escape(appointment.facility)}^VN"


def resource(room: str) -> str:
    return f"{escape(room)}^{escape(room_name(room))}^L"


def units(version: str) -> str:
    return "min^minute^UCUM" if at_least(version, "2.5") else "min"
