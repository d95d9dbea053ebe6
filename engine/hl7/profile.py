"""Conformance profiles: what one partner wants of a message beyond the standard, or less than it.

A profile names segments and fields and says how they are used (HL7 v2.5.1 §2.B.6): R must be there, RE and O need not
be, X must not. What it says about a place stands instead of what the standard says there; where it says nothing the
standard holds. Profiles are read from YAML by the step ``validate``; here they are values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from engine.hl7 import dictionary
from engine.hl7.escape import unescape
from engine.hl7.findings import times
from engine.hl7.grammar import Element, Structure, parse
from engine.hl7.path import Path
from engine.hl7.segment import NULL, Segment

__all__ = ["MOST_TIMES", "FieldRule", "Profile", "SegmentRule", "Usage", "is_at", "members_of", "places"]

#: A profile counts no further than this; more than that is without limit.
MOST_TIMES = 50
# A structure compiled for a version; a profile is used with few of them.
_REMEMBERED = 64


class Usage(StrEnum):
    """How an element is used."""

    REQUIRED = "R"
    #: Required, but may be empty: whoever knows the value sends it.
    MAY_BE_EMPTY = "RE"
    OPTIONAL = "O"
    NOT_USED = "X"


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """What a profile says about a segment or group. None: nothing."""

    usage: Usage | None = None
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What a profile says about a field or component. None: nothing."""

    usage: Usage | None = None
    #: Repetitions of a field.
    least: int | None = None
    most: int | None = None
    #: Characters of a repetition or component.
    length: int | None = None
    #: The whole of it, unescaped, is one of these.
    values: frozenset[str] | None = None


#: Tells one fault: path behind the segment, problem, expected.
Tell = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Profile:
    """A partner's profile."""

    name: str
    #: ``SIU`` or ``SIU^S12``; empty for any.
    messages: tuple[str, ...] = ()
    #: ``2.3``; empty for any.
    versions: tuple[str, ...] = ()
    #: ``AIL`` wherever it stands, or ``RESOURCES.AIL``.
    segments: Mapping[str, SegmentRule] = field(default_factory=dict)
    #: Paths without an occurrence of the segment.
    fields: Mapping[Path, FieldRule] = field(default_factory=dict)
    _structures: dict[tuple[str, str], Structure] = field(default_factory=dict, compare=False, repr=False)

    def structure(self, version: str, name: str) -> Structure:
        """The structure as this profile narrows it. KeyError when the version has none of that name."""
        found = self._structures.get((version, name))
        if found is None:
            found = Structure(tuple(self._narrowed(members_of(version, name), ())))
            if len(self._structures) < _REMEMBERED:
                self._structures[version, name] = found
        return found

    def local_segments(self) -> Iterator[tuple[str, SegmentRule]]:
        """Rules about Z segments, which no structure has: they are counted."""
        return ((name, rule) for name, rule in self.segments.items() if name.startswith("Z"))

    def relaxed(self, segment: str) -> frozenset[str]:
        """Fields and components (``-3``, ``-3.5``) that need not be filled, whatever the standard says."""
        free = (Usage.OPTIONAL, Usage.MAY_BE_EMPTY, Usage.NOT_USED)
        return frozenset(
            str(replace(path, repetition=None)).removeprefix(segment)
            for path, rule in self.fields.items()
            if path.segment == segment and rule.usage in free
        )

    def check(self, segment: Segment, tell: Tell) -> None:
        """Hold the fields of one segment against the rules."""
        for path, rule in self.fields.items():
            if path.segment == segment.name:
                _check(segment, path, rule, tell)

    def _narrowed(self, members: Sequence[Element], above: tuple[str, ...]) -> Iterator[Element]:
        for member in members:
            here = (*above, member.name)
            inner = tuple(self._narrowed(member.members, here))
            changed = member if inner == member.members else replace(member, members=inner)
            rule = self._rule(here)
            yield from (changed,) if rule is None else _applied(changed, rule)

    def _rule(self, place: tuple[str, ...]) -> SegmentRule | None:
        """The rule about an element; of several the one that names more of the groups around it."""
        named = [name for name in self.segments if is_at(name, place)]
        return self.segments[max(named, key=lambda name: name.count("."))] if named else None


def members_of(version: str, name: str) -> tuple[Element, ...]:
    """The elements of a structure. KeyError when the version has none of that name."""
    text = dictionary.grammar(version, name)
    if text is None:
        raise KeyError(name)
    return parse(text)


def is_at(name: str, place: Sequence[str]) -> bool:
    """Whether ``AIL``, ``RESOURCES.AIL`` or ``RESOURCES.LOCATION_RESOURCE.AIL`` means this segment or group."""
    groups = iter(place)
    parts = name.split(".")
    return parts[-1] == place[-1] and all(part in groups for part in parts)


def places(members: Sequence[Element], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every segment and group of a structure, below the groups it is in."""
    for member in members:
        here = (*above, member.name)
        yield here
        yield from places(member.members, here)


def _applied(element: Element, rule: SegmentRule) -> Iterator[Element]:
    """The element as the rule wants it: once, or as many times as it counts."""
    if rule.usage is Usage.NOT_USED:
        yield replace(element, required=False, forbidden=True, narrowed=True)
        return
    required = element.required if rule.usage is None else rule.usage is Usage.REQUIRED
    least = rule.least if rule.least is not None else int(required)
    most = rule.most if rule.most is not None else (None if element.repeats else max(1, least))
    copies = least if most is None else most
    for number in range(max(copies, 1)):
        needed, last = number < least, most is None and number == max(copies, 1) - 1
        beyond = needed and number >= int(element.required)
        capped = most is not None and element.repeats
        yield _marked(replace(element, required=needed, repeats=last), beyond, capped)


def _marked(element: Element, narrowed: bool, capped: bool) -> Element:
    """The element as one that the profile speaks of, with what it cannot be without."""
    members = tuple(_marked(member, narrowed, capped) if member.required else member for member in element.members)
    return replace(element, members=members, narrowed=narrowed or element.narrowed, capped=capped or element.capped)


def _check(segment: Segment, path: Path, rule: FieldRule, tell: Tell) -> None:
    separators = segment.separators
    marks = separators.repetition + separators.component + separators.subcomponent
    number = f"-{path.field}"
    text = segment.read(Path(path.segment, field=path.field)) or ""
    repetitions = [each for each in text.split(separators.repetition) if each.strip(marks)]
    if path.component is None:
        _check_field(number, text, repetitions, rule, tell)
    for at, repetition in enumerate(text.split(separators.repetition) if text else (), 1):
        if path.repetition in (None, at) and (repetition.strip(marks) or path.repetition):
            where = f"{number}[{at}]" if len(repetitions) > 1 else number
            _check_value(segment, where, repetition, path, rule, tell)


def _check_field(number: str, text: str, repetitions: Sequence[str], rule: FieldRule, tell: Tell) -> None:
    there = bool(repetitions)
    if rule.usage is Usage.REQUIRED and not there:
        tell(number, "is required and empty", "")
    elif rule.usage is Usage.NOT_USED and there:
        tell(number, "is not used", "nothing")
    if rule.least is not None and there and len(repetitions) < rule.least:
        tell(number, f"stands {times(len(repetitions))}", f"{rule.least} at least")
    if rule.most is not None and len(repetitions) > rule.most:
        tell(number, f"stands {times(len(repetitions))}", f"{rule.most} at most")


def _check_value(segment: Segment, where: str, repetition: str, path: Path, rule: FieldRule, tell: Tell) -> None:
    text: str = repetition
    if path.component is not None:
        where += f".{path.component}"
        text = _nth(text, segment.separators.component, path.component)
        if path.subcomponent is not None:
            where += f".{path.subcomponent}"
            text = _nth(text, segment.separators.subcomponent, path.subcomponent)
        if rule.usage is Usage.REQUIRED and not text.strip(segment.separators.subcomponent):
            tell(where, "is required and empty", "")
        elif rule.usage is Usage.NOT_USED and text.strip(segment.separators.subcomponent):
            tell(where, "is not used", "nothing")
    if not text or text == NULL:
        return
    plain = unescape(text, segment.separators, segment.codec)
    if rule.length is not None and len(plain) > rule.length:
        tell(where, f"has {len(plain)} characters", f"{rule.length} at most")
    if rule.values is not None and plain not in rule.values:
        listed = sorted(rule.values)
        expected = ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")
        tell(where, "is none of the values that are allowed", f"one of {expected}")


def _nth(text: str, separator: str, number: int) -> str:
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""
