"""An HL7 v2 message: bytes in, values out, bytes out.

Lazy: text is split when a path asks for something (``rows.py``), so reading a few fields costs a microsecond. What
nobody changed leaves as it came, byte for byte. Tolerant of what partners send (LF, missing last CR, blank lines,
undeclared bytes); validation is elsewhere (``validation.py``). Never shows content.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.errors import PathError, Unmappable
from engine.hl7 import charset as charsets
from engine.hl7 import wire
from engine.hl7.bulk import LARGE, Bulk, Pieces
from engine.hl7.escape import NULL, as_data, escape, translate
from engine.hl7.header import Header
from engine.hl7.large import PLAIN, LargeLines, is_long, stretches
from engine.hl7.path import Path
from engine.hl7.places import part, position_of
from engine.hl7.rows import Rows, Short
from engine.hl7.segment import Segment
from engine.hl7.separators import Separators
from engine.hl7.unmappable import first_unmappable

if TYPE_CHECKING:
    import hl7

__all__ = ["NULL", "Message", "Segment", "Separators"]

_UNDECODED = re.compile("[\udc80-\udcff]")


class Message(Rows):
    """An HL7 v2 message. Make one with ``parse``, ``from_text`` or ``new``."""

    __slots__ = ()

    # Making

    @classmethod
    def parse(cls, raw: bytes | Bulk, charset: str | None = None, default_charset: str = "ascii") -> Message:
        """Read a message. MalformedMessage when there is no usable MSH; nothing else is refused.

        Its charset is ``charset`` (table 0211 or a codec name), else what MSH-18 names, else ``default_charset``.
        Bytes that are not of the charset stand in HL7 text as lone surrogates and are written as they came.
        """
        if isinstance(raw, Bulk) or len(raw) >= LARGE:
            bulk = raw if isinstance(raw, Bulk) else Bulk(raw)
            if (large := LargeMessage.of_bulk(bulk, charset, default_charset)) is not None:
                return large
            raw = bytes(bulk.data)
        if charset is None and default_charset == "ascii" and (message := cls.usual(raw)) is not None:
            return message
        decoded = wire.decode(raw, charset, default_charset)
        separators = Separators.of(decoded.text)
        lines = wire.lines_of(decoded.text) if decoded.lines is None else wire.without_blank(decoded.lines)
        standing = wire.standing(lines[0], separators.field)
        return cls(lines, separators, wire.Coding(decoded.codec, True, standing, decoded.originals))

    @classmethod
    def from_text(cls, text: str) -> Message:
        """A message from its text; its charset is the one MSH-18 names, else ASCII."""
        text = wire.from_header(text)
        separators, lines = Separators.of(text), wire.lines_of(text)
        return cls(lines, separators, wire.made(wire.standing(lines[0], separators.field), wire.declared_in(text)))

    @classmethod
    def of_lines(cls, lines: list[str]) -> Message:
        """As ``from_text``, of segments with the usual delimiters, none of them blank, of which MSH is the first.

        The list belongs to the message then.
        """
        declared = wire.standing(lines[0], Separators.default.field)
        return cls(
            lines,
            Separators.default,
            wire.made(declared, wire.declared_in(lines[0])) if declared else wire.MADE_IN_ASCII,
        )

    @classmethod
    def new(cls, separators: Separators = Separators.default) -> Message:
        """A message of nothing but MSH-1 and MSH-2."""
        return cls([f"MSH{separators.field}{separators.encoding_characters}"], separators, wire.MADE_IN_ASCII)

    def remade(self, lines: list[str]) -> Message:
        """As ``of_lines``, in the charset of this message, which the MSH of ``lines`` need not name."""
        codec, standing = self.charset, wire.standing(lines[0], Separators.default.field)
        plain = codec == "ascii" and not standing
        return Message(lines, Separators.default, wire.MADE_IN_ASCII if plain else wire.Coding(codec, False, standing))

    def copy(self) -> Message:
        """A copy that may be changed without this one noticing; costs a list of lines."""
        twin = type(self)(self._lines.copy(), self.separators, self._coding)
        if self._rows is not None:
            twin._rows = rows = self._rows.twin()
            if self.first and isinstance(rows, Short):
                twin.first = rows.first()
        twin._header = self._header
        return twin

    # Reading

    def read(self, path: Path | str, segment: Segment | None = None) -> str | None:
        """HL7 text as it stands, still escaped: None absent, "" present but empty, '""' HL7 null.

        A field without repetition is read whole (all repetitions), a component of it from the first repetition. The
        first component of a plain field is the field. With ``segment`` a path of that segment's name reads that very
        occurrence, unless the path says which one it means (``OBX[2]-5``). ``path.read(message)`` is the short form.
        """
        if isinstance(path, str):
            path = Path.parse(path)
        if segment is not None and segment.name == path.segment and path.segment_index is None:
            return segment.at(path)
        return path.read(self)

    def read_any(self, path: Path) -> str | None:
        """``read`` for a place of any shape, in any message; for ``places.py``."""
        found = self._find(path)
        return None if found is None else found.at(path)

    def read_missing(self, path: Path) -> str | None:
        """``read`` for a plain place that is not at hand in ``first``; for ``places.py``."""
        if not self.is_usual():
            return self.read_any(path)
        fields, position = self.fields(path.segment), position_of(path)
        if fields is None or position >= len(fields):
            return None
        text = fields[position]
        return text if path.component is path.repetition is None else part(text, path, self.separators)

    def value(self, path: Path | str, segment: Segment | None = None) -> str:
        """Data: unescaped; "" when absent, empty or null. A byte that is not of the charset is U+FFFD in it."""
        return as_data(self.read(path, segment), self.separators, self._coding.codec)

    def null(self, path: Path | str, segment: Segment | None = None) -> bool:
        """Whether the partner asks to delete the value here (HL7 null, two quotes)."""
        return self.read(path, segment) == NULL

    def segments(self, name: str | None = None) -> list[Segment]:
        """The segments of that name, or all, in their order; what is written into one stands in the message."""
        rows = self._split()
        return [self._segment(at) for at in (range(rows.number()) if name is None else rows.at(name))]

    @property
    def header(self) -> Header:
        """Its MSH as it stands now; what is changed later does not change it."""
        header, rows = self._header, self._rows
        if rows is None:
            if header is None:
                fields = self._lines[0].split(self.separators.field)
                header = self._header = Header(fields, self.separators, self._coding.codec)
        elif header is None or header.fields != rows.row(0):
            header = self._header = Header(rows.row(0).copy(), self.separators, self._coding.codec)
        return header

    @property
    def type(self) -> str:
        """MSH-9.1, such as ``SIU``."""
        return self.header.type

    @property
    def event(self) -> str:
        """MSH-9.2, such as ``S12``."""
        return self.header.event

    @property
    def control_id(self) -> str:
        """MSH-10."""
        rows = self._rows
        if rows is None and self._header is not None:
            return self._header.control_id
        fields = self._lines[0].split(self.separators.field, 10) if rows is None else rows.row(0)
        named = fields[9] if len(fields) > 9 else ""
        return named if named.isalnum() else as_data(named, self.separators, self._coding.codec)

    @property
    def version(self) -> str:
        """MSH-12.1, such as ``2.5.1``."""
        return self.header.version

    @property
    def codec(self) -> str:
        """The Python codec it was read with."""
        return self._coding.codec

    @property
    def charset(self) -> str:
        """The Python codec the message is read with, and written with unless another is asked for."""
        rows, coding = self._rows, self._coding
        if rows is not None:
            header = rows.row(0)
            declared = header[17] if len(header) > 17 else ""
            if declared != coding.declared:
                return charsets.codec(charsets.declared(declared)) or coding.codec
        return coding.codec

    @property
    def undecodable(self) -> bool:
        """Whether some bytes are not of the message's charset."""
        text = self.text
        return not text.isascii() and _UNDECODED.search(text) is not None

    # Changing

    def write(self, path: Path | str, text: str, segment: Segment | None = None) -> None:
        """Put HL7 text as it stands; the segment, fields, repetitions and components that are missing are made.

        MSH-1 and MSH-2 cannot be written, nor a delimiter that reaches beyond the place (PathError). Text of a
        message with other delimiters goes through ``escape.translate`` first. ``path.write(message, text)`` is the
        short form.
        """
        if isinstance(path, str):
            path = Path.parse(path)
        if segment is not None and segment.name == path.segment and path.segment_index is None:
            segment.write(path, text)
        else:
            path.write(self, text)

    def write_any(self, path: Path, text: str) -> None:
        """``write`` for a place of any shape, in any message; for ``places.py``."""
        self.fields(path.segment)  # at hand from now on, if it can be
        found = self._find(path)
        if found is None:
            # Tried on a segment of its own first: what is refused leaves none behind.
            Segment(path.segment, self.separators, self._coding.codec).write(path, text)
            for _ in range((path.segment_index or 1) - self.count(path.segment)):
                found = self.add(path.segment)
        assert found is not None  # noqa: S101 - at least one was missing
        found.write(path, text)

    def set(self, path: Path | str, value: str, segment: Segment | None = None) -> None:
        """Put data: escaped with this message's separators."""
        self.write(path, escape(value, self.separators), segment)

    def delete(self, path: Path | str, segment: Segment | None = None) -> None:
        """Empty a field or component and cut what trails; ``NTE`` removes every NTE, ``NTE[2]`` the second one."""
        if isinstance(path, str):
            path = Path.parse(path)
        one = segment is not None and segment.name == path.segment and path.segment_index is None
        found = segment if one else self._find(path)
        if found is None:
            return
        if path.field is not None:
            found.delete(path)
            return
        if path.segment == "MSH":
            raise PathError("MSH cannot be deleted: it is what makes a message")
        places = self._split().at(path.segment)
        if one or path.segment_index is not None:
            places = [at for at in places if found.is_same(self._segment(at))]
        self._take(places)

    def add(self, name: str) -> Segment:
        """Append an empty segment, also when there is one of that name already."""
        return self.insert(self._split().number(), Segment(_valid(name), self.separators))

    def insert(self, index: int, segment: Segment) -> Segment:
        """Put a copy of ``segment`` before the one at ``index`` (of ``segments()``) and return that copy."""
        if index < 1 or segment.name == "MSH":
            raise PathError("MSH is the first segment of a message and the only one of that name")
        row = translate(segment.text, segment.separators, self.separators).split(self.separators.field)
        self._put(index, row)
        return Segment.over(row, self.separators, self._coding.codec)

    def trim(self) -> None:
        """Cut empty trailing subcomponents, components, repetitions and fields everywhere."""
        for segment in self.segments():
            if segment.name:
                segment.trim()

    # Writing

    def to_bytes(self, charset: str | None = None, unmappable: str = "error") -> bytes:
        """The message on the wire: segments ended by CR, the last one too.

        ``charset`` is a name of table 0211 or a codec; None keeps the message's own (or the one that MSH-18 has been
        given since). A character that it lacks raises Unmappable, or becomes ``?`` with ``unmappable="replace"``.
        MSH-18 is not changed. ValueError for a charset that Python does not know.
        """
        used = self.charset if charset is None else charsets.codec(charset)
        if used is None:
            raise ValueError(f"{charset!r} is no character set known here")
        # Bytes that could not be read go out as they came, but only where their charset still holds.
        coding = self._coding
        same = coding.read and used == coding.codec
        try:
            if same and coding.originals:
                return b"".join(self._line_bytes(line, used) for line in self.text.split("\r")[:-1])
            return self.text.encode(used, "surrogateescape" if same else "strict")
        except UnicodeEncodeError:
            # Handled below, outside of this block: the error holds the text, and must not travel as a context.
            pass
        if unmappable == "replace":
            return self.text.encode(used, charsets.lacking(self.separators.characters, keep=same))
        raise Unmappable(charsets.hl7_name(used) or used, first_unmappable(self.segments(), used, same=same))

    def to_body(self, charset: str | None = None, unmappable: str = "error") -> bytes | Pieces:
        """As ``to_bytes``; of a large message the long segments that nobody changed are shared and not copied."""
        return self.to_bytes(charset, unmappable)

    def to_python_hl7(self) -> hl7.Message:
        """The same message as an object of the python-hl7 library."""
        import hl7 as library

        return library.parse(self.text)

    @classmethod
    def from_python_hl7(cls, message: hl7.Message) -> Message:
        """A message from an object of the python-hl7 library."""
        return cls.from_text(str(message))

    def __repr__(self) -> str:
        kind = "^".join(part for part in (self.type, self.event) if part)
        number = len(self._lines) if self._rows is None else self._rows.number()
        return f"<Message {kind} {self.control_id} {self.version}, {number} segments>"

    # Inside

    def _segment(self, at: int) -> Segment:
        return Segment.over(self._split().row(at), self.separators, self._coding.codec)

    def _find(self, path: Path) -> Segment | None:
        places, number = self._split().at(path.segment), path.segment_index or 1
        return self._segment(places[number - 1]) if number <= len(places) else None

    def _line_bytes(self, line: str, codec: str) -> bytes:
        original = self._coding.originals.get(line) if self._coding.originals else None
        return (line.encode(codec, "surrogateescape") if original is None else original) + b"\r"


class LargeMessage(Message):
    """A message some of whose rows stay bytes (``large.py``)."""

    __slots__ = ()

    @classmethod
    def of_bulk(cls, bulk: Bulk, charset: str | None, default_charset: str) -> LargeMessage | None:
        """A message whose long lines stay bytes; None when it must be read whole."""
        if bulk.data[:3] != b"MSH":
            return None
        codec, _ = wire.named(bulk.data, charset, default_charset)
        found = stretches(bulk) if codec in PLAIN else None
        if not found or is_long(bulk, found[0]):
            return None
        head = found[0].decode(codec)
        separators = Separators.of(head)
        rows = LargeLines.of(found, separators, codec)
        message = cls([], separators, wire.Coding(codec, True, wire.standing(rows.lines[0], separators.field)))
        message._rows = rows
        return message

    def is_usual(self) -> bool:
        """See ``Rows``."""
        return False

    def to_body(self, charset: str | None = None, unmappable: str = "error") -> bytes | Pieces:
        """See ``Message``."""
        used = self.charset if charset is None else charsets.codec(charset)
        same, rows = used == self.codec, self._split()
        if used is None or not isinstance(rows, LargeLines) or not (same or (used in PLAIN and rows.is_ascii())):
            return self.to_bytes(charset, unmappable)
        try:
            return Pieces(rows.pieces(used, "surrogateescape" if same else "strict"))
        except UnicodeEncodeError:
            pass  # the whole message tells where, or replaces
        return self.to_bytes(charset, unmappable)

    def _segment(self, at: int) -> Segment:
        rows = self._split()
        large = rows.large.get(at) if isinstance(rows, LargeLines) else None
        return super()._segment(at) if large is None else large


def _valid(name: str) -> str:
    path = Path.parse(name)
    if path.segment != name:
        raise PathError(f"{name} is no segment name; write three letters or digits, such as OBX")
    return name
