"""RadScheduler's side: what the RIS answers as JSON, and whether a booking fits together.

Reply functions get the RIS's message; ``context.request`` is the request with its variables. An answer of the wrong
form fails the step, which callers hear as ``ris_bad_response``: nothing of it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo
from functools import lru_cache
from operator import itemgetter, methodcaller
from typing import Any

from engine.errors import Refused, StepFailed
from engine.hl7.escape import as_data
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.segment import Segment
from engine.hl7.separators import Separators
from engine.json_text import Written
from engine.remembered import Memory
from engine.transforms.base import Context, Table
from engine.transforms.values.phones import e164
from engine.transforms.values.times import LONGEST, Moment, read_moment, written, zone_named

#: What reads a confirmation number, by type of answer; its own id of an appointment; and what MSA-3 says.
_NUMBERS = {
    kind: tuple(Path.parse(place).value for place in places)
    for kind, places in {
        "ORR": ("ORC-3.1", "OBR-3.1"),
        "SRR": ("SCH-2.1",),
        "SIU": ("SCH-27.1", "SCH-2.1"),
        "ACK": (),
    }.items()
}
_APPOINTMENT, _TEXT = Path.parse("SCH-2.1").value, Path.parse("MSA-3").value
_ESCAPES = {"%3B": ";", "%3D": "=", "%25": "%"}
_ESCAPE = re.compile("%3B|%3D|%25", re.IGNORECASE)
#: Characters of a display line whose slot is remembered.
_LONGEST = 512
#: Name → column of the RIS's calendar table.
_COLUMNS = {
    "ID": "slot_id",
    "START": "starts_at",
    "END": "ends_at",
    "LOC": "location_id",
    "MOD": "modality",
    "RES": "resource",
}


# -- queries -------------------------------------------------------------------------------------------------------


def locations(message: Message, context: Context, *, known: Table | None = None) -> dict[str, Any]:
    """``{"locations": […]}`` of a DSR^Q01 or an MFR^M05. A master file tells no time zone: ``known`` has it."""
    modality = _request(context).origin.query.get("modality", "")
    if message.type == "MFR":
        found = _master_file(message, known)
    else:
        found = [
            {
                "id": row["ID"],
                "name": row.get("NAME", ""),
                "address": row.get("ADDR", ""),
                "phone": e164(row.get("PHONE", "")) or None,
                "timezone": row.get("TZ") or None,
                "modalities": list(_words(row.get("MOD", ""))),
            }
            for row in _rows(message, "ID")
        ]
    return {"locations": [each for each in found if not modality or modality in each["modalities"]]}


def slots(message: Message | dict[str, Any], context: Context) -> dict[str, Any]:
    """``{"slots": […]}`` of a DSR^Q01, an SQR^S25 or the rows of a calendar table; what has begun is left out."""
    request = _request(context)
    location = request.variables["location"]
    zone = zone_named(location["timezone"]) or UTC
    here, wanted = location["id"], request.origin.query.get("modality")
    found: list[_Slot]
    if isinstance(message, dict):
        found = [_slot(row, zone, here, wanted) for row in _calendar(message["rows"])]
    elif message.type == "SQR":
        found = [_slot(row, zone, here, wanted) for row in _schedules(message)]
    else:
        unusual = None if message.separators is Separators.default else message.separators
        found = list(map(_shown(unusual, message.charset, zone, here, wanted), _displayed(message)))
    now = context.now.timestamp()
    if found and min(map(_BEGIN, found)) <= now:
        found = [each for each in found if each[0] > now]
    open_slots = list(map(_SLOT, found))
    if None in open_slots:
        raise _wrong("END")
    return {"slots": open_slots}


#: When a slot begins, in seconds since the epoch, and what callers are told of it; None where its end is not known.
_Slot = tuple[float, dict[str, Any] | None]
_BEGIN, _SLOT = itemgetter(0), itemgetter(1)


@lru_cache(maxsize=32)
def _shown(
    separators: Separators | None, charset: str, zone: tzinfo, here: str, wanted: str | None
) -> Callable[[str], _Slot]:
    """What gives the slot of a display line of a location and modality.

    The same days are asked for again and again, and an open slot is nobody's.
    """

    def read(line: str) -> _Slot:
        begins, slot = _slot(_row(line, separators or Separators.default, charset, "ID", "START"), zone, here, wanted)
        return begins, slot and Written(slot)

    return Memory(256, read, longest=_LONGEST).__getitem__


def _slot(row: Mapping[str, str], zone: tzinfo, here: str, wanted: str | None) -> _Slot:
    """An open slot of ``zone``; ``here`` and ``wanted``: location and modality where the RIS says none."""
    start = _moment(row["START"], zone)
    end = _moment(last, zone) if (last := row.get("END")) else None
    minutes = int(length) if (length := row.get("DUR", "")).isdigit() else None
    begins = start.at.timestamp()
    if end is None:
        if minutes is None:
            return begins, None
        end = start.plus(minutes)
    slot = {
        "id": row["ID"],
        "locationId": row.get("LOC") or here,
        "modality": row.get("MOD") or wanted,
        "start": start.iso(zone),
        "end": end.iso(zone),
        "durationMinutes": start.minutes_until(end) if minutes is None else minutes,
        "resource": row.get("RES") or None,
    }
    return begins, slot


def _calendar(rows: list[dict[str, str | None]]) -> list[dict[str, str]]:
    """The rows of the RIS's calendar table, by the names that the display lines have."""
    found: list[dict[str, str]] = []
    for row in rows:
        if not row["slot_id"] or not row["starts_at"]:
            raise _wrong("starts_at" if row["slot_id"] else "slot_id")
        found.append({name: row[column] or "" for name, column in _COLUMNS.items()})
    return found


def _schedules(message: Message) -> list[dict[str, str]]:
    """The SCH groups of an SQR, one open slot each, by the names that the display lines have."""
    found: list[dict[str, str]] = []
    for group in _groups(message):
        row = {
            "ID": _first(group, "SCH-2.1"),
            "START": _first(group, "TQ1-7", "SCH-11.4", "AIS-4"),
            "END": _first(group, "TQ1-8", "SCH-11.5"),
            "DUR": _first(group, "SCH-9", "AIS-7"),
            "LOC": _first(group, "AIL-3.1"),
            "RES": _first(group, "SCH-5.1", "AIG-3.1"),
        }
        if not row["ID"] or not row["START"]:
            raise _wrong("SCH")
        found.append(row)
    return found


def _groups(message: Message) -> list[dict[str, Segment]]:
    """The SCHEDULE groups of an SQR: the first segment of each name."""
    _checked(message)
    groups: list[dict[str, Segment]] = []
    for segment in message.segments():
        if segment.name == "SCH":
            groups.append({})
        if groups and segment.name:
            groups[-1].setdefault(segment.name, segment)
    return groups


def _master_file(message: Message, known: Table | None) -> list[dict[str, Any]]:
    """The locations of an MFR^M05: LOC with its LDP."""
    _checked(message)
    found: list[dict[str, Any]] = []
    for segment in message.segments():
        if segment.name == "LOC":
            address = [segment.value(f"LOC-5.{number}") for number in (1, 3, 4, 5)]
            street, city, state, code = address
            found.append(
                {
                    "id": segment.value("LOC-1.1"),
                    "name": segment.value("LOC-2"),
                    "address": ", ".join(filter(None, (street, city, f"{state} {code}".strip()))),
                    "phone": e164(segment.value("LOC-6.1")) or None,
                    "timezone": _timezone(known, segment.value("LOC-1.1")),
                    "modalities": [],
                }
            )
        elif segment.name == "LDP" and found:
            codes = (segment.read("LDP-4") or "").split("~")
            found[-1]["modalities"] += [code.partition("^")[0] for code in codes if code]
    return found


def _timezone(known: Table | None, location: str) -> str | None:
    rows = known.rows(location) if known is not None else ()
    return next((row["timezone"] for row in rows if row.get("timezone")), None)


def booked(message: Message, context: Context) -> dict[str, Any]:
    """``{"booking": {"appointmentId", "accession"}}`` of a DSR^Q01 or an SQR^S25 with booked slots.

    It is the order's own in the slot that the request names: same location, room and start. Null when there is none.
    """
    request = _request(context)
    body, zone = request.request, zone_named(request.variables["location"]["timezone"]) or UTC
    wanted = read_moment(body["start"].upper(), zone)
    rows = _appointments(message) if message.type == "SQR" else _rows(message, "ID", "START")
    for row in rows:
        same_room = not body.get("room") or row.get("RES", "") in ("", body["room"])
        same_place = row.get("LOC", "") in ("", body["locationId"]) and same_room
        if (
            row.get("ORD") == body["orderId"]
            and same_place
            and wanted is not None
            and _moment(row["START"], zone).at == wanted.at
        ):
            return {"booking": {"appointmentId": row.get("APT") or None, "accession": row.get("ACC") or None}}
    return {"booking": None}


def _appointments(message: Message) -> list[dict[str, str]]:
    """The SCH groups of an SQR of booked slots, by the names that the display lines have."""
    return [
        {
            "ORD": _first(group, "SCH-26.1", "SCH-1.1"),
            "ACC": _first(group, "SCH-27.1"),
            "APT": _first(group, "SCH-2.1"),
            "START": _first(group, "TQ1-7", "SCH-11.4", "AIS-4"),
            "LOC": _first(group, "AIL-3.1"),
            "RES": _first(group, "SCH-5.1", "AIL-3.2"),
        }
        for group in _groups(message)
    ]


def _rows(message: Message, *needed: str) -> list[dict[str, str]]:
    """The display lines of a DSR as KEY=value."""
    separators, charset = message.separators, message.charset
    return [_row(line, separators, charset, *needed) for line in _displayed(message)]


def _displayed(message: Message) -> list[str]:
    """The display lines of a DSR; none when QAK-2 says so, whatever the line says then."""
    if message.type != "DSR":
        raise _wrong("MSH-9")
    lines, field = message.lines(), message.separators.field
    # Line by line: all that is to be known of most of them is whether it was here before.
    status = next(filter(methodcaller("startswith", f"QAK{field}"), lines), "")
    if status.split(field, 3)[2:3] != ["OK"] and _checked(message) == "NF":
        return []
    if "DSP" in lines:  # one that says nothing
        raise _wrong("DSP-3")
    shown = f"DSP{field}"
    return [line for line in lines if line.startswith(shown)]


def _row(line: str, separators: Separators, charset: str, *needed: str) -> dict[str, str]:
    """A display line as KEY=value."""
    fields = line.split(separators.field)
    shown, slot_id = (as_data(fields[at] if len(fields) > at else "", separators, charset) for at in (3, 5))
    row = _read_pairs(shown)
    row.setdefault("ID", slot_id)
    if not all(map(row.get, needed)):
        raise _wrong("DSP-3")
    return row


def _read_pairs(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    return {key.strip().upper(): _unescaped(value) for key, _, value in pairs}


def _checked(message: Message) -> str:
    """QAK-2; an error there is one whatever MSA-1 says."""
    status = message.value("QAK-2")
    if status in ("AE", "AR"):
        raise Refused("ris_error")
    return status


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES[found[0].upper()], value)


@lru_cache(maxsize=512)
def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[, ]+", text) if word)


def _first(group: Mapping[str, Segment], *places: str) -> str:
    for place in places:
        segment = group.get(place[:3])
        if segment is not None and (value := segment.value(place)):
            return value
    return ""


def _moment(text: str, zone: tzinfo) -> Moment:
    moment = read_moment(text, zone)
    if moment is None or moment.digits < 12:
        raise _wrong("a time")
    return moment


def _wrong(where: str) -> StepFailed:
    """An answer that cannot be used: the engine tells the caller so, and that a booking's outcome is not known."""
    return StepFailed("python", "wrong_answer", where)


def _request(context: Context) -> Any:
    if context.request is None:
        raise TypeError("this function makes a reply")
    return context.request


# -- booking -------------------------------------------------------------------------------------------------------


def booking(body: Any, context: Context, *, location: Mapping[str, str], slot_id: str = "") -> dict[str, Any]:
    """When and where a booking is, and whether slot, location, modality and start contradict each other.

    ``slot_id`` is the form of this RIS's slot ids, with the groups ``location``, ``room`` and ``start`` (local time);
    ids of another form are opaque and not compared.
    """
    minutes = int(body.get("durationMinutes") or location.get("slot_minutes") or 30)
    when = _appointment(body["start"], location["timezone"], minutes)
    if when is None or when[0].at <= context.now:
        raise Refused("invalid_date", field="start")
    start, end, slot_start = when
    found = _form(slot_id).fullmatch(body["slotId"]) if slot_id else None
    slot = found.groupdict() if found else {}
    modality, room = body["modality"], slot.get("room", "")
    fits = modality in _words(location.get("modalities", modality)) and (
        not slot
        or (
            slot.get("location", body["locationId"]) == body["locationId"]
            and slot.get("start") in (None, slot_start)
            and modality in _rooms(location.get("rooms", "")).get(room, (modality,))
        )
    )
    return {
        "start": start,
        "end": end,
        "minutes": minutes,
        "room": room,
        "consistent": fits,
    }


def _appointment(start: str, zone: str, minutes: int) -> tuple[Moment, Moment, str] | None:
    """Begin and end in a zone, and the begin as slot ids have it; None where the text is no time."""
    return _when(start, zone, minutes) if len(start) <= LONGEST else None


@lru_cache(maxsize=1024)
def _when(start: str, name: str, minutes: int) -> tuple[Moment, Moment, str] | None:
    """Days have few times at which something begins, and these come again: so do their texts in HL7."""
    zone = zone_named(name) or UTC
    moment = read_moment(start.upper(), zone)
    if moment is None:
        return None
    try:
        begins = Moment(moment.at.astimezone(zone))
        return begins, begins.plus(minutes), written(begins.at, 12, offset=False)
    except OverflowError:  # on the first or the last day that there is
        return None


@lru_cache(maxsize=16)
def _form(pattern: str) -> re.Pattern[str]:
    """A form of slot ids; a site has one."""
    return re.compile(pattern)


@lru_cache(maxsize=512)
def _rooms(text: str) -> dict[str, tuple[str, ...]]:
    """``XR1:CR+DX US1:US`` → what each room offers."""
    pairs = (room.partition(":") for room in text.split())
    return {name: tuple(modalities.split("+")) for name, _, modalities in pairs}


def confirmation(message: Message, context: Context, *, confirmation_pattern: str = "") -> dict[str, Any]:
    """The 201 of a booking, from an ORR, SRR or ACK, or from the SIU that resolved an unknown one.

    MSA-3 is free text: it is taken only if ``confirmation_pattern`` matches the whole of it.
    """
    request = _request(context)
    body, location = request.request, request.variables["location"]
    kind = message.type
    if kind not in _NUMBERS:
        raise _wrong("MSH-9")
    # The RIS called it a duplicate, and had it booked in this very slot.
    held = request.variables.get("booked") or {}
    number = held.get("accession") or ""
    for value in _NUMBERS[kind]:
        number = number or value(message)
    appointment = held.get("appointmentId") or (_APPOINTMENT(message) if kind in ("SIU", "SRR") else "")
    number = number or held.get("appointmentId") or ""
    if not number and confirmation_pattern and re.fullmatch(confirmation_pattern, _TEXT(message)):
        number = _TEXT(message)
    made = request.variables.get("booking") or {}
    start = made.get("start") or _start_of(body, location)
    return {
        "status": "booked",
        "confirmationNumber": number or body["orderId"],
        "confirmationSource": "filler" if number else "placer",
        "orderId": body["orderId"],
        "appointmentId": appointment or None,
        "appointment": {
            "locationId": body["locationId"],
            "locationName": location.get("name"),
            "modality": body["modality"],
            "start": start.iso() if start else body["start"],
            "durationMinutes": made.get("minutes") or body.get("durationMinutes"),
        },
    }


def _start_of(body: Mapping[str, Any], location: Mapping[str, str]) -> Moment | None:
    """When a booking begins, in the zone of its location."""
    zone = zone_named(location["timezone"]) or UTC
    start = read_moment(body["start"].upper(), zone)
    return start and Moment(start.at.astimezone(zone), start.digits)


def cancelled(message: Message, context: Context) -> dict[str, Any]:
    """The answer to a cancellation. ORC-1 UC says that the RIS could not."""
    if message.value("ORC-1") in ("UC", "UA"):
        raise Refused("ris_error")
    return {"status": "cancelled", "orderId": _request(context).request["orderId"]}
