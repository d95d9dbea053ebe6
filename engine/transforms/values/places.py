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
from engine.hl7.places import first_component, is_plain, is_whole, position_of, stays_within, taking
from engine.hl7.separators import Separators
from engine.transforms.base import Context

#: HL7 text with the usual delimiters; None, and in some "", for nothing.
Text = Callable[[Envelope, Context], str | None]
#: Puts one value into one place.
Put = Callable[[Envelope, Context], None]


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
        self.take = taking(path)


def read_place(envelope: Envelope, path: Path) -> str | None:
    """HL7 text with the usual delimiters, of any place; None when absent or when the body is no HL7 message."""
    body = envelope.body
    if not isinstance(body, Message):
        return None
    text = body.read(path)
    if text and body.separators is not Separators.default:
        text = translate(text, body.separators, Separators.default)
    return text


def write_place(body: Message, path: Path, text: str, step: str) -> None:
    """Put HL7 text with the usual delimiters into any place; StepFailed where that cannot be.

    What has components gives its first one to a place that has none.
    """
    if path.component is not None:
        text = first_component(text)
    elif path.repetition is not None:
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
    ways = [(path, *_field(path), _writing(path, step), *_said(said)) for path, said in places]
    begin = str(places[0][0])

    def put(envelope: Envelope, context: Context) -> None:
        body = envelope.body
        if not isinstance(body, Message):
            raise StepFailed(step, "wrong_body", begin)
        first = body.first
        try:
            for path, name, position, write, text, read in ways:  # noqa: B007 - used below
                if read is not None:
                    text = read(envelope, context) or ""
                fields = first.get(name)
                if fields is None or not (text.isalnum() or stays_within(text)):
                    write(body, text)
                    first = body.first
                elif position < len(fields):
                    fields[position] = text
                else:
                    fields += [""] * (position - len(fields))
                    fields.append(text)
        except PathError:
            pass  # told below: what has failed in a step travels without what it was about
        else:
            return
        raise StepFailed(step, "cannot_be_written", str(path))

    return put


def _said(said: Text | str) -> tuple[str, Text | None]:
    return (said, None) if isinstance(said, str) else ("", said)


def _field(path: Path) -> tuple[str, int]:
    """Segment and index of a whole field of the first segment of its name; a name that none has, for other places."""
    return (path.segment if is_plain(path) and is_whole(path) else "|", position_of(path))


def _writing(path: Path, step: str) -> Callable[[Message, str], None]:
    """Into any message; what has the usual delimiters takes most fields as they are."""
    straight = path.write if is_whole(path) else None

    def write(body: Message, text: str) -> None:
        if straight is not None and body.separators is Separators.default:
            straight(body, text)
        else:
            write_place(body, path, text, step)

    return write
