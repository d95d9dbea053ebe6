"""The segments of a ``build`` in their order: once, or for each segment that came in.

Order is the structure's. What stands in a repeating group (RGS with its AIS, AIG, AIL, AIP; ORC with its OBR) stays
in the group it came in. An NTE follows the segment it was a note to, or the head of the message when that one is not
sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.hl7.escape import translate
from engine.hl7.message import Message
from engine.hl7.separators import Separators
from engine.transforms.building.segments import BuildScope, SegmentPlan

#: Segments that begin a repeating group.
LEADERS = ("RGS", "ORC")
_NOTE = "NTE"


class _Source:
    """One segment that came in."""

    __slots__ = ("fields", "group", "notes", "sent")

    def __init__(self, fields: list[str], group: int) -> None:
        self.fields = fields
        #: Number of its group, from 0.
        self.group = group
        self.notes: list[list[str]] | None = None
        self.sent = False


class Assembly:
    """All segments after MSH."""

    __slots__ = ("_head", "_leader", "_note", "_notes_at", "_once", "_tail")

    def __init__(self, plans: Sequence[SegmentPlan], order: Sequence[str], after: dict[str, str]) -> None:
        ranks = {name: number for number, name in enumerate(order)}
        sorted_plans = sorted(
            (plan for plan in plans if plan.name not in after), key=lambda plan: ranks.get(plan.name, len(ranks))
        )
        for plan in plans:
            if plan.name in after:
                beside = next((n for n, other in enumerate(sorted_plans) if other.name == after[plan.name]), None)
                sorted_plans.insert(len(sorted_plans) if beside is None else beside + 1, plan)
        note = next((plan for plan in sorted_plans if plan.name == _NOTE and plan.each), None)
        #: Notes that came in are placed beside what they belong to; an NTE that is made anew stands where it says.
        self._note = note
        kept = [plan for plan in sorted_plans if plan is not note]
        self._notes_at = sum(ranks.get(plan.name, len(ranks)) < ranks.get(_NOTE, 0) for plan in kept)
        start = next((n for n, plan in enumerate(kept) if plan.name in LEADERS), len(kept))
        self._leader = kept[start] if start < len(kept) else None
        self._head, self._tail = tuple(kept[:start]), tuple(kept[start + 1 :])
        #: All of them in their order, where none is made for each of a kind that came in.
        self._once = None if any(plan.each for plan in sorted_plans) else tuple(kept)

    def lines(self, scope: BuildScope, header: str) -> list[str]:
        """The text of every segment after ``header``, which stands first."""
        if self._once is not None and not isinstance(scope.envelope.body, Message):
            return [header, *self._made_once(self._once, scope)]
        sources, groups = self._read(scope)
        before: list[str] = []
        lines: list[str] = []
        for number, plan in enumerate(self._head):
            into = before if number < self._notes_at else lines
            self._make(plan, scope, sources.get(plan.each, ()), into)
        if groups == 1:
            lines += self._group(scope, sources)
        else:
            for group in range(groups):
                mine = {name: [each for each in found if each.group == group] for name, found in sources.items()}
                scope.near = scope.first | {name: found[0].fields for name, found in mine.items() if found}
                lines += self._group(scope, mine)
            scope.near = scope.first
        if self._note is not None:
            lines[:0] = self._orphans(scope, sources)
        return [header, *before, *lines]

    def _made_once(self, plans: Sequence[SegmentPlan], scope: BuildScope) -> list[str]:
        lines = [plan.make(scope, certain=False) for plan in plans]
        at = len(self._head)
        if self._leader is not None and lines[at] is None and any(lines[at:]):
            lines[at] = self._leader.make(scope, certain=True)
        return list(filter(None, lines))

    def _group(self, scope: BuildScope, mine: dict[str, list[_Source]]) -> list[str]:
        lines: list[str] = []
        leader = self._leader
        if leader is not None:
            self._make(leader, scope, mine.get(leader.each, ()), lines)
        members: list[str] = []
        for plan in self._tail:
            self._make(plan, scope, mine.get(plan.each, ()), members)
        if leader is not None and members and not lines:
            # A sender left the head of the group out, and no receiver reads a group without.
            made = leader.make(scope, certain=True)
            if made is not None:
                lines.append(made)
        return lines + members

    def _make(self, plan: SegmentPlan, scope: BuildScope, sources: Sequence[_Source], lines: list[str]) -> None:
        if not plan.each or (plan.filled and not sources):
            scope.current = [""]
            text = plan.make(scope, certain=False)
            if text is not None:
                lines.append(text)
            return
        for source in sources:
            scope.current = source.fields
            text = plan.make(scope, certain=True)
            if text is None:
                continue
            lines.append(text)
            source.sent = True
            if source.notes:
                self._notes(scope, source.notes, lines)
        scope.current = [""]

    def _notes(self, scope: BuildScope, notes: Sequence[list[str]], lines: list[str]) -> None:
        for note in notes:
            scope.current = note
            text = self._note.make(scope, certain=True) if self._note is not None else None
            if text is not None:
                lines.append(text)

    def _orphans(self, scope: BuildScope, sources: dict[str, list[_Source]]) -> list[str]:
        lines: list[str] = []
        for found in sources.values():
            for source in found:
                if source.notes and not source.sent:
                    self._notes(scope, source.notes, lines)
        scope.current = [""]
        return lines

    def _read(self, scope: BuildScope) -> tuple[dict[str, list[_Source]], int]:
        """Split what came in: by name, in order, notes beside what they follow."""
        sources: dict[str, list[_Source]] = {}
        body = scope.envelope.body
        if not isinstance(body, Message):
            return sources, 1
        leader = self._leader.name if self._leader is not None else ""
        heads, first = 0, scope.first
        last: _Source | None = None
        for fields in split_message(body):
            name = fields[0]
            if name == _NOTE and self._note is not None and last is not None:
                if last.notes is None:
                    last.notes = []
                last.notes.append(fields)
                first.setdefault(name, fields)
                continue
            if name == leader:
                heads += 1
            last = _Source(fields, heads - 1 if heads else 0)
            found = sources.get(name)
            if found is None:
                sources[name], first[name] = [last], fields
            else:
                found.append(last)
        return sources, max(heads, 1)


def split_message(message: Message) -> list[list[str]]:
    """The fields of each segment, with the usual delimiters; field numbers are the standard's for MSH too."""
    out = [line.split("|") for line in usual_lines(message)]
    out[0].insert(1, "|")
    return out


def usual_lines(message: Message) -> list[str]:
    """The text of each segment, with the usual delimiters."""
    lines, separators = message.lines(), message.separators
    return lines if separators is Separators.default else [_usual(line, separators) for line in lines]


def _usual(line: str, separators: Separators) -> str:
    if not line.startswith("MSH"):
        return translate(line, separators, Separators.default)
    # MSH-2 names the old delimiters and is never copied.
    rest = line.split(separators.field, 2)[2:]
    return "|".join(["MSH", "", *(translate(each, separators, Separators.default) for each in rest)])
