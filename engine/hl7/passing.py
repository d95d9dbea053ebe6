"""A partner's answer, re-addressed: what it says, as the sender of the message itself can read it.

Code, text, ERR and every further segment are the partner's. MSH is made anew for the sender (its version, delimiters
and charset), MSA-2 names the sender's MSH-10, and a code of accept level becomes the one of application level. Where
the two sides' versions write errors differently (MSA-6 and ERR-1 before 2.5, ERR-2 to ERR-8 since) codes, place and
text are carried over into the sender's form. HL7 v2.5.1 §2.15.5 and §2.15.8.
"""

from __future__ import annotations

from datetime import datetime

from engine.errors import MalformedMessage
from engine.hl7.ack import AckCode, ack_header, error_segment, in_charset_of, version_of
from engine.hl7.answer import AckRead, read_ack
from engine.hl7.escape import escape, translate
from engine.hl7.header import Header
from engine.hl7.modes import AcceptMode
from engine.hl7.segment import Segment
from engine.hl7.versions import at_least

_APPLICATION = {"A": AckCode.AA, "E": AckCode.AE, "R": AckCode.AR}


def application_code(code: AckCode) -> AckCode:
    """AA for CA, AE for CE, AR for CR; the others are themselves."""
    return _APPLICATION[code.value[1]]


def answer_in(raw: bytes) -> AckRead | None:
    """The answer in a partner's bytes; None for what cannot be passed on as one."""
    try:
        return read_ack(raw)
    except MalformedMessage:
        return None


def pass_on(
    request: Header, answer: AckRead, control_id: str, timestamp: datetime, *, accept: AcceptMode | None = None
) -> bytes:
    """The answer for the sender of ``request``. ``control_id`` becomes MSH-10; ``accept`` asks for an accept ack."""
    theirs = answer.message
    kind = None
    if answer.message_type != "ACK":
        kind = translate(theirs.read("MSH-9") or "", theirs.separators, request.separators)
    lines = [ack_header(request, control_id, timestamp, message_type=kind, accept=accept)]
    modern = at_least(version_of(request), "2.5")
    alike = modern is at_least(version_of(theirs.header), "2.5")
    for segment in theirs.segments():
        if segment.name == "MSA":
            lines += _status(request, answer, segment, alike=alike, modern=modern)
        elif segment.name not in ("MSH", "") and (alike or segment.name != "ERR"):
            lines.append(translate(segment.text, theirs.separators, request.separators))
    return in_charset_of(request, lines)


def _status(request: Header, answer: AckRead, status: Segment, *, alike: bool, modern: bool) -> list[str]:
    """MSA, and ERR behind it where the two sides write errors differently."""
    separators = request.separators
    code, answered = application_code(answer.code), request.read(10)
    fields = translate(status.text, status.separators, separators).split(separators.field)
    rest = fields[3:] if alike else []
    lines: list[str] = []
    if not alike:
        text = (answer.text or "").partition("\n")[0]
        rest = [escape(text, separators)] if text else []
        if not code.positive and (answer.condition or answer.location or answer.application_error):
            coded, error = error_segment(
                separators, modern, answer.condition, answer.location, answer.application_error
            )
            if not modern:
                rest = [*[*rest, "", "", ""][:3], coded]
            lines.append(error)
    return [separators.field.join(["MSA", code.value, answered, *rest]), *lines]
