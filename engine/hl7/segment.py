"""One segment: split when first asked, joined only when changed.

A segment that nobody touches keeps its text, byte for byte. Reading gives HL7 text as it stands; ``value`` gives data.
Field numbers are the standard's, MSH-1 and MSH-2 included. Paths come from ``path.py``; whole messages are in
``message.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.errors import PathError
from engine.hl7.escape import escape, unescape
from engine.hl7.path import Path
from engine.hl7.separators import Separators

#: HL7 null: "delete the value you have" (HL7 v2.5.1 §2.5.3).
NULL = '""'

# Bytes that are not of the message's charset (``charset.py``).
_UNDECODED = re.compile("[\udc80-\udcff]")

# In these the first field is the delimiter itself, so what stands behind the first delimiter is field 2.
_HEADERS = frozenset({"MSH", "FHS", "BHS"})


def name_of(line: str, separator: str) -> str:
    """The segment name a line begins with; empty when the line is no segment (it is then kept and never named)."""
    name = line[:3]
    if len(name) == 3 and line[3:4] in (separator, "") and name.isalnum() and name.isascii():
        return name
    return ""


def as_data(text: str | None, separators: Separators, codec: str) -> str:
    """HL7 text as data: unescaped; "" for what is absent, empty or null; always text that JSON and databases take."""
    if not text or (text.isalnum() and text.isascii()):
        return text or ""
    if text == NULL:
        return ""
    data = unescape(text, separators, codec) if separators.escape in text else text
    return data if data.isascii() else _UNDECODED.sub("\ufffd", data)


class Segment:
    """One segment of a message: ``segment.read("PID-3.1")``. Never shows its content in ``repr``."""

    __slots__ = ("_fields", "_text", "changed", "codec", "name", "separators")

    def __init__(
        self, text: str, separators: Separators = Separators.default, codec: str = "ascii", name: str | None = None
    ) -> None:
        """``name``: what the text is known to begin with."""
        self._text: str | None = text
        self._fields: list[str] | None = None
        #: Whether anything was written since the segment was made.
        self.changed = False
        #: Reads ``\\Xhh..\\``.
        self.codec = codec
        self.separators = separators
        self.name = name_of(text, separators.field) if name is None else name

    @property
    def text(self) -> str:
        """The whole segment as it stands on the wire, without its line end."""
        if self._text is None:
            self._text = self.separators.field.join(self._fields or ())
        return self._text

    def twin(self) -> str | Segment:
        """What stands for it in a copy of its message."""
        return self.text

    def read(self, path: Path | str) -> str | None:
        """HL7 text as it stands: None absent, "" empty, '""' null. PathError for a path of another segment."""
        if isinstance(path, str) or path.segment != self.name:
            path = self._own(path)
        return self.at(path)

    def at(self, path: Path) -> str | None:
        """``read`` for a path that is known to name this segment."""
        field = path.field
        if field is None:
            return self.text
        fields = self._fields
        if fields is None:
            fields = self._split()
        if self.name in _HEADERS:
            if field < 3:
                return self._declaration(path)
            field -= 1
        if field >= len(fields):
            return None
        text = fields[field]
        if path.component is None and path.repetition is None:
            return text
        return self._part(text, path)

    def value(self, path: Path | str) -> str:
        """Data: unescaped; "" when absent, empty or null."""
        return as_data(self.read(path), self.separators, self.codec)

    def numbered(self) -> Iterator[tuple[int, str | None]]:
        """Number and HL7 text of each field, without MSH-1 and MSH-2; None for one too long to be made text."""
        fields = self._split()
        return enumerate(fields[2:], 3) if self.name in _HEADERS else enumerate(fields[1:], 1)

    def null(self, path: Path | str) -> bool:
        """Whether the partner asks to delete the value here (HL7 null)."""
        return self.read(path) == NULL

    def write(self, path: Path | str, text: str) -> None:
        """Put HL7 text as it stands; makes the fields, repetitions and components that are missing.

        Line ends are escaped. A delimiter that would reach beyond the place (``^`` in a component) raises PathError:
        it would move what stands beside it.
        """
        if isinstance(path, str) or path.segment != self.name:
            path = self._own(path)
        field = path.field
        if field is None or path.component is not None or path.repetition is not None or self.name in _HEADERS:
            self._put(path, self._fitting(path, text))
            return
        if not text.isalnum():
            text = self._fitting(path, text)
        fields = self._fields
        if fields is None:
            fields = self._split()
        if field >= len(fields):
            fields.extend([""] * (field + 1 - len(fields)))
        fields[field] = text
        self._text, self.changed = None, True

    def set(self, path: Path | str, value: str) -> None:
        """Put data: delimiters, line ends and control characters are escaped."""
        self._put(self._own(path), escape(value, self.separators))

    def delete(self, path: Path | str) -> None:
        """Empty a field or component and cut the delimiters that end up trailing; a repetition is taken out."""
        path = self._own(path)
        position = self._position(path)
        fields = self._split()
        if position >= len(fields):
            return
        if path.component is None and path.repetition is None:
            fields[position] = ""
        elif self._part(fields[position], path) is None:
            return
        else:
            fields[position] = self._without(fields[position], path)
        if not any(fields[position:]):
            self._cut(fields)
        self._touch()

    def trim(self) -> None:
        """Cut empty trailing subcomponents, components, repetitions and fields."""
        fields = self._split()
        first = 2 if self.name in _HEADERS else 1
        trimmed = fields[:first] + [self._trimmed(field) for field in fields[first:]]
        self._cut(trimmed)
        if trimmed != fields:
            self._fields = trimmed
            self._touch()

    def __repr__(self) -> str:
        return f"<Segment {self.name or 'without a name'}, {len(self.text)} characters>"

    def _own(self, path: Path | str) -> Path:
        if isinstance(path, str):
            path = Path.parse(path)
        if path.segment != self.name:
            raise PathError(f"{path} names no place in a segment {self.name or 'without a name'}")
        return path

    def _split(self) -> list[str]:
        fields = self._fields
        if fields is None:
            fields = self._fields = self.text.split(self.separators.field)
        return fields

    def _cut(self, fields: list[str]) -> None:
        first = 2 if self.name in _HEADERS else 1
        while len(fields) > first and not fields[-1]:
            fields.pop()

    def _touch(self) -> None:
        self._text = None
        self.changed = True

    def _declaration(self, path: Path) -> str | None:
        """MSH-1 or MSH-2, which have no components however they look."""
        if (path.repetition or 1) > 1 or (path.component or 1) > 1 or (path.subcomponent or 1) > 1:
            return None
        if path.field == 1:
            return self.separators.field
        fields = self._split()
        return fields[1] if len(fields) > 1 else None

    def _part(self, text: str, path: Path) -> str | None:
        separators = self.separators
        found: str | None = text
        if separators.repetition in text or (path.repetition or 1) > 1:
            found = _nth(text, separators.repetition, path.repetition or 1)
        if path.component is not None and found is not None:
            found = _nth(found, separators.component, path.component)
            if path.subcomponent is not None and found is not None:
                found = _nth(found, separators.subcomponent, path.subcomponent)
        return found

    def _position(self, path: Path) -> int:
        if path.field is None:
            raise PathError(f"{path} names a whole segment; name a field, such as {path}-3")
        if self.name in _HEADERS:
            if path.field < 3:
                raise PathError(f"{path} declares the delimiters of the message and cannot be changed")
            return path.field - 1
        return path.field

    def _put(self, path: Path, text: str) -> None:
        position = self._position(path)
        fields = self._split()
        if position >= len(fields):
            fields.extend([""] * (position + 1 - len(fields)))
        if path.component is None and path.repetition is None:
            fields[position] = text
        else:
            fields[position] = self._replaced(fields[position], path, text)
        self._touch()

    def _replaced(self, field: str, path: Path, text: str) -> str:
        separators = self.separators
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

    def _without(self, field: str, path: Path) -> str:
        if path.component is not None:
            return self._trimmed(self._replaced(field, path, ""))
        repetitions, repetition = _open(field, self.separators.repetition, path.repetition or 1)
        del repetitions[repetition]
        return self.separators.repetition.join(repetitions)

    def _trimmed(self, field: str) -> str:
        separators = self.separators
        if field[-1:].isalnum() and separators.repetition not in field and separators.subcomponent not in field:
            return field
        repetitions = [
            separators.component.join(
                component.rstrip(separators.subcomponent) for component in repetition.split(separators.component)
            ).rstrip(separators.component)
            for repetition in field.split(separators.repetition)
        ]
        return separators.repetition.join(repetitions).rstrip(separators.repetition)

    def _fitting(self, path: Path, text: str) -> str:
        if text.isalnum():
            return text
        separators = self.separators
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
                raise PathError(
                    f"the text for {path} holds a delimiter that reaches beyond it; write the whole or set it"
                )
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
