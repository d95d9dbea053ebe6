"""What ``convert`` does to messages of one kind: worked out once for each MSH-9 and MSH-12 that come in.

Most segments of most messages are in the other version as they stand, which one regular expression tells of a whole
message. It knows the names of the segments that have come in so far and need nothing but that; all else goes segment by
segment, to the same end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from engine.hl7.dictionary import fields as fields_of
from engine.hl7.message import Message
from engine.hl7.rows import is_name
from engine.hl7.separators import Separators
from engine.hl7.structure import message_type_field, segment_order, structure_of
from engine.hl7.versions import SUPPORTED_VERSIONS, at_least
from engine.transforms.building.carried import carry_segment, carry_times, fill, moves_times, ways
from engine.transforms.building.version_rules import segment_rules

#: Fields of MSH that the engine writes, or that have been there from the beginning, as a list has them: without MSH-1.
_HEADER = 12
#: How often a conversion learns further names: a form takes some milliseconds to make, and senders may make names up.
_LESSONS = 16
#: How many forms are made for all conversions together, for the same reason.
_FORMS = 256
_ENCODING = Separators.default.encoding_characters
#: Behind ``SCH``: SCH-11 is filled.
_TIMED = r"(?=(?:\|[^|\r]*+){10}\|[^|\r])"

#: Segment → field, HL7 text: what fills fields that the version requires and that are empty.
Defaults = Mapping[str, Sequence[tuple[int, str]]]


class Conversion:
    """Of messages of one kind, from one version to another."""

    __slots__ = (
        *("_crosses", "_event", "_fields", "_filled", "_kind", "_lessons", "_names", "_new", "_old", "_type"),
        *("form", "known"),
    )

    def __init__(self, new: str, kind: str, event: str, structure: str, old: str, filled: Iterable[str] = ()) -> None:
        """``structure``: MSH-9.3 as it stands; ``filled``: segments that get defaults."""
        self._kind, self._event, self._old, self._new = kind, event, old, new
        before = structure_of(kind, event, old)
        #: Whether the new version has such messages, or nobody can tell.
        self.known = structure_of(kind, event, new) is not None or before is None
        self._type = message_type_field(kind, event, new)
        if structure and self._type.count("^") == 1 and at_least(new, "2.3.1"):
            self._type += f"^{structure}"
        self._fields = len(fields_of(new, "MSH"))
        self._crosses = at_least(old, "2.7") is not at_least(new, "2.7")
        self._filled = frozenset(filled)
        self._names: frozenset[str] = frozenset()
        self._lessons = _LESSONS if before and old in SUPPORTED_VERSIONS and not self._crosses else 0
        #: What matches the lines behind MSH, each with the CR before it, of a message in which nothing changes but MSH.
        self.form: re.Pattern[str] | None = None

    def header(self, fields: list[str]) -> str:
        """MSH in the new version, with the usual delimiters; ``fields``: its fields as they stand."""
        made = fields[: self._fields]
        if len(made) < _HEADER:
            made += [""] * (_HEADER - len(made))
        made[1], made[8], made[11] = _ENCODING, self._type, self._new
        return "|".join(made).rstrip("|")

    def segments(self, lines: Sequence[str], message: Message, defaults: Defaults) -> list[str]:
        """The segments behind MSH in the new version; ``lines``: as they stand in ``message``."""
        old, new = self._old, self._new
        if self._lessons:
            self._learn(lines)
        if moves_times(message, lines, old, new):
            split = [line.split("|") for line in lines]
            carry_times(split, self._kind, old, new)
            lines = ["|".join(fields) for fields in split]
        made: list[str] = []
        for line in lines:
            name = line.partition("|")[0]
            if _leaves(name, self._kind, self._event, old, new):
                continue
            rules = segment_rules(new, name)
            if self._crosses or "~" in line or name in defaults or not rules.leave(line):
                fields = line.split("|")
                carry_segment(fields, old, new)
                rules.apply(fields)
                for number, text in defaults.get(name, ()):
                    fill(fields, number, text)
                line = "|".join(fields).rstrip("|") if len(fields) > 1 else name
            made.append(line)
        return made

    def _learn(self, lines: Sequence[str]) -> None:
        """Let ``form`` know the segments of these names, but those that are always looked at one by one."""
        names = set(filter(is_name, (line.partition("|")[0] for line in lines))) - self._names
        up, down = ways(self._old, self._new)
        apart = {*self._filled, *(("SCH", "OBR") if up else ()), *(("TQ1",) if down else ())}
        kind = self._kind, self._event, self._old, self._new
        more = {name for name in names - apart if not _leaves(name, *kind)}
        if more and _form.cache_info().misses >= _FORMS:
            self._lessons = 0
        elif more:
            self._lessons -= 1
            self._names |= more
            self.form = _form(self._new, self._names, timed=down)


@lru_cache(maxsize=4096)
def _leaves(name: str, kind: str, event: str, old: str, new: str) -> bool:
    """Whether the old version has this segment, in this structure or at all, and the new one has not."""
    if fields_of(old, name) and not fields_of(new, name):
        return True
    before, after = structure_of(kind, event, old), structure_of(kind, event, new)
    if before is None or after is None:
        return False
    return name in segment_order(before, old) and name not in segment_order(after, new)


@lru_cache(maxsize=_FORMS)
def _form(version: str, names: frozenset[str], *, timed: bool) -> re.Pattern[str]:
    ahead = {"SCH": _TIMED} if timed else {}
    forms = (segment_rules(version, name).form(ahead.get(name, "")) for name in sorted(names))
    return re.compile(rf"(?:\r(?:{'|'.join(forms)}))*")
