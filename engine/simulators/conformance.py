"""Checks one SIU against an EMR's profile: every rule of systems.md C.5, D.6 and the versions' field tables (C.1).

A message passes, or `Refused` names the first thing that is wrong: AR for the message as a whole, else AE with 100 for
a segment that does not belong, 101 for a missing field, 102 for a wrong form, 103 for a value or field that this EMR
does not take.
"""

import re
from collections.abc import Collection

from engine.simulators.answers import Refused
from engine.simulators.checks import check_date, check_envelope, check_header, refuse, require, require_one_of
from engine.simulators.profiles import WITHOUT_PATIENT, Profile
from engine.simulators.wire import Message, Segment, at_least

#: Required fields of resources, and where their start, duration and units stand.
RESOURCES = {
    "AIS": ((1, 3), (4, 7, 8)),
    "AIG": ((1, 4), (8, 11, 12)),
    "AIL": ((1, 3), (6, 9, 10)),
    "AIP": ((1, 4), (6, 9, 10)),
}
#: Components that CX has, by first version, newest first (V7).
CX_LENGTHS = (("2.5", 10), ("2.4", 8), ("2.3", 6))


def check_conformance(message: Message, profile: Profile, versions: Collection[str], facility: str) -> None:
    """Pass, or raise Refused."""
    check_envelope(message, versions, {f"SIU^{event}" for event in profile.events})
    named = {"never": False, "always": True, "by_version": at_least(message.version, "2.3.1")}
    check_header(message, "SIU_S12" if named[profile.structure_named] else None)
    require_one_of(message, "MSH-5", (profile.receiving_app,))
    require_one_of(message, "MSH-6", (facility,))
    if message.raw("MSH-18") not in profile.charsets:
        raise refuse(103, "MSH-18")
    check_time(message.segments[0], 1, 7, profile, message.version)
    check_fields(message, profile)
    check_schedule(message, profile)
    if not is_about_a_slot(message):
        check_person(message, profile)
        check_visit(message, profile)
    for name in RESOURCES:
        for number, segment in enumerate(message.all(name), 1):
            check_resource(segment, number, profile, message.version)
    check_values(message, profile)


def is_about_a_slot(message: Message) -> bool:
    """Whether nobody's appointment is meant: a slot is blocked or free again."""
    return message.text("MSH-9.2") in WITHOUT_PATIENT and message.segment("PID") is None


def wrong(condition: int, segment: Segment, number: int, field: int) -> Refused:
    """A refusal at this field of the number-th segment of its name."""
    return Refused("AE", condition, f"{segment.name}^{number}^{field}", f"{segment.name}-{field} is not accepted")


def check_fields(message: Message, profile: Profile) -> None:
    """No segment and no field that this EMR does not take in this version."""
    counts: dict[str, int] = {}
    for segment in message.segments:
        number = counts[segment.name] = counts.get(segment.name, 0) + 1
        allowed = set(profile.fields.get(segment.name, ()))
        if not allowed:
            raise Refused("AE", 100, f"{segment.name}^{number}", f"Segment {segment.name} is not expected")
        allowed -= withdrawn(segment.name, message.version)
        if segment.name == "MSH" and not profile.enhanced:
            allowed -= {15, 16}
        for field, value in enumerate(segment.fields[1:], 1):
            if value and field not in allowed:
                raise wrong(103, segment, number, field)


def withdrawn(name: str, version: str) -> set[int]:
    """Fields of SCH that the version does not have."""
    if name != "SCH":
        return set()
    if at_least(version, "2.7"):
        return {9, 10, 11}
    return set() if at_least(version, "2.4") else {26, 27}


def check_schedule(message: Message, profile: Profile) -> None:
    version = message.version
    own = [path for path in profile.required if not (path.startswith("PV1") and is_about_a_slot(message))]
    require(message, "SCH-2", "SCH-6", "SCH-16", "SCH-20", "RGS-1", *own)
    if not at_least(version, "2.5"):
        require(message, "SCH-1")
    if profile.filler_as_placer and message.raw("SCH-1") != message.raw("SCH-2"):
        raise refuse(103, "SCH-1")
    if not at_least(version, "2.7"):
        check_timing(message, profile)
    if "TQ1" in profile.fields and at_least(version, "2.5"):
        require(message, "TQ1-1", "TQ1-7", "TQ1-8")
        for number, segment in enumerate(message.all("TQ1"), 1):
            check_time(segment, number, 7, profile, version)
            check_time(segment, number, 8, profile, version)
    # The codes of table 0276 are upper case from 2.4 and mixed case before.
    reason = message.text("SCH-7")
    if message.text("SCH-7.3") == "HL70276" and reason.isupper() != at_least(version, "2.4"):
        raise refuse(103, "SCH-7")


def check_timing(message: Message, profile: Profile) -> None:
    """SCH-9 to SCH-11, below 2.7."""
    require(message, "SCH-11.4")
    timing = message.raw("SCH-11").split("^")
    expected = 5 if profile.ends else 4
    if len(timing) != expected or any(timing[:3]):
        raise refuse(103, "SCH-11")
    for text in timing[3:]:
        if not is_time(text, profile, message.version):
            raise refuse(102, "SCH-11")
    if message.text("SCH-9"):
        if not message.text("SCH-9").isdigit():
            raise refuse(102, "SCH-9")
        if message.raw("SCH-10") != units(profile, message.version):
            raise refuse(103, "SCH-10")


def check_person(message: Message, profile: Profile) -> None:
    require(message, "PID-3", "PID-5")
    check_date(message, "PID-7")
    if message.text("PID-8"):
        require_one_of(message, "PID-8", ("F", "M", "O", "U", "A", "N"))
    if profile.bare_mrn:
        if "^" in message.raw("PID-3"):
            raise refuse(102, "PID-3")
    else:
        require(message, "PID-3.4", "PID-3.5")
        if profile.authority not in ("", message.text("PID-3.4")) or message.text("PID-3.5") != "MR":
            raise refuse(103, "PID-3")
    length = next(length for first, length in CX_LENGTHS if at_least(message.version, first))
    for path in ("PID-3", "PID-18"):
        if len(message.raw(path).split("^")) > length:
            raise refuse(102, path)


def check_visit(message: Message, profile: Profile) -> None:
    if message.segment("PV1") is None:
        if profile.visit != "any":
            raise refuse(101, "PV1-19")
        return
    require(message, "PV1-2")
    if profile.visit != "any":
        wanted = "SCH-2" if profile.visit == "SCH-2" else "PID-18"
        if message.text("PV1-19") != message.text(wanted):
            raise refuse(103 if message.text("PV1-19") else 101, "PV1-19")


def check_resource(segment: Segment, number: int, profile: Profile, version: str) -> None:
    required, (start, duration, unit) = RESOURCES[segment.name]
    for field in required:
        if not segment.raw(field).strip("^"):
            raise wrong(101, segment, number, field)
    # Required from 2.3.1 until 2.5 made it optional.
    if segment.name == "AIL" and at_least(version, "2.3.1") and not at_least(version, "2.5") and not segment.raw(4):
        raise wrong(101, segment, number, 4)
    check_time(segment, number, start, profile, version)
    if not segment.raw(duration).isdigit():
        raise wrong(102 if segment.raw(duration) else 101, segment, number, duration)
    if segment.raw(unit) != units(profile, version):
        raise wrong(103, segment, number, unit)


def check_values(message: Message, profile: Profile) -> None:
    for path, whole in profile.lists.items():
        if message.raw(path) and message.raw(path) not in whole:
            raise refuse(103, path)
    for path, codes in profile.codes.items():
        if message.text(path) and message.text(path) not in codes:
            raise refuse(103, path)
    if profile.visit_types and message.raw("SCH-8") != profile.visit_types.get(message.text("AIS-3")):
        raise refuse(103, "SCH-8")


def check_time(segment: Segment, number: int, field: int, profile: Profile, version: str) -> None:
    if not segment.raw(field):
        raise wrong(101, segment, number, field)
    if not is_time(segment.raw(field), profile, version):
        raise wrong(102, segment, number, field)


def is_time(text: str, profile: Profile, version: str) -> bool:
    offset = r"[+-]\d{4}" if writes_offset(profile, version) else ""
    return re.fullmatch(rf"(19|20)\d{{{profile.digits - 2}}}{offset}", text) is not None


def writes_offset(profile: Profile, version: str) -> bool:
    return {"never": False, "always": True, "by_version": at_least(version, "2.5")}[profile.offset]


def units(profile: Profile, version: str) -> str:
    if profile.units != "by_version":
        return profile.units
    return "min^minute^UCUM" if at_least(version, "2.5") else "min"
