"""Templates of nothing but texts, members and comparisons, which most are: read without Jinja2, to the same end.

``sandbox.py`` has parsed and checked them. What a name stands for is said here for all templates.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from engine.envelope import Envelope
from engine.transforms.base import Context
from engine.transforms.values.readers import OBJECTS, ROOTS
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import as_json

Read = Callable[[Envelope, Context], Any]

#: What is not there.
UNDEFINED = jinja2.ChainableUndefined()
#: Names of what is JSON already, or a caller's texts: as it was received.
AS_RECEIVED = frozenset({"body", "site", "query", "header"})
_AS_IT_IS = frozenset({str, int, type(None), jinja2.ChainableUndefined})
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


def plain_template(tree: nodes.Template, site: Mapping[str, Any], *, alone: bool) -> Read | None:
    """What reads such a template; None for any other one.

    ``alone``: it is one expression, which keeps its type, or is UNDEFINED.
    """
    pieces = [piece for output in tree.body if isinstance(output, nodes.Output) for piece in output.nodes]
    reads = [read for piece in pieces if (read := _piece(piece, site)) is not None]
    if len(reads) < len(pieces):
        return None
    if alone:
        return reads[0]
    texts = [piece.data if isinstance(piece, nodes.TemplateData) else None for piece in pieces]
    if texts.count(None) == 1:
        at = texts.index(None)
        read, before, after = reads[at], "".join(map(str, texts[:at])), "".join(map(str, texts[at + 1 :]))
        return lambda envelope, context: f"{before}{read(envelope, context)!s}{after}"
    return lambda envelope, context: "".join([str(read(envelope, context)) for read in reads])


def holder(name: str, site: Mapping[str, Any]) -> Read:
    """What reads what a name stands for, as it is kept."""
    if name == "body":
        return lambda envelope, context: Scope(envelope, context).request()
    if name == "site":
        return lambda _envelope, _context: site
    if name == "query":
        return lambda envelope, context: (context.request or envelope).origin.query
    if name == "header":
        return lambda envelope, context: (context.request or envelope).origin.headers
    root = ROOTS.get(name)
    if root is None:
        return lambda envelope, context: Scope(envelope, context).variable(name)
    return lambda envelope, context: root(Scope(envelope, context), ())


def _piece(node: nodes.Node, site: Mapping[str, Any]) -> Read | None:
    if isinstance(node, nodes.TemplateData):
        text = node.data
        return lambda _envelope, _context: text
    if isinstance(node, nodes.Or):
        left, right = _piece(node.left, site), _piece(node.right, site)
        if left is None or right is None:
            return None
        return lambda envelope, context: left(envelope, context) or right(envelope, context)
    if isinstance(node, nodes.Compare):
        return _comparison(node, site)
    members: list[str] = []
    while isinstance(node, nodes.Getattr):
        members.insert(0, node.attr)
        node = node.node
    if not isinstance(node, nodes.Name) or node.name in _OF_JINJA:
        return None
    read = _members(holder(node.name, site), members)
    if len(members) == 1 and node.name == "body":
        return _of_request(members[0], read)
    if len(members) == 1 and node.name not in ROOTS and node.name != "site":
        return _of_variable(node.name, members[0], read)
    return read


def _comparison(node: nodes.Compare, site: Mapping[str, Any]) -> Read | None:
    left, right = _piece(node.expr, site), _piece(node.ops[0].expr, site)
    holds = _COMPARISONS.get(node.ops[0].op)
    if left is None or right is None or holds is None or len(node.ops) > 1:
        return None
    return lambda envelope, context: holds(left(envelope, context), right(envelope, context))


def _members(held: Read, members: list[str]) -> Read:
    """What reads a name, or what is inside of it; a part of the request stays the request's own."""
    if not members:
        return lambda envelope, context: UNDEFINED if (value := held(envelope, context)) is None else as_json(value)

    def read(envelope: Envelope, context: Context) -> Any:
        value = held(envelope, context)
        for member in members:
            if type(value) not in OBJECTS and not isinstance(value, Mapping):
                return UNDEFINED
            value = value.get(member, UNDEFINED)
        return value if type(value) in _AS_IT_IS else as_json(value)

    return read


def _of_request(member: str, otherwise: Read) -> Read:
    """A member of the request, which nearly every one that is read is."""

    def read(envelope: Envelope, context: Context) -> Any:
        request = envelope.request
        if type(request) is not dict:
            return otherwise(envelope, context)
        value = request.get(member, UNDEFINED)
        return value if type(value) in _AS_IT_IS else as_json(value)

    return read


def _of_variable(name: str, member: str, otherwise: Read) -> Read:
    """A member of what a step put there."""

    def read(envelope: Envelope, context: Context) -> Any:
        held: Any = envelope.variables.get(name)
        if type(held) not in OBJECTS:
            return otherwise(envelope, context)
        value = held.get(member, UNDEFINED)
        return value if type(value) in _AS_IT_IS else as_json(value)

    return read
