"""Checks one ORU^R01 against an EMR's profile: header, patient, orders and findings; a status never goes back.

What an EMR takes of a result is less particular than of an appointment: every segment of the grammar, in its version
and charset, for its own patients. `Refused` names the first thing that is wrong, as in `conformance.py`.
"""

from collections.abc import Collection

from engine.simulators.checks import check_envelope, check_header, refuse, require, require_one_of
from engine.simulators.conformance import check_person, wrong
from engine.simulators.profiles import Profile
from engine.simulators.wire import Message, at_least

KIND = "ORU^R01"
#: HL7 table 0085, of what a RIS sends: preliminary, final, corrected, cancelled.
STATUSES = ("P", "F", "C", "X")
#: A status that comes after another one, where that is no step back.
AFTER = {"": "PFCX", "P": "PFCX", "F": "FCX", "C": "CX", "X": ""}


def check_result(message: Message, profile: Profile, versions: Collection[str], facility: str) -> None:
    """Pass, or raise Refused."""
    check_envelope(message, versions, {KIND})
    named = {"never": False, "always": True, "by_version": at_least(message.version, "2.3.1")}
    # Below 2.3.1 MSH-9 has two components.
    check_header(message, "ORU_R01" if named[profile.structure_named] else None)
    require_one_of(message, "MSH-5", (profile.receiving_app,))
    require_one_of(message, "MSH-6", (facility,))
    if message.raw("MSH-18") not in (*filter(None, profile.charsets), "UNICODE UTF-8"):
        raise refuse(103, "MSH-18")
    if not profile.enhanced and (message.raw("MSH-15") or message.raw("MSH-16")):
        raise refuse(103, "MSH-15")
    require(message, "OBR-4", "OBX-11")
    check_person(message, profile)
    for number, segment in enumerate(message.all("OBR"), 1):
        if not segment.raw(3):
            raise wrong(101, segment, number, 3)
    for number, segment in enumerate(message.all("OBX"), 1):
        for field in (3, 11):
            if not segment.raw(field):
                raise wrong(101, segment, number, field)
        if segment.raw(5) and not segment.raw(2):
            raise wrong(101, segment, number, 2)
        if segment.raw(11) not in STATUSES:
            raise wrong(103, segment, number, 11)


def refused_status(before: str, after: str) -> str:
    """What is wrong with this status of a result after that one; empty when nothing is."""
    return "" if after in AFTER.get(before, "") else f"result {after} after {before}"
