"""The segments of a message as rows of fields: split when first asked for, joined when their text is wanted.

A row is the list of a segment's fields, and the row itself is what is changed: nothing has to be told of it, and what
nobody changed joins to the very text it was split from. A short message is split as a whole, by ``map`` and not line by
line, which costs less than finding out what of it is needed (``Short``); of a long one each line is split when
something in it is asked for (``Long``). Paths and values are in ``message.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, repeat
from operator import itemgetter
from sys import intern
from typing import Self

from engine.hl7.header import Header
from engine.hl7.separators import Separators
from engine.hl7.wire import READ_AS_ASCII, USUAL, Coding

#: A message of more lines than this is long, and so is one with unusual delimiters.
FEW = 32
#: So many fields of MSH name no charset.
_BEFORE_CHARSET = 17

_FIELD = Separators.default.field
_NAME = itemgetter(0)
_ABSENT: list[str] = []
_HEAD = itemgetter(slice(4))


class Short(list[list[str]]):
    """The rows of a short message with the usual delimiters."""

    __slots__ = ()

    def first(self) -> dict[str, list[str]]:
        """Name → row of the first segment of that name."""
        return {row[0]: row for row in reversed(self)}

    def row(self, at: int) -> list[str]:
        """The fields of a line."""
        return self[at]

    def number(self) -> int:
        """How many lines there are."""
        return len(self)

    def written(self) -> list[str]:
        """The text of each line as it stands now."""
        return list(map(_FIELD.join, self))

    def names(self) -> list[str]:
        """The word each line begins with."""
        return list(map(_NAME, self))

    def at(self, name: str) -> list[int]:
        """The places of the segments of that name, in rising order."""
        return [at for at, row in enumerate(self) if row[0] == name] if self.number_of(name) else []

    def number_of(self, name: str) -> int:
        """How many segments have that name."""
        found = list(map(_NAME, self)).count(name)
        return found if found and is_name(name) else 0

    def put(self, at: int, row: list[str]) -> None:
        """Put a row before the line at a place."""
        self.insert(at, row)

    def take(self, gone: Sequence[int]) -> None:
        """Take lines out."""
        self[:] = [row for at, row in enumerate(self) if at not in gone]

    def twin(self) -> Short:
        """One that may be changed without this one noticing."""
        return Short(map(list.copy, self))


class Long:
    """The lines of a long message, of which few are split."""

    __slots__ = ("_heads", "_places", "_rows", "field", "lines")

    def __init__(self, lines: list[str], field: str) -> None:
        #: The text of each line, as it was before its row was changed.
        self.lines = lines
        self.field = field
        self._rows: dict[int, list[str]] = {}
        self._heads: list[str] | None = None
        self._places: dict[str, list[int]] = {}

    def row(self, at: int) -> list[str]:
        """The fields of a line."""
        row = self._rows.get(at)
        if row is None:
            row = self._rows[at] = self.lines[at].split(self.field)
        return row

    def written(self) -> list[str]:
        """The text of each line as it stands now."""
        lines, join = self.lines, self.field.join
        for at, row in self._rows.items():
            lines[at] = join(row)
        return lines

    def number(self) -> int:
        """How many lines there are."""
        return len(self.lines)

    def heads(self) -> list[str]:
        """What each line begins with: its name and a delimiter; of one that is nothing else its name."""
        return list(map(intern, map(_HEAD, self.lines)))

    def names(self) -> list[str]:
        """The word each line begins with, at least as far as it may be a name."""
        field = self.field
        return [head.removesuffix(field) for head in self.heads()]

    def at(self, name: str) -> list[int]:
        """The places of the segments of that name, in rising order."""
        found = self._places.get(name)
        if found is None:
            if self._heads is None:
                self._heads = self.heads()
            heads, wanted = self._heads, (name + self.field, name)
            there = is_name(name) and (wanted[0] in heads or name in heads)
            found = self._places[name] = [at for at, head in enumerate(heads) if head in wanted] if there else []
        return found

    def number_of(self, name: str) -> int:
        """How many segments have that name."""
        return len(self.at(name))

    def put(self, at: int, row: list[str]) -> None:
        """Put a row before the line at a place."""
        end, self._heads, self._places = len(self.lines), None, {}
        self.lines.insert(at, self.field.join(row))
        if at < end:
            self._rows = {place + (place >= at): known for place, known in self._rows.items()}
        self._rows[min(at, end)] = row

    def take(self, gone: Sequence[int]) -> None:
        """Take lines out."""
        known = set(gone)
        left = [at for at in range(len(self.lines)) if at not in known]
        rows = self._rows
        self._rows = {new: rows[at] for new, at in enumerate(left) if at in rows}
        self.lines, self._heads, self._places = [self.lines[at] for at in left], None, {}

    def twin(self) -> Long:
        """One that may be changed without this one noticing."""
        return type(self)(self.written().copy(), self.field)


class Rows:
    """The segments of one message."""

    __slots__ = ("_coding", "_header", "_lines", "_rows", "_text", "first", "separators")

    def __init__(self, lines: list[str], separators: Separators, coding: Coding) -> None:
        """``lines`` belong to the message from now on."""
        #: What it is as long as nothing was split; ``_rows`` after that.
        self._lines = lines
        #: Their text, where it is at hand as long as nothing was split.
        self._text = ""
        self._rows: Short | Long | None = None
        #: Name → fields of the first segment of that name. Of a short message all of them or none, of a long one those
        #: that were asked for; none where ``is_usual`` is not so.
        self.first: dict[str, list[str]] = {}
        self.separators = separators
        self._coding = coding
        #: MSH as it was when somebody asked for it.
        self._header: Header | None = None

    @classmethod
    def usual(cls, raw: bytes, *, split: bool = True) -> Self | None:
        """What most messages are, read in one go: ASCII, the usual delimiters, CR, no MSH-18. None for any other.

        ``split``: at once, which costs less than when it is asked for more than MSH and what is in ``sole``.
        """
        if not raw.startswith(USUAL) or not raw.isascii():
            return None
        text = raw.decode("ascii")
        lines = text.removesuffix("\r").split("\r")
        if "\n" in text or "" in lines:
            return None
        if len(lines) > FEW or not split:
            if lines[0].count(_FIELD) >= _BEFORE_CHARSET:
                return None
            message = cls(lines, Separators.default, READ_AS_ASCII)
            message._text = text if text[-1] == "\r" else text + "\r"
            return message
        rows = Short(map(str.split, lines, repeat(_FIELD)))
        header = rows[0]
        if len(header) > _BEFORE_CHARSET:
            return None
        message = cls([], Separators.default, READ_AS_ASCII)
        message._rows, message.first = rows, {row[0]: row for row in reversed(rows)}
        message._header = Header(header.copy(), Separators.default, "ascii")
        return message

    # Reading

    def fields(self, name: str) -> list[str] | None:
        """The fields of the first segment of that name; None for no such segment, and where ``is_usual`` is not so.

        It is the message's own list: what is put into it stands in the message. In MSH the delimiter is no field of
        its own, so MSH-9 is at index 8.
        """
        found = self.first.get(name)
        if found is None and not (self.first and isinstance(self._rows, Short)):
            found = self._find_first(name)
        return found

    def is_usual(self) -> bool:
        """Whether it has the usual delimiters, and no segment that stays bytes."""
        return self.separators is Separators.default

    def rows(self, name: str | None = None) -> list[list[str]]:
        """The fields of every segment, or of those of one name, in their order.

        They are the message's own lists: read them, change a row by ``fields`` or a Segment.
        """
        rows = self._split()
        if isinstance(rows, Short):
            return rows if name is None else list(compress(rows, map(name.__eq__, map(_NAME, rows))))
        return list(map(rows.row, range(rows.number()) if name is None else rows.at(name)))

    def split(self) -> Short | Long:
        """All of them, as they are kept: for who goes through the whole message. They stay the message's own."""
        rows = self._rows
        return self._split() if rows is None else rows

    def lines(self) -> list[str]:
        """The text of each segment as it stands, in their order. This is content, as ``text``."""
        return self._lines.copy() if self._rows is None else self._rows.written().copy()

    @property
    def text(self) -> str:
        """The whole message, segments ended by CR. This is content: never for a log or an error."""
        return self._text or "\r".join(self._lines if self._rows is None else self._rows.written()) + "\r"

    def names(self) -> list[str]:
        """The name of each segment in order; "" for a line that is no segment."""
        return [name if is_name(name) else "" for name in self._split().names()]

    def count(self, name: str) -> int:
        """How many segments have that name."""
        if self.first and name not in self.first and isinstance(self._rows, Short):
            return 0
        if self._text and name != "MSH" and f"\r{name}" not in self._text:
            return 0
        return self._split().number_of(name)

    def sole(self, name: str) -> list[str] | None:
        """The fields of the only segment of that name, to be read: empty for none; None for several, and where it is
        not usual. Where it can be told without, nothing else is split.
        """
        rows = self._rows
        if rows is None:
            if self._text and (alone := _alone(self._text, name)) is not None:
                return alone
            rows = self._split()
        if isinstance(rows, Short) and self.first:
            found = self.first.get(name, _ABSENT)
            if found is _ABSENT or len(rows) == len(self.first):  # each name once
                return found
            return found if list(map(_NAME, rows)).count(name) == 1 else None
        number = rows.number_of(name) if self.is_usual() else 2
        return self.fields(name) if number == 1 else None if number else _ABSENT

    # Inside

    def _split(self) -> Short | Long:
        rows = self._rows
        if rows is None:
            lines = self._lines
            if len(lines) > FEW or not self.is_usual():
                rows = Long(lines, self.separators.field)
            else:
                rows = Short(map(str.split, lines, repeat(_FIELD)))
                self.first = rows.first()
            self._rows, self._lines, self._text = rows, [], ""
        return rows

    def _find_first(self, name: str) -> list[str] | None:
        if not self.is_usual():
            return None
        rows = self._split()
        if isinstance(rows, Short):
            self.first = self.first or rows.first()
        elif places := rows.at(name):
            self.first[name] = rows.row(places[0])
        return self.first.get(name)

    def _put(self, at: int, row: list[str]) -> None:
        self._split().put(at, row)
        self.first = {}

    def _take(self, gone: Sequence[int]) -> None:
        self._split().take(gone)
        self.first = {}


def _alone(text: str, name: str) -> list[str] | None:
    """The fields of the only line that begins with ``name``; empty for none, None where it is not so plain."""
    begin = "\r" + name
    at = text.find(begin)
    if text.startswith(name):
        return None
    if at < 0:
        return _ABSENT
    fields = text[at + 1 : text.find("\r", at + 1)].split(_FIELD)
    return fields if fields[0] == name and text.find(begin, at + 1) < 0 else None


def is_name(word: str) -> bool:
    """Whether a line that begins with this word is a segment; another one is kept and never named."""
    return len(word) == 3 and word.isalnum() and word.isascii()
