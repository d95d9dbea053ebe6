"""One outgoing segment of a ``build``: which fields it gets from where, compiled to functions.

``SegmentPlan.make`` gives the segment's text for one occurrence of its source segment. Which segments are made how
often and in which order is in ``assembly.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from engine.envelope import Envelope
from engine.errors import StepFailed
from engine.hl7.path import Path
from engine.transforms.base import Condition, Context
from engine.transforms.building.version_rules import SegmentRules
from engine.transforms.values.readers import PathValue, Value
from engine.transforms.values.scope import Scope, Times
from engine.transforms.values.text import as_hl7


class BuildScope(Scope):
    """The incoming message split into fields once, and the occurrences that are being mapped."""

    __slots__ = ("current", "first", "group")

    def __init__(self, envelope: Envelope, context: Context, times: Times) -> None:
        super().__init__(envelope, context, times)
        #: First segment of each name, in the whole message.
        self.first: dict[str, list[str]] = {}
        #: First segment of each name in the group at hand.
        self.group: dict[str, list[str]] = {}
        #: The occurrence that is being mapped; its name is ``current[0]``.
        self.current: list[str] = [""]

    def find(self, path: Path) -> str | None:
        if path.segment_index is not None:
            return super().find(path)
        name = path.segment
        fields = self.current
        if fields[0] != name:
            found = self.group.get(name) or self.first.get(name)
            if found is None:
                return None
            fields = found
        number = path.field
        if number is None or number >= len(fields):
            return None
        text = fields[number]
        if path.component is None and path.repetition is None:
            return text
        return _part(text, path)


Write = Callable[[BuildScope], str]


def _part(text: str, path: Path) -> str | None:
    steps = ((path.repetition or 1, "~"), (path.component, "^"), (path.subcomponent, "&"))
    for number, separator in steps:
        if number is None:
            break
        if separator in text:
            parts = text.split(separator)
            if number > len(parts):
                return None
            text = parts[number - 1]
        elif number > 1:
            return None
    return text


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One outgoing field."""

    number: int
    write: Write
    #: Constants alone do not make a segment.
    constant: bool


def field_plan(number: int, parts: Sequence[tuple[Path, Value]], each: str = "") -> FieldPlan:
    """Everything that is said about one field, put together. ``each``: the name of the segment that is mapped."""
    constant = all(value.static for _, value in parts)
    if len(parts) == 1 and parts[0][0].repetition is None and parts[0][0].component is None:
        value = parts[0][1]
        if value.static:
            text = as_hl7(value.constant)
            return FieldPlan(number, lambda _: text, True)
        if isinstance(value, PathValue) and value.path == Path(each, field=value.path.field):
            return FieldPlan(number, _copied(value), False)
        return FieldPlan(number, value.hl7, False)
    return FieldPlan(number, _assembled(parts, constant), constant)


def _copied(value: PathValue) -> Write:
    """The commonest value, a whole field of the very segment that is mapped, read without a search for it."""
    name, number, search = value.path.segment, value.path.field or 0, value.hl7

    def write(scope: BuildScope) -> str:
        current = scope.current
        if current[0] != name:
            return search(scope)
        return current[number] if number < len(current) else ""

    return write


def _assembled(parts: Sequence[tuple[Path, Value]], constant: bool) -> Write:
    """A field of several parts. Nothing when only its constants are there, or when its whole is empty."""
    whole = next((value for path, value in parts if path.repetition is None and path.component is None), None)
    places = sorted(
        ((path.repetition or 1, path.component or 0, path.subcomponent or 0), index)
        for index, (path, value) in enumerate(parts)
        if value is not whole
    )
    ordered = [(place, parts[index][1]) for place, index in places]

    def write(scope: BuildScope) -> str:
        filled = constant
        field: list[str] = []
        if whole is not None:
            text = whole.hl7(scope)
            if not text:
                return ""
            filled, field = True, text.split("~")
        for (repetition, component, subcomponent), value in ordered:
            text = value.hl7(scope)
            if not text:
                continue
            if not value.static:
                filled = True
            _put(field, repetition, component, subcomponent, text)
        return "~".join(field) if filled else ""

    return write


def _put(field: list[str], repetition: int, component: int, subcomponent: int, text: str) -> None:
    field.extend([""] * (repetition - len(field)))
    if not component:
        field[repetition - 1] = text.partition("~")[0] if "~" in text else text
        return
    # What has components itself (a coded value) gives its first to a place that has none below it.
    if "~" in text or "^" in text:
        text = text.partition("~")[0].partition("^")[0]
    components = field[repetition - 1].split("^")
    components.extend([""] * (component - len(components)))
    if subcomponent:
        parts = components[component - 1].split("&")
        parts.extend([""] * (subcomponent - len(parts)))
        parts[subcomponent - 1] = text.partition("&")[0]
        text = "&".join(parts)
    components[component - 1] = text
    field[repetition - 1] = "^".join(components)


@dataclass(frozen=True)
class SegmentPlan:
    """One kind of outgoing segment."""

    name: str
    step: str
    fields: tuple[FieldPlan, ...]
    defaults: tuple[FieldPlan, ...]
    required: tuple[int, ...]
    rules: SegmentRules
    #: One for each segment of this name that came in; empty: once.
    each: str = ""
    #: Made once without a source segment when this field is filled; 0 never.
    filled: int = 0
    when: Condition | None = None
    #: Its constants alone make it (``RGS|1|A``).
    constant: bool = False

    @cached_property
    def width(self) -> int:
        """One more than the highest number of any field that is written or required."""
        written = [plan.number for plan in (*self.fields, *self.defaults)]
        return max((*written, *self.required, *self.rules.targets), default=0) + 1

    def make(self, scope: BuildScope, *, certain: bool) -> str | None:
        """The segment's text; None when it is not ``certain`` to be sent and nothing but constants is there."""
        if self.when is not None and not self.when(scope.envelope, scope.context):
            return None
        fields = [""] * self.width
        fields[0] = self.name
        some = certain or self.constant or (self.when is not None and not self.filled)
        for plan in self.fields:
            text = plan.write(scope)
            if text:
                number = plan.number
                fields[number] = text
                if not some and not plan.constant and (not self.filled or number == self.filled):
                    some = True
        if not some:
            return None
        self.rules.apply(fields)
        for plan in self.defaults:
            if not fields[plan.number]:
                fields[plan.number] = plan.write(scope)
        for number in self.required:
            if not fields[number]:
                raise StepFailed(self.step, "required_missing", f"{self.name}-{number}")
        while not fields[-1]:
            fields.pop()
        return "|".join(fields)
