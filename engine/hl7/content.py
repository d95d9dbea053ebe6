"""Fields, components and subcomponents of one segment against the standard's tables.

Every value is looked at once, so this takes time in proportion to the text. Nothing that stands there is ever told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from engine.hl7.datatypes import FORMS, is_well_formed
from engine.hl7.dictionary import (
    Part,
    codes,
    components,
    fields,
    known_type,
    required_components,
    required_fields,
)
from engine.hl7.escape import unescape
from engine.hl7.findings import Check, times
from engine.hl7.segment import NULL, Segment

__all__ = ["ContentCheck"]

# Text in which a delimiter is a sender's slip.
_FREE = frozenset({"FT", "TX", "varies", "var", "CM", "ED", "RP"})
# Arrays: any number of components of one type.
_ARRAYS = frozenset({"MA", "NA"})
# A code, its text and its coding system, which may be one of the standard's tables.
_CODED = frozenset({"CE", "CNE", "CWE", "CF"})
# Message types, events and structures: a site's own begin with Z (HL7 v2.5.1 §2.11).
_LOCAL = frozenset({"0003", "0076", "0354"})
# Coding systems, some of which are written as patterns: HL7nnnn is any HL7 table, 99zzz any local code.
_SYSTEMS = "0396"
_PATTERNED = re.compile(r"(?:HL7|ISO|IBT)[0-9]{4}|99[A-Za-z0-9]{3}", re.ASCII)
# The type of these is named by another field of the segment.
_NAMED_TYPE = {("OBX", 5): 2, ("MFE", 4): 5}

#: Tells one fault: check, path behind the segment (``-3[2].1``), problem, expected, source.
Tell = Callable[[Check, str, str, str, str], None]


class ContentCheck:
    """The content rules of one version, for one message."""

    def __init__(
        self,
        version: str,
        segment: Segment,
        checks: Collection[Check],
        tell: Tell,
        relaxed: Collection[str] = (),
    ) -> None:
        self._version = version
        self._segment = segment
        self._name = segment.name
        self._checks = checks
        self._tell = tell
        #: Fields and components (``-3``, ``-3.5``) that need not be filled, whatever the standard says.
        self._relaxed = relaxed
        separators = segment.separators
        self._separators = (separators.component, separators.subcomponent)
        self._marks = separators.repetition + separators.component + separators.subcomponent

    def run(self) -> None:
        """Look at every field. Segments that the version does not have are passed over."""
        defined = fields(self._version, self._name)
        if not defined:
            return
        there = 0
        for number, text in self._segment.numbered():
            there = number
            if text == "":
                if number <= len(defined) and defined[number - 1].required:
                    self._missing(f"-{number}", defined[number - 1])
            elif text is not None:
                self._field(number, text, defined[number - 1] if number <= len(defined) else None)
        for number in required_fields(self._version, self._name):
            # MSH-1 and MSH-2 are what a message is recognised by; they are there.
            if number > there and (self._name != "MSH" or number > 2):
                self._missing(f"-{number}", defined[number - 1])

    def _field(self, number: int, text: str, part: Part | None) -> None:
        path = f"-{number}"
        if part is None:
            if text.strip(self._marks):
                count = len(fields(self._version, self._name))
                self._tell(
                    Check.EXTRA, path, "is no field of the segment", f"at most {count} fields", self._source(path)
                )
            return
        if text == NULL:
            return
        if not text[0].isalnum() and not text.strip(self._marks):
            if part.required:
                self._missing(path, part)
            return
        if part.withdrawn:
            self._tell(Check.WITHDRAWN, path, "is withdrawn in this version", "nothing", self._source(path))
            return
        mark = self._segment.separators.repetition
        repetitions = text.split(mark) if mark in text else [text]
        if part.most is not None and len(repetitions) > part.most:
            expected = f"{part.most} at most" if part.most > 1 else "no repetition"
            self._tell(Check.CARDINALITY, path, f"stands {times(len(repetitions))}", expected, self._source(path))
        kind = self._type_of(number, part)
        for at, repetition in enumerate(repetitions, 1):
            if repetition:
                where = f"{path}[{at}]" if len(repetitions) > 1 else path
                self._value(where, repetition, part, kind, 0)

    def _type_of(self, number: int, part: Part) -> str:
        other = _NAMED_TYPE.get((self._name, number))
        if other is None:
            return part.type
        named = self._segment.value(f"{self._name}-{other}[1]")
        return named if known_type(self._version, named) else part.type

    def _value(self, path: str, text: str, part: Part, kind: str, depth: int) -> None:
        """A repetition (depth 0), component (1) or subcomponent (2) that is not empty."""
        if text == NULL:
            return
        if part.length and len(text) > part.length:
            self._length(path, text, part.length)
        inner = components(self._version, kind) if depth < 2 and kind not in _ARRAYS else ()
        if inner:
            self._composite(path, text, kind, inner, depth)
            if part.table and kind in _CODED:
                self._coded(path, text, part.table, depth)
            return
        if kind in _FREE or kind in _ARRAYS:
            return
        component, subcomponent = self._separators
        if depth < 2 and (subcomponent in text or (depth == 0 and component in text)):
            what = "component" if depth == 0 else "subcomponent"
            self._tell(Check.EXTRA, path, f"has more than one {what}", f"data type {kind}", self._source(path))
            return
        if kind in FORMS and not is_well_formed(kind, text):
            self._tell(Check.DATATYPES, path, "is not well formed", FORMS[kind][1], self._type_source(kind))
        elif part.table and kind in ("ID", "IS"):
            self._code(path, text, part.table, Check.TABLES if kind == "ID" else Check.USER_TABLES)

    def _composite(self, path: str, text: str, kind: str, inner: tuple[Part, ...], depth: int) -> None:
        mark = self._separators[depth]
        pieces = text.split(mark) if mark in text else [text]
        for at, piece in enumerate(pieces, 1):
            where = f"{path}.{at}"
            if at > len(inner):
                if piece.strip(self._marks):
                    what = "component" if depth == 0 else "subcomponent"
                    expected = f"at most {len(inner)} {what}s"
                    self._tell(Check.EXTRA, where, f"is no {what} of {kind}", expected, self._type_source(kind))
            elif piece and (piece[0].isalnum() or piece.strip(self._marks)):
                part = inner[at - 1]
                if part.withdrawn:
                    self._tell(
                        Check.WITHDRAWN, where, "is withdrawn in this version", "nothing", self._type_source(kind)
                    )
                else:
                    self._value(where, piece, part, part.type, depth + 1)
            elif inner[at - 1].required:
                self._missing(where, inner[at - 1], kind)
        for at in required_components(self._version, kind):
            if at > len(pieces):
                self._missing(f"{path}.{at}", inner[at - 1], kind)

    def _coded(self, path: str, text: str, table: str, depth: int) -> None:
        parts = text.split(self._separators[depth], 3)
        system = parts[2] if len(parts) > 2 else ""
        if system == f"HL7{table}":
            self._code(f"{path}.1", parts[0], table, Check.TABLES)
        elif not system:
            self._code(f"{path}.1", parts[0], table, Check.USER_TABLES)

    def _code(self, path: str, text: str, table: str, check: Check) -> None:
        if check not in self._checks or not text or text == NULL:
            return
        known = codes(self._version, table)
        if not known:
            return
        code = self._plain(text)
        if code in known or (table in _LOCAL and code.startswith("Z")):
            return
        if table == _SYSTEMS and _PATTERNED.fullmatch(code):
            return
        self._tell(check, path, "is not a code of its table", _some(known), f"HL7 {self._version} table {table}")

    def _length(self, path: str, text: str, most: int) -> None:
        length = len(self._plain(text))
        if length > most:
            self._tell(Check.LENGTHS, path, f"has {length} characters", f"{most} at most", self._source(path))

    def _missing(self, path: str, part: Part, owner: str = "") -> None:
        if self._relaxed and re.sub(r"\[[0-9]+\]", "", path) in self._relaxed:
            return
        name = f" ({part.name})" if part.name != "-" else ""
        source = self._type_source(owner) if owner else self._source(path)
        self._tell(Check.REQUIRED, path, f"is required and empty{name}", "", source)

    def _plain(self, text: str) -> str:
        return unescape(text, self._segment.separators, self._segment.codec)

    def _source(self, path: str) -> str:
        return f"HL7 {self._version} {self._name}{path.partition('[')[0]}"

    def _type_source(self, kind: str) -> str:
        return f"HL7 {self._version} data type {kind}"


def _some(known: Collection[str]) -> str:
    """The codes of a short table, the first few of a long one."""
    listed = sorted(known)
    return f"one of {', '.join(listed)}" if len(listed) <= 12 else f"one of {', '.join(listed[:8])}, …"
