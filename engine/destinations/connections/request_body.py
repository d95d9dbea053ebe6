"""What of a JSON body stands in the address of a request, and what in its body (`url:` and `format:` of `rest`).

An address may be a template of RFC 6570: ``{id}`` is a member of the body, percent-encoded, ``{/action}`` one that may
be missing, with its slash, and ``{?from,to}`` makes a query of those that are there. Members that the address took are
left out of the body. Host and port are never part of a template: where a message goes is for the file to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

_EXPRESSION = re.compile(r"\{([/?&]?)([A-Za-z_]\w*(?:,[A-Za-z_]\w*)*)\}", re.ASCII)


class Unaddressed(ValueError):
    """A message whose body lacks what the address needs; no later attempt will help."""


class Address:
    """An address, or a template of one."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for braces that are no expression, or that stand before the path."""
        if re.search(r"[{}]", _EXPRESSION.sub("", text)):
            raise ValueError("expected expressions such as {id}, {/action} or {?from,to}")
        self.text = text
        expressions = _EXPRESSION.findall(text)
        self.names = frozenset(name for _, names in expressions for name in names.split(","))
        if re.match(r"[^/?#]*//[^/?#]*\{(?![/?])", text):
            raise ValueError("expected host and port without braces")
        #: With every expression left out: what it is called for people, and what is checked.
        self.fixed = _EXPRESSION.sub("", text)

    def filled(self, members: Mapping[str, Any]) -> str:
        """The address for a body. Raises Unaddressed."""

        def expand(found: re.Match[str]) -> str:
            kind, names = found[1], found[2].split(",")
            given = [(name, _text(members.get(name))) for name in names]
            if kind in ("?", "&"):
                pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in given if value)
                return f"{kind}{pairs}" if pairs else ""
            if kind == "/":
                return "".join(f"/{_segment(value)}" for _, value in given if value)
            if not all(value for _, value in given):
                raise Unaddressed
            return ",".join(_segment(value) for _, value in given)

        return _EXPRESSION.sub(expand, self.text)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Unaddressed when it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Unaddressed from None
    if not isinstance(found, dict):
        raise Unaddressed
    return found


def form(members: Mapping[str, Any]) -> bytes:
    """A form of the members (application/x-www-form-urlencoded): null is left out, a list is the name several times."""
    return urlencode(list(_pairs(members))).encode()


def _pairs(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                yield name, _text(item)


def _segment(value: str) -> str:
    # A segment of dots would lead elsewhere: they are resolved before a request leaves (RFC 3986, 5.2.4).
    if value in (".", ".."):
        raise Unaddressed
    return quote(value, safe="")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
