"""How one segment gets from one version to another: what stays as it stands, and what is made of all else.

Most segments of most messages are in the other version as they are, which a regular expression tells of a line, made
when a message first brings such a segment. What it does not let pass goes field by field, by the rules
(``version_rules.py``) and what the versions keep elsewhere (``carried.py``). Times that move from one segment to
another are a matter of the whole message (``conversion.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.versions import SUPPORTED_VERSIONS, at_least
from engine.remembered import remembered
from engine.transforms.building.carried import SPLIT, Ways, carry_segment, fill, read, stops_repeating, ways
from engine.transforms.building.components import emptied
from engine.transforms.building.version_rules import Says, segment_rules

#: Whether a line stays as it stands.
Form = Callable[[str], object]

#: What stands in fields of PID up to 2.6 and elsewhere since.
_PATIENT = frozenset({9, 12, 20})
#: Behind ``SCH``: SCH-11 is filled.
_TIMED = r"(?=(?:\|[^|]*+){10}\|[^|])"


class Passage:
    """Of one segment between two versions: of one that neither of them knows."""

    __slots__ = ()

    @property
    def form(self) -> Form:
        """Whether a line stays as it stands."""
        return unknown

    def moves(self, fields: Sequence[str]) -> bool:
        """Whether times, or resources, of this segment may go into others."""
        del fields
        return False

    def carry(self, fields: list[str], defaults: Sequence[tuple[int, str]] = ()) -> str:
        """The segment in the new version, "" for none; ``defaults``: field, HL7 text of what is filled if empty."""
        del defaults
        return "|".join(fields).rstrip("|")


class Known(Passage):
    """Of one that a version knows."""

    __slots__ = ("_form", "_name", "_new", "_old", "_rules", "_settles", "_ways")

    def __init__(self, old: str, new: str, name: str) -> None:
        self._old, self._new, self._name = old, new, name
        self._rules = segment_rules(new, name)
        self._ways = ways(old, new)
        #: Nothing moves within the segment before the rules are applied to it.
        self._settles = at_least(old, "2.7") is at_least(new, "2.7") and not self._rules.folds
        self._form: Form | None = None

    @property
    def form(self) -> Form:
        """See ``Passage``; made when it is first asked for."""
        if self._form is None:
            self._form = _form(self._old, self._new, self._name, self._ways)
        return self._form

    def moves(self, fields: Sequence[str]) -> bool:
        """See ``Passage``."""
        name, (up, down, withdrawn, has_tq1) = self._name, self._ways
        if name == "SCH":
            return bool(up and (read(fields, 9) or read(fields, 11))) or (down and not has_tq1 and not read(fields, 11))
        if name == "OBR":
            return withdrawn and bool(read(fields, 27))
        return down and (name == "TQ1" or (name in SPLIT and any("~" in field for field in fields)))

    def carry(self, fields: list[str], defaults: Sequence[tuple[int, str]] = ()) -> str:
        """See ``Passage``."""
        if self._settles and not defaults:
            self._rules.settle(fields)
            line = "|".join(fields).rstrip("|")
            if self.form(line):  # as most do then
                return line
        carry_segment(fields, self._old, self._new)
        self._rules.apply(fields)
        for number, text in defaults:
            fill(fields, number, text)
        return "|".join(fields).rstrip("|") if len(fields) > 1 else fields[0]


class LeftOut(Known):
    """Of one that the new version has no place for; its times may have one elsewhere."""

    __slots__ = ()

    @property
    def form(self) -> Form:
        """See ``Passage``."""
        return never

    def carry(self, fields: list[str], defaults: Sequence[tuple[int, str]] = ()) -> str:
        """See ``Passage``."""
        del fields, defaults
        return ""


@remembered(4096)
def known(old: str, new: str, name: str) -> Known:
    """Of a segment that a version knows."""
    return Known(old, new, name)


def unknown(line: str) -> bool:
    """Whether a line of a segment that no version knows stays as it stands."""
    return not line.endswith("|")


def never(line: str) -> bool:
    """Of a segment that is always looked at field by field."""
    del line
    return False


def _form(old: str, new: str, name: str, passed: Ways) -> Form:
    up, down, withdrawn, has_tq1 = passed
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
    ahead = _TIMED if name == "SCH" and down and not has_tq1 else ""
    return re.compile(segment_rules(new, name).form(said, ahead)).fullmatch
