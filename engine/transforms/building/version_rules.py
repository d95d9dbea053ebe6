"""What changes between HL7 versions, field by field: rules V2 to V5 and V7 of the site's EMR mapping (systems.md D.6).

Works on the fields of one segment as texts with the usual delimiters. ``build`` and ``convert`` share it, so a
message built for 2.3 and one converted to 2.3 obey the same rules. V1 is in ``../build.py``, V3 in ``../convert.py``,
V6 in ``values/times.py``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from engine.hl7.dictionary import component_count, field_type, withdrawn
from engine.hl7.versions import at_least

#: The last field number that any version's tables know.
_LAST = 60

# HL7 table 0276: mixed case up to 2.3.1, upper case from 2.4.
_REASONS = {word.upper(): word for word in ("Routine", "Walkin", "Checkup", "Followup", "Emergency")}
_REASON_FIELDS = frozenset({("SCH", 7), ("ARQ", 7)})

# Withdrawn patient identifiers and their type in table 0203, as PID-3 carries them from 2.7.
_IDENTIFIERS = ((2, "PT"), (4, "U"), (19, "SS"))

# A field without repetitions, and any number of them, as regular expressions.
_ANY = r"[^|~\r]*+"
_MORE = rf"(?:\|{_ANY})*+"


class SegmentRules:
    """What one segment must look like in one version."""

    __slots__ = ("_fill_placer", "_fits", "_fold", "_gone", "_limits", "_reason", "_segment", "_upper", "targets")

    def __init__(self, version: str, segment: str) -> None:
        types = {number: field_type(version, segment, number) for number in range(1, _LAST + 1)}
        known = segment != "MSH" and any(types.values())
        self._gone = frozenset(
            number for number, kind in types.items() if known and (kind is None or withdrawn(version, segment, number))
        )
        counts = {number: component_count(version, kind) for number, kind in types.items() if kind and known}
        self._limits = {number: count for number, count in counts.items() if count}
        self._fold = segment == "PID" and 2 in self._gone
        self._fill_placer = segment == "SCH" and 26 in self._gone
        self._reason = next((number for name, number in _REASON_FIELDS if name == segment), 0)
        self._upper = at_least(version, "2.4")
        self._segment = segment
        #: Made when a message first asks: a site has rules for far more segments than it has messages at its start.
        self._fits: re.Pattern[str] | None = None
        #: Fields that the rules may fill themselves.
        self.targets = (3,) if self._fold else (1,) if self._fill_placer else ()

    def leave(self, line: str) -> bool:
        """Whether a segment without repetitions, as text, is in the version as it stands: most of most messages are."""
        if self._fits is None:
            self._fits = re.compile(self.form())
        return self._fits.fullmatch(line) is not None

    def form(self, ahead: str = "") -> str:
        """A regular expression for a segment that the rules would not change, field by field and without trying twice.

        It ends where the segment does, with its last filled field, and is for segments without repetitions. ``ahead``:
        what else must match behind the name.
        """
        first = {2: "", 4: "", 19: ""} if self._fold else {}
        if self._fill_placer:
            first[26] = ""
        last = max((number for number in (*self._gone, *self._limits, *first)), default=0)
        form = ""
        for number in range(last, 0, -1):
            if number in self._gone or number in first:
                one = ""
            elif limit := self._limits.get(number):
                one = rf"[^|^~\r]*+(?:\^[^|^~\r]*+){{0,{limit - 1}}}+"
            else:
                one = _ANY
            if number == self._reason and one:
                one = rf"(?!{self._miscased()}){one}"
            form = rf"(?:\|{one}{form or _MORE}|)"  # a choice is tried in half the time of a repeat
        return rf"{re.escape(self._segment)}{ahead}{form or _MORE}(?<![|])"

    def _miscased(self) -> str:
        """What matches a reason that is not in the case of the version."""
        words = "|".join(word.upper() if self._upper else word for word in _REASONS.values())
        end = r"(?![^|^\r])"
        return rf"(?!(?:{words}){end})(?i:{words}){end}"

    def apply(self, fields: list[str]) -> None:
        """Bring ``fields`` (index 0 is the name) into the version, in place."""
        if self._fold:
            _fold_identifiers(fields)
        if self._fill_placer and len(fields) > 26 and not fields[1]:
            fields[1] = fields[26]
        if self._reason and len(fields) > self._reason:
            fields[self._reason] = self._cased(fields[self._reason])
        limits, gone = self._limits, self._gone
        for number, text in enumerate(fields):
            if not text or not number:
                continue
            if number in gone:
                fields[number] = ""
            elif "^" in text and (limit := limits.get(number)) and text.count("^") >= limit:
                fields[number] = _cut(text, limit)

    def _cased(self, text: str) -> str:
        code, caret, rest = text.partition("^")
        word = _REASONS.get(code.upper())
        if word is None:
            return text
        return (word.upper() if self._upper else word) + caret + rest


@lru_cache(maxsize=512)
def segment_rules(version: str, segment: str) -> SegmentRules:
    """The rules of a segment; made once per version."""
    return SegmentRules(version, segment)


def _cut(text: str, limit: int) -> str:
    return "~".join("^".join(repetition.split("^")[:limit]).rstrip("^") for repetition in text.split("~"))


def _fold_identifiers(fields: list[str]) -> None:
    """PID-2, PID-4 and PID-19 become repetitions of PID-3, each once."""
    if len(fields) < 4:
        fields.extend([""] * (4 - len(fields)))
    known = {repetition.partition("^")[0] for repetition in fields[3].split("~")}
    for number, kind in _IDENTIFIERS:
        for identifier in fields[number].split("~") if number < len(fields) and fields[number] else ():
            parts = identifier.split("^")
            if not parts[0] or parts[0] == '""' or parts[0] in known:
                continue
            parts.extend([""] * (5 - len(parts)))
            parts[4] = parts[4] or kind
            known.add(parts[0])
            fields[3] = "~".join(filter(None, (fields[3], "^".join(parts))))
