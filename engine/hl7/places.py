"""What a path is compiled to: a reader and a writer of one place, made once and called for every message.

A plain place (a field or component of the first segment of its name) is a few operations on that segment's fields,
which ``first`` has at hand in nearly every message that was read. All other shapes, and messages in which a plain place
is not so plain, go the long way, through ``Segment``. What a part of a field is, and what fits into it, is said here
once for both. HL7 v2.5.1 §2.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from engine.errors import PathError
from engine.hl7.escape import as_data
from engine.hl7.separators import Separators

if TYPE_CHECKING:
    from engine.hl7.path import Path

#: In these the first field is the delimiter itself, so what stands behind the first delimiter is field 2.
HEADERS = frozenset({"MSH", "FHS", "BHS"})


class Readable(Protocol):
    """A message, as far as a place of it is concerned (``rows.py`` and ``message.py`` say what each of these is)."""

    first: dict[str, list[str]]
    separators: Separators

    @property
    def codec(self) -> str: ...
    def fields(self, name: str) -> list[str] | None: ...
    def read_any(self, path: Path) -> str | None: ...
    def read_missing(self, path: Path) -> str | None: ...
    def write_any(self, path: Path, text: str) -> None: ...


Read = Callable[[Readable], str | None]
Value = Callable[[Readable], str]
Write = Callable[[Readable, str], None]
#: What takes a part out of the text of a field; None for a part that is not there.
Take = Callable[[str], str | None]

#: What text of a whole field must not hold as it stands. ``fields`` knows of the usual delimiters alone.
_BEYOND = re.compile(r"[|\r\n]")


def position_of(path: Path) -> int:
    """Where the field of a path stands in what its segment is split into."""
    return (path.field or 0) - (path.segment in HEADERS)


def is_whole(path: Path) -> bool:
    """Whether it names no more and no less than a field."""
    return path.field is not None and path.repetition is None and path.component is None


def stays_within(text: str) -> bool:
    """Whether text may stand as it is in a whole field of a message with the usual delimiters."""
    return _BEYOND.search(text) is None


def is_plain(path: Path) -> bool:
    """Whether it names a field, or less, of the first segment of its name, and no delimiter."""
    return (
        path.segment_index is None and path.field is not None and position_of(path) > 1 - (path.segment not in HEADERS)
    )


def reader(path: Path) -> Read:
    """``Message.read`` for one path."""
    name, position, take = path.segment, position_of(path), taking(path)
    if not is_plain(path):
        return lambda message: message.read_any(path)

    def read_field(message: Readable) -> str | None:
        try:
            return message.first[name][position]
        except LookupError:
            return message.read_missing(path)

    def read_first(message: Readable) -> str | None:
        try:
            return message.first[name][position].partition("~")[0].partition("^")[0]
        except LookupError:
            return message.read_missing(path)

    def read_part(message: Readable) -> str | None:
        try:
            return take(message.first[name][position])  # type: ignore[misc]  # it is there: see the last line
        except LookupError:
            return message.read_missing(path)

    return read_field if take is None else read_first if take is first_component else read_part


def valuer(read: Read) -> Value:
    """``Message.value`` for what ``read`` reads."""

    def value(message: Readable) -> str:
        text = read(message)
        return text if text and text.isalnum() else as_data(text, message.separators, message.codec)

    return value


def writer(path: Path) -> Write:
    """``Message.write`` for one path."""
    name, position = path.segment, position_of(path)
    if not is_plain(path):
        return lambda message, text: message.write_any(path, text)

    def write_field(message: Readable, text: str) -> None:
        if not text.isalnum() and not stays_within(text):
            text = fitting(path, text, message.separators)
        try:
            fields = message.first[name]
        except KeyError:
            message.write_any(path, text)
            return
        if position < len(fields):
            fields[position] = text
        else:
            fields += [""] * (position - len(fields))
            fields.append(text)

    def write_part(message: Readable, text: str) -> None:
        try:
            fields = message.first[name]
        except KeyError:
            message.write_any(path, text)
            return
        text = fitting(path, text, Separators.default)
        before = fields[position] if position < len(fields) else ""
        put(fields, position, replaced(before, path, text, Separators.default))

    return write_field if is_whole(path) else write_part


def put(fields: list[str], position: int, text: str) -> None:
    """Put a field, whether or not the segment reaches as far."""
    if position >= len(fields):
        fields.extend([""] * (position + 1 - len(fields)))
    fields[position] = text


def first_component(text: str) -> str:
    """The first component of the first repetition, with the usual delimiters."""
    return text.partition("~")[0].partition("^")[0]


def taking(path: Path) -> Take | None:
    """What takes ``path`` out of the text of its field, with the usual delimiters; None where it is the whole field."""
    number = path.component
    if is_whole(path):
        return None
    if number is None or path.subcomponent is not None or path.repetition is not None:
        return lambda text: part(text, path, Separators.default)
    if number == 1:
        return first_component

    def component(text: str) -> str | None:
        parts = text.partition("~")[0].split("^", number)
        return parts[number - 1] if number <= len(parts) else None

    return component


def part(text: str, path: Path, separators: Separators) -> str | None:
    """Of the text of a field what ``path`` names in it; None when it has no such part."""
    found: str | None = text
    if separators.repetition in text or (path.repetition or 1) > 1:
        found = _nth(text, separators.repetition, path.repetition or 1)
    if path.component is not None and found is not None:
        found = _nth(found, separators.component, path.component)
        if path.subcomponent is not None and found is not None:
            found = _nth(found, separators.subcomponent, path.subcomponent)
    return found


def replaced(field: str, path: Path, text: str, separators: Separators) -> str:
    """The text of a field with ``text`` where ``path`` says; the parts that are missing are made."""
    repetitions, repetition = _open(field, separators.repetition, path.repetition or 1)
    if path.component is None:
        repetitions[repetition] = text
        return separators.repetition.join(repetitions)
    components, component = _open(repetitions[repetition], separators.component, path.component)
    if path.subcomponent is None:
        components[component] = text
    else:
        parts, part = _open(components[component], separators.subcomponent, path.subcomponent)
        parts[part] = text
        components[component] = separators.subcomponent.join(parts)
    repetitions[repetition] = separators.component.join(components)
    return separators.repetition.join(repetitions)


def fitting(path: Path, text: str, separators: Separators) -> str:
    """Text as it may stand at ``path``: line ends escaped. PathError for a delimiter that reaches beyond."""
    if text.isalnum():
        return text
    if "\r" in text or "\n" in text:
        text = text.replace("\r", separators.escapes[13]).replace("\n", separators.escapes[10])
    beyond = separators.field
    if path.component is not None or path.repetition is not None:
        beyond += separators.repetition
    if path.component is not None:
        beyond += separators.component
    if path.subcomponent is not None:
        beyond += separators.subcomponent
    for separator in beyond:
        if separator in text:
            raise PathError(f"the text for {path} holds a delimiter that reaches beyond it; write the whole or set it")
    return text


def _nth(text: str, separator: str, number: int) -> str | None:
    if number == 1:
        return text.partition(separator)[0]
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else None


def _open(text: str, separator: str, number: int) -> tuple[list[str], int]:
    """The parts of ``text``, made up to ``number`` of them, and the index of that one."""
    parts = text.split(separator)
    if number > len(parts):
        parts.extend([""] * (number - len(parts)))
    return parts, number - 1
