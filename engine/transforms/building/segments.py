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
from engine.transforms.building.blanks import Blanks, component_of, first_component, may_have_parts
from engine.transforms.building.version_rules import SegmentRules
from engine.transforms.values.places import Place
from engine.transforms.values.readers import Literal, PathValue, Value
from engine.transforms.values.scope import Scope, Times
from engine.transforms.values.text import as_hl7


class BuildScope(Scope):
    """The incoming message split into fields once, and the occurrences that are being mapped."""

    __slots__ = ("current", "first", "known", "near", "plain", "texts")

    def __init__(self, envelope: Envelope, context: Context, times: Times) -> None:
        super().__init__(envelope, context, times)
        #: First segment of each name, in the whole message.
        self.first: dict[str, list[str]] = {}
        #: The same, but of the group at hand where that has one.
        self.near = self.first
        #: The occurrence that is being mapped; its name is ``current[0]``.
        self.current: list[str] = [""]
        #: What the blanks of the message are, and whether they were read together; see ``Blanks.read``.
        self.texts: Sequence[str] = ()
        self.plain = True
        #: Texts that stand in several places, once they were made.
        self.known: dict[Value, str] = {}

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
    #: The number of the blank that it is; None where it is none.
    blank: int | None = None
    #: The field with its constants and a place (``%s``) for each of ``fills``; None where it depends on what they are.
    form: str | None = None
    #: The numbers of the blanks that it has.
    fills: tuple[int, ...] = ()
    #: What fills it may have components or repetitions of its own.
    parted: bool = False


def field_plan(
    number: int, parts: Sequence[tuple[Path, Value]], each: str = "", blanks: Blanks | None = None
) -> FieldPlan:
    """Everything that is said about one field, put together.

    ``each``: the name of the segment that is mapped; ``blanks``: of the message, for a segment that is made anyway.
    """
    constant = all(value.static for _, value in parts)
    if len(parts) == 1 and parts[0][0].repetition is None and parts[0][0].component is None:
        value = parts[0][1]
        if value.static:
            text = as_hl7(value.constant)
            return FieldPlan(number, lambda _: text, True, text, form=_literally(text))
        copied = isinstance(value, PathValue) and value.path == Path(each, field=number)
        blank = None if blanks is None else blanks.number(value)
        if blank is None:
            return FieldPlan(number, value.hl7, False, copied=copied)
        form, parted = "%s", may_have_parts(value)
        return FieldPlan(number, _blank(blank), False, blank=blank, form=form, fills=(blank,), parted=parted)
    paths = [path for path, _ in parts]
    if all(path.component and path == Path(path.segment, field=number, component=path.component) for path in paths):
        return _of_components(number, parts, constant, blanks)
    return FieldPlan(number, _assembled(parts, constant), constant)


def _of_components(
    number: int, parts: Sequence[tuple[Path, Value]], constant: bool, blanks: Blanks | None
) -> FieldPlan:
    """A field of nothing but components, which most fields of several parts are: as ``_assembled`` makes it."""
    by_component = {path.component or 0: value for path, value in parts}
    if any(isinstance(value, Literal) and value.fixed is None for value in by_component.values()):
        return FieldPlan(number, _assembled(parts, constant), constant)
    components = [""] * max(by_component)
    fills: list[int] = []
    reads: list[Write] = []
    for component, value in sorted(by_component.items(), key=itemgetter(0)):
        if isinstance(value, Literal):
            components[component - 1] = _literally(first_component(value.fixed or ""))
        else:
            components[component - 1] = "%s"
            blank = None if blanks is None else blanks.number(value, component=True)
            if blank is not None:
                fills.append(blank)
            reads.append(component_of(value) if blank is None else _blank(blank))
    form = "^".join(components).rstrip("^")
    if constant:
        text = form % ()
        return FieldPlan(number, lambda _: text, True, text, form=form)
    write = _filled_in(form, reads)
    if len(fills) < len(reads):
        return FieldPlan(number, write, False)
    return FieldPlan(number, write, False, form=form, fills=tuple(fills))


def _filled_in(form: str, reads: Sequence[Write]) -> Write:
    """The field with what fills it; nothing when there is nothing to fill it."""

    def write(scope: BuildScope) -> str:
        texts = tuple([read(scope) for read in reads])
        return (form % texts).rstrip("^") if any(texts) else ""

    return write


def _literally(text: str) -> str:
    """What stands for this very text in a form."""
    return text.replace("%", "%%")


def _blank(number: int) -> Write:
    return lambda scope: scope.texts[number]


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
            if component:
                # What has components itself (a coded value) gives its first to a place that has none below it.
                text = first_component(text)
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
        #: Its constants alone make it (``RGS|1|A``), or its condition does.
        self._certain = bool(fields) and all(plan.constant for plan in fields)
        self._certain = self._certain or (when is not None and not filled)
        numbers = (plan.number for plan in (*fields, *defaults))
        self._empty = [""] * (max((*numbers, *required, *rules.targets), default=0) + 1)
        #: The segment with its constants.
        self._begun = [name, *self._empty[1:]]
        for plan in fields:
            self._begun[plan.number] = plan.text or ""
        self._copied = tuple(plan.number for plan in fields if plan.copied)
        self._runs = tuple(_runs(self._copied))
        self._blanks = tuple((plan.number, plan.blank) for plan in fields if plan.blank is not None)
        self._writes = tuple(
            (plan.number, plan.write) for plan in fields if plan.text is None and not plan.copied and plan.blank is None
        )
        #: The same with its blanks, in the order of their fields, which is the order of what is wrong with them.
        self._in_order = tuple((plan.number, plan.write) for plan in fields if plan.text is None and not plan.copied)
        #: Fields of which one makes the segment.
        self._telling = tuple(
            plan.number for plan in fields if not plan.constant and (not filled or plan.number == filled)
        )
        given = {plan.number for plan in fields if plan.text}
        self._needed = tuple(number for number in required if number not in given)
        self._form, self._picked = self._whole()
        #: Whether what fills it decides alone if it is made.
        self._alone = not (filled or self._certain)
        #: Whether the version has it as it stands, whatever fills it: one that it had so tells of all others.
        self._fits, self._may_differ = False, rules.cased or any(plan.parted for plan in fields)

    def _whole(self) -> tuple[str, Callable[[Sequence[str]], tuple[str, ...]]]:
        """What the segment is where all of its blanks are filled, and those; an empty form where it depends on more."""
        fields, others = self.fields, {*self.required, *(plan.number for plan in self.defaults)}
        forms = {plan.number: plan.form or "" for plan in fields if plan.text != ""}
        fills = [fill for plan in fields for fill in plan.fills]
        if self.each or not fills or not all(forms.values()) or not others <= forms.keys():
            return "", tuple
        line = [self.name, *self._empty[1:]]
        for number, form in forms.items():
            line[number] = form
        picked = itemgetter(*fills) if len(fills) > 1 else itemgetter(slice(fills[0], fills[0] + 1))
        return "|".join(line).rstrip("|"), picked

    def make(self, scope: BuildScope, *, certain: bool) -> str | None:
        """The segment's text; None when it is not ``certain`` to be sent and nothing but constants is there."""
        if self._form and scope.plain:  # it depends on no condition
            texts = self._picked(scope.texts)
            if "" not in texts:
                text = self._form % texts
                if self._fits:
                    return text
                if self.rules.leave(text):
                    self._fits = not self._may_differ
                    return text
            elif self._alone and not certain and not any(texts):
                return None
        elif self._when is not None and not self._when(scope.envelope, scope.context):
            return None
        return self._field_by_field(scope, certain=certain)

    def _field_by_field(self, scope: BuildScope, *, certain: bool) -> str | None:
        fields = self._begun.copy()
        if self._runs:
            self._copy(scope, fields)
        if scope.plain:
            texts = scope.texts
            for number, blank in self._blanks:
                fields[number] = texts[blank]
        for number, write in self._writes if scope.plain else self._in_order:
            fields[number] = write(scope)
        if not certain and not self._certain:
            for number in self._telling:
                if fields[number]:
                    break
            else:
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
        for number in self._needed:
            if not fields[number]:
                raise StepFailed("build", "required_missing", f"{self.name}-{number}")
        return text or "|".join(fields).rstrip("|")


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Begin and end of what follows each other: 1, 2, 3, 7 are 1 to 4 and 7 to 8."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1] + 1
