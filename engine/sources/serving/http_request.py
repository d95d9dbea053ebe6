"""Requests as the listener takes them: read at once from the bytes that came, where these are as nearly all are.

Pure. ``plain_request`` reads what every parser of HTTP/1.1 reads alike: one whole request, its head of visible ASCII
and without anything that says how the connection is to be used or its body is cut. What it gives is what llhttp and the
ASGI server would have made of it (``request_of``); all else is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from operator import methodcaller
from typing import Any
from urllib.parse import parse_qsl

from engine.errors import Refused
from engine.sources.base import HttpRequest

#: Names of a query.
MAX_FIELDS = 100

_PLAIN_HEAD = re.compile(
    r"(DELETE|GET|PATCH|POST|PUT) ((?:/[A-Za-z0-9._~-]+)+)(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n"
    r"((?:[A-Za-z0-9-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n"
)
_FIELD = re.compile(r"([^:]+): (.+)\r\n")
#: Headers that change how a request is read.
_SPECIAL = frozenset({"expect", "proxy-connection", "transfer-encoding", "upgrade"})
_PARTED = methodcaller("partition", "=")
#: Digits of the length of a body that is read at once.
_DIGITS = 8


class Plain:
    """A request that was read at once, in the place of uvicorn's RequestResponseCycle: its answer is awaited."""

    more_body = waiting_for_100_continue = response_started = response_complete = disconnected = False
    keep_alive = True

    @property
    def message_event(self) -> Plain:
        """Nobody waits for more of it."""
        return self

    def set(self) -> None:
        """Tell those who wait."""


def plain_request(data: bytes, peer: str, identity: str) -> HttpRequest | None:
    """The request that these very bytes are, where that is plain; its connection stays open after it then."""
    end = data.find(b"\r\n\r\n") + 4
    head = data[:end]
    found = _PLAIN_HEAD.fullmatch(head.decode()) if head.isascii() else None
    if found is None:
        return None
    method, path, query, lines = found.groups()
    fields = _FIELD.findall(lines)
    headers = {name.lower(): value for name, value in fields}
    if len(headers) != len(fields) or "host" not in headers or not _SPECIAL.isdisjoint(headers):
        return None
    if "connection" in headers and headers["connection"].lower() != "keep-alive":
        return None
    length, body = headers.get("content-length", "0"), data[end:]
    if not length.isdigit() or len(length) > _DIGITS or int(length) != len(body):
        return None
    return HttpRequest(method, path, query or "", headers, body, peer, identity)


def request_of(scope: Mapping[str, Any], body: bytes = b"") -> HttpRequest:
    """The request of an ASGI scope; headers of one name are one, as RFC 9110 §5.3 has it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    client, query = scope.get("client"), scope["query_string"].decode("latin-1")
    peer = f"{client[0]}:{client[1]}" if client else ""
    return HttpRequest(
        scope["method"], scope["path"], query, headers, body, peer, scope.get("state", {}).get("identity", "")
    )


def parse_query(raw: str) -> dict[str, tuple[str, ...]]:
    """Raises Refused for what is no UTF-8, or more names than any form has."""
    query: dict[str, tuple[str, ...]] = {}
    if not raw:
        return query
    pairs: Iterable[tuple[str, str]]
    if "%" not in raw and "+" not in raw and raw.isascii() and raw.count("&") < MAX_FIELDS:
        parts = raw.split("&")
        query = {name: (value,) for name, _, value in map(_PARTED, parts)}
        if len(query) == len(parts) and "" not in query:
            return query
        pairs = [pair.partition("=")[::2] for pair in parts if pair]
    else:
        try:
            raw.encode("ascii")
            pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            raise Refused("invalid_parameter") from None
    query = {}
    for name, value in pairs:
        query[name] = (*query.get(name, ()), value)
    return query
