"""Acknowledgements: made in the version of the request, read whatever version they claim.

Negative ones carry codes of table 0357 and a place, and no other text than the table's own, so no patient can be named
in them. What a partner writes in free text (MSA-3, ERR-8) is read only into ``AckRead.text``, for an admin's rules.
HL7 v2.5.1 §2.9 and §2.15.5, §2.15.8; whose turn it is to answer is decided by the runtime.
"""

from __future__ import annotations

import re
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from engine.errors import MalformedMessage
from engine.hl7.charset import lacking
from engine.hl7.escape import escape
from engine.hl7.header import Header, header_of
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.segment import Segment
from engine.hl7.separators import Separators
from engine.hl7.versions import at_least
from engine.values import dataclass

#: HL7 table 0357, message error condition codes.
CONDITIONS: dict[int, str] = {
    0: "Message accepted",
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application internal error",
}
_INTERNAL_ERROR = 207
_OLDEST = "2.3"
_ENDS = "\x1c\n"

# A partner's codes go to logs and metrics, so what has not the form of a code is taken for text and left out.
_CODE_FORM = re.compile(r"[A-Z]{2}", re.ASCII)
_CONDITION = re.compile(r"\d{1,5}", re.ASCII)
_APPLICATION_ERROR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", re.ASCII)
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)
_FIELD_NUMBER = re.compile(r"[1-9]\d{0,2}", re.ASCII)

_COPIED = (5, 6, 3, 4, 11, 12, 18)
_ACCEPT, _APPLICATION = 15, 16
_CODE, _ANSWERED, _STATUS_TEXT = Path.parse("MSA-1.1"), Path.parse("MSA-2"), Path.parse("MSA-3")


class AckCode(StrEnum):
    """HL7 table 0008."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"

    @property
    def positive(self) -> bool:
        """Whether the message was taken."""
        return self in (AckCode.AA, AckCode.CA)

    @property
    def level(self) -> str:
        """``application`` (AA, AE, AR) or ``accept`` (CA, CE, CR)."""
        return "application" if self.value[0] == "A" else "accept"


_CODES = {code.value: code for code in AckCode}
_USUAL = b"MSH|^~\\&|"
#: What most answers are: an MSH of usual delimiters without MSH-18, an MSA of a code and an id, no more.
_PLAIN_ANSWER = re.compile(
    rb"MSH\|\^~\\&(?:\|[^|\r\n\\]*){6}\|([A-Z]{3})(?:\^[^|\r\n\\]*)?(?:\|[^|\r\n\\]*){0,8}\r"
    rb"MSA\|([ACER]{2})\|([^|^~&\\\"\s]+)\|?\r?"
)


class AcceptMode(StrEnum):
    """HL7 table 0155: when an acknowledgement is wanted."""

    AL = "AL"
    NE = "NE"
    ER = "ER"
    SU = "SU"

    def asks(self, positive: bool) -> bool:
        """Whether an acknowledgement of that outcome is wanted."""
        return self is AcceptMode.AL or self is (AcceptMode.SU if positive else AcceptMode.ER)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which acknowledgements a message asks for, in MSH-15 and MSH-16."""

    accept: AcceptMode | None
    application: AcceptMode | None

    @property
    def enhanced(self) -> bool:
        """Whether the sender speaks enhanced mode: MSH-15 or MSH-16 is filled."""
        return self.accept is not None or self.application is not None

    def accept_ack(self, positive: bool) -> bool:
        """Whether CA (or CE, CR) is to be sent. Never in original mode."""
        return self.accept is not None and self.accept.asks(positive)

    def application_ack(self, positive: bool) -> bool:
        """Whether AA (or AE, AR) is to be sent. Always in original mode."""
        if not self.enhanced:
            return True
        return self.application is not None and self.application.asks(positive)


#: Original mode: neither MSH-15 nor MSH-16 is filled.
ORIGINAL = Wanted(None, None)


def wanted(header: Header) -> Wanted:
    """What MSH-15 and MSH-16 ask for; a word that table 0155 does not have counts as nothing."""
    return _wanted(header.read(_ACCEPT), header.read(_APPLICATION))


def wanted_by(raw: bytes) -> Wanted:
    """What a message, or the beginning of one, asks for; nothing where it is no HL7, or a batch."""
    if raw[:3] in (b"FHS", b"BHS"):
        return ORIGINAL
    end = raw.find(b"\r")
    if raw.startswith(b"MSH"):
        fields = raw[: end if end >= 0 else len(raw)].split(raw[3:4], _APPLICATION)
        if len(fields) < _ACCEPT:
            return ORIGINAL
        if raw.startswith(_USUAL) and b"\n" not in raw[:end] and raw[:end].isascii():
            fields.append(b"")
            return _wanted(fields[_ACCEPT - 1].decode(), fields[_APPLICATION - 1].decode())
    header = header_of(raw)
    return ORIGINAL if header is None else wanted(header)


@lru_cache(maxsize=64)
def _wanted(accept: str, application: str) -> Wanted:
    return Wanted(_mode(accept), _mode(application))


def _mode(word: str) -> AcceptMode | None:
    word = word.strip().upper()
    return AcceptMode(word) if word in AcceptMode.__members__ else None


# Making


def make_ack(
    request: Header | None,
    code: AckCode,
    control_id: str,
    timestamp: datetime,
    *,
    condition: int | None = None,
    location: str | None = None,
    application_error: str | None = None,
    accept: AcceptMode | None = None,
) -> bytes:
    """The acknowledgement of ``request``, in its version, delimiters and charset; of garbage (None) a plain 2.3 one.

    ``control_id`` becomes MSH-10, ``timestamp`` (aware, else ValueError) MSH-7 in its own zone. A refusal may name a
    ``condition`` of table 0357, a ``location`` (``PID^1^3`` or ``PID-3``) and an ``application_error`` code; a location
    or application error without a condition counts as 207. All three are left out of a positive acknowledgement.
    ``accept`` is MSH-15 of one that goes out on a connection of its own: whether it is to be confirmed.
    """
    if timestamp.tzinfo is None:
        raise ValueError("the time of an acknowledgement needs a time zone")
    separators = request.separators if request is not None else Separators.default
    version = version_of(request)
    modern = at_least(version, "2.5")
    if code.positive:
        condition = location = application_error = None
    elif condition is None and (location or application_error):
        condition = _INTERNAL_ERROR
    header = ack_header(request, control_id, timestamp, accept=accept)
    lines = [header, *_status(request, code, separators, condition, version)]
    if condition is not None and (modern or location):
        lines.append(error_segment(separators, modern, str(condition), location, application_error)[1])
    return in_charset_of(request, lines)


def error_segment(
    separators: Separators, modern: bool, condition: str | None, location: str | None, application_error: str | None
) -> tuple[str, str]:
    """MSA-6 as it is before 2.5, and ERR in the form of before or since. Without a condition it is 207."""
    number = int(condition) if condition else _INTERNAL_ERROR
    write = _modern_error if modern else _old_error
    place = _place(location, separators)
    return _coded(number, separators.component), write(separators, number, place, application_error)


def version_of(request: Header | None) -> str:
    """The version an acknowledgement is written in: the request's, else the one that everybody understands."""
    return (request.version if request is not None else "") or _OLDEST


def in_charset_of(request: Header | None, lines: list[str]) -> bytes:
    """Segments in the charset of the request; what was copied keeps its bytes, also those no charset explains."""
    marks = request.separators if request is not None else Separators.default
    # What is copied may end in FS or LF, which before CR end the frame or are lost: a delimiter more changes nothing.
    text = "".join(f"{line}{marks.field if line[-1] in _ENDS else ''}\r" for line in lines)
    return text.encode(request.codec if request is not None else "ascii", lacking(marks.characters, keep=True))


def ack_header(
    request: Header | None,
    control_id: str,
    timestamp: datetime,
    *,
    message_type: str | None = None,
    accept: AcceptMode | None = None,
) -> str:
    """MSH of an answer to ``request``: sender and receiver changed places, version, delimiters and charset its own.

    ``message_type`` is MSH-9 as it stands; without it an ACK in the form that the version has.
    """
    separators = request.separators if request is not None else Separators.default
    version = version_of(request)
    modern = at_least(version, "2.5")
    copied = request.several(_COPIED) if request is not None else [""] * len(_COPIED)
    event = request.part(9, 2) if request is not None else ""
    if message_type is None:
        named = event and at_least(version, "2.3.1")
        message_type = f"ACK{separators.component}{event}{separators.component}ACK" if named else "ACK"
    fields = [
        f"MSH{separators.field}{separators.encoding_characters}",
        *copied[:4],
        timestamp.strftime("%Y%m%d%H%M%S%z" if modern else "%Y%m%d%H%M%S"),
        "",
        message_type,
        escape(control_id, separators),
        copied[4] or "P",
        copied[5] or version,
    ]
    modes = [accept.value, AcceptMode.NE.value] if accept is not None else ["", ""]
    if copied[6]:
        fields += ["", "", *modes, "", copied[6]]
    elif accept is not None:
        fields += ["", "", *modes]
    return separators.field.join(fields)


def _status(
    request: Header | None, code: AckCode, separators: Separators, condition: int | None, version: str
) -> list[str]:
    answered = request.read(10) if request is not None else ""
    fields = ["MSA", code.value, answered]
    if condition is not None and not at_least(version, "2.5"):
        fields.append(CONDITIONS.get(condition, ""))
        # MSA-6 came with 2.2.
        if at_least(version, "2.2"):
            fields += ["", "", _coded(condition, separators.component)]
    return [separators.field.join(fields)]


def _old_error(separators: Separators, condition: int, place: list[str], _: str | None) -> str:
    parts = [*[*place, "", "", ""][:3], _coded(condition, separators.subcomponent)]
    return f"ERR{separators.field}{separators.component.join(parts)}"


def _modern_error(separators: Separators, condition: int, place: list[str], application_error: str | None) -> str:
    fields = ["ERR", "", separators.component.join(place), _coded(condition, separators.component), "E"]
    if application_error:
        fields.append(escape(application_error, separators))
    return separators.field.join(fields)


def _coded(condition: int, separator: str) -> str:
    return separator.join((str(condition), CONDITIONS.get(condition, ""), "HL70357"))


def _place(location: str | None, separators: Separators) -> list[str]:
    """``PID^1^3`` or ``PID-3`` as the parts of an error location."""
    if not location:
        return []
    if not Path.looks_like(location):
        return [escape(part, separators) for part in location.split("^")]
    path = Path.parse(location)
    numbers = [path.field, path.repetition, path.component, path.subcomponent]
    if path.component is not None and path.repetition is None:
        numbers[1] = 1
    while numbers and numbers[-1] is None:
        numbers.pop()
    return [path.segment, str(path.segment_index or 1), *(str(number or "") for number in numbers)]


# Reading


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
    plain = _PLAIN_ANSWER.fullmatch(raw)
    if plain is not None and raw.isascii() and (code := _CODES.get(plain[2].decode())):
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
