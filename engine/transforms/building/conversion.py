"""What ``convert`` does to messages of one kind: worked out once for each MSH-9 and MSH-12 that come in.

Lines that are in the other version as they stand, as most are, are told by their delimiters (``passage.py``); only the
others are taken apart. A time or a resource that goes into other segments has the whole message looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, count, repeat
from operator import getitem

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.message import Message
from engine.hl7.rows import Short, is_name
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field, segment_order, structure_of
from engine.hl7.versions import at_least
from engine.remembered import remembered
from engine.transforms.building.assembly import usual_lines
from engine.transforms.building.carried import carry_times
from engine.transforms.building.passage import Filled, LeftOut, Passage, known, stays

#: Fields of MSH that the engine writes, or that have been there from the beginning, as a list has them: without MSH-1.
_HEADER = 12
#: Names of segments that a conversion remembers: senders may make names up.
_MOST = 256
_ENCODING = Separators.default.encoding_characters
_UNKNOWN = Passage(stays)
#: What is no delimiter, nor the end of a segment, in UTF-8.
_HELD = bytes(set(range(256)) - set(b"|^~\r"))

#: Segment → field, HL7 text: what fills fields that the version requires and that are empty.
Defaults = Mapping[str, Sequence[tuple[int, str]]]


class Conversion:
    """Of messages of one kind, from one version to another."""

    __slots__ = ("_fields", "_kind", "_new", "_old", "_passages", "_type", "known")

    def __init__(self, new: str, kind: str, event: str, structure: str, old: str, filled: Iterable[str] = ()) -> None:
        """``structure``: MSH-9.3 as it stands; ``filled``: segments that get defaults."""
        self._kind, self._old, self._new = kind, old, new
        #: Whether the new version has such messages, or nobody can tell.
        self.known = structure_of(kind, event, new) is not None or structure_of(kind, event, old) is None
        self._type = message_type_field(kind, event, new)
        if structure and self._type.count("^") == 1 and at_least(new, "2.3.1"):
            self._type += f"^{structure}"
        self._fields = len(fields_of(new, "MSH"))
        self._passages = _Passages(kind, event, old, new, filled)

    def lines(self, message: Message, defaults: Defaults) -> list[str]:
        """The segments in the new version, with the usual delimiters; ``message`` stays as it is."""
        rows = message.split()
        names = rows.names()
        names[0] = ""  # MSH is made below
        lines = list(map(str.rstrip, rows.written() if isinstance(rows, Short) else usual_lines(message), repeat("|")))
        text = "\r".join(lines).encode("utf-8", "surrogatepass")
        delimiters = text.translate(None, _HELD).split(b"\r")
        ways = list(map(getitem, map(self._passages.__getitem__, names), delimiters))
        made: dict[int, str | None] = {}
        for at in compress(count(), ways):
            # A copy: the message may be the request as well, which the reply is made with.
            fields = rows[at].copy() if isinstance(rows, Short) else lines[at].split("|")
            made[at] = ways[at](lines[at], fields)  # type: ignore[misc]  # only those are left that are not None
        if None in made.values():
            lines = self._carried(lines, made, defaults)
        else:
            _put(made, lines)
        lines[0] = self._header(lines[0].split("|"))
        return lines if all(lines) else list(filter(None, lines))

    def _header(self, fields: list[str]) -> str:
        """MSH in the new version; ``fields``: its fields as they stand."""
        del fields[self._fields :]
        if len(fields) < _HEADER:
            fields += [""] * (_HEADER - len(fields))
        fields[1], fields[8], fields[11] = _ENCODING, self._type, self._new
        return "|".join(fields).rstrip("|")

    def _carried(self, lines: list[str], made: dict[int, str | None], defaults: Defaults) -> list[str]:
        """``made``: what becomes of those that do not stay as they are, None where that is still to be found out.

        Until then they stand in ``lines`` as they came in: what moves from one to others may be in any of them.
        """
        for at in [at for at, line in made.items() if line is None]:
            fields = lines[at].split("|")
            passage = self._passages[fields[0]]
            if passage.moves(fields):
                return self._moved(lines, defaults)
            made[at] = passage.carry(fields, defaults.get(fields[0], ()))
        _put(made, lines)
        return lines

    def _moved(self, lines: list[str], defaults: Defaults) -> list[str]:
        """Of a message in which times or resources go from one segment to others."""
        rows = [line.split("|") for line in lines[1:]]
        carry_times(rows, self._kind, self._old, self._new)
        made = (self._passages[fields[0]].carry(fields, defaults.get(fields[0], ())) for fields in rows)
        return [lines[0], *made]


def _put(made: Mapping[int, str | None], lines: list[str]) -> None:
    for at, line in made.items():
        lines[at] = line or ""


class _Passages(dict[str, Passage]):
    """Of each segment that has come in."""

    def __init__(self, kind: str, event: str, old: str, new: str, filled: Iterable[str]) -> None:
        super().__init__()
        self._ways, self._filled = (kind, event, old, new), frozenset(filled)

    def __missing__(self, name: str) -> Passage:
        if not is_name(name):
            return _UNKNOWN
        _, _, old, new = self._ways
        passage = _UNKNOWN
        if _leaves(name, *self._ways):
            passage = LeftOut(old, new, name)
        elif name in self._filled:
            passage = Filled(old, new, name)
        elif fields_of(old, name) or fields_of(new, name):
            passage = known(old, new, name)
        if len(self) < _MOST:
            self[name] = passage
        return passage


@remembered(4096)
def _leaves(name: str, kind: str, event: str, old: str, new: str) -> bool:
    """Whether the old version has this segment, in this structure or at all, and the new one has not."""
    if fields_of(old, name) and not fields_of(new, name):
        return True
    before, after = structure_of(kind, event, old), structure_of(kind, event, new)
    if before is None or after is None:
        return False
    return name in segment_order(before, old) and name not in segment_order(after, new)
