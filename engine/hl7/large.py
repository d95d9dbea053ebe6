"""Segments that are too long to be copied and decoded for nothing (an OBX-5 with a document in base64).

The lines of a large message are looked for in its bytes. Short ones become text as in any message; long ones stay
where they are and become text, or a field of theirs does, when somebody asks for it. That needs a charset in which
delimiters are single bytes and no part of another character; other messages are read whole (``message.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from engine.hl7.bulk import Bulk, Slice
from engine.hl7.path import Path
from engine.hl7.places import part, position_of
from engine.hl7.rows import Long
from engine.hl7.segment import Segment
from engine.hl7.separators import Separators
from engine.hl7.wire import LINE_FEEDS_BYTES, lines_of

#: Lines from this size on, in bytes, stay bytes.
LONG = 64 * 1024
#: Fields from this size on, in bytes, stay bytes.
LONG_FIELD = 4096
#: A line with more fields than this is no document: it is read whole.
MOST_FIELDS = 4096

#: Codecs whose delimiters can be looked for in bytes.
PLAIN = frozenset({"ascii", "utf-8", *(f"iso8859-{part}" for part in range(1, 17)), "cp1250", "cp1251", "cp1252"})


def stretches(bulk: Bulk) -> list[Slice] | None:
    """Long lines, and what lies between them; None when a long line holds line ends that are no CR.

    Which is which tells ``is_long``.
    """
    data, found, at, begun = bulk.data, [], 0, 0
    while at < len(data):
        last = data.rfind(b"\r", at, at + LONG)
        if last >= 0 or at + LONG > len(data):
            at = last + 1 if last >= 0 else len(data)
            continue
        end = data.find(b"\r", at + LONG)
        end = len(data) if end < 0 else end
        start = at
        while data[start : start + 1] == b"\n":
            start += 1
        if data.find(b"\n", start, end) >= 0 and LINE_FEEDS_BYTES.search(data, start, end):
            return None
        if at > begun:
            found.append(Slice(bulk, begun, at))
        found.append(Slice(bulk, start, end))
        at = begun = min(end + 1, len(data))
    if begun < len(data):
        found.append(Slice(bulk, begun, len(data)))
    return found


def is_long(bulk: Bulk, stretch: Slice) -> bool:
    """Whether a stretch is one long line: it holds no line end."""
    return len(stretch) >= LONG and bulk.data.find(b"\r", stretch.start, stretch.start + LONG) < 0


class LargeSegment(Segment):
    """A segment whose line stays bytes as long as nobody needs its text."""

    __slots__ = ("changed", "line")

    def __init__(self, line: Slice, separators: Separators, codec: str) -> None:
        super().__init__(str(line.view()[:4], codec, "surrogateescape"), separators, codec)
        #: Whether anything was written, so that ``line`` holds no longer.
        self.changed = False
        self.line = line
        # A field may be a Slice, which the type leaves unsaid; none is looked for before one is asked for.
        self._fields = []

    def twin(self) -> LargeSegment:
        """A copy that may be changed without this one noticing."""
        copy = LargeSegment(self.line, self.separators, self.codec)
        copy._fields, copy.changed = self._fields.copy(), self.changed
        return copy

    @property
    def text(self) -> str:
        """The whole segment; made anew each time, so that nothing keeps it."""
        if not self.changed:
            return self.line.decode(self.codec)
        return self.separators.field.join(self._as_text(field) for field in self._split())

    def is_same(self, other: Segment) -> bool:
        """See ``Segment``."""
        return other is self

    def at(self, path: Path) -> str | None:
        """See ``Segment``; the first components of a long field are read without the rest of it."""
        fields, position = self._split(), position_of(path)
        if path.field is None or position >= len(fields):
            return super().at(path)
        field = fields[position]
        if not isinstance(field, Slice):
            return super().at(path)
        if path.component is not None and path.repetition in (None, 1):
            head = str(field.view()[:LONG_FIELD], self.codec, "surrogateescape")
            head = head.partition(self.separators.repetition)[0]
            if head.count(self.separators.component) >= path.component:
                return part(head, path, self.separators)
        text = field.decode(self.codec)
        return text if path.component is None and path.repetition is None else part(text, path, self.separators)

    def numbered(self) -> Iterator[tuple[int, str | None]]:
        """See ``Segment``; long fields stay bytes."""
        for number, field in super().numbered():
            yield number, None if isinstance(field, Slice) else field

    def delete(self, path: Path | str) -> None:
        """See ``Segment``."""
        self._need_text(self._own(path))
        super().delete(path)
        self.changed = True

    def trim(self) -> None:
        """See ``Segment``."""
        before = self._split().copy()
        super().trim()
        self.changed = self.changed or before != self._fields

    def pieces(self, codec: str, errors: str) -> Iterator[bytes | Slice]:
        """The segment on the wire, where its long fields are the same in ``codec``. Raises UnicodeEncodeError."""
        if not self.changed:
            yield self.line
            return
        separator = b""
        for field in self._split():
            yield separator
            yield field if isinstance(field, Slice) else field.encode(codec, errors)
            separator = self.separators.field.encode(codec)

    def _split(self) -> list[str]:
        if not self._fields:
            self._fields = list(self._found())  # type: ignore[arg-type]
        return self._fields

    def _found(self) -> Iterator[str | Slice]:
        data, separator = self.line.bulk.data, self.separators.field.encode(self.codec)
        at, stop = self.line.start, self.line.stop
        for _ in range(MOST_FIELDS):
            end = data.find(separator, at, stop)
            field = Slice(self.line.bulk, at, stop if end < 0 else end)
            yield field if len(field) >= LONG_FIELD else field.decode(self.codec)
            if end < 0:
                return
            at = end + 1
        yield from Slice(self.line.bulk, at, stop).decode(self.codec).split(self.separators.field)

    def _put(self, path: Path, text: str) -> None:
        self._need_text(path)
        super()._put(path, text)
        self.changed = True

    def _need_text(self, path: Path) -> None:
        """Only a part of the field changes: the field is needed as text."""
        fields = self._split()
        position = self._changeable(path)
        if (path.component is not None or path.repetition is not None) and position < len(fields):
            fields[position] = self._as_text(fields[position])

    def _trimmed(self, field: str) -> str:
        if isinstance(field, Slice):
            view, marks = field.view(), self.separators
            inside = (marks.repetition, marks.subcomponent)
            ends = view[-1] in marks.component.encode(self.codec)
            if not ends and not any(_holds(field, mark.encode(self.codec)) for mark in inside):
                return field
        return super()._trimmed(self._as_text(field))

    def _as_text(self, field: str | Slice) -> str:
        return field.decode(self.codec) if isinstance(field, Slice) else field

    def __repr__(self) -> str:
        return f"<Segment {self.name or 'without a name'}, {len(self.line)} bytes>"


class LargeLines(Long):
    """The lines of a message of which some stay bytes: those have a LargeSegment beside an empty text."""

    __slots__ = ("large",)

    def __init__(self, lines: list[str], field: str, large: dict[int, LargeSegment] | None = None) -> None:
        super().__init__(lines, field)
        self.large = large or {}

    @classmethod
    def of(cls, found: Iterable[Slice], separators: Separators, codec: str) -> LargeLines:
        """Of the ``stretches`` of a message."""
        made = cls([], separators.field)
        for stretch in found:
            if is_long(stretch.bulk, stretch):
                made.large[len(made.lines)] = LargeSegment(stretch, separators, codec)
                made.lines.append("")
            else:
                made.lines += lines_of(stretch.decode(codec))
        return made

    def row(self, at: int) -> list[str]:
        """See ``Long``; of a large segment made anew."""
        return self.large[at].text.split(self.field) if at in self.large else super().row(at)

    def written(self) -> list[str]:
        """See ``Long``; those of the large segments made anew each time, so that nothing keeps them."""
        lines = super().written()
        if self.large:
            lines = lines.copy()
            for at, segment in self.large.items():
                lines[at] = segment.text
        return lines

    def heads(self) -> list[str]:
        """See ``Long``."""
        heads = super().heads()
        for at, segment in self.large.items():
            heads[at] = f"{segment.name}{self.field}"
        return heads

    def put(self, at: int, row: list[str]) -> None:
        """See ``Long``."""
        self.large = {place + (place >= at): segment for place, segment in self.large.items()}
        super().put(at, row)

    def take(self, gone: Sequence[int]) -> None:
        """See ``Long``."""
        self.large = {at - sum(each < at for each in gone): one for at, one in self.large.items() if at not in gone}
        super().take(gone)

    def twin(self) -> LargeLines:
        """See ``Long``."""
        lines = super().written().copy()
        return LargeLines(lines, self.field, {at: segment.twin() for at, segment in self.large.items()})

    def is_ascii(self) -> bool:
        """Whether what came in is all ASCII."""
        return all(segment.line.bulk.is_ascii for segment in self.large.values())

    def pieces(self, codec: str, errors: str) -> Iterator[bytes | Slice]:
        """The message on the wire, its long fields as they came. Raises UnicodeEncodeError."""
        for at, line in enumerate(super().written()):
            if at in self.large:
                yield from self.large[at].pieces(codec, errors)
            else:
                yield line.encode(codec, errors)
            yield b"\r"


def _holds(field: Slice, mark: bytes) -> bool:
    return field.bulk.data.find(mark, field.start, field.stop) >= 0
