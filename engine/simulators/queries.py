"""How the RIS answers questions: locations and slots by QRY^Q01, slots by SQM^S25, locations by MFQ^M05.

Shapes, field checks and error places are those of systems.md D.1 and D.2. All backends read the same calendar, so the
same question has the same answer whichever way it is asked. Nothing here changes state.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from engine.simulators.answers import Refused, Voice, accepted
from engine.simulators.calendar import Calendar, Location, Slot, room_name
from engine.simulators.checks import MODALITIES, refuse, require, require_one_of, require_time
from engine.simulators.dialect import Dialect
from engine.simulators.notices import (
    EQUIPMENT,
    SCHEDULER,
    Appointment,
    location_line,
    location_type,
    schedule_lines,
    service_line,
    units,
)
from engine.simulators.orders import patient_fields
from engine.simulators.wire import Message, at_least, components, encode, escape, line, stamp, unescape

#: HL7 table 0048, as far as it is about schedules and other data; neither LOC nor MFQ is in it.
SUBJECTS = ("OTH", "SAL", "SBK", "SBL", "SOF", "SOP", "SSA", "SSR")
DAY_LIMIT = timedelta(days=366)
DICOM_WORDS = {
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "DX": "Digital Radiography",
    "MG": "Mammography",
    "MR": "Magnetic Resonance",
    "US": "Ultrasound",
}
NO_DATA = line("DSP", {1: "1", 3: "NO DATA FOUND"})


class Queries:
    """Answers questions about the calendar. `booking_of` finds the appointment that holds a booked slot."""

    def __init__(
        self,
        calendar: Calendar,
        voice: Voice,
        booking_of: Callable[[str], Appointment | None],
        dialect: Dialect,
    ) -> None:
        self.calendar, self.voice, self.booking_of, self.dialect = calendar, voice, booking_of, dialect

    def qry(self, request: Message) -> bytes:
        """DSR^Q01 for the subjects LOC (as OTH), SOP (open slots) and SBK (booked slots). Raises Refused."""
        check_query(request, "I", ("D", "T"))
        subject = require_one_of(request, "QRD-9", SUBJECTS)
        if subject not in self.dialect.subjects:
            raise refuse(103, "QRD-9", f"Subject {subject} is not served")
        if subject == "OTH":
            require_one_of(request, "QRD-10", ("LOC",))
            rows = [location_row(location) for location in self.matching_locations(request)]
        else:
            slots = self.slots(request, "QRD-10", "open" if subject == "SOP" else "booked")
            rows = [self.slot_row(slot, request) for slot in slots]
        rows = rows[: limit(request)]
        lines = [display(number, row_id, values) for number, (row_id, values) in enumerate(rows, 1)] or [NO_DATA]
        return self.answer(request, "DSR^Q01", "DSR_Q01", "OK" if rows else "NF", [*asked(request), *lines])

    def mfq(self, request: Message) -> bytes:
        """MFR^M05. "None" has no place in its structure, so it is QAK-2 NF and no MFI. Raises Refused."""
        check_query(request, "I", ("R",))
        require_one_of(request, "QRD-9", ("MFQ",))
        require_one_of(request, "QRD-10", ("LOC",))
        found = self.matching_locations(request)[: limit(request)]
        lines = [line("MFI", {1: "LOC^Location master file^HL70175", 3: "REP", 6: "NE"})] if found else []
        for location in found:
            lines += master_file_lines(location, request.version)
        # The structure MFR_M05 came with 2.5; before, every master file has the same one.
        structure = "MFR_M05" if at_least(request.version, "2.5") else "MFR_M01"
        return self.answer(request, "MFR^M05", structure, "OK" if found else "NF", [*asked(request), *lines])

    def sqm(self, request: Message) -> bytes:
        """SQR^S25: open slots (SSA) as SCH groups without a patient, booked ones (SBK) with theirs; no slot, no group.

        Raises Refused.
        """
        check_query(request, "I", ("R",))
        is_open = require_one_of(request, "QRD-9", ("SSA", "SBK")) == "SSA"
        check_wish(request, is_open=is_open)
        slots = self.slots(request, "AIL-3", "open" if is_open else "booked")
        shown = slots[: limit(request)]
        lines = [text for slot in shown for text in self.schedule(request, slot)]
        status = "OK" if shown else "NF"
        return self.answer(request, "SQR^S25", "SQR_S25", status, lines, (len(slots), len(shown)))

    def schedule(self, request: Message, slot: Slot) -> list[str]:
        """One SCHEDULE group of an SQR, in the version of the request."""
        held = self.booking_of(slot.id)
        return wish_lines(request, slot) if held is None else booked_lines(held, request.version)

    def answer(self, request: Message, kind: str, structure: str, status: str, lines: Iterable[str],
               counts: tuple[int, int] | None = None) -> bytes:  # fmt: skip
        tag = {1: request.raw("QRD-4"), 2: status}
        if counts is not None and at_least(request.version, "2.5"):
            tag |= {4: str(counts[0]), 5: str(counts[1]), 6: str(counts[0] - counts[1])}
        head = [self.voice.header(request, kind, structure), accepted(request), line("QAK", tag)]
        return encode([*head, *lines], request.raw("MSH-18"))

    def matching_locations(self, request: Message) -> list[Location]:
        wanted = modalities(request, "QRF-5")
        locations = self.calendar.locations.values()
        return [item for item in locations if not wanted or any(code in item.modalities for code in wanted)]

    def slots(self, request: Message, place: str, state: str) -> list[Slot]:
        """The slots in this state at the location named at `place`, within QRF-2 and QRF-3."""
        location = find_location(self.calendar, request, place)
        is_wish = place == "AIL-3"
        wanted = modalities(request, "AIG-3" if is_wish else "QRF-5")
        if not wanted and state == "open":
            raise refuse(101, "AIG-3" if is_wish else "QRF-5")
        begin, end = time_range(request, location, self.voice.now(), may_be_past=state == "booked")
        days = [begin.date() + timedelta(days=number) for number in range((end.date() - begin.date()).days + 1)]
        found = [slot for day in days for slot in self.calendar.slots(location, day)]
        return [
            slot
            for slot in found
            if begin <= slot.start <= end
            and self.calendar.state(slot) == state
            and (not wanted or any(code in slot.modalities for code in wanted))
        ]

    def slot_row(self, slot: Slot, request: Message) -> tuple[str, dict[str, str]]:
        """A slot as a display row; of the room's modalities it names those that were asked for."""
        version, wanted = request.version, modalities(request, "QRF-5")
        offered = [code for code in slot.modalities if not wanted or code in wanted]
        values = {"ID": slot.id, "START": stamp(slot.start, version), "END": stamp(slot.end, version)}
        values |= {"DUR": str(slot.minutes), "LOC": slot.location.id, "RES": slot.room, "MOD": ",".join(offered)}
        held = self.booking_of(slot.id)
        if held is not None:
            values |= {"ORD": held.placer.partition("^")[0], "APT": held.id, "ACC": held.order.accession_id}
        return slot.id, values


def check_query(request: Message, priority: str, formats: tuple[str, ...]) -> None:
    """QRD fields that every query needs, and QRF-1."""
    require_time(request, "QRD-1", UTC)
    require_one_of(request, "QRD-2", formats)
    require_one_of(request, "QRD-3", (priority,))
    require(request, "QRD-4", "QRD-7", "QRD-8", "QRD-9", "QRD-10", "QRF-1")
    if len(request.text("QRD-4")) > 10:
        raise refuse(102, "QRD-4")
    if not request.text("QRD-7.1").isdecimal() or request.text("QRD-7.2") != "RD":
        raise refuse(102, "QRD-7")
    if request.text("QRD-12"):
        require_one_of(request, "QRD-12", ("O", "R", "S", "T"))


def check_wish(request: Message, *, is_open: bool) -> None:
    """ARQ and the resources of an SQM. The service is named when there is one; open slots are of a modality."""
    require(request, "ARQ-1", "ARQ-11", "ARQ-19", "RGS-1", "AIL-1", "AIL-3")
    if request.segment("AIS") is not None:
        require(request, "AIS-1", "AIS-3")
    if is_open or request.segment("AIG") is not None:
        require(request, "AIG-1", "AIG-3", "AIG-4")
    if at_least(request.version, "2.3.1"):
        require(request, "ARQ-15")
    if location_type(request.version):
        require(request, "AIL-4")


def find_location(calendar: Calendar, request: Message, path: str) -> Location:
    """The location named at `path`. Raises Refused: 101 when none is named, 204 when it is not known."""
    require(request, path)
    name = request.text(path)
    location = calendar.locations.get(name)
    if location is None:
        raise refuse(204, path, f"Unknown location {name}", "UNKNOWN_LOCATION", f"Location {name} not found")
    return location


def modalities(request: Message, path: str) -> list[str]:
    """The modality codes at `path`. Raises Refused with 103 for one that is no modality."""
    segment = request.segment(path.split("-")[0])
    field = int(path.split("-")[1])
    codes = [unescape(text.split("^")[0]) for text in segment.repetitions(field)] if segment else []
    for code in codes:
        if code not in MODALITIES:
            raise refuse(
                103, path, f"Unknown modality {code}", "UNKNOWN_MODALITY", f"Modality {code} is not configured"
            )
    return codes


def time_range(request: Message, location: Location, now: datetime, *, may_be_past: bool) -> tuple[datetime, datetime]:
    begin = require_time(request, "QRF-2", location.zone)
    end = require_time(request, "QRF-3", location.zone)
    if end < begin or end - begin > DAY_LIMIT:
        raise refuse(102, "QRF-3")
    if end < now and not may_be_past:
        raise refuse(102, "QRF-2", "The range lies in the past")
    return begin, end


def limit(request: Message) -> int:
    return int(request.text("QRD-7.1"))


def asked(request: Message) -> list[str]:
    """QRD and QRF as they came."""
    return ["|".join(segment.fields) for segment in request.segments if segment.name in ("QRD", "QRF")]


def location_row(location: Location) -> tuple[str, dict[str, str]]:
    values = {"ID": location.id, "NAME": location.name, "ADDR": location.address, "PHONE": location.phone}
    return location.id, values | {"TZ": location.zone.key, "MOD": ",".join(location.modalities)}


def display(number: int, row_id: str, values: Mapping[str, str]) -> str:
    """One DSP row: KEY=value pairs joined by `;`, the three signs of that grammar written as %hex (D.1)."""
    text = ";".join(f"{key}={percent(value)}" for key, value in values.items())
    return line("DSP", {1: str(number), 3: escape(text), 5: escape(row_id)})


def percent(text: str) -> str:
    return text.replace("%", "%25").replace(";", "%3B").replace("=", "%3D")


def master_file_lines(location: Location, version: str) -> list[str]:
    """MFE, LOC and LDP of one location; at 2.3 there is no MFE-5, below 2.4 LDP-2 is a bare code."""
    key = components(escape(location.id), "", "", escape(location.facility))
    specialties = "~".join(f"{code}^{DICOM_WORDS.get(code, code)}^DCM" for code in location.modalities)
    return [
        line("MFE", {1: "MAD", 4: escape(location.id), 5: "PL" if at_least(version, "2.3.1") else ""}),
        line("LOC", {1: key, 2: escape(location.name), 3: "C", 5: address(location.address), 6: phone(location.phone)}),
        line("LDP", {1: key, 2: "RAD^Radiology^L" if at_least(version, "2.4") else "RAD", 4: specialties}),
    ]


def address(text: str) -> str:
    """`100 Main St, Springfield, IL 62701` as XAD."""
    street, city, rest = (part.strip() for part in text.split(","))
    state, _, code = rest.partition(" ")
    return components(escape(street), "", escape(city), escape(state), escape(code))


def phone(text: str) -> str:
    """`+12175550100` as XTN of this RIS."""
    return f"({text[2:5]}){text[5:8]}-{text[8:]}"


def wish_lines(request: Message, slot: Slot) -> list[str]:
    """One SCHEDULE group of an SQR: an open slot for what the request's AIS asks."""
    version = request.version
    start, end, unit = stamp(slot.start, version), stamp(slot.end, version), units(version)
    room = f"{slot.room}^{room_name(slot.room)}^L"
    minutes = str(slot.minutes)
    sch = {2: f"{slot.id}^SYNAPSE", 5: room, 6: "OPEN^Open slot^L", 8: "Normal^^HL70277", 9: minutes, 10: unit}
    sch |= {16: "SYNAPSE", 20: "SYNAPSE"}
    timing = [line("TQ1", {1: "1", 7: start, 8: end})]
    if not at_least(version, "2.5"):
        sch, timing = sch | {1: request.raw("ARQ-1"), 11: f"^^^{start}^{end}"}, []
    place = components(slot.location.id, slot.room, "", slot.location.facility)
    service = request.raw("AIS-3")
    return [
        line("SCH", sch),
        *timing,
        line("RGS", {1: "1"}),
        *([line("AIS", {1: "1", 3: service, 4: start, 7: minutes, 8: unit})] if service else []),
        line("AIG", {1: "1", 3: room, 4: EQUIPMENT}),
        line("AIL", {1: "1", 3: place, 4: location_type(version), 6: start, 9: minutes, 10: unit}),
    ]


def booked_lines(appointment: Appointment, version: str) -> list[str]:
    """One SCHEDULE group of an SQR: a booked slot, its appointment and whose it is."""
    held = replace(appointment, version=version)
    reason = "BOOKED^Booked slot^L"
    return [
        *schedule_lines(held, reason, SCHEDULER, SCHEDULER, held.status),
        line("PID", patient_fields(held.order.patient, version)),
        line("RGS", {1: "1"}),
        service_line(held, "", held.status),
        location_line(held, "", held.status, is_named=False),
    ]


def refusal_of_sqm(voice: Voice, request: Message, refused: Refused) -> bytes:
    """SQR^S25 with the error, then QAK-2 AE, as S7 has it."""
    refusal = voice.refusal(request, refused, "SQR^S25", "SQR_S25")
    tag = line("QAK", {1: request.raw("QRD-4"), 2: "AE"})
    return refusal + encode([tag], request.raw("MSH-18"))
