"""An HL7 v2 message: bytes in, values out, bytes out.

Lazy: text is split into lines, a line into fields only when a path asks for it, so reading a few fields of a message
costs a few microseconds. What nobody changed leaves as it came, byte for byte. Tolerant of what partners send (LF,
missing last CR, blank lines, undeclared bytes); validation is elsewhere (``validation.py``). Never shows content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.errors import PathError, Unmappable
from engine.hl7 import charset as charsets
from engine.hl7 import wire
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.hl7.escape import translate
from engine.hl7.header import Header
from engine.hl7.large import PLAIN, LargeSegment, is_long, stretches
from engine.hl7.path import Path
from engine.hl7.segment import NULL, Segment, as_data, name_of
from engine.hl7.separators import Separators
from engine.hl7.unmappable import first_unmappable

if TYPE_CHECKING:
    import hl7

__all__ = ["NULL", "Message", "Segment", "Separators"]


class Message:
    """An HL7 v2 message. Make one with ``parse``, ``from_text`` or ``new``."""

    __slots__ = ("_charset", "_declared", "_entries", "_header", "_originals", "_parsed", "_places", "separators")

    def __init__(self, lines: Sequence[str | Segment], separators: Separators, charset: str) -> None:
        #: A line is made a Segment when something in it is asked for.
        self._entries: list[str | Segment] = [*lines]
        #: Name → places of its segments; None when they must be looked up anew. Never changed, only replaced.
        self._places: dict[str, list[int]] | None = None
        self._header: Header | None = None
        self._charset = charset
        self._declared = ""
        #: Lines whose bytes the codec would write differently than they came (ISO 2022, Big5).
        self._originals: dict[str, bytes] | None = None
        self._parsed = False
        self.separators = separators

    # Making

    @classmethod
    def parse(cls, raw: bytes | Bulk, charset: str | None = None, default_charset: str = "ascii") -> Message:
        """Read a message. MalformedMessage when there is no usable MSH; nothing else is refused.

        Its charset is ``charset`` (table 0211 or a codec name), else what MSH-18 names, else ``default_charset``.
        Bytes that are not of the charset stand in HL7 text as lone surrogates and are written as they came.
        """
        if isinstance(raw, Bulk) or len(raw) >= LARGE:
            bulk = raw if isinstance(raw, Bulk) else Bulk(raw)
            if (large := cls._parse_large(bulk, charset, default_charset)) is not None:
                return large
            raw = bytes(bulk.data)
        if charset is None and default_charset == "ascii" and (lines := wire.plain_lines(raw)):
            message = cls(lines, Separators.default, "ascii")
            message._parsed = True
            return message
        decoded = wire.decode(raw, charset, default_charset)
        message = cls._split(decoded.text, decoded.codec, decoded.declared, decoded.lines)
        message._parsed, message._originals = True, decoded.originals
        return message

    @classmethod
    def _parse_large(cls, bulk: Bulk, charset: str | None, default_charset: str) -> Message | None:
        """Read a message whose long lines stay bytes; None when it must be read whole."""
        if bulk.data[:3] != b"MSH":
            return None
        codec, declared = wire.named(bulk.data, charset, default_charset)
        found = stretches(bulk) if codec in PLAIN else None
        if not found or is_long(bulk, found[0]):
            return None
        message = cls._split(found[0].decode(codec), codec, declared)
        for stretch in found[1:]:
            if is_long(bulk, stretch):
                message._entries.append(LargeSegment(stretch, message.separators, codec))
            else:
                message._entries += wire.lines_of(stretch.decode(codec))
        message._parsed = True
        return message

    @classmethod
    def from_text(cls, text: str) -> Message:
        """A message from its text; its charset is the one MSH-18 names, else ASCII."""
        text = wire.from_header(text)
        declared = wire.declared_in(text)
        return cls._split(text, charsets.codec(charsets.declared(declared)) or "ascii", declared)

    @classmethod
    def _split(cls, text: str, charset: str, declared: str, lines: list[str] | None = None) -> Message:
        separators = Separators.of(text)
        message = cls(wire.lines_of(text) if lines is None else wire.without_blank(lines), separators, charset)
        message._declared = declared
        return message

    @classmethod
    def of_lines(cls, lines: Sequence[str]) -> Message:
        """As ``from_text``, of segments with the usual delimiters, none of them blank, of which MSH is the first."""
        declared = wire.declared_in(lines[0])
        message = cls(lines, Separators.default, charsets.codec(charsets.declared(declared)) or "ascii")
        message._declared = declared
        return message

    @classmethod
    def new(cls, separators: Separators = Separators.default) -> Message:
        """A message of nothing but MSH-1 and MSH-2."""
        return cls([f"MSH{separators.field}{separators.encoding_characters}"], separators, "ascii")

    def copy(self) -> Message:
        """A copy that may be changed without this one noticing; costs a list of lines."""
        twin = Message(
            [entry if isinstance(entry, str) else entry.twin() for entry in self._entries],
            self.separators,
            self._charset,
        )
        twin._places, twin._header, twin._declared = self._places, self._header, self._declared
        twin._originals, twin._parsed = self._originals, self._parsed
        if self._header_changed():
            twin._segment(0).changed = True
        return twin

    # Reading

    def read(self, path: Path | str, segment: Segment | None = None) -> str | None:
        """HL7 text as it stands, still escaped: None absent, "" present but empty, '""' HL7 null.

        A field without repetition is read whole (all repetitions), a component of it from the first repetition. The
        first component of a plain field is the field. With ``segment`` a path of that segment's name reads that very
        occurrence, unless the path says which one it means (``OBX[2]-5``).
        """
        if isinstance(path, str):
            path = Path.parse(path)
        found = self._find(path, segment)
        return None if found is None else found.at(path)

    def value(self, path: Path | str, segment: Segment | None = None) -> str:
        """Data: unescaped; "" when absent, empty or null. A byte that is not of the charset is U+FFFD in it."""
        return as_data(self.read(path, segment), self.separators, self._charset)

    def null(self, path: Path | str, segment: Segment | None = None) -> bool:
        """Whether the partner asks to delete the value here (HL7 null, two quotes)."""
        return self.read(path, segment) == NULL

    def segments(self, name: str | None = None) -> list[Segment]:
        """The segments of that name, or all, in their order."""
        if name is None:
            return [self._segment(at) for at in range(len(self._entries))]
        return [self._segment(at) for at in (self._places or self._index()).get(name, ())]

    def names(self) -> list[str]:
        """The name of each segment in order; "" for a line that is no segment."""
        field = self.separators.field
        return [name_of(entry, field) if isinstance(entry, str) else entry.name for entry in self._entries]

    def count(self, name: str) -> int:
        """How many segments have that name."""
        return len((self._places or self._index()).get(name, ()))

    @property
    def header(self) -> Header:
        """Its MSH as it stands now; what is changed later does not change it."""
        entry = self._entries[0]
        line = entry if isinstance(entry, str) else entry.text
        header = self._header
        if header is None or header.line is not line:
            header = self._header = Header(line, self.separators, self._charset)
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
        return self.header.control_id

    @property
    def version(self) -> str:
        """MSH-12.1, such as ``2.5.1``."""
        return self.header.version

    @property
    def charset(self) -> str:
        """The Python codec the message is read with, and written with unless another is asked for."""
        if self._header_changed():
            declared = self.header.read(18)
            if declared != self._declared:
                return charsets.codec(charsets.declared(declared)) or self._charset
        return self._charset

    @property
    def undecodable(self) -> bool:
        """Whether some bytes are not of the message's charset."""
        text = self.text
        return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)

    @property
    def text(self) -> str:
        """The whole message, segments ended by CR. This is content: never for a log or an error."""
        return "\r".join(self.lines()) + "\r"

    def lines(self) -> list[str]:
        """The text of each segment as it stands, in their order. This is content, as ``text``."""
        return [entry if isinstance(entry, str) else entry.text for entry in self._entries]

    # Changing

    def write(self, path: Path | str, text: str, segment: Segment | None = None) -> None:
        """Put HL7 text as it stands; the segment, fields, repetitions and components that are missing are made.

        MSH-1 and MSH-2 cannot be written, nor a delimiter that reaches beyond the place (PathError). Text of a
        message with other delimiters goes through ``escape.translate`` first.
        """
        if isinstance(path, str):
            path = Path.parse(path)
        found = self._find(path, segment)
        if found is None:
            self._put(path, segment, text, Segment.write)
        else:
            found.write(path, text)

    def set(self, path: Path | str, value: str, segment: Segment | None = None) -> None:
        """Put data: escaped with this message's separators."""
        if isinstance(path, str):
            path = Path.parse(path)
        self._put(path, segment, value, Segment.set)

    def delete(self, path: Path | str, segment: Segment | None = None) -> None:
        """Empty a field or component and cut what trails; ``NTE`` removes every NTE, ``NTE[2]`` the second one."""
        if isinstance(path, str):
            path = Path.parse(path)
        found = self._find(path, segment)
        if found is None:
            return
        if path.field is not None:
            found.delete(path)
            return
        if path.segment == "MSH":
            raise PathError("MSH cannot be deleted: it is what makes a message")
        one = path.segment_index is not None or found is segment
        gone = {id(found)} if one else {id(each) for each in self.segments(path.segment)}
        self._entries = [entry for entry in self._entries if id(entry) not in gone]
        self._places = None

    def add(self, name: str) -> Segment:
        """Append an empty segment, also when there is one of that name already."""
        return self.insert(len(self._entries), Segment(_valid(name), self.separators))

    def insert(self, index: int, segment: Segment) -> Segment:
        """Put a copy of ``segment`` before the one at ``index`` (of ``segments()``) and return that copy."""
        if index < 1 or segment.name == "MSH":
            raise PathError("MSH is the first segment of a message and the only one of that name")
        line = translate(segment.text, segment.separators, self.separators)
        mine = Segment(line, self.separators, self._charset)
        self._entries.insert(index, mine)
        self._places = None
        return mine

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
        same = self._parsed and used == self._charset
        try:
            if same and self._originals:
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
        used = self.charset if charset is None else charsets.codec(charset)
        same = self._parsed and used == self._charset
        large = next((entry for entry in self._entries if isinstance(entry, LargeSegment)), None)
        if used is None or large is None or not (same or (used in PLAIN and large.line.bulk.is_ascii)):
            return self.to_bytes(charset, unmappable)
        errors = "surrogateescape" if same else "strict"
        pieces: list[bytes | Slice] = []
        try:
            for entry in self._entries:
                if isinstance(entry, LargeSegment):
                    pieces += entry.pieces(used, errors)
                else:
                    pieces.append((entry if isinstance(entry, str) else entry.text).encode(used, errors))
                pieces.append(b"\r")
        except UnicodeEncodeError:
            pieces = []  # the whole message tells where, or replaces
        return Pieces(pieces) if pieces else self.to_bytes(charset, unmappable)

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
        return f"<Message {kind} {self.control_id} {self.version}, {len(self._entries)} segments>"

    # Inside

    def _segment(self, at: int) -> Segment:
        entry = self._entries[at]
        if isinstance(entry, str):
            entry = self._entries[at] = Segment(entry, self.separators, self._charset)
        return entry

    def _find(self, path: Path, segment: Segment | None = None) -> Segment | None:
        name, index = path.segment, path.segment_index
        if index is None and segment is not None and segment.name == name:
            return segment
        places = (self._places or self._index()).get(name)
        if places is None or (index is not None and index > len(places)):
            return None
        at = places[0 if index is None else index - 1]
        entry = self._entries[at]
        if isinstance(entry, str):
            entry = self._entries[at] = Segment(entry, self.separators, self._charset, name)
        return entry

    def _index(self) -> dict[str, list[int]]:
        field, places = self.separators.field, dict[str, list[int]]()
        for at, entry in enumerate(self._entries):
            if not isinstance(entry, str):
                name = entry.name
            elif entry[3:4] == field or len(entry) == 3:
                name = entry[:3]
            else:
                continue
            if name in places:
                places[name].append(at)
            else:
                places[name] = [at]
        self._places = places
        return places

    def _put(self, path: Path, segment: Segment | None, text: str, put: Callable[[Segment, Path, str], None]) -> None:
        found = self._find(path, segment)
        if found is None:
            # Tried on a segment of its own first: what is refused leaves none behind.
            put(Segment(path.segment, self.separators, self._charset), path, text)
            for _ in range((path.segment_index or 1) - self.count(path.segment)):
                found = self.add(path.segment)
        assert found is not None  # noqa: S101 - at least one was missing
        put(found, path, text)

    def _header_changed(self) -> bool:
        header = self._entries[0]
        return not isinstance(header, str) and header.changed

    def _line_bytes(self, line: str, codec: str) -> bytes:
        original = self._originals.get(line) if self._originals else None
        return (line.encode(codec, "surrogateescape") if original is None else original) + b"\r"


def _valid(name: str) -> str:
    path = Path.parse(name)
    if path.segment != name:
        raise PathError(f"{name} is no segment name; write three letters or digits, such as OBX")
    return name
