"""Acknowledgements: how they are written, in the version of the request. Which are asked for: ``modes.py``.

Negative ones carry codes of table 0357 and a place, and no other text than the table's own, so no patient can be named
in them. HL7 v2.5.1 §2.9 and §2.15.5, §2.15.8; whose turn it is to answer is decided by the runtime. Those of partners
are read in ``answer.py``.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Any

from engine.hl7.charset import WIDE, lacking
from engine.hl7.escape import escape
from engine.hl7.header import Header, header_of
from engine.hl7.modes import ORIGINAL, AcceptMode, Wanted, wanted_with
from engine.hl7.path import Path
from engine.hl7.separators import Separators
from engine.hl7.versions import at_least

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
_OLD_TIME, _MODERN_TIME = "%Y%m%d%H%M%S", "%Y%m%d%H%M%S%z"
_COPIED = (5, 6, 3, 4, 11, 12, 18)
_ACCEPT, _APPLICATION = 15, 16


class AckCode(StrEnum):
    """HL7 table 0008."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"

    __hash__ = str.__hash__  # an Enum's own is written in Python, and acknowledgements are looked up by code

    @property
    def positive(self) -> bool:
        """Whether the message was taken."""
        return self in (AckCode.AA, AckCode.CA)

    @property
    def level(self) -> str:
        """``application`` (AA, AE, AR) or ``accept`` (CA, CE, CR)."""
        return "application" if self.value[0] == "A" else "accept"


_USUAL = b"MSH|^~\\&|"


def wanted_by(raw: bytes) -> Wanted:
    """What a message, or the beginning of one, asks for; nothing where it is no HL7, or a batch."""
    usual = _USUAL_MODES.match(raw)
    if usual is not None:
        return _BY_WORDS[usual.groups()]
    if raw[:3] in (b"FHS", b"BHS"):
        return ORIGINAL
    if raw.startswith(b"MSH"):
        line = raw if (end := raw.find(b"\r")) < 0 else raw[:end]
        fields = line.split(raw[3:4], _APPLICATION)
        if len(fields) < _ACCEPT:
            return ORIGINAL
        if raw.startswith(_USUAL) and b"\n" not in line and line.isascii():
            fields.append(b"")
            return wanted_with(fields[_ACCEPT - 1].decode(), fields[_APPLICATION - 1].decode())
    header = header_of(raw)
    return ORIGINAL if header is None else header.kind.wanted


#: The MSH of most messages, in ASCII: its end comes before MSH-15, or MSH-15 and MSH-16 are words of table 0155, or
#: empty.
_FIELD = rb"\|[^|\r\n\x80-\xff]*+"
_USUAL_MODES = re.compile(
    rb"MSH\|\^~\\&" + _FIELD * 9 + rb"(?:" + _FIELD + rb"){0,3}+(?:\r|\|(AL|NE|ER|SU|)\|(AL|NE|ER|SU|)[|\r])"
)


_WORDS = ("", *AcceptMode.__members__)
_BY_WORDS: dict[tuple[bytes | Any, ...], Wanted] = {
    (a.encode(), b.encode()): wanted_with(a, b) for a in _WORDS for b in _WORDS
} | {(None, None): ORIGINAL}


# Making


def make_ack(
    request: Header | None,
    code: AckCode,
    control_id: str,
    timestamp: datetime | Second,
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
    second = timestamp if isinstance(timestamp, Second) else Second(timestamp)
    if code.positive and request is not None and (made := positive_ack(request, code, control_id, second, accept)):
        return made.encode()
    separators = request.separators if request is not None else Separators.default
    version = version_of(request)
    modern = at_least(version, "2.5")
    if code.positive:
        condition = location = application_error = None
    elif condition is None and (location or application_error):
        condition = _INTERNAL_ERROR
    header = ack_header(request, control_id, second.text(modern), accept=accept)
    lines = [header, *_status(request, code, separators, condition, version)]
    if condition is not None and (modern or location):
        lines.append(error_segment(separators, modern, str(condition), location, application_error)[1])
    return in_charset_of(request, lines)


class Second:
    """A moment as MSH-7 has it, for every acknowledgement that is written in that second."""

    __slots__ = ("modern", "moment", "old")

    def __init__(self, moment: datetime) -> None:
        """ValueError for a moment without a time zone."""
        if moment.tzinfo is None:
            raise ValueError("the time of an acknowledgement needs a time zone")
        self.moment = moment
        #: As it is written before 2.5, and with its zone since.
        self.old, self.modern = moment.strftime(_OLD_TIME), moment.strftime(_MODERN_TIME)

    def text(self, modern: bool) -> str:
        """One of the two."""
        return self.modern if modern else self.old


#: Stand in a positive ack for what differs from one message of a sender to the next.
_TIME, _CONTROL_ID = "\ue000", "\ue001"


class _Form:
    """A positive ack for one kind of header, without what differs."""

    __slots__ = ("_around", "_modern", "beginning", "end", "second")

    def __init__(self, opening: str, middle: str, end: str, modern: bool) -> None:
        self._around, self.end, self._modern = (opening, middle), end, modern
        #: Of whose acknowledgements ``beginning`` is all that stands before MSH-10.
        self.second: Second | None = None
        self.beginning = ""

    def begin(self, second: Second) -> None:
        """The first acknowledgement of a second."""
        self.second, self.beginning = second, second.text(self._modern).join(self._around)


def positive_ack(
    request: Header, code: AckCode, control_id: str, second: Second, accept: AcceptMode | None = None
) -> str | None:
    """As ``make_ack``, of what all those of a sender share: in ASCII, without an end of frame. None where it is not so
    plain.
    """
    memo, named = request.kind.memo, code if accept is None else (code, accept)
    form: _Form | None = memo.get(named, _UNKNOWN)
    if form is _UNKNOWN:
        form = memo[named] = _form(request, code, accept)
    if form is None or not request.control_id:
        return None
    if form.second is not second:
        form.begin(second)
    answered = request.fields[9]
    made = f"{form.beginning}{control_id}{form.end}{answered}\r"
    return made if made.isascii() and answered.isprintable() and control_id.isalnum() else None


_UNKNOWN: Any = object()


def _form(request: Header, code: AckCode, accept: AcceptMode | None) -> _Form | None:
    modern = at_least(version_of(request), "2.5")
    header = ack_header(request, _CONTROL_ID, _TIME, accept=accept)
    opening, _, rest = header.partition(_TIME)
    middle, _, end = rest.partition(_CONTROL_ID)
    fixed = opening + middle + end
    if not fixed.isascii() or not fixed.isprintable() or request.codec.startswith(WIDE):
        return None
    separator = request.separators.field
    return _Form(opening, middle, f"{end}\rMSA{separator}{code.value}{separator}", modern)


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
    timestamp: datetime | str,
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
        timestamp if isinstance(timestamp, str) else timestamp.strftime(_MODERN_TIME if modern else _OLD_TIME),
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
