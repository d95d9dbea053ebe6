"""The validator: any message can be validated, by any levels and a profile, and what is told are places.

Input: the level of all checks, whether there is a profile, then the bytes of a message.
"""

from __future__ import annotations

import re

from engine.errors import MalformedMessage
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.profile import FieldRule, Profile, SegmentRule, Usage
from engine.hl7.validation import MOST_FINDINGS, STRICT, Level, Levels, validate
from fuzz.data import Input, samples

_LEVELS = (Levels.all(Level.ERROR), Levels(), STRICT, Levels.all(Level.IGNORE))
_PROFILE = Profile(
    "fuzz",
    ("SIU", "ORM^O01", "ADT"),
    segments={
        "PV1": SegmentRule(Usage.REQUIRED),
        "NTE": SegmentRule(most=2),
        "RESOURCES.AIL": SegmentRule(Usage.REQUIRED, 2, 3),
        "OBX": SegmentRule(Usage.NOT_USED),
        "ZDS": SegmentRule(Usage.REQUIRED, 1, 2),
    },
    fields={
        Path.parse("PID-3"): FieldRule(Usage.REQUIRED, 1, 2),
        Path.parse("PID-3.4.2"): FieldRule(Usage.NOT_USED, length=3),
        Path.parse("SCH-6"): FieldRule(Usage.OPTIONAL),
        Path.parse("MSH-11"): FieldRule(values=frozenset({"P"})),
        Path.parse("AIS-3[2].1"): FieldRule(Usage.REQUIRED),
    },
)
_PLACE = re.compile(r"segment [0-9]+|[A-Za-z0-9]{3}(\[[0-9]+\])?(-[0-9]+(\[[0-9]+\])?(\.[0-9]+){0,2})?")


def seeds() -> list[bytes]:
    """The samples, each with other levels, and messages that are hardly one."""
    found = [bytes([number % 4, number % 2]) + sample for number, sample in enumerate(samples())]
    head = b"MSH|^~\\&|||||||"
    for rest in (
        b"SIU^S12|1|P|2.3",
        b"ACK",
        b"ORU^R01^X|1|P|9.9\rOBX|1|NM|||1^2~3",
        b"ORM^O01|1|P|2.7\rPID|^&~|\rORC\rMSH",
    ):
        found.append(b"\x00\x01" + head + rest + b"\r")
    return found


def check(data: bytes) -> None:
    """Validate it, twice."""
    given = Input(data)
    levels, profile = given.choose(_LEVELS), given.choose((None, _PROFILE))
    raw = given.rest()
    try:
        message = Message.parse(raw)
    except MalformedMessage:
        return
    before = message.to_bytes()
    findings = validate(message, levels, profile)
    assert message.to_bytes() == before, "validating changed the message"
    assert findings == validate(message, levels, profile), "twice the same message, not the same findings"
    assert len(findings) <= MOST_FINDINGS
    for finding in findings:
        assert finding.level is levels.of(finding.check) is not Level.IGNORE
        assert _PLACE.fullmatch(finding.path), "a finding is at no place"
        assert 1 <= finding.line <= len(message.names())
