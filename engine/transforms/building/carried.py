"""What another HL7 version keeps elsewhere: ``convert`` moves it there before the fields that held it fall away.

Times stand in SCH-11 and OBR-27 up to 2.6 and in TQ1 from 2.5, numbers of a patient in PID-2, PID-4, PID-19 and PID-20
up to 2.6 and in PID-3 since; some fields that repeat from 2.5 did not before. HL7 v2.5.1 §4.5.4 and §10.6, v2.7 §3.4.2.
Works on segments as lists of fields with the usual delimiters; index 0 is the name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.versions import at_least
from engine.remembered import remembered
from engine.transforms.building.components import carry_components

Segments = list[list[str]]

#: Where a segment tells its times: TQ, one repetition for each TQ1.
_TIMINGS = {"SCH": 11, "ORC": 7, "OBR": 27}
#: Start of a resource, in the order in which the appointment's own start is read from them.
_STARTS = (("AIS", 4), ("AIL", 6), ("AIG", 8), ("AIP", 6))
#: Which component of TQ is which field of TQ1. Quantities (CQ) are components there and subcomponents here.
_PLAIN = ((4, 7), (5, 8), (7, 10), (8, 11), (9, 12), (12, 14))
_QUANTITIES = ((1, 2), (11, 13))
#: TQ.3 such as M30 (HL7 v2.5.1 §2.A.79.3).
_DURATION = re.compile(r"([SMHDWL]?)(\d+)", re.ASCII)
_UNITS = {"S": "s", "M": "min", "H": "h", "D": "d", "W": "wk", "L": "mo"}
_LETTERS = {unit: letter for letter, unit in _UNITS.items()}
#: Withdrawn numbers of a patient that have no type of their own, and their type in table 0203.
_NUMBERS = ((2, "PT"), (4, "U"), (19, "SS"))
#: Of several values each is a resource of its own where the field does not repeat.
_RESOURCES = (("AIL", 3), ("AIP", 3))
SPLIT = frozenset(name for name, _ in _RESOURCES)


class Ways(NamedTuple):
    """Where times go between two versions."""

    #: Into TQ1.
    up: bool
    #: Out of TQ1, and one segment is made of each resource.
    down: bool
    #: OBR-27 is given up.
    withdrawn: bool
    #: The new version has TQ1.
    has_tq1: bool


@remembered(256)
def ways(old: str, new: str) -> Ways:
    """Where times go from one version to another."""
    has_tq1 = at_least(new, "2.5")
    up = has_tq1 and not at_least(old, new) and not at_least(old, "2.7")
    down = at_least(old, "2.5") and not at_least(new, old)
    return Ways(up, down, up and at_least(new, "2.7"), has_tq1)


def carry_times(segments: Segments, message_type: str, old: str, new: str) -> None:
    """Move times between SCH-11, ORC-7, OBR-27 and TQ1, and make one segment of each room, in place."""
    up, down, withdrawn, has_tq1 = ways(old, new)
    if up:
        _times_up(segments, message_type, withdrawn=withdrawn)
    if down:
        _times_down(segments, has_tq1=has_tq1)
        _split_resources(segments, old, new)


def carry_segment(fields: list[str], old: str, new: str) -> None:
    """Move what ``new`` keeps elsewhere in the segment, in place; what stands there already is never replaced."""
    up = at_least(new, "2.7")
    if at_least(old, "2.7") is not up:
        if fields[0] == "PID":
            _patient_up(fields) if up else _patient_down(fields, repeats=at_least(new, "2.3.1"))
        carry_components(fields, new, up=up)
    _first_only(fields, old, new)


# -- times ---------------------------------------------------------------------------------------------------------


def _times_up(segments: Segments, message_type: str, *, withdrawn: bool) -> None:
    """TQ1 for an appointment without one, and where OBR-27 is withdrawn for a result's order."""
    first = next((fields for fields in segments if fields[0] == "TQ1"), None)
    for at in range(len(segments) - 1, -1, -1):
        fields = segments[at]
        if fields[0] == "SCH":
            if first is None:
                segments[at + 1 : at + 1] = _made(read(fields, 11), _duration_of_schedule(fields))
            elif withdrawn:
                fill(first, 6, _duration_of_schedule(fields))
        elif fields[0] == "OBR" and withdrawn and message_type == "ORU" and first is None:
            behind = at + 1
            while behind < len(segments) and segments[behind][0] == "NTE":
                behind += 1
            segments[behind:behind] = _made(read(fields, 27), "")


def _made(timings: str, duration: str) -> Segments:
    """One TQ1 for each repetition of a TQ field."""
    made = [_tq1(number, timing) for number, timing in enumerate(timings.split("~"), 1) if timing.strip("^&")]
    if not made and duration:
        made = [["TQ1", "1"]]
    if made:
        fill(made[0], 6, duration)
    return made


def _tq1(number: int, timing: str) -> list[str]:
    parts = ["", *timing.split("^"), *[""] * 12]
    fields = ["TQ1", str(number), *[""] * 13]
    for component, field in _PLAIN:
        fields[field] = parts[component]
    for component, field in _QUANTITIES:
        fields[field] = parts[component].replace("&", "^")
    fields[3], _, times = parts[2].partition("&")
    fields[4] = "~".join(times.split(",")) if times else ""
    fields[9] = parts[6]
    if found := _DURATION.fullmatch(parts[3]):
        fields[6] = f"{found[2]}^{_UNITS[found[1]]}" if found[1] else found[2]
    return fields


def _duration_of_schedule(fields: Sequence[str]) -> str:
    """SCH-9 and SCH-10 as a quantity with units."""
    duration, units = read(fields, 9), read(fields, 10).replace("^", "&")
    return f"{duration}^{units}".rstrip("^") if duration else ""


def _times_down(segments: Segments, *, has_tq1: bool) -> None:
    """TQ1 goes into SCH-11, ORC-7 or OBR-27 where there is no TQ1, and into SCH-9 and SCH-10 everywhere."""
    owner: list[str] | None = None
    timings: list[str] = []
    for fields in [*segments, ["", ""]]:
        if fields[0] == "TQ1" and owner is not None:
            timings.append(_tq(fields, with_duration=owner[0] != "SCH" or bool(timings)))
            if owner[0] == "SCH" and read(fields, 6) and not read(owner, 9):
                duration, _, units = read(fields, 6).partition("^")
                fill(owner, 9, duration)
                fill(owner, 10, units.replace("&", "^"))
        elif fields[0] in _TIMINGS or not fields[0]:
            if owner is not None and not has_tq1:
                fill(owner, _TIMINGS[owner[0]], "~".join(timings))
            owner, timings = (fields if fields[0] else None), []
    schedule = next((fields for fields in segments if fields[0] == "SCH"), None)
    if schedule is not None and not has_tq1 and (start := _first_start(segments)):
        fill(schedule, 11, f"^^^{start}")


def _tq(fields: Sequence[str], *, with_duration: bool) -> str:
    """A TQ1 as one repetition of TQ; the duration of an appointment is in SCH-9."""
    parts = [""] * 13
    for component, field in _PLAIN:
        parts[component] = read(fields, field)
    for component, field in _QUANTITIES:
        parts[component] = read(fields, field).replace("^", "&")
    pattern, times = read(fields, 3).partition("~")[0].partition("^")[0], read(fields, 4).replace("~", ",")
    parts[2] = f"{pattern}&{times}".rstrip("&")
    number, _, units = read(fields, 6).partition("^")
    if with_duration and number:
        parts[3] = _LETTERS.get(units.partition("&")[0], "") + number
    parts[6] = read(fields, 9).partition("~")[0].partition("^")[0]
    return "^".join(parts[1:]).rstrip("^")


def _first_start(segments: Segments) -> str:
    found = (read(fields, field) for name, field in _STARTS for fields in segments if fields[0] == name)
    return next(filter(None, found), "")


# -- the patient ---------------------------------------------------------------------------------------------------


def _patient_up(fields: list[str]) -> None:
    """PID-9 and PID-20 into PID-5 and PID-3, PID-12 into PID-11; PID-2, 4 and 19 are the version rules' own."""
    aliases = (_typed(alias, 7, "A") for alias in read(fields, 9).split("~") if alias)
    _append(fields, 5, "~".join(aliases))
    number, _, rest = read(fields, 20).partition("^")
    if number:
        state, _, expires = rest.partition("^")
        known = {repetition.partition("^")[0] for repetition in read(fields, 3).split("~")}
        if number not in known:
            _append(fields, 3, "^".join([number, "", "", "", "DL", "", "", expires, state]).rstrip("^"))
    county, address = read(fields, 12), read(fields, 11)
    if county and address and "~" not in address:
        write(fields, 11, _typed(address, 9, county))


def _patient_down(fields: list[str], *, repeats: bool) -> None:
    """Numbers of PID-3 also where they stood before, and at 2.3, whose PID-5 does not repeat, aliases in PID-9."""
    if repeats:
        return
    for number, kind in _NUMBERS:
        of_kind = (text for text in read(fields, 3).split("~") if _component(text, 5) == kind)
        found = next(of_kind, "")
        fill(fields, number, _component(found, 1) if kind == "SS" else found)
    names = read(fields, 5).split("~")
    aliases = [name for name in names[1:] if _component(name, 7) == "A"]
    fill(fields, 9, "~".join(aliases))


def _append(fields: list[str], number: int, text: str) -> None:
    """Put further repetitions behind those of a field."""
    write(fields, number, "~".join(filter(None, (read(fields, number), text))))


def _typed(text: str, component: int, value: str) -> str:
    parts = text.split("^")
    parts.extend([""] * (component - len(parts)))
    parts[component - 1] = parts[component - 1] or value
    return "^".join(parts)


def _component(text: str, number: int) -> str:
    parts = text.split("^")
    return parts[number - 1] if number <= len(parts) else ""


# -- repetitions ---------------------------------------------------------------------------------------------------


def _split_resources(segments: Segments, old: str, new: str) -> None:
    """AIL and AIP with several values become as many segments, behind the notes of the first."""
    for name, field in _RESOURCES:
        if not stops_repeating(name, field, old, new):
            continue
        before = len(segments)
        for at in range(before - 1, -1, -1):
            values = read(segments[at], field).split("~") if segments[at][0] == name else []
            if len(values) > 1:
                behind = at + 1
                while behind < len(segments) and segments[behind][0] == "NTE":
                    behind += 1
                segments[behind:behind] = [_with(segments[at], field, value) for value in values[1:]]
                write(segments[at], field, values[0])
        if len(segments) > before:
            _number(segments, name)


def _with(fields: list[str], field: int, value: str) -> list[str]:
    copy = list(fields)
    copy[field] = value
    return copy


def _number(segments: Segments, name: str) -> None:
    """Set ids of one kind count anew in each group (HL7 v2.5.1 §10.6.4.1)."""
    count = 0
    for fields in segments:
        if fields[0] == "RGS":
            count = 0
        elif fields[0] == name:
            count += 1
            if read(fields, 1).isdigit():
                fields[1] = str(count)


def _first_only(fields: list[str], old: str, new: str) -> None:
    """Of what may stand once the first value stays; a sender who repeats what never repeated is left alone."""
    for number, text in enumerate(fields):
        if number and "~" in text and stops_repeating(fields[0], number, old, new):
            fields[number] = text.partition("~")[0]


def stops_repeating(segment: str, field: int, old: str, new: str) -> bool:
    """Whether a field may hold several values in the old version and one in the new."""
    before, after = fields_of(old, segment), fields_of(new, segment)
    if field > min(len(before), len(after)):
        return False
    return before[field - 1].most is None and after[field - 1].most == 1


def read(fields: Sequence[str], number: int) -> str:
    """A field; "" when the segment is too short for it."""
    return fields[number] if number < len(fields) else ""


def write(fields: list[str], number: int, text: str) -> None:
    """Put a field, whatever stands there."""
    fields.extend([""] * (number + 1 - len(fields)))
    fields[number] = text


def fill(fields: list[str], number: int, text: str) -> None:
    """Put a field if nothing stands there."""
    if text and not read(fields, number):
        write(fields, number, text)
