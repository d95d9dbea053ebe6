"""What each simulated EMR takes: the columns of systems.md C.5 and D.6, as data.

A profile lists every field that may stand in a message, those that must, and the forms of values that differ from one
EMR to the next. `emr.py` checks messages against it; nothing here is shared with the engine's own profiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Fields = Mapping[str, frozenset[int]]


def numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split())


#: Fields that every profile sends; a profile's own table is laid over it, an empty set takes a segment away.
BASE: Fields = {
    "MSH": numbers("1 2 3 4 5 6 7 9 10 11 12 15 16 18"),
    "SCH": numbers("1 2 5 6 7 8 9 10 11 16 20 25"),
    "NTE": numbers("1 3"),
    "PID": numbers("1 3 5 7 8 18"),
    "PV1": numbers("1 2 3 8 19"),
    "RGS": numbers("1 2"),
    "AIS": numbers("1 2 3 4 7 8 10"),
    "AIL": numbers("1 2 3 4 6 9 10 12"),
    "AIP": numbers("1 2 3 4 6 9 10 12"),
}
NOTHING: frozenset[int] = frozenset()
WITH_AIG = {"AIG": numbers("1 2 3 4 8 11 12")}
WITH_TQ1 = {"TQ1": numbers("1 7 8"), "SCH": BASE["SCH"] | {26, 27}}

VISIT_TYPES = {
    "XRCHEST2": "1004^XR CHEST 2V",
    "XRWRIST": "1005^XR WRIST",
    "CTHEAD": "1010^CT HEAD",
    "MRKNEE": "1020^MR KNEE",
    "USABD": "1030^US ABDOMEN",
    "MGSCREEN": "1040^MG SCREENING",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One EMR. `prefix` begins its own MSH-10; `lists` are the values that a field's first component may have."""

    name: str
    prefix: str
    versions: tuple[str, ...]
    receiving_app: str
    receiving_facility: str
    fields: Fields
    charsets: tuple[str, ...] = ("",)
    #: MSH-9.3: never, always, or as the version has it (from 2.3.1).
    structure_named: Literal["never", "always", "by_version"] = "never"
    #: Whether MSH-15 and MSH-16 may ask for enhanced mode.
    enhanced: bool = False
    units: str = "MIN"
    #: Digits of a time, and whether an offset follows.
    digits: int = 14
    offset: Literal["never", "always", "by_version"] = "never"
    #: SCH-11.5 as well as SCH-11.4.
    ends: bool = False
    #: PID-3: the number alone, or with authority and type; `authority` when only one is taken.
    bare_mrn: bool = False
    authority: str = ""
    #: What PV1-19 repeats.
    visit: Literal["SCH-2", "PID-18", "any"] = "SCH-2"
    #: Whether SCH-1 repeats SCH-2.
    filler_as_placer: bool = False
    required: tuple[str, ...] = ()
    #: Field → whole values it may have; fields that are empty are not compared.
    lists: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: AIS-3.1 → SCH-8, where the EMR books by visit type.
    visit_types: Mapping[str, str] = field(default_factory=dict)
    #: Field → values its first component may have.
    codes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    events: frozenset[str] = frozenset(f"S{number}" for number in (*range(12, 25), 26))


#: HL7 table 0278.
STATUS = frozenset(
    {"Booked", "Pending", "Waitlist", "Started", "Complete", "Cancelled"}
    | {"Dc", "Deleted", "Blocked", "Overbook", "Noshow"}
)
LISTED_STATUS = {"SCH-25": STATUS}

#: Slots are blocked and freed without a patient.
WITHOUT_PATIENT = frozenset({"S23", "S24"})

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "athena",
            "AT",
            ("2.3.1",),
            "ATHENANET",
            "12345",
            {**BASE, "AIS": NOTHING, "AIP": NOTHING, **WITH_AIG},
            structure_named="always",
            units="minutes",
            digits=12,
            bare_mrn=True,
            filler_as_placer=True,
            required=("PV1-3.4", "AIL-3.4"),
            codes={**LISTED_STATUS, "AIL-3": frozenset({"21", "22", "23"}), "PV1-3": frozenset({"21", "22", "23"})},
        ),
        Profile(
            "epic",
            "EP",
            ("2.3",),
            "EPIC",
            "SA10",
            {**BASE, "RGS": numbers("1 2 3"), "AIL": NOTHING, **WITH_AIG},
            charsets=("8859/1",),
            enhanced=True,
            structure_named="by_version",
            digits=12,
            required=("SCH-8", "PV1-3", "PV1-19", "RGS-3"),
            visit_types=VISIT_TYPES,
            lists={
                "SCH-25": frozenset({"1^SCH", "3^CAN", "4^NOS"}),
                "RGS-3": frozenset({"10501^DTI RADIOLOGY", "10502^NSI RADIOLOGY", "10503^WSI RADIOLOGY"}),
            },
            codes={"PV1-3": frozenset({"10501", "10502", "10503"})},
            events=frozenset({"S12", "S13", "S14", "S15", "S17", "S26"}),
        ),
        Profile(
            "cerner",
            "CE",
            ("2.5.1",),
            "CERNER",
            "SITEC",
            {**BASE, **WITH_TQ1},
            charsets=("UNICODE UTF-8",),
            structure_named="always",
            enhanced=True,
            units="min^minute^UCUM",
            offset="always",
            ends=True,
            codes=LISTED_STATUS,
        ),
        Profile(
            "allscripts",
            "AS",
            ("2.3.1",),
            "ALLSCRIPTS",
            "SITED",
            {**BASE, "AIS": NOTHING},
            structure_named="always",
            ends=True,
            codes=LISTED_STATUS,
        ),
        Profile("nextgen", "NG", ("2.3",), "NEXTGEN", "SITEE", {**BASE, "AIS": NOTHING}, codes=LISTED_STATUS),
        Profile("ecw", "EC", ("2.3",), "ECW", "SITEF", {**BASE, "AIS": NOTHING}, codes=LISTED_STATUS),
        Profile(
            "meditech",
            "MT",
            ("2.3",),
            "MEDITECH",
            "SITEG",
            {**BASE, "AIS": NOTHING, "AIP": NOTHING},
            charsets=("8859/1",),
            authority="MT",
            visit="PID-18",
            codes=LISTED_STATUS,
        ),
        Profile(
            "generic",
            "GE",
            ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7"),
            "EMR",
            "SITEB",
            {**BASE, "AIP": NOTHING, **WITH_TQ1},
            charsets=("", "UNICODE UTF-8"),
            structure_named="by_version",
            enhanced=True,
            units="by_version",
            offset="by_version",
            ends=True,
            visit="any",
            codes=LISTED_STATUS,
        ),
    )
}
