"""The segments of a message as rows of fields: split when first asked for, joined when their text is wanted.

A row is the list of a segment's fields, and the row itself is what is changed: nothing has to be told of it, and what
nobody changed joins to the very text it was split from. A short message is split as a whole, which costs less than
finding out what of it is needed; of a long one each row but MSH is ``[name, rest]`` until something in it is asked for.
All of that is done by ``map`` over lists and not line by line. Paths and values are in ``message.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter

from engine.hl7.header import Header
from engine.hl7.separators import Separators
from engine.hl7.wire import Coding

#: A message of more lines than this is long.
FEW = 32

_NAME = itemgetter(0)


class Places:
    """Where the segments of each name stand in a long message."""

    __slots__ = ("_found", "_names", "_rows")

    def __init__(self, rows: Sequence[list[str]]) -> None:
        self._rows = rows
        self._names: list[str] | None = None
        self._found: dict[str, list[int]] = {}

    def of(self, name: str) -> list[int]:
        """The places of that name in rising order."""
        found = self._found.get(name)
        if found is None:
            names = self._names
            if names is None:
                names = self._names = list(map(_NAME, self._rows))
            found = self._found[name] = _places(names, name)
        return found


class Rows:
    """The segments of one message."""

    __slots__ = ("_coding", "_header", "_lines", "_places", "_rows", "first", "separators")

    def __init__(self, lines: list[str], separators: Separators, coding: Coding) -> None:
        """``lines`` belong to the message from now on."""
        #: What it is as long as nothing was split; ``_rows`` after that.
        self._lines = lines
        self._rows: list[list[str]] | None = None
        #: Name → fields of the first segment of that name. Of a short message all of them or none, of a long one those
        #: that were asked for; none where ``is_usual`` is not so.
        self.first: dict[str, list[str]] = {}
        #: None for a short message, all of whose rows are split.
        self._places: Places | None = None
        self.separators = separators
        self._coding = coding
        #: MSH as it was when somebody asked for it.
        self._header: Header | None = None

    # Reading

    def fields(self, name: str) -> list[str] | None:
        """The fields of the first segment of that name; None for no such segment, and where ``is_usual`` is not so.

        It is the message's own list: what is put into it stands in the message. In MSH the delimiter is no field of
        its own, so MSH-9 is at index 8.
        """
        first = self.first
        if first and self._places is None:
            return first.get(name)
        if self.is_usual():
            self._find_first(name)
        return self.first.get(name)

    def is_usual(self) -> bool:
        """Whether it has the usual delimiters, and no segment that stays bytes."""
        return self.separators is Separators.default

    def rows(self) -> list[list[str]]:
        """The fields of every segment, the message's own lists: read them, change a row by ``fields`` or a Segment."""
        rows = self._split()
        return rows if self._places is None else [self._row(at) for at in range(len(rows))]

    def lines(self) -> list[str]:
        """The text of each segment as it stands, in their order. This is content, as ``text``."""
        return self._lines.copy() if self._rows is None else list(map(self.separators.field.join, self._rows))

    @property
    def text(self) -> str:
        """The whole message, segments ended by CR. This is content: never for a log or an error."""
        lines = self._lines if self._rows is None else map(self.separators.field.join, self._rows)
        return "\r".join(lines) + "\r"

    def names(self) -> list[str]:
        """The name of each segment in order; "" for a line that is no segment."""
        return [name if is_name(name) else "" for name in map(_NAME, self._split())]

    def count(self, name: str) -> int:
        """How many segments have that name."""
        known = self.fields(name) is not None
        if self.first and self._places is None and (not known or len(self.first) == len(self._split())):
            return int(known and is_name(name))
        return len(self._at(name))

    # Changing

    def _take(self, other: Rows) -> None:
        """Become a copy of ``other``, of which nothing was split yet or everything is shared by nobody."""
        if other._rows is None:
            return
        rows = self._rows = list(map(list.copy, other._rows))
        if other._places is not None:
            self._places = Places(rows)

    def _insert(self, at: int, row: list[str]) -> None:
        self._split().insert(at, row)
        self._moved()

    def _remove(self, gone: Sequence[list[str]]) -> None:
        known, rows = set(map(id, gone)), self._split()
        rows[:] = [row for row in rows if id(row) not in known]
        self._moved()

    def _moved(self) -> None:
        """What is known of where segments stand holds no longer."""
        rows = self._split()
        self.first = {}
        if self._places is not None or len(rows) > FEW:
            self._places = Places(rows)

    # Inside

    def _split(self) -> list[list[str]]:
        rows = self._rows
        if rows is not None:
            return rows
        lines, field = self._lines, self.separators.field
        if len(lines) <= FEW:
            rows = list(map(str.split, lines, repeat(field)))
        else:
            rows = list(map(str.split, lines, repeat(field), repeat(1)))
            rows[0] = lines[0].split(field)
            self._places = Places(rows)
        self._rows, self._lines = rows, []
        return rows

    def _find_first(self, name: str) -> None:
        rows = self._split()
        if self._places is None:
            self.first = dict(zip(map(_NAME, reversed(rows)), reversed(rows), strict=True))
        elif at := self._places.of(name):
            self.first[name] = self._row(at[0])

    def _at(self, name: str) -> list[int]:
        """The places of the segments of that name."""
        rows = self._split()
        if self._places is not None:
            return self._places.of(name)
        names = list(map(_NAME, rows))
        return [names.index(name)] if names.count(name) == 1 and is_name(name) else _places(names, name)

    def _row(self, at: int) -> list[str]:
        """The row at a place, split."""
        row = self._split()[at]
        if self._places is not None and len(row) == 2 and self.separators.field in row[1]:
            row[1:] = row[1].split(self.separators.field)
        return row


def _places(names: list[str], name: str) -> list[int]:
    return [at for at, each in enumerate(names) if each == name] if name in names and is_name(name) else []


def is_name(word: str) -> bool:
    """Whether a line that begins with this word is a segment; another one is kept and never named."""
    return len(word) == 3 and word.isalnum() and word.isascii()
