"""``{{ … }}``: Jinja2 in a sandbox that knows expressions and output only.

Loops, macros, calls, imports, ``**``, text multiplication and filters that make wide text do not exist here: a template
cannot run for long or make much. Templates are parsed and checked when the channel loads. Their result is data.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import jinja2
from jinja2 import filters, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import SpecError, StepFailed
from engine.hl7.path import Path
from engine.transforms.values.places import Place
from engine.transforms.values.readers import OBJECTS, ROOTS, Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import HL7Text, as_data, as_json

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


Read = Callable[[Scope], Any]

#: What is not there, in templates.
_UNDEFINED = jinja2.ChainableUndefined()
_AS_IT_IS = frozenset({str, int, type(None), jinja2.ChainableUndefined})
#: Names of what is JSON already, or a caller's texts: as it was received.
_AS_RECEIVED = frozenset({"body", "site", "query", "header"})
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}
#: Names that Jinja2 has to read: paths in brackets, the parts of a time, what is its own.
_OF_JINJA = frozenset({"message", "now", "self"})


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

    __slots__ = ("_members", "_paths", "_plain", "_run", "_site", "_step")

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
            self._plain = self._of_members(tree, alone=_is_expression(source, tree))
        except SpecError:
            raise
        except Exception as error:  # noqa: BLE001 - brackets too deep, numbers too long: Python has many words for these
            raise SpecError(
                f"the template cannot be read: {type(error).__name__}", at=at, expected="{{ expression }}"
            ) from None

    def read(self, scope: Scope) -> Any:
        if self._plain is not None:
            value = self._plain(scope)
            if type(value) is str and len(value) > LIMIT:
                raise StepFailed(self._step, "template_too_long")
            return value
        try:
            value = self._run({name: self._value(name, members, scope) for name, members in self._members})
        except _TooLong:
            raise StepFailed(self._step, "template_too_long") from None
        except Exception as error:  # noqa: BLE001 - filters raise whatever they like, and a step fails in one way only
            # Its text may hold what it stumbled over; the type says enough.
            failure = type(error).__name__
        else:
            if isinstance(value, str) and len(value) > LIMIT:
                raise StepFailed(self._step, "template_too_long")
            # A part of the request stays the request's own.
            return as_json(value) if isinstance(value, (dict, list)) else value
        raise StepFailed(self._step, "template_failed", failure)

    def paths(self) -> tuple[Path, ...]:
        return self._paths

    # -- templates of nothing but texts, members and comparisons, which most are: without Jinja2 --------------------

    def _of_members(self, tree: nodes.Template, *, alone: bool) -> Read | None:
        """What reads such a template, to the end that Jinja2 comes to; None for any other one."""
        pieces = [piece for output in tree.body if isinstance(output, nodes.Output) for piece in output.nodes]
        reads = [read for piece in pieces if (read := self._piece(piece)) is not None]
        if len(reads) < len(pieces):
            return None
        if alone:
            (read,) = reads
            return lambda scope: None if (value := read(scope)) is _UNDEFINED else value
        return lambda scope: "".join([str(read(scope)) for read in reads])

    def _piece(self, node: nodes.Node) -> Read | None:
        if isinstance(node, nodes.TemplateData):
            text = node.data
            return lambda _: text
        if isinstance(node, nodes.Or):
            left, right = self._piece(node.left), self._piece(node.right)
            return None if left is None or right is None else lambda scope: left(scope) or right(scope)
        if isinstance(node, nodes.Compare):
            return self._comparison(node)
        members: list[str] = []
        while isinstance(node, nodes.Getattr):
            members.insert(0, node.attr)
            node = node.node
        if not isinstance(node, nodes.Name) or node.name in _OF_JINJA:
            return None
        return self._member(node.name, members)

    def _comparison(self, node: nodes.Compare) -> Read | None:
        left, right = self._piece(node.expr), self._piece(node.ops[0].expr)
        holds = _COMPARISONS.get(node.ops[0].op)
        if left is None or right is None or holds is None or len(node.ops) > 1:
            return None
        return lambda scope: holds(left(scope), right(scope))

    def _member(self, name: str, members: list[str]) -> Read:
        held = self._holder(name)
        if len(members) == 1:
            return _member_of(held, members[0])

        def read(scope: Scope) -> Any:
            value = held(scope)
            for member in members:
                if type(value) not in OBJECTS and not isinstance(value, Mapping):
                    return _UNDEFINED
                value = value.get(member, _UNDEFINED)
            # A part of the request stays the request's own.
            return value if type(value) is str else _UNDEFINED if value is None and not members else as_json(value)

        return read

    def _value(self, name: str, members: frozenset[str] | None, scope: Scope) -> Any:
        if name == "message":
            return _MessageView(scope)
        if name == "now":
            return scope.context.now
        value = self._holder(name)(scope)
        if value is None:
            return _UNDEFINED
        if members is not None and type(value) is dict and name not in _AS_RECEIVED:
            value = {member: value[member] for member in members if member in value}
        return value if name in _AS_RECEIVED else as_json(value)

    def _holder(self, name: str) -> Read:
        """What reads what a name stands for, as it is kept."""
        if name == "body":
            return Scope.request
        if name == "site":
            return lambda _: self._site
        if name == "query":
            return lambda scope: (scope.context.request or scope.envelope).origin.query
        if name == "header":
            return lambda scope: (scope.context.request or scope.envelope).origin.headers
        root = ROOTS.get(name)
        return (lambda scope: scope.variable(name)) if root is None else (lambda scope: root(scope, ()))


def _member_of(held: Read, member: str) -> Read:
    """What reads one member of an object."""

    def read(scope: Scope) -> Any:
        value = held(scope)
        if type(value) not in OBJECTS and not isinstance(value, Mapping):
            return _UNDEFINED
        value = value.get(member, _UNDEFINED)
        return value if type(value) in _AS_IT_IS else as_json(value)

    return read


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
