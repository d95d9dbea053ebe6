"""How one segment gets from one version to another: what stays as it stands, and what is made of all else.

Most segments of most messages are in the other version as they are, which a regular expression tells of a line. For
most lines their delimiters alone decide that, whatever stands between them: it is asked once for each segment and its
delimiters, which differ far less than what they delimit. What it does not let pass goes field by field, by the rules
(``version_rules.py``) and what the versions keep elsewhere (``carried.py``). Times that move from one segment to
another are a matter of the whole message (``conversion.py``).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.versions import SUPPORTED_VERSIONS, at_least
from engine.remembered import remembered
from engine.transforms.building.carried import SPLIT, Ways, carry_segment, fill, read, stops_repeating, ways
from engine.transforms.building.components import emptied
from engine.transforms.building.version_rules import Says, SegmentRules, segment_rules

#: What lines of a segment match that only their contents may keep from staying as they stand.
Form = Callable[[str], object]
#: Of a line that ends with its last filled field, and of its fields, which may be changed, the line in the new version;
#: None where that depends on the rest of the message, or on what nobody has asked of such a line before.
Way = Callable[[str, list[str]], str | None]

#: Whether something of a segment with these fields may go elsewhere.
Moves = Callable[[Sequence[str]], bool]

#: What stands in fields of PID up to 2.6 and elsewhere since.
_PATIENT = frozenset({9, 12, 20})
#: Ways that are remembered, of all passages together, and the longest delimiters that one is remembered for.
MOST_WAYS, LONGEST = 8192, 128
#: Those that are, in the order in which they were made: the oldest is forgotten first.
_WAYS: deque[tuple[Known, bytes]] = deque()


class Passage(dict[bytes, Way | None]):
    """Of one segment between two versions: of one that neither of them knows.

    By its delimiters, none of which stands behind the last filled field, the way of a line; None: it stays as it is.
    """

    __slots__ = ("moves",)

    def __init__(self, moves: Moves) -> None:
        super().__init__()
        #: Whether times, or resources, of a segment may go into others.
        self.moves = moves

    def __missing__(self, delimiters: bytes) -> Way | None:
        return None

    def carry(self, fields: list[str], defaults: Sequence[tuple[int, str]] = ()) -> str:
        """The segment in the new version, "" for none; ``defaults``: field, HL7 text of what is filled if empty."""
        del defaults
        return "|".join(fields).rstrip("|")


class Known(Passage):
    """Of one that a version knows."""

    __slots__ = ("_form", "_name", "_new", "_old", "_rules", "_settles", "_ways")

    def __init__(self, old: str, new: str, name: str) -> None:
        self._old, self._new, self._name = old, new, name
        self._rules, self._ways = segment_rules(new, name), ways(old, new)
        super().__init__(_moves(name, self._ways))
        #: Nothing moves within the segment before the rules are applied to it.
        self._settles = at_least(old, "2.7") is at_least(new, "2.7") and not self._rules.folds
        self._form: Form | None = None

    @property
    def form(self) -> Form:
        """What lines match that stay but for the case of a reason, and unless times move; made when first asked for."""
        if self._form is None:
            self._form = _form(self._old, self._new, self._name, self._ways)
        return self._form

    def __missing__(self, delimiters: bytes) -> Way | None:
        if self.form is never:
            return taken_apart
        if len(delimiters) > LONGEST:
            return self._match
        if len(_WAYS) >= MOST_WAYS:
            passage, oldest = _WAYS.popleft()
            del passage[oldest]
        _WAYS.append((self, delimiters))
        self[delimiters] = way = self._way(delimiters.decode("ascii"))
        return way

    def _way(self, delimiters: str) -> Way | None:
        form, rules = self.form, self._rules
        # With something between any two of them: what matches then does so whatever is left out of it.
        filled = self._name + re.sub("(.)", r"\1x", delimiters)
        if form(filled):
            return self._look if rules.cased else None
        if self._settles:
            fields = filled.split("|")
            if all(form(_settled(rules, one)) for one in ([*fields[:1], "", *fields[2:]], fields)):
                return self._settle
            if "~" not in delimiters:
                return self._apply
        # If it does not match with nothing in it, it does with nothing.
        return self._match if form(f"{self._name}{delimiters}x") else taken_apart

    def _match(self, line: str, fields: list[str]) -> str | None:
        """Of a line of which more than its delimiters has to be looked at."""
        return self._look(line, fields) if self.form(line) else None

    def _look(self, line: str, fields: list[str]) -> str | None:
        """Of a line that matches the form."""
        if self.moves(fields):
            return None
        return "|".join(fields).rstrip("|") if self._rules.cased and self._rules.recase(fields) else line

    def _settle(self, _: str, fields: list[str]) -> str | None:
        """Of a line that matches the form when it is settled."""
        return None if self.moves(fields) else _settled(self._rules, fields)

    def _apply(self, _: str, fields: list[str]) -> str | None:
        """Of a line to which nothing but the rules applies."""
        if self.moves(fields):
            return None
        self._rules.apply(fields)
        return "|".join(fields).rstrip("|")

    def carry(self, fields: list[str], defaults: Sequence[tuple[int, str]] = ()) -> str:
        """See ``Passage``."""
        if self._settles and not defaults:
            line = _settled(self._rules, fields)
            if self.form(line):  # as most do then
                return line
        carry_segment(fields, self._old, self._new)
        self._rules.apply(fields)
        for number, text in defaults:
            fill(fields, number, text)
        return "|".join(fields).rstrip("|") if len(fields) > 1 else fields[0]


class Filled(Known):
    """Of one whose empty fields are filled."""

    __slots__ = ()

    def __missing__(self, delimiters: bytes) -> Way | None:
        return taken_apart


class LeftOut(Filled):
    """Of one that the new version has no place for; its times may have one elsewhere."""

    __slots__ = ()

    def carry(self, fields: list[str], defaults: Sequence[tuple[int, str]] = ()) -> str:
        """See ``Passage``."""
        del fields, defaults
        return ""


@remembered(4096)
def known(old: str, new: str, name: str) -> Known:
    """Of a segment that a version knows."""
    return Known(old, new, name)


def taken_apart(line: str, fields: list[str]) -> str | None:
    """The way of lines that do not stay."""
    del line, fields
    return None


def never(line: str) -> bool:
    """The form of a segment that is always taken apart."""
    del line
    return False


def _settled(rules: SegmentRules, fields: list[str]) -> str:
    rules.settle(fields)
    return "|".join(fields).rstrip("|")


def stays(fields: Sequence[str]) -> bool:
    """Of a segment nothing of which goes elsewhere."""
    del fields
    return False


def _moves(name: str, passed: Ways) -> Moves:
    up, down, withdrawn, has_tq1 = passed
    if name == "SCH" and up:
        return lambda fields: bool(read(fields, 9) or read(fields, 11))
    if name == "SCH" and down and not has_tq1:
        return lambda fields: not read(fields, 11)
    if name == "OBR" and withdrawn:
        return lambda fields: bool(read(fields, 27))
    if name == "TQ1" and down:
        return bool
    if name in SPLIT and down:
        return lambda fields: any("~" in field for field in fields)
    return stays


def _form(old: str, new: str, name: str, passed: Ways) -> Form:
    up, down, withdrawn, _ = passed
    crosses, to_27 = at_least(old, "2.7") is not at_least(new, "2.7"), at_least(new, "2.7")
    apart = name == "MSH" or (down and name == "TQ1") or (crosses and name == "PID" and not at_least(new, "2.3.1"))
    if apart or old not in SUPPORTED_VERSIONS:  # senders may make versions up
        return never
    empty: frozenset[int] = frozenset()
    if name == "SCH" and up:
        empty = frozenset({9, 11})
    elif name == "OBR" and withdrawn:
        empty = frozenset({27})
    elif name == "PID" and crosses:
        empty = _PATIENT
    said: dict[int, Says] = {}
    for number, part in enumerate(fields_of(new, name), 1):
        repeats = part.most != 1 and not (down and name in SPLIT)
        without = emptied(part.type) if crosses and to_27 else ()
        said[number] = Says(number not in empty, repeats and not stops_repeating(name, number, old, new), without)
    return re.compile(segment_rules(new, name).form(said)).fullmatch
