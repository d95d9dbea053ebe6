"""Message structures as the standard writes them, and the matching of segments against one.

``[ ]`` optional, ``{ }`` repeats, ``(NAME: …)`` a group, ``<NAME: …>`` a choice of one, ``*`` any segment. A structure
becomes a graph whose edges cost nothing where the standard allows them, and something where they repair a fault: a
missing element, one that stands too often, a segment without a place. A message that is right is followed along the
free edges, all readings of it at once; where none is left the repairs are weighed over the next segments, and the
cheapest are kept. Both take time in proportion to the segments, whatever they are: nothing is ever taken back.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

__all__ = ["Element", "Fault", "Misfit", "Structure", "names_in", "parse"]

_TOKEN = re.compile(r"[\[\]{}()<>]|[A-Z0-9_]+:|[A-Z][A-Z0-9]{2}|\*")
_NAME = re.compile(r"\b[A-Z][A-Z0-9]{2}\b(?!:)")
_CLOSING = {"[": "]", "{": "}", "(": ")", "<": ">"}

# What a repair costs. A segment in the wrong place is one fault and not a missing one and a surplus one; one that
# stands twice is rather too many than misplaced. Where a segment may stand, it costs one more to say it may not: of two
# in the wrong order the later one is the fault.
_AGAIN, _MISPLACED, _MISSING, _MISSING_GROUP = 3, 4, 5, 6
# Repairs that are followed at once, and how much dearer than the best one they may be.
_READINGS, _DEARER = 16, 2 * _MISSING
# Where a fault is found, repairs are weighed over so many segments; what follows is read along the free edges again.
_WINDOW = 32
#: More faults than this are not looked for.
MOST_FAULTS = 200
# Steps that a structure remembers; a structure and its names need a few hundred.
_REMEMBERED = 8192


class Misfit(StrEnum):
    """How a segment can differ from its structure."""

    #: A required segment, group or choice does not stand where it must.
    MISSING = "missing"
    #: A segment or group stands again that may stand once.
    AGAIN = "again"
    #: A segment stands where the structure has none of its name.
    MISPLACED = "misplaced"
    #: The structure does not have the segment at all.
    FOREIGN = "foreign"
    #: A segment or group stands where a profile forbids it.
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Element:
    """A segment, group or choice of a structure."""

    name: str
    #: Of a group or choice; empty for a segment.
    members: tuple[Element, ...] = ()
    choice: bool = False
    required: bool = True
    repeats: bool = False
    #: Known to the structure but not to stand there, as a profile wants it.
    forbidden: bool = False
    #: A profile requires or forbids it where the standard does not.
    narrowed: bool = False
    #: A profile has it less often than the standard.
    capped: bool = False

    def segments(self) -> Iterator[str]:
        """The names of all segments in it, in order."""
        if not self.members:
            yield self.name
        for member in self.members:
            yield from member.segments()


@dataclass(frozen=True, slots=True)
class Fault:
    """One difference between a message and its structure."""

    misfit: Misfit
    #: Which segment, by its place among those that were matched; as many as there are for the end of the message.
    at: int
    #: What is missing or stands again; None for a segment that is misplaced or foreign.
    element: Element | None
    #: The segments that may stand here.
    expected: tuple[str, ...] = ()


def parse(text: str) -> tuple[Element, ...]:
    """The elements of a structure's text. ValueError for what is no such text."""
    tokens = _TOKEN.findall(text)
    members, rest = _sequence(tokens, 0, "")
    if rest != len(tokens):
        raise ValueError(f"{tokens[rest]} closes nothing in a structure")
    return members


@lru_cache(maxsize=4096)
def names_in(text: str) -> tuple[str, ...]:
    """The segments of a structure's text, each once, in the order of their first place."""
    return tuple(dict.fromkeys(_NAME.findall(text)))


def _sequence(tokens: Sequence[str], at: int, end: str) -> tuple[tuple[Element, ...], int]:
    members = []
    while at < len(tokens) and tokens[at] != end:
        if tokens[at] in _CLOSING.values():
            break
        member, at = _element(tokens, at)
        members.append(member)
    if end and (at >= len(tokens) or tokens[at] != end):
        raise ValueError(f"{end} is missing in a structure")
    return tuple(members), at


def _element(tokens: Sequence[str], at: int) -> tuple[Element, int]:
    sign = tokens[at]
    if sign in "[{":
        inner, after = _element(tokens, at + 1)
        if after >= len(tokens) or tokens[after] != _CLOSING[sign]:
            raise ValueError(f"{_CLOSING[sign]} is missing in a structure")
        required, repeats = inner.required and sign != "[", inner.repeats or sign == "{"
        return replace(inner, required=required, repeats=repeats), after + 1
    if sign in "(<":
        if at + 1 >= len(tokens) or not tokens[at + 1].endswith(":"):
            raise ValueError("a group of a structure has no name")
        members, after = _sequence(tokens, at + 2, _CLOSING[sign])
        if not members:
            raise ValueError(f"{tokens[at + 1]} names a group of a structure without segments")
        return Element(tokens[at + 1][:-1], members, choice=sign == "<"), after + 1
    if sign.endswith(":"):
        raise ValueError(f"{sign} names no group of a structure")
    return Element(sign), at + 1


@dataclass(frozen=True, slots=True)
class _Way:
    """From one node over edges without a segment: to the end of a segment's own edge, or of the message."""

    cost: int
    target: int
    repairs: tuple[tuple[Misfit, Element], ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read the message so far."""

    cost: int
    #: The last fault and those before it.
    chain: tuple[Fault, object] | None


@dataclass(slots=True)
class _Ways:
    """What can follow a node."""

    segments: dict[str, list[_Way]] = field(default_factory=dict)
    end: _Way | None = None

    def of(self, name: str) -> list[_Way]:
        found = self.segments.get(name, [])
        wild = self.segments.get("*")
        return found if wild is None else found + wild

    def free(self) -> tuple[str, ...]:
        return tuple(name for name, ways in self.segments.items() if any(not way.cost for way in ways))


class Structure:
    """A compiled structure. Made once, used by many messages; it holds nothing of them."""

    def __init__(self, members: Sequence[Element]) -> None:
        self.members = tuple(members)
        self.names = frozenset(name for member in members for name in member.segments())
        #: Steps that were taken, for those who want to see that there are few.
        self.steps = 0
        self._silent: list[list[tuple[int, int, tuple[Misfit, Element] | None]]] = []
        self._segment: list[tuple[str, int] | None] = []
        start = self._node()
        self._last = self._build_all(self.members, start)
        self._start = frozenset({start})
        self._ways: dict[int, _Ways] = {}
        self._free: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def match(self, names: Sequence[str]) -> tuple[Fault, ...]:
        """What differs, in the order of the segments; empty for a message that is as its structure says."""
        alive, at, found = self._start, 0, list[Fault]()
        while at < len(names) and len(found) < MOST_FAULTS:
            if after := self._step(alive, names[at]):
                alive, at = after, at + 1
                continue
            faults, alive, at = self._repair(names, alive, at)
            found += faults
        if len(found) < MOST_FAULTS:
            found += self._rest(alive, at)
        return tuple(found)

    # The graph

    def _node(self) -> int:
        self._silent.append([])
        self._segment.append(None)
        return len(self._silent) - 1

    def _build_all(self, members: Sequence[Element], at: int) -> int:
        for member in members:
            at = self._build(member, at)
        return at

    def _build(self, element: Element, before: int) -> int:
        first, after = self._node(), self._node()
        forbidden = (first, _AGAIN, (Misfit.FORBIDDEN, element))
        self._silent[before].append(forbidden if element.forbidden else (first, 0, None))
        last = self._build_once(element, first)
        self._silent[last].append((after, 0, None))
        self._silent[last].append((first, 0, None) if element.repeats else (first, _AGAIN, (Misfit.AGAIN, element)))
        if element.required:
            cost = _MISSING_GROUP if element.members and not element.choice else _MISSING
            self._silent[before].append((after, cost, (Misfit.MISSING, element)))
        else:
            self._silent[before].append((after, 0, None))
        return after

    def _build_once(self, element: Element, first: int) -> int:
        if element.choice:
            last = self._node()
            for member in element.members:
                begin = self._node()
                self._silent[first].append((begin, 0, None))
                self._silent[self._build_once(member, begin)].append((last, 0, None))
            return last
        if element.members:
            return self._build_all(element.members, first)
        last = self._node()
        self._segment[first] = (element.name, last)
        return last

    def _after(self, node: int) -> _Ways:
        """The cheapest ways from a node to every segment and to the end; worked out once."""
        ways = self._ways.get(node)
        if ways is None:
            ways = self._ways[node] = self._search(node)
        return ways

    def _search(self, node: int) -> _Ways:
        ways, done = _Ways(), set[int]()
        queue: list[tuple[int, int, int, tuple[tuple[Misfit, Element], ...]]] = [(0, 0, node, ())]
        number = 0  # breaks ties: what was found first comes first
        while queue:
            cost, _, at, repairs = heapq.heappop(queue)
            if at in done:
                continue
            done.add(at)
            if at == self._last:
                ways.end = _Way(cost, at, repairs)
            if (edge := self._segment[at]) is not None:
                ways.segments.setdefault(edge[0], []).append(_Way(cost, edge[1], repairs))
            for target, price, repair in self._silent[at]:
                number += 1
                more = repairs if repair is None else (*repairs, repair)
                heapq.heappush(queue, (cost + price, number, target, more))
        return ways

    # Messages that are right

    def _step(self, alive: frozenset[int], name: str) -> frozenset[int]:
        self.steps += 1
        found = self._free.get((alive, name))
        if found is None:
            found = frozenset(way.target for node in alive for way in self._after(node).of(name) if not way.cost)
            if name in self.names and len(self._free) < _REMEMBERED:
                self._free[alive, name] = found
        return found

    # Messages that are not

    def _repair(self, names: Sequence[str], alive: frozenset[int], at: int) -> tuple[list[Fault], frozenset[int], int]:
        """The cheapest faults from here to the end of a window, and where it leaves off."""
        readings = {node: _Reading(0, None) for node in alive}
        stop = min(at + _WINDOW, len(names))
        for place in range(at, stop):
            readings = self._cheapest(self._continue(readings, place, names[place]))
        ends = {node: way.cost for node in readings if (way := self._after(node).end) is not None}
        over = stop == len(names)
        node = min(readings, key=lambda node: readings[node].cost + (ends[node] if over else 0))
        best = readings[node]
        same = (node for node, reading in readings.items() if reading.chain is best.chain and reading.cost == best.cost)
        return _faults(best), frozenset({node} if over else same), stop

    def _rest(self, alive: frozenset[int], at: int) -> list[Fault]:
        """What is missing at the end."""
        ends = [way for node in alive if (way := self._after(node).end) is not None]
        repairs = min(ends, key=lambda way: way.cost).repairs
        return [Fault(misfit, at, element) for misfit, element in repairs]

    def _continue(self, readings: dict[int, _Reading], at: int, name: str) -> dict[int, _Reading]:
        found: dict[int, _Reading] = {}
        misfit = Misfit.MISPLACED if name in self.names else Misfit.FOREIGN
        for node, reading in readings.items():
            ways = self._after(node)
            for way in ways.of(name):
                self.steps += 1
                best = found.get(way.target)
                if best is None or reading.cost + way.cost < best.cost:
                    found[way.target] = self._along(reading, way, at)
            cost = reading.cost + _MISPLACED + any(not way.cost for way in ways.of(name))
            if (best := found.get(node)) is None or cost < best.cost:
                fault = Fault(misfit, at, None, ways.free())
                found[node] = _Reading(cost, (fault, reading.chain))
        return found

    def _along(self, reading: _Reading, way: _Way, at: int) -> _Reading:
        chain = reading.chain
        for misfit, element in way.repairs:
            chain = (Fault(misfit, at, element), chain)
        return _Reading(reading.cost + way.cost, chain)

    def _cheapest(self, readings: dict[int, _Reading]) -> dict[int, _Reading]:
        ordered = sorted(readings.items(), key=lambda item: item[1].cost)[:_READINGS]
        dearest = ordered[0][1].cost + _DEARER
        return {node: reading for node, reading in ordered if reading.cost <= dearest}


def _faults(reading: _Reading) -> list[Fault]:
    found: list[Fault] = []
    chain: object = reading.chain
    while isinstance(chain, tuple):
        fault, chain = chain
        found.append(fault)
    return found[::-1]
