"""What a partner answers: acknowledgements and query responses, read whatever version they claim.

What a partner writes in free text (MSA-3, ERR-8) is read only into ``AckRead.text``, for an admin's rules. HL7 v2.5.1
§2.9 and §2.15.5, §2.15.8; how acknowledgements are made is in ``ack.py``.
"""

from __future__ import annotations

import re
from dataclasses import field

from engine.errors import MalformedMessage
from engine.hl7.ack import AckCode
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.segment import Segment
from engine.values import dataclass

# A partner's codes go to logs and metrics, so what has not the form of a code is taken for text and left out.
_CODE_FORM = re.compile(r"[A-Z]{2}", re.ASCII)
_CONDITION = re.compile(r"\d{1,5}", re.ASCII)
_APPLICATION_ERROR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", re.ASCII)
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)
_FIELD_NUMBER = re.compile(r"[1-9]\d{0,2}", re.ASCII)

_CODE, _ANSWERED, _STATUS_TEXT = Path.parse("MSA-1.1"), Path.parse("MSA-2"), Path.parse("MSA-3")
_CODES = {code.value: code for code in AckCode}
# What most answers begin with: an MSH of usual delimiters without MSH-18, an MSA of a code and an id, no more. Written
# out, and without ways back: nothing is tried twice.
_OTHERS = rb"[^|\r\n\\\x0b\x1c]*+"
_FIELD = rb"\|" + _OTHERS
_BEGINNING = (
    rb"MSH\|\^~\\&" + _FIELD * 6 + rb"\|([A-Z]{3})(?:\^" + _OTHERS + rb")?+(?:" + _FIELD + rb"){0,8}+"
    rb"\rMSA\|(%b)\|([!#-%%'-\[\]_-{}]++)\|?"
)
_PLAIN_ANSWER = re.compile(_BEGINNING % b"[ACER]{2}" + rb"(?:\r|\Z)")
#: The same as the beginning of a frame, of a positive answer; most frames end there.
_FRAMED_YES = re.compile(rb"\x0b" + _BEGINNING % b"[AC]A" + rb"(?:\r?\x1c\r\Z|\r(?!\Z))")


def plain_yes(frame: bytes) -> tuple[str, str] | None:
    """Code and MSA-2 of what is one frame and a plain positive answer; None for whatever else it may be.

    ``read_ack`` says the same of its body.
    """
    found = _FRAMED_YES.match(frame)
    if found is None or not (found.end() == len(frame) or (_is_one_frame(frame) and _says_no_more(frame))):
        return None
    return found[2].decode(), found[3].decode()


def _is_one_frame(data: bytes) -> bool:
    return data.find(b"\x1c") == len(data) - 2 and data[-1:] == b"\r" and data.rfind(b"\x0b") == 0


def _says_no_more(data: bytes) -> bool:
    """Whether no segment behind MSA says more of how it went: none is an ERR, and each ends with CR."""
    return b"\rERR" not in data and b"\n" not in data


@dataclass(frozen=True, slots=True)
class AckRead:
    """What a partner's answer says: codes and a place that may be shown, and text that may not."""

    code: AckCode
    #: MSA-2: the MSH-10 of the message that is answered. It counts only if it equals the one that was sent.
    control_id: str
    #: MSH-9.1: ``ACK``, ``ORR``, ``DSR``, …
    message_type: str
    #: Table 0357, from ERR-3, MSA-6 or ERR-1.
    condition: str | None = None
    #: ``QRD-10``, from ERR-2 or ERR-1; the segment alone when no field is named.
    location: str | None = None
    #: ERR-5.1, such as ``SLOT_TAKEN``.
    application_error: str | None = None
    #: MSA-3, ERR-8, ERR-7 and ERR-5.2, one per line: may name a patient. For an admin's rules only.
    text: str | None = field(default=None, repr=False)
    #: It says that something is wrong (a condition other than 0, or ERR-4 E or F), and not only as a warning.
    wrong: bool = False
    #: The answer itself.
    raw: bytes = field(default=b"", repr=False)

    @property
    def message(self) -> Message:
        """The answer, parsed anew."""
        return Message.parse(self.raw)


class UnknownCode(MalformedMessage):
    """An answer with an MSA whose MSA-1 is no code of table 0008."""

    def __init__(self, word: str, control_id: str, condition: str | None, text: str | None) -> None:
        #: MSA-1 when it has the form of a code, else ``other``.
        self.word = word if _CODE_FORM.fullmatch(word) else "other"
        self.control_id, self.condition, self.text = control_id, condition, text or ""
        super().__init__("no acknowledgement code of table 0008 in MSA-1")


def read_ack(raw: bytes) -> AckRead:
    """Read an answer of any type and version. MalformedMessage when it has no MSA, UnknownCode."""
    plain = _PLAIN_ANSWER.match(raw)
    if plain is not None and _says_no_more(raw) and (code := _CODES.get(plain[2].decode())):
        return AckRead(code, plain[3].decode(), plain[1].decode(), raw=raw)
    message = Message.parse(raw)
    statuses = message.segments("MSA")
    if not statuses:
        raise MalformedMessage("no MSA segment")
    status = statuses[0]
    word = status.value(_CODE).strip().upper()
    control_id, kind = status.value(_ANSWERED).strip(), message.type
    errors = _by_weight(message.segments("ERR"))
    code = _CODES.get(word)
    if code is None:
        raise UnknownCode(word, control_id, _condition(status, errors), _texts(status, errors))
    if not errors and status.read(_STATUS_TEXT) is None:
        return AckRead(code, control_id, kind, raw=raw)  # nothing else can be said
    return AckRead(
        code,
        control_id,
        kind,
        condition=_condition(status, errors),
        location=next(filter(None, map(_location, errors)), None),
        application_error=_first(_APPLICATION_ERROR, [error.value("ERR-5.1") for error in errors]),
        text=_texts(status, errors),
        wrong=_is_wrong(status, errors),
        raw=raw,
    )


def _is_wrong(status: Segment, errors: list[Segment]) -> bool:
    weighty = [error for error in errors if error.value("ERR-4").strip() not in ("W", "I")]
    if any(error.value("ERR-4").strip() in ("E", "F") for error in weighty):
        return True
    return (_condition(status, weighty) or "").strip("0") != ""


def _by_weight(errors: list[Segment]) -> list[Segment]:
    """Errors first, then warnings and information (ERR-4)."""
    return sorted(errors, key=lambda error: error.value("ERR-4") in ("W", "I"))


def _condition(status: Segment, errors: list[Segment]) -> str | None:
    codes = [error.value("ERR-3.1") for error in errors]
    codes.append(status.value("MSA-6.1"))
    # ERR-1 is segment^sequence^field^code; partners put the code's parts behind & or leave them out.
    codes += [error.value("ERR-1.4.1") for error in errors]
    return _first(_CONDITION, codes)


def _first(form: re.Pattern[str], words: list[str]) -> str | None:
    return next((word.strip() for word in words if form.fullmatch(word.strip())), None)


def _location(error: Segment) -> str | None:
    for number in (2, 1):
        segment = error.value(f"ERR-{number}.1").strip()
        if _SEGMENT_NAME.fullmatch(segment):
            position = error.value(f"ERR-{number}.3").strip()
            return f"{segment}-{position}" if _FIELD_NUMBER.fullmatch(position) else segment
    return None


def _texts(status: Segment, errors: list[Segment]) -> str | None:
    texts = [status.value(_STATUS_TEXT)]
    texts += [error.value(path) for error in errors for path in ("ERR-8", "ERR-7", "ERR-5.2")]
    return "\n".join(text for text in texts if text) or None
