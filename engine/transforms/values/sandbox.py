"""``{{ … }}``: Jinja2 in a sandbox that knows expressions and output only.

Loops, macros, calls, imports, ``**``, text multiplication and filters that make wide text do not exist here: a template
cannot run for long or make much. Templates are parsed and checked when the channel loads. Their result is data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NoReturn

import jinja2
from jinja2 import filters, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed
from engine.hl7.path import Path
from engine.transforms.base import Context
from engine.transforms.values.places import Place
from engine.transforms.values.plain_templates import AS_RECEIVED, UNDEFINED, holder, plain_template
from engine.transforms.values.readers import Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import HL7Text, as_data, as_hl7, as_json

#: Longest text a template may make.
LIMIT = 65_536
#: Longest text a filter may make on the way there.
_MIDWAY = 16 * LIMIT
_MAX_SOURCE = 8192
#: Levels of an expression.
_MAX_DEPTH = 100

_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Const,
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Filter,
    nodes.Test,
    nodes.CondExpr,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Compare,
    nodes.Operand,
    nodes.Add,
    nodes.Sub,
    nodes.Mul,
    nodes.Div,
    nodes.FloorDiv,
    nodes.Mod,
    nodes.Concat,
    nodes.Neg,
    nodes.Pos,
    nodes.List,
    nodes.Tuple,
    nodes.Keyword,
)
_FILTERS = frozenset(
    [
        "abs",
        "capitalize",
        "default",
        "d",
        "first",
        "float",
        "int",
        "join",
        "last",
        "length",
        "count",
        "lower",
        "max",
        "min",
        "replace",
        "reverse",
        "round",
        "string",
        "sum",
        "title",
        "trim",
        "truncate",
        "upper",
    ]
)
_TESTS = frozenset(
    [
        "defined",
        "undefined",
        "none",
        "in",
        "eq",
        "equalto",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "number",
        "string",
        "true",
        "false",
    ]
)


class _TooLong(TemplateRuntimeError):
    """A filter would make more text than a template may hold."""


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, before, after = str(value), str(old), str(new)
    times = text.count(before)
    if count is not None and count >= 0:
        times = min(times, count)
    _check_length(len(text) + times * (len(after) - len(before)))
    return text.replace(before, after, -1 if count is None else count)


def _join(value: Iterable[Any], between: str = "") -> str:
    parts = [str(part) for part in value]
    _check_length(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _round(value: Any, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common") -> float:
    if abs(precision) > 20:
        raise ValueError("a number has fewer digits")
    return filters.do_round(value, precision, method)


def _check_length(length: int) -> None:
    if length > _MIDWAY:
        raise _TooLong("too much text")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Members of objects, and the parts of a time; nothing has methods."""
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=None, name=attribute)
        if isinstance(obj, (datetime, jinja2.Undefined)):
            return super().getattr(obj, attribute)
        return self.undefined(obj=None, name=attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return super().call_binop(context, operator, left, right)
        raise SecurityError("only numbers are multiplied")


# What a template makes is data that is escaped where it is written, so HTML escaping would only spoil it.
# Without the optimizer, which works constants out again on each level of an expression.
_ENVIRONMENT = _Sandbox(
    undefined=jinja2.ChainableUndefined, autoescape=False, keep_trailing_newline=True, optimized=False
)
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.filters = {name: made for name, made in _ENVIRONMENT.filters.items() if name in _FILTERS}
# Jinja2's own make as much text or as large a number as they are told to.
_ENVIRONMENT.filters |= {"replace": _replace, "join": _join, "round": _round}


class _MessageView(Mapping[str, str]):
    """``message['PID-5.1']`` in a template: data of the message in motion."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __getitem__(self, path: str) -> str:
        return as_data(HL7Text(self._scope.find(_place(path)) or ""))

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


@lru_cache(maxsize=512)
def _place(path: str) -> Place:
    return Place(Path.parse(path))


def names_in(source: str) -> frozenset[str]:
    """The names that a template reads; none where it is no template."""
    try:
        return frozenset(node.name for node in _ENVIRONMENT.parse(source).find_all(nodes.Name))
    except Exception:  # noqa: BLE001 - brackets too deep, numbers too long: Python has many words for these
        return frozenset()


class Template(Value):
    """A template. One expression alone keeps its type (a number stays a number); with text around it, it is text."""

    __slots__ = ("_members", "_paths", "_plain", "_run", "_site", "_step", "flat")

    def __init__(self, source: str, site: Mapping[str, Any], at: tuple[str | int, ...], step: str) -> None:
        self._site, self._step = site, step
        if len(source) > _MAX_SOURCE:
            raise SpecError("the template is too long", at=at, expected=f"at most {_MAX_SOURCE} characters")
        try:
            tree = _ENVIRONMENT.parse(source)
            # Checked before anything else looks at it: Jinja2 works out constants while it does.
            self._paths = _check(tree, at)
            self._members = _members(tree)
            self._run = _compiled(source, tree)
            self.flat = not _is_expression(source, tree)
            self._plain = plain_template(tree, site, alone=not self.flat)
        except SpecError:
            raise
        except Exception as error:  # noqa: BLE001 - brackets too deep, numbers too long: Python has many words for these
            raise SpecError(
                f"the template cannot be read: {type(error).__name__}", at=at, expected="{{ expression }}"
            ) from None

    def __call__(self, envelope: Envelope, context: Context) -> Any:
        if self._plain is None:
            return self.read(Scope(envelope, context))
        try:
            value = self._plain(envelope, context)
        except Exception as error:  # noqa: BLE001 - as in read
            failure = type(error).__name__
        else:
            if type(value) is str and len(value) > LIMIT:
                self._too_long()
            return None if value is UNDEFINED else value
        raise StepFailed(self._step, "template_failed", failure)

    def hl7(self, scope: Scope) -> str:
        return super().hl7(scope) if self._plain is None else as_hl7(self(scope.envelope, scope.context))

    def read(self, scope: Scope) -> Any:
        if self._plain is not None:
            return self(scope.envelope, scope.context)
        try:
            value = _as_own(self._run({name: self._value(name, members, scope) for name, members in self._members}))
        except _TooLong:
            raise StepFailed(self._step, "template_too_long") from None
        except Exception as error:  # noqa: BLE001 - filters raise whatever they like, and a step fails in one way only
            # Its text may hold what it stumbled over; the type says enough.
            failure = type(error).__name__
        else:
            return value if type(value) is not str or len(value) <= LIMIT else self._too_long()
        raise StepFailed(self._step, "template_failed", failure)

    def paths(self) -> tuple[Path, ...]:
        return self._paths

    def _too_long(self) -> NoReturn:
        raise StepFailed(self._step, "template_too_long")

    def _value(self, name: str, members: frozenset[str] | None, scope: Scope) -> Any:
        if name == "message":
            return _MessageView(scope)
        if name == "now":
            return scope.context.now
        value = holder(name, self._site)(scope.envelope, scope.context)
        if value is None:
            return UNDEFINED
        if members is not None and type(value) is dict and name not in AS_RECEIVED:
            value = {member: value[member] for member in members if member in value}
        return value if name in AS_RECEIVED else as_json(value)


def _as_own(value: Any) -> Any:
    """A part of the request stays the request's own."""
    return as_json(value) if isinstance(value, (dict, list)) else value


def _members(tree: nodes.Template) -> tuple[tuple[str, frozenset[str] | None], ...]:
    """The names that are read, and the members of each that are; None where that is more than members."""
    inside = {id(node.node): node.attr for node in tree.find_all(nodes.Getattr)}
    found: dict[str, frozenset[str] | None] = {}
    for node in tree.find_all(nodes.Name):
        member, known = inside.get(id(node)), found.get(node.name, frozenset())
        found[node.name] = None if member is None or known is None else known | {member}
    return tuple(found.items())


def _compiled(source: str, tree: nodes.Template) -> Callable[[dict[str, Any]], Any]:
    if _is_expression(source, tree):
        expression = _ENVIRONMENT.compile_expression(source[2:-2].strip("-+ "), undefined_to_none=True)
        return lambda names: expression(**names)
    template = _ENVIRONMENT.from_string(source)
    return lambda names: template.render(names)


def _is_expression(source: str, tree: nodes.Template) -> bool:
    """Whether it is one expression alone."""
    alone = len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) and len(tree.body[0].nodes) == 1
    return alone and source.startswith("{{") and source.endswith("}}") and source.count("{{") == 1


def _check(tree: nodes.Template, at: tuple[str | int, ...]) -> tuple[Path, ...]:
    """Refuse what a template must not have; the paths it names are checked as paths."""
    _check_depth(tree, at)
    paths: list[Path] = []
    for node in tree.find_all(nodes.Node):
        if isinstance(node, (nodes.Filter, nodes.Test)):
            known = _FILTERS if isinstance(node, nodes.Filter) else _TESTS
            if node.name not in known:
                raise SpecError(f"{node.name} cannot be used in a template", at=at, expected=", ".join(sorted(known)))
        if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and node.node.name == "message":
            if not isinstance(node.arg, nodes.Const) or not Path.looks_like(str(node.arg.value)):
                raise SpecError("message[…] takes a path", at=at, expected="a path such as message['PID-5.1']")
            paths.append(Path.parse(str(node.arg.value)))
        if not isinstance(node, (*_ALLOWED, nodes.EvalContext)) and not isinstance(node, nodes.Helper):
            raise SpecError(
                f"{type(node).__name__.lower()} cannot be used in a template",
                at=at,
                expected="expressions, such as {{ body.name }}",
            )
    return tuple(paths)


def _check_depth(tree: nodes.Template, at: tuple[str | int, ...]) -> None:
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise SpecError("the template is nested too deep", at=at, expected=f"at most {_MAX_DEPTH} levels")
        waiting += [(child, depth + 1) for child in node.iter_child_nodes()]
