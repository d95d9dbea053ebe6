"""The RIS's calendar: locations, rooms, slots, and which of them are open, booked or blocked.

Slots are not stored: they follow from the location's opening hours, days and slot length (systems.md D.8); kept are
only the bookings. A slot's id is `<location>-<room>-<local start>`. Who may book what is decided in `booking.py`.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

State = Literal["open", "booked", "blocked"]

LUNCH = (time(12), time(13))
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ROOM_WORDS = {"XR": "X-ray", "CT": "CT", "MR": "MR", "US": "Ultrasound", "MG": "Mammography"}


@dataclass(frozen=True, slots=True)
class Location:
    """One row of `locations.csv`. `rooms` maps a room to the modalities it serves."""

    id: str
    name: str
    address: str
    phone: str
    zone: ZoneInfo
    facility: str
    modalities: tuple[str, ...]
    rooms: Mapping[str, tuple[str, ...]]
    opens: time
    closes: time
    days: frozenset[int]
    slot_minutes: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in one room's day. `start` carries the location's zone."""

    location: Location
    room: str
    start: datetime

    @property
    def id(self) -> str:
        return f"{self.location.id}-{self.room}-{self.start:%Y%m%d%H%M}"

    @property
    def minutes(self) -> int:
        return self.location.slot_minutes

    @property
    def end(self) -> datetime:
        return self.start + timedelta(minutes=self.minutes)

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.location.rooms[self.room]

    @property
    def is_blocked(self) -> bool:
        return self.start.time() < LUNCH[1] and self.end.time() > LUNCH[0]


class Calendar:
    """All slots of all locations; the bookings are kept by slot id with the appointment's id."""

    def __init__(self, locations: Iterable[Location]) -> None:
        self.locations = {location.id: location for location in locations}
        self.booked: dict[str, str] = {}
        #: Hears of every slot that is booked or free again.
        self.changed: Callable[[str, State], None] = lambda slot_id, state: None

    @property
    def facilities(self) -> frozenset[str]:
        return frozenset(location.facility for location in self.locations.values())

    def state(self, slot: Slot) -> State:
        if slot.id in self.booked:
            return "booked"
        return "blocked" if slot.is_blocked else "open"

    def book(self, slot: Slot, appointment_id: str) -> None:
        """Take an open slot. Raises ValueError when it is not open: whoever books has looked before."""
        if self.state(slot) != "open":
            raise ValueError(f"slot {slot.id} is not open")
        self.booked[slot.id] = appointment_id
        self.changed(slot.id, "booked")

    def free(self, slot_id: str) -> None:
        if self.booked.pop(slot_id, None) is not None:
            self.changed(slot_id, "open")

    def slots(self, location: Location, day: date, modality: str | None = None) -> list[Slot]:
        """All slots of one local day, open or not, by start and room."""
        if day.weekday() not in location.days:
            return []
        rooms = [room for room, offered in location.rooms.items() if modality is None or modality in offered]
        return [Slot(location, room, start) for start in starts(location, day) for room in sorted(rooms)]

    def find(self, slot_id: str) -> Slot | None:
        """The slot of this id, if the calendar has it."""
        parts = slot_id.split("-")
        location = self.locations.get(parts[0])
        if location is None or len(parts) != 3 or parts[1] not in location.rooms:
            return None
        try:
            when = datetime.strptime(parts[2], "%Y%m%d%H%M").replace(tzinfo=location.zone)
        except ValueError:
            return None
        slot = Slot(location, parts[1], when)
        return slot if slot.id == slot_id and slot in self.slots(location, when.date()) else None

    def describe(self, slot: Slot) -> dict[str, Any]:
        return {
            "id": slot.id,
            "start": slot.start.isoformat(),
            "end": slot.end.isoformat(),
            "resource": slot.room,
            "modalities": list(slot.modalities),
            "state": self.state(slot),
            "appointmentId": self.booked.get(slot.id),
        }

    def reset(self) -> None:
        for slot_id in list(self.booked):
            self.free(slot_id)


def starts(location: Location, day: date) -> Iterator[datetime]:
    start = datetime.combine(day, location.opens, location.zone)
    closes = datetime.combine(day, location.closes, location.zone)
    step = timedelta(minutes=location.slot_minutes)
    while start + step <= closes:
        # The hour that a DST change repeats cannot be expressed at 2.3, so no slot is opened there.
        if start.utcoffset() == start.replace(fold=1).utcoffset():
            yield start
        start += step


def room_name(room: str) -> str:
    """`XR1` → `X-ray room 1`."""
    return f"{ROOM_WORDS.get(room[:2], room[:2])} room {room[2:]}"


def read_locations(path: Path) -> list[Location]:
    """Read `locations.csv`. Raises OSError, and ValueError for a row that is no location."""
    with path.open(newline="", encoding="utf-8") as file:
        return [read_location(row) for row in csv.DictReader(file)]


def read_location(row: Mapping[str, str]) -> Location:
    try:
        return Location(
            id=row["id"],
            name=row["name"],
            address=row["address"],
            phone=row["phone"],
            zone=ZoneInfo(row["timezone"]),
            facility=row["facility"],
            modalities=tuple(row["modalities"].split()),
            rooms={name: tuple(offered.split("+")) for name, offered in map(split_room, row["rooms"].split())},
            opens=time.fromisoformat(row["open"]),
            closes=time.fromisoformat(row["close"]),
            days=read_days(row["days"]),
            slot_minutes=int(row["slot_minutes"]),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"location {row.get('id', '?')}: {error}") from error


def split_room(text: str) -> tuple[str, str]:
    name, _, offered = text.partition(":")
    return name, offered


def read_days(text: str) -> frozenset[int]:
    """`Mon-Sat` or `Tue` as week days from 0 for Monday."""
    first, _, last = text.partition("-")
    return frozenset(range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1))
