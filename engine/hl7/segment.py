"""One segment: the fields of a line, or of a row of a message, by their paths.

Reading gives HL7 text as it stands; ``value`` gives data. Field numbers are the standard's, MSH-1 and MSH-2 included.
Paths come from ``path.py``, what a part of a field is from ``places.py``; whole messages are in ``message.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import PathError
from engine.hl7.escape import NULL, as_data, escape
from engine.hl7.path import Path
from engine.hl7.places import HEADERS, fitting, part, position_of, put, replaced
from engine.hl7.rows import is_name
from engine.hl7.separators import Separators

__all__ = ["NULL", "Segment"]


class Segment:
    """One segment of a message: ``segment.read("PID-3.1")``. Never shows its content in ``repr``."""

    __slots__ = ("_fields", "codec", "name", "separators")

    def __init__(self, text: str, separators: Separators = Separators.default, codec: str = "ascii") -> None:
        self._fields: list[str] = text.split(separators.field)
        #: Reads ``\\Xhh..\\``.
        self.codec = codec
        self.separators = separators
        self.name = self._fields[0] if is_name(self._fields[0]) else ""

    @classmethod
    def over(cls, row: list[str], separators: Separators, codec: str) -> Segment:
        """The segment whose fields are ``row``: what is written into it stands there."""
        segment = cls.__new__(cls)
        segment._fields, segment.separators, segment.codec = row, separators, codec
        segment.name = row[0] if is_name(row[0]) else ""
        return segment

    @property
    def text(self) -> str:
        """The whole segment as it stands on the wire, without its line end."""
        return self.separators.field.join(self._split())

    def is_same(self, other: Segment) -> bool:
        """Whether both are one segment of one message."""
        return self._fields is other._fields

    def read(self, path: Path | str) -> str | None:
        """HL7 text as it stands: None absent, "" empty, '""' null. PathError for a path of another segment."""
        return self.at(self._own(path))

    def at(self, path: Path) -> str | None:
        """``read`` for a path that is known to name this segment."""
        if path.field is None:
            return self.text
        position = position_of(path)
        if position < 2 and self.name in HEADERS:
            return self._declaration(path)
        fields = self._split()
        if position >= len(fields):
            return None
        text = fields[position]
        return text if path.component is None and path.repetition is None else part(text, path, self.separators)

    def value(self, path: Path | str) -> str:
        """Data: unescaped; "" when absent, empty or null."""
        return as_data(self.read(path), self.separators, self.codec)

    def numbered(self) -> Iterator[tuple[int, str | None]]:
        """Number and HL7 text of each field, without MSH-1 and MSH-2; None for one too long to be made text."""
        fields = self._split()
        return enumerate(fields[2:], 3) if self.name in HEADERS else enumerate(fields[1:], 1)

    def null(self, path: Path | str) -> bool:
        """Whether the partner asks to delete the value here (HL7 null)."""
        return self.read(path) == NULL

    def write(self, path: Path | str, text: str) -> None:
        """Put HL7 text as it stands; makes the fields, repetitions and components that are missing.

        Line ends are escaped. A delimiter that would reach beyond the place (``^`` in a component) raises PathError:
        it would move what stands beside it.
        """
        path = self._own(path)
        self._put(path, fitting(path, text, self.separators))

    def set(self, path: Path | str, value: str) -> None:
        """Put data: delimiters, line ends and control characters are escaped."""
        self._put(self._own(path), escape(value, self.separators))

    def delete(self, path: Path | str) -> None:
        """Empty a field or component and cut the delimiters that end up trailing; a repetition is taken out."""
        path = self._own(path)
        position, fields = self._changeable(path), self._split()
        if position >= len(fields):
            return
        if path.component is None and path.repetition is None:
            fields[position] = ""
        elif part(fields[position], path, self.separators) is None:
            return
        else:
            fields[position] = self._without(fields[position], path)
        if not any(fields[position:]):
            self._cut(fields)

    def trim(self) -> None:
        """Cut empty trailing subcomponents, components, repetitions and fields."""
        fields = self._split()
        first = 2 if self.name in HEADERS else 1
        fields[first:] = map(self._trimmed, fields[first:])
        self._cut(fields)

    def __repr__(self) -> str:
        return f"<Segment {self.name or 'without a name'}, {len(self.text)} characters>"

    def _own(self, path: Path | str) -> Path:
        if isinstance(path, str):
            path = Path.parse(path)
        if path.segment != self.name:
            raise PathError(f"{path} names no place in a segment {self.name or 'without a name'}")
        return path

    def _split(self) -> list[str]:
        return self._fields

    def _cut(self, fields: list[str]) -> None:
        first = 2 if self.name in HEADERS else 1
        while len(fields) > first and not fields[-1]:
            fields.pop()

    def _declaration(self, path: Path) -> str | None:
        """MSH-1 or MSH-2, which have no components however they look."""
        if (path.repetition or 1) > 1 or (path.component or 1) > 1 or (path.subcomponent or 1) > 1:
            return None
        if path.field == 1:
            return self.separators.field
        fields = self._split()
        return fields[1] if len(fields) > 1 else None

    def _changeable(self, path: Path) -> int:
        """The position of a field that may be changed."""
        if path.field is None:
            raise PathError(f"{path} names a whole segment; name a field, such as {path}-3")
        if path.field < 3 and self.name in HEADERS:
            raise PathError(f"{path} declares the delimiters of the message and cannot be changed")
        return position_of(path)

    def _put(self, path: Path, text: str) -> None:
        position, fields = self._changeable(path), self._split()
        if path.component is not None or path.repetition is not None:
            before = fields[position] if position < len(fields) else ""
            text = replaced(before, path, text, self.separators)
        put(fields, position, text)

    def _without(self, field: str, path: Path) -> str:
        if path.component is not None:
            return self._trimmed(replaced(field, path, "", self.separators))
        mark, number = self.separators.repetition, path.repetition or 1
        repetitions = field.split(mark)
        del repetitions[number - 1]
        return mark.join(repetitions)

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
