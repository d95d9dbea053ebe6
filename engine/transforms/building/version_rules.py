"""What changes between HL7 versions, field by field: rules V2 to V5 and V7 of the site's EMR mapping (systems.md D.6).

Works on the fields of one segment as texts with the usual delimiters. ``build`` and ``convert`` share it, so a
message built for 2.3 and one converted to 2.3 obey the same rules. V1 is in ``../build.py``, V3 in ``../convert.py``,
V6 in ``values/times.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from engine.hl7.dictionary import component_count, field_type, withdrawn
from engine.hl7.versions import at_least

#: The last field number that any version's tables know.
_LAST = 60

# HL7 table 0276: mixed case up to 2.3.1, upper case from 2.4.
_REASONS = {word.upper(): word for word in ("Routine", "Walkin", "Checkup", "Followup", "Emergency")}
_REASON_FIELDS = frozenset({("SCH", 7), ("ARQ", 7)})

# Withdrawn patient identifiers and their type in table 0203, as PID-3 carries them from 2.7.
_IDENTIFIERS = ((2, "PT"), (4, "U"), (19, "SS"))
_FOLDED = frozenset(number for number, _ in _IDENTIFIERS)

# Text of a component, and of a field that may hold anything, as regular expressions.
_PART, _ANY = r"[^|^~]*+", r"[^|]*+"


class Says(NamedTuple):
    """What must be so of a field for its segment to stay as it stands, beside the rules."""

    #: It may hold something.
    holds: bool = True
    #: It may hold several repetitions.
    repeats: bool = True
    #: Components that must be empty.
    without: tuple[int, ...] = ()


_ONCE = Says(repeats=False)


class SegmentRules:
    """What one segment must look like in one version."""

    __slots__ = (
        *("_end", "_fill_placer", "_fits", "_gone", "_limits", "_reason", "_segment", "_within", "_words"),
        *("cased", "folds", "targets"),
    )

    def __init__(self, version: str, segment: str) -> None:
        types = {number: field_type(version, segment, number) for number in range(1, _LAST + 1)}
        known = segment != "MSH" and any(types.values())
        self._gone = frozenset(
            number for number, kind in types.items() if known and (kind is None or withdrawn(version, segment, number))
        )
        #: Where the fields end that the version has; 0 for a segment that it does not know.
        self._end = max((number for number in types if number not in self._gone), default=0) + 1 if known else 0
        self._within = tuple(number for number in sorted(self._gone) if number < self._end)
        counts = {number: component_count(version, kind) for number, kind in types.items() if kind and known}
        self._limits = {number: count for number, count in counts.items() if count}
        #: Identifiers that fall away become repetitions of PID-3.
        self.folds = segment == "PID" and 2 in self._gone
        self._fill_placer = segment == "SCH" and 26 in self._gone
        self._reason = next((number for name, number in _REASON_FIELDS if name == segment), 0)
        #: A word in it is written in the case of the version.
        self.cased = self._reason > 0
        #: Word → how the version writes it; in upper case.
        self._words = {word: word if at_least(version, "2.4") else name for word, name in _REASONS.items()}
        self._segment = segment
        #: Made when a message first asks: a site has rules for far more segments than it has messages at its start.
        self._fits: re.Pattern[str] | None = None
        #: Fields that the rules may fill themselves.
        self.targets = (3,) if self.folds else (1,) if self._fill_placer else ()

    def leave(self, line: str) -> bool:
        """Whether a segment, as text, is in the version as it stands: most of most messages are."""
        if self._fits is None:
            self._fits = re.compile(self.form({}, self._cased_ahead()))
        return self._fits.fullmatch(line) is not None

    def form(self, said: Mapping[int, Says], ahead: str = "") -> str:
        """A regular expression for a segment that the rules would not change, field by field and without trying twice.

        It ends where the segment does, with its last filled field. What matches a field matches some of any other too,
        and is held up where that one goes on, so that no field is taken for the next. Fields of which ``said`` tells
        nothing have no repetitions where they have components. ``ahead``: what else must match behind the name; the
        case of a reason is for that, or for ``recase``.
        """
        fields = [self._field(number, said.get(number, _ONCE)) for number in range(1, self._end)]
        form = "" if fields else rf"(?:\|{_ANY})*+"
        for one, run in reversed([(one, len(list(same))) for one, same in groupby(fields)]):
            form = rf"(?:(?:\|{one}){{1,{run}}}+{form}|)" if run > 1 else rf"(?:\|{one}{form}|)"
        return rf"{re.escape(self._segment)}{ahead}{form}(?<!\|)"

    def _field(self, number: int, says: Says) -> str:
        limit = self._limits.get(number, 0)
        if not says.holds or number in self._gone or (self.folds and number in _FOLDED):
            return ""
        if not limit:
            return _ANY if says.repeats else r"[^|~]*+"
        one = _components(limit, says.without)
        if not says.repeats:
            return one
        return rf"{one}(?:~{one})*+" if "^" in one.removeprefix(_PART) else r"[^|^]*+"

    def _cased_ahead(self) -> str:
        """What matches but behind a reason that is not in the case of the version."""
        if not self._reason:
            return ""
        words = "|".join(self._words.values())
        end = r"(?![^|^])"
        return rf"(?!(?:\|{_ANY}){{{self._reason - 1}}}\|(?!(?:{words}){end})(?i:{'|'.join(_REASONS)}){end})"

    def apply(self, fields: list[str]) -> None:
        """Bring ``fields`` (index 0 is the name) into the version, in place."""
        self.settle(fields)
        limits = self._limits
        for number, text in enumerate(fields):
            if "^" in text and (limit := limits.get(number)) and text.count("^") >= limit:
                fields[number] = _cut(text, limit)

    def settle(self, fields: list[str]) -> None:
        """``apply`` but for what is cut within fields."""
        if self.folds:
            _fold_identifiers(fields)
        number = len(fields)
        if self._fill_placer and number > 26 and not fields[1]:
            fields[1] = fields[26]
        if self._reason:
            self.recase(fields)
        if self._end:
            del fields[self._end :]
        for gone in self._within:
            if gone < number:
                fields[gone] = ""

    def recase(self, fields: list[str]) -> bool:
        """Bring a reason into the case of the version, in place; whether it was not."""
        at = self._reason
        if at >= len(fields):
            return False
        code, caret, rest = fields[at].partition("^")
        word = self._words.get(code.upper(), code)
        if word == code:
            return False
        fields[at] = f"{word}{caret}{rest}"
        return True


@lru_cache(maxsize=512)
def segment_rules(version: str, segment: str) -> SegmentRules:
    """The rules of a segment; made once per version."""
    return SegmentRules(version, segment)


def _components(limit: int, without: tuple[int, ...] = ()) -> str:
    """What matches the components of a repetition, at most ``limit``; of ``without`` the first is empty.

    And none from the next of them on.
    """
    if not without:
        return _PART + _further(limit - 1)
    empty, last = without[0], min(limit, without[1] - 1) if without[1:] else limit
    behind = rf"(?![^^~|]){_further(last - empty)}"
    return rf"(?:{behind})?+" if empty == 1 else rf"{_PART}{_further(empty - 2)}(?:\^{behind})?+"


def _further(number: int) -> str:
    return rf"(?:\^{_PART}){{0,{number}}}+" if number > 0 else ""


def _cut(text: str, limit: int) -> str:
    return "~".join(
        "^".join(repetition.split("^")[:limit]).rstrip("^") if repetition.count("^") >= limit else repetition
        for repetition in text.split("~")
    )


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
