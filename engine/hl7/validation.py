"""Does a message keep to the standard of its version? ``validate`` tells what does not, and says where.

The structure is matched in ``grammar.py``, what stands in the segments is checked in ``content.py``, both against the
tables of ``dictionary.py``. Tolerant of what the standard lets a site do: Z segments stand anywhere, ADD continues any
segment. Nothing of a message's content is in a finding.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from engine.hl7 import dictionary
from engine.hl7.content import ContentCheck
from engine.hl7.findings import LENIENT, STRICT, Check, Finding, Level, Levels, times
from engine.hl7.grammar import Element, Fault, Misfit, Structure
from engine.hl7.message import Message
from engine.hl7.profile import Profile, Usage, members_of
from engine.hl7.segment import Segment
from engine.hl7.structure import structure_of
from engine.hl7.versions import SUPPORTED_VERSIONS, nearest_version

__all__ = ["LENIENT", "MOST_FINDINGS", "STRICT", "Check", "Finding", "Level", "Levels", "Profile", "validate"]

#: A message has no more findings than this; what is wrong with it is clear by then.
MOST_FINDINGS = 200
#: Of the content so many characters are looked at, so that no message holds up the others for long. Long fields
#: (documents) are passed over and do not count.
MOST_TEXT = 4 * 1024 * 1024

_WORD = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)


def validate(message: Message, levels: Levels | None = None, profile: Profile | None = None) -> tuple[Finding, ...]:
    """What in ``message`` does not keep to its version (MSH-12), in the order of its segments; at most 200 findings.

    Checks on level ``ignore`` are not made. A message is acceptable when no finding is of level ``error``. A
    ``profile`` adds what one partner wants.
    """
    return _Validation(message, levels or Levels(), profile).run()


class _Enough(Exception):
    """So many findings that no more are looked for."""


class _Validation:
    """One message on its way through the checks."""

    def __init__(self, message: Message, levels: Levels, profile: Profile | None) -> None:
        self._message = message
        self._profile = profile
        self._levels = levels
        self._checks = frozenset(check for check in Check if levels.of(check) is not Level.IGNORE)
        self._version = nearest_version(message.version)
        self._names = message.names()
        self._totals = Counter(self._names)
        self._found: list[Finding] = []

    def run(self) -> tuple[Finding, ...]:
        try:
            if Check.PROFILE not in self._checks or (self._profile is not None and not self._applies(self._profile)):
                self._profile = None
            if self._checks & {Check.STRUCTURE, Check.CARDINALITY, Check.PROFILE}:
                self._structure()
            self._content()
            self._known_version()
        except _Enough:
            pass
        return tuple(sorted(self._found, key=lambda finding: finding.line))

    # Profile

    def _applies(self, profile: Profile) -> bool:
        """Whether it is a message that the profile speaks of; told when it is not."""
        header, source = self._message.header, f"profile {profile.name}"
        if profile.messages and not {header.type, header.message_type} & set(profile.messages):
            self._add(Check.PROFILE, "MSH-9", 0, "is no message of the profile", ", ".join(profile.messages), source)
            return False
        if profile.versions and header.version not in profile.versions:
            self._add(Check.PROFILE, "MSH-12", 0, "is no version of the profile", ", ".join(profile.versions), source)
            return False
        for name, rule in profile.local_segments():
            count, required = self._totals[name], rule.usage is Usage.REQUIRED
            least, most = rule.least or int(required), 0 if rule.usage is Usage.NOT_USED else rule.most
            if count < least:
                self._add(Check.PROFILE, name, len(self._names), f"stands {times(count)}", f"{least} at least", source)
            elif most is not None and count > most:
                at = self._names.index(name)
                self._add(Check.PROFILE, name, at, f"stands {times(count)}", f"{most} at most", source)
        return True

    # Structure

    def _structure(self) -> None:
        name = self._structure_name()
        if name is None:
            return
        places = [
            at for at, segment in enumerate(self._names) if segment and not segment.startswith("Z") and segment != "ADD"
        ]
        for at, segment in enumerate(self._names):
            if not segment:
                self._add(
                    Check.STRUCTURE, f"segment {at + 1}", at, "is no segment", "a segment's name", "HL7 v2 §2.5.1"
                )
        found = (
            structure(self._version, name) if self._profile is None else self._profile.structure(self._version, name)
        )
        for fault in found.match([self._names[at] for at in places]):
            self._misfit(fault, places[fault.at] if fault.at < len(places) else len(self._names), name)

    def _structure_name(self) -> str | None:
        header = self._message.header
        kind, event, named = header.type, header.event, header.value(9, 3)
        known = structure_of(kind, event, self._version)
        if known is None:
            if dictionary.grammar(self._version, named) is not None:
                return named
            if not kind:
                return None  # required, and told as that
            shown = "^".join(word for word in (kind, event) if _WORD.fullmatch(word)) or "this message type"
            self._add(
                Check.STRUCTURE, "MSH-9", 0, f"{shown} has no structure", "a message of this version", self._source()
            )
        elif named and named != known and Check.TABLES in self._checks:
            self._add(
                Check.TABLES, "MSH-9.3", 0, "is not the structure of its event", known, self._source("table 0354")
            )
        return known

    def _misfit(self, fault: Fault, at: int, name: str) -> None:
        source, element = self._source(name), fault.element
        narrowed = element is not None and (element.capped if fault.misfit is Misfit.AGAIN else element.narrowed)
        if narrowed and self._profile is not None:
            source = f"profile {self._profile.name}"
        if element is not None and fault.misfit is Misfit.MISSING:
            first = next(element.segments()) if element.name != "*" else f"segment {at + 1}"
            where = f"before {self._names[at]}" if at < len(self._names) else "at the end"
            check = Check.PROFILE if narrowed else Check.STRUCTURE
            self._add(check, first, at, f"{_described(element)} is missing {where}", "", source)
        elif element is not None and fault.misfit is Misfit.FORBIDDEN:
            self._add(Check.PROFILE, self._place(at), at, f"{_described(element)} is not used", "nothing", source)
        elif element is not None:
            check = Check.PROFILE if narrowed else Check.CARDINALITY
            problem = f"{_described(element)} stands once more than it may"
            self._add(check, self._place(at), at, problem, "", source)
        else:
            segment = self._names[at]
            problem = "may not stand here"
            if fault.misfit is Misfit.FOREIGN:
                known = bool(dictionary.fields(self._version, segment))
                problem = f"is no segment of {name if known else f'HL7 {self._version}'}"
            expected = ", ".join(fault.expected[:8]) + (", …" if len(fault.expected) > 8 else "")
            self._add(Check.STRUCTURE, self._place(at), at, problem, expected or "the end of the message", source)

    # Content

    def _known_version(self) -> None:
        """MSH-12 is a version: from 2.6 on its field has no table, and what is no version is read as another."""
        version = self._message.version
        # Asked last: it reads the tables of every version.
        if not version or version in SUPPORTED_VERSIONS or version in _versions():
            return
        if any(found.path.startswith("MSH-12") for found in self._found):
            return
        source = f"{self._source('table 0104')}, as which it is read"
        self._add(Check.TABLES, "MSH-12.1", 0, "is no version of HL7", ", ".join(SUPPORTED_VERSIONS), source)

    def _content(self) -> None:
        checks = self._checks - {Check.STRUCTURE, Check.PROFILE}
        if not checks and self._profile is None:
            return
        counted, looked = Counter[str](), 0
        for at, segment in enumerate(self._message.segments()):
            looked += sum(len(text) for _, text in segment.numbered() if text)
            if looked > MOST_TEXT:
                # Told whatever is ignored: what follows was not seen.
                level = self._levels.structure if self._levels.structure is not Level.IGNORE else Level.WARN
                problem = "the message is too long to be looked at from here on"
                self._found.append(Finding(level, Check.STRUCTURE, "MSH", at + 1, problem, "", "limit of the engine"))
                return
            counted[segment.name] += 1
            place = f"{segment.name}[{counted[segment.name]}]" if self._totals[segment.name] > 1 else segment.name

            def tell(
                check: Check, path: str, problem: str, expected: str, source: str, place: str = place, at: int = at
            ) -> None:
                self._add(check, place + path, at, problem, expected, source)

            relaxed = frozenset() if self._profile is None else self._profile.relaxed(segment.name)
            ContentCheck(self._version, segment, checks, tell, relaxed).run()
            if self._profile is not None:
                self._profiled(self._profile, segment, place, at)

    def _profiled(self, profile: Profile, segment: Segment, place: str, at: int) -> None:
        def tell(path: str, problem: str, expected: str) -> None:
            self._add(Check.PROFILE, place + path, at, problem, expected, f"profile {profile.name}")

        profile.check(segment, tell)

    # Findings

    def _place(self, at: int) -> str:
        name = self._names[at]
        return name if self._totals[name] == 1 else f"{name}[{self._names[: at + 1].count(name)}]"

    def _source(self, what: str = "") -> str:
        return f"HL7 {self._version} {what}".rstrip()

    def _add(self, check: Check, path: str, at: int, problem: str, expected: str, source: str) -> None:
        level = self._levels.of(check)
        if level is Level.IGNORE:
            return
        line = min(at, len(self._names) - 1) + 1
        self._found.append(Finding(level, check, path, line, problem, expected, source))
        if len(self._found) >= MOST_FINDINGS:
            raise _Enough


@lru_cache(maxsize=1)
def _versions() -> frozenset[str]:
    """What may stand in MSH-12.1: every version with tables, and those that table 0104 of any of them names besides."""
    return frozenset(SUPPORTED_VERSIONS).union(*(dictionary.codes(version, "0104") for version in SUPPORTED_VERSIONS))


@lru_cache(maxsize=256)
def structure(version: str, name: str) -> Structure:
    """A structure of a version with tables, compiled. KeyError when the version has none of that name."""
    return Structure(members_of(version, name))


def _described(element: Element) -> str:
    if element.name == "*":
        return "a segment"
    if element.choice:
        return f"one of {', '.join(element.segments())}"
    return f"group {element.name} ({', '.join(element.segments())})" if element.members else element.name
