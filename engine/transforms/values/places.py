"""Places of the message in motion, each compiled to the one function that reads it and the one that writes it.

Values have the usual delimiters ``|^~\\&`` inside the engine, whatever those of the message are. A message that has the
usual ones, as nearly all do, needs no more than what its paths are compiled to (``hl7/places.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from engine.envelope import Envelope
from engine.errors import PathError, StepFailed
from engine.hl7.escape import translate
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.places import HEADERS, part, position_of
from engine.hl7.separators import Separators
from engine.transforms.base import Context

#: HL7 text with the usual delimiters; None, and in some "", for nothing.
Text = Callable[[Envelope, Context], str | None]
#: Puts one value into one place.
Put = Callable[[Envelope, Context], None]

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
    if path.repetition is None and path.subcomponent is None:
        return _component(path.component or 1)
    return lambda text: part(text, path, Separators.default)


def _component(number: int) -> Callable[[str], str | None]:
    def take(text: str) -> str | None:
        parts = text.partition("~")[0].split("^", number)
        return parts[number - 1] if number <= len(parts) else None

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
    read = path.read

    def place(envelope: Envelope, _: Context) -> str | None:
        body = envelope.body
        if isinstance(body, Message) and body.separators is Separators.default:
            return read(body)
        return read_place(envelope, path)

    return place


def putter(places: Sequence[tuple[Path, Text | str]], step: str) -> Put:
    """What puts into each of these places what is read for it, or this very text; as ``write_place`` would."""
    ways: list[tuple[Path, str, int, str, Text | None]] = []
    for path, said in places:
        if isinstance(said, str) and _fits(said):
            ways.append((path, *_field(path), said, None))
        else:
            ways.append((path, *_field(path), "", _reading(said)))
    begin = str(places[0][0])

    def put(envelope: Envelope, context: Context) -> None:
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed(step, "wrong_body", begin)
        for path, name, position, text, read in ways:
            if read is not None:
                text = read(envelope, context) or ""
                if not (text.isalnum() or _fits(text)):
                    write_place(envelope, path, text, step)
                    continue
            fields = body.first.get(name) or body.fields(name)
            if fields is None:
                write_place(envelope, path, text, step)
            elif position < len(fields):
                fields[position] = text
            else:
                fields += [""] * (position - len(fields))
                fields.append(text)

    return put


def _reading(said: Text | str) -> Text:
    return (lambda _envelope, _context: said) if isinstance(said, str) else said


def _field(path: Path) -> tuple[str, int]:
    """Segment and position of a whole field of a segment's first occurrence; an empty name for any other place."""
    whole = path.segment_index is None and path.component is None and path.repetition is None
    begins = 2 if path.segment in HEADERS else 1
    position = position_of(path)
    return (path.segment, position) if whole and position >= begins else ("", 0)
