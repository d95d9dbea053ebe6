"""Places of the message in motion, each compiled to the one function that reads it and the one that writes it.

Most steps read and write plain fields and components of a segment's first occurrence: for these all that a path says is
worked out when the channel loads, and what is left is an index into the fields of the segment. Every other place, and
every message with delimiters of its own, goes the long way, to the same end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from engine.envelope import Envelope
from engine.errors import PathError, StepFailed
from engine.hl7.escape import translate
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.separators import Separators
from engine.transforms.base import Context

#: HL7 text with the usual delimiters; None, and in some "", for nothing.
Text = Callable[[Envelope, Context], str | None]
#: Puts one value into one place.
Put = Callable[[Envelope, Context], None]

# In these the first field is the delimiter itself, and the second declares the others.
_HEADERS = frozenset({"MSH", "FHS", "BHS"})
# What cannot stand in a field as it is.
_fits = frozenset("|\r\n").isdisjoint


class Place:
    """A place to read, taken apart."""

    __slots__ = ("name", "number", "path", "take")

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Of a segment's first occurrence; of another one there is no name.
        self.name = path.segment if path.segment_index is None else ""
        #: Of the field; beyond every segment for a segment as a whole.
        self.number = sys.maxsize if path.field is None else path.field
        #: What takes it out of the field, with the usual delimiters; None where it is the field.
        self.take = _taking(path)


def _taking(path: Path) -> Callable[[str], str | None] | None:
    if path.component is None and path.repetition is None:
        return None
    if path.component == 1 and path.subcomponent is None and path.repetition is None:
        return lambda text: text.partition("~")[0].partition("^")[0]
    steps = [((path.repetition or 1) - 1, "~")]
    steps += ((number - 1, mark) for number, mark in ((path.component, "^"), (path.subcomponent, "&")) if number)

    def take(text: str) -> str | None:
        for number, separator in steps:
            parts = text.split(separator)
            if number >= len(parts):
                return None
            text = parts[number]
        return text

    return take


def read_place(envelope: Envelope, path: Path) -> str | None:
    """HL7 text with the usual delimiters, of any place; None when absent or when the body is no HL7 message."""
    body = envelope.body
    if not isinstance(body, Message):
        return None
    text = body.read(path)
    if text and body.separators is not Separators.default:
        text = translate(text, body.separators, Separators.default)
    return text


def write_place(envelope: Envelope, path: Path, text: str, step: str) -> None:
    """Put HL7 text with the usual delimiters into any place; StepFailed where that cannot be.

    What has components gives its first one to a place that has none.
    """
    body = envelope.body
    if not isinstance(body, Message):
        raise StepFailed(step, "wrong_body", str(path))
    if path.component is not None and ("^" in text or "~" in text):
        text = text.partition("~")[0].partition("^")[0]
    elif path.repetition is not None and "~" in text:
        text = text.partition("~")[0]
    if body.separators is not Separators.default:
        text = translate(text, Separators.default, body.separators)
    try:
        body.write(path, text)
    except PathError:
        failed = StepFailed(step, "cannot_be_written", str(path))
    else:
        return
    raise failed


def reader(path: Path) -> Text:
    """What reads this place; it gives what ``read_place`` does."""
    name, position, component = path.segment, _position(path), path.component or 0

    def field(envelope: Envelope, _: Context) -> str | None:
        body = envelope.body
        fields = (body.first.get(name) or body.fields(name)) if isinstance(body, Message) else None
        if fields is None:
            return read_place(envelope, path)
        return fields[position] if position < len(fields) else None

    def first(envelope: Envelope, _: Context) -> str | None:
        body = envelope.body
        fields = (body.first.get(name) or body.fields(name)) if isinstance(body, Message) else None
        if fields is None:
            return read_place(envelope, path)
        return fields[position].partition("~")[0].partition("^")[0] if position < len(fields) else None

    def later(envelope: Envelope, _: Context) -> str | None:
        body = envelope.body
        fields = (body.first.get(name) or body.fields(name)) if isinstance(body, Message) else None
        if fields is None:
            return read_place(envelope, path)
        parts = fields[position].partition("~")[0].split("^", component) if position < len(fields) else ()
        return parts[component - 1] if component <= len(parts) else None

    if not position or path.repetition is not None or path.subcomponent is not None:
        return lambda envelope, _: read_place(envelope, path)
    return (field, first)[component] if component < 2 else later


def putter(places: Sequence[tuple[Path, Text | str]], step: str) -> Put:
    """What puts into each of these places what is read for it, or this very text; as ``write_place`` would."""
    plain = [
        (*_field(path), text, None) if isinstance(text, str) else (*_field(path), "", text) for path, text in places
    ]
    ways = [(path, *place) for (path, _), place in zip(places, plain, strict=True)]
    begin = str(places[0][0])

    def put(envelope: Envelope, context: Context) -> None:
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed(step, "wrong_body", begin)
        first = body.first
        for path, name, position, text, read in ways:
            if read is not None:
                text = read(envelope, context) or ""
            fields = first.get(name) or body.fields(name)
            if fields is None or not (text.isalnum() or _fits(text)):
                write_place(envelope, path, text, step)
                first = body.first
            elif position < len(fields):
                fields[position] = text
            else:
                fields += [""] * (position - len(fields))
                fields.append(text)

    return put


def _field(path: Path) -> tuple[str, int]:
    """Segment and position of a whole field of a segment's first occurrence; an empty name for any other place."""
    position = _position(path)
    whole = position and path.component is None and path.repetition is None
    return (path.segment, position) if whole else ("", 0)


def _position(path: Path) -> int:
    """Where a field of a segment's first occurrence stands among its fields; 0 for what is no such field."""
    if path.field is None or path.segment_index is not None:
        return 0
    if path.segment in _HEADERS:
        return path.field - 1 if path.field > 2 else 0
    return path.field
