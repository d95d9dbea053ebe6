"""Reading the RIS's SIU: repairs R1 to R6 and the working values of an appointment (transforms/ris/read_siu.yaml)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.errors import StepFailed
from engine.hl7.escape import translate
from engine.hl7.message import Message
from engine.hl7.segment import Segment
from engine.hl7.separators import Separators
from engine.transforms.base import Context
from engine.transforms.values.text import HL7Text
from engine.transforms.values.times import Moment

_TIMESTAMP = re.compile(r"\d{12}(\d\d)?(\.\d+)?([+-]\d{4})?", re.ASCII)
_SET_ID = re.compile(r"\d{1,2}", re.ASCII)
_MINUTES = {"": 1, "m": 1, "min": 1, "mins": 1, "minute": 1, "minutes": 1, "h": 60, "hr": 60, "hour": 60, "hours": 60}


def repair(
    message: Message,
    context: Context,
    *,
    shifted_ais: bool = True,
    status_map: Mapping[str, str] | None = None,
    sch1_set_id: bool = True,
    namespace: str = "",
    mrn_authority: str = "",
    mrn_type: str = "MR",
    location_missing: str = "facility",
) -> Message:
    """Mend what known senders get wrong, in place. Nothing is made up: values move, or come from the message itself."""
    del context
    segments = message.segments()
    schedule = next((segment for segment in segments if segment.name == "SCH"), None)
    if schedule is None:
        raise StepFailed("python", "required_missing", "SCH")
    if shifted_ais:
        for segment in segments:
            if segment.name == "AIS":
                _shift(segment)
    for place in ("SCH-24", "SCH-8"):
        _move_status(schedule, place, status_map or {})
    if sch1_set_id and _SET_ID.fullmatch(schedule.read("SCH-1") or "") and schedule.read("SCH-2"):
        schedule.write("SCH-1", schedule.read("SCH-2") or "")
        schedule.write("SCH-2", "")
    for place in ("SCH-1", "SCH-2"):
        if namespace and schedule.read(f"{place}.1") and not schedule.read(f"{place}.2"):
            schedule.write(f"{place}.2", namespace)
    if mrn_authority and message.read("PID-3.1") and not message.read("PID-3.4"):
        message.write("PID-3.4", mrn_authority)
        message.write("PID-3.5", mrn_type)
    if all(segment.name != "AIL" for segment in segments):
        _add_location(message, location_missing)
    return message


def _shift(service: Segment) -> None:
    """R1: AIS-6, 8 and 9 hold what belongs into AIS-4, 7 and 8."""
    start = service.read("AIS-6") or ""
    if service.read("AIS-4") or service.read("AIS-7") or not _TIMESTAMP.fullmatch(start):
        return
    duration, units = service.read("AIS-8") or "", service.read("AIS-9") or ""
    for place, text in (("AIS-4", start), ("AIS-6", ""), ("AIS-7", duration), ("AIS-8", units), ("AIS-9", "")):
        service.write(place, text)


def _move_status(schedule: Segment, place: str, status_map: Mapping[str, str]) -> None:
    """R2: a word of the map in ``place`` becomes the status, unless another status is there."""
    status = status_map.get(schedule.value(place))
    if status is None or (schedule.value("SCH-25.1") or status) != status:
        return
    schedule.write("SCH-25.1", status)
    schedule.write("SCH-25.3", "HL70278")
    schedule.write(place, "")


def _add_location(message: Message, location_missing: str) -> None:
    """R6: the facility is known, the room is not, and no text is read for it."""
    if location_missing == "omit":
        return
    facility = message.read("MSH-4.1")
    if location_missing == "error" or not facility:
        raise StepFailed("python", "required_missing", "AIL-3")
    location = message.add("AIL")
    location.write("AIL-1", "1")
    location.write("AIL-2", message.read("RGS-2") or "")
    location.write("AIL-3.4", facility)


def working_values(
    message: Message,
    context: Context,
    *,
    filler_missing: str = "placer",
    zone: str = "",
    start: Moment | None = None,
    end: Moment | None = None,
    duration: str | None = None,
) -> dict[str, Any]:
    """``filler``, ``start``, ``end`` and ``duration`` (minutes, as text), each from the first place that has it."""
    del context, zone
    minutes = _minutes(duration or "")
    if minutes is None and start is not None and end is not None:
        minutes = start.minutes_until(end)
    if end is None and start is not None and minutes is not None and start.digits >= 12:
        end = start.plus(minutes)
    return {
        "filler": _filler(message, filler_missing),
        "start": start,
        "end": end,
        "duration": "" if minutes is None else str(minutes),
    }


def _minutes(duration: str) -> int | None:
    """``30^min`` in minutes; None when it is no duration, or in units that nobody can turn into minutes."""
    number, _, unit = duration.partition("^")
    factor = _MINUTES.get(unit.strip().lower())
    return int(number) * factor if number.isascii() and number.isdigit() and factor else None


def _filler(message: Message, filler_missing: str) -> HL7Text:
    """The RIS's appointment id; never one that nobody gave."""
    places = ["SCH-2"]
    if filler_missing == "placer":
        places += ["SCH-1", "PV1-19"]
    for place in places:
        if message.value(place):
            return HL7Text(translate(message.read(place) or "", message.separators, Separators.default))
    if filler_missing == "error":
        raise StepFailed("python", "required_missing", "SCH-2")
    return HL7Text()
