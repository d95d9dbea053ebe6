"""One outgoing segment of a ``build``: which fields it gets from where, compiled to functions.

``SegmentPlan.make`` gives the segment's text for one occurrence of its source segment. Which segments are made how
often and in which order is in ``assembly.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from engine.envelope import Envelope
from engine.errors import StepFailed
from engine.hl7.path import Path
from engine.transforms.base import Condition, Context
from engine.transforms.building.version_rules import SegmentRules
from engine.transforms.values.places import Place
from engine.transforms.values.readers import Literal, PathValue, Value
from engine.transforms.values.scope import Scope, Times
from engine.transforms.values.text import as_hl7


class BuildScope(Scope):
    """The incoming message split into fields once, and the occurrences that are being mapped."""

    __slots__ = ("current", "first", "near")

    def __init__(self, envelope: Envelope, context: Context, times: Times) -> None:
        super().__init__(envelope, context, times)
        #: First segment of each name, in the whole message.
        self.first: dict[str, list[str]] = {}
        #: The same, but of the group at hand where that has one.
        self.near = self.first
        #: The occurrence that is being mapped; its name is ``current[0]``.
        self.current: list[str] = [""]

    def find(self, place: Place) -> str | None:
        fields = self.current
        if place.name != fields[0]:
            found = self.near.get(place.name)
            if found is None:
                return super().find(place) if place.path.segment_index is not None else None
            fields = found
        if place.number >= len(fields):
            return None
        text = fields[place.number]
        return text if place.take is None else place.take(text)


Write = Callable[[BuildScope], str]

_NOTHING = [""]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One outgoing field."""

    number: int
    write: Write
    #: Constants alone do not make a segment.
    constant: bool
    #: What it always is; None where that differs.
    text: str | None = None
    #: It is the field of this number of the very segment that is mapped.
    copied: bool = False


def field_plan(number: int, parts: Sequence[tuple[Path, Value]], each: str = "") -> FieldPlan:
    """Everything that is said about one field, put together. ``each``: the name of the segment that is mapped."""
    constant = all(value.static for _, value in parts)
    if len(parts) == 1 and parts[0][0].repetition is None and parts[0][0].component is None:
        value = parts[0][1]
        if value.static:
            text = as_hl7(value.constant)
            return FieldPlan(number, lambda _: text, True, text)
        copied = isinstance(value, PathValue) and value.path == Path(each, field=number)
        return FieldPlan(number, value.hl7, False, copied=copied)
    paths = [path for path, _ in parts]
    if all(path.component and path == Path(path.segment, field=number, component=path.component) for path in paths):
        return FieldPlan(number, _of_components(parts, constant), constant)
    return FieldPlan(number, _assembled(parts, constant), constant)


def _of_components(parts: Sequence[tuple[Path, Value]], constant: bool) -> Write:
    """A field of nothing but components, which most fields of several parts are: as ``_assembled`` makes it."""
    ordered = [
        (component - 1, value.fixed if isinstance(value, Literal) else None, value.hl7, not value.static)
        for component, value in sorted(((path.component or 0, value) for path, value in parts), key=itemgetter(0))
    ]

    def write(scope: BuildScope) -> str:
        filled = constant
        components: list[str] = []
        for before, fixed, read, moving in ordered:
            text = read(scope) if fixed is None else fixed
            if not text:
                continue
            if "~" in text or "^" in text:
                text = text.partition("~")[0].partition("^")[0]
            if moving:
                filled = True
            if before > len(components):
                components += [""] * (before - len(components))
            components.append(text)
        return "^".join(components) if filled else ""

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


class SegmentPlan:
    """One kind of outgoing segment."""

    def __init__(
        self,
        name: str,
        fields: Sequence[FieldPlan],
        defaults: Sequence[FieldPlan],
        required: Sequence[int],
        rules: SegmentRules,
        *,
        each: str = "",
        filled: int = 0,
        when: Condition | None = None,
    ) -> None:
        """``when``: a condition for making it; ``filled``: made once without a source when this field is filled."""
        self.name, self.fields, self.defaults = name, fields, defaults
        self.required, self.rules = required, rules
        #: One for each segment of this name that came in; empty: once.
        self.each = each
        #: 0 never.
        self.filled = filled
        self._when = when
        #: Its constants alone make it (``RGS|1|A``).
        self._constant = bool(fields) and all(plan.constant for plan in fields)
        numbers = (plan.number for plan in (*fields, *defaults))
        self._empty = [""] * (max((*numbers, *required, *rules.targets), default=0) + 1)
        #: The segment with its constants.
        self._begun = [name, *self._empty[1:]]
        for plan in fields:
            self._begun[plan.number] = plan.text or ""
        self._copied = tuple(plan.number for plan in fields if plan.copied)
        self._runs = tuple(_runs(self._copied))
        self._writes = tuple(
            (plan.number, plan.write, plan.constant) for plan in fields if plan.text is None and not plan.copied
        )

    def make(self, scope: BuildScope, *, certain: bool) -> str | None:
        """The segment's text; None when it is not ``certain`` to be sent and nothing but constants is there."""
        if self._when is not None and not self._when(scope.envelope, scope.context):
            return None
        fields = self._begun.copy()
        if self._runs:
            self._copy(scope, fields)
        filled = self.filled
        some = certain or self._constant or (self._when is not None and not filled)
        for number, write, constant in self._writes:
            text = write(scope)
            if text:
                fields[number] = text
                if not some and not constant and (not filled or number == filled):
                    some = True
        if not some and not any(fields[number] for number in self._copied if not filled or number == filled):
            return None
        return self._completed(fields, scope)

    def _copy(self, scope: BuildScope, fields: list[str]) -> None:
        source = scope.current
        if source[0] != self.each:
            source = scope.near.get(self.each, _NOTHING)
        if len(source) < len(fields):
            source = source + self._empty
        for begin, end in self._runs:
            fields[begin:end] = source[begin:end]

    def _completed(self, fields: list[str], scope: BuildScope) -> str:
        """As the version has it, with defaults for what is empty; StepFailed for what must not be."""
        text = "|".join(fields).rstrip("|")
        if not self.rules.leave(text):
            self.rules.apply(fields)
            text = ""
        for plan in self.defaults:
            if not fields[plan.number]:
                fields[plan.number], text = plan.write(scope), ""
        for number in self.required:
            if not fields[number]:
                raise StepFailed("build", "required_missing", f"{self.name}-{number}")
        return text or "|".join(fields).rstrip("|")


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Begin and end of what follows each other: 1, 2, 3, 7 are 1 to 4 and 7 to 8."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1] + 1
