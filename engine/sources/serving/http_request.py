"""Requests as the listener takes them: read at once from the bytes that came, where these are as nearly all are.

Pure. ``PlainRequests`` reads what every parser of HTTP/1.1 reads alike: one whole request, its head of visible ASCII
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
from engine.remembered import remembered
from engine.sources.base import HttpRequest

#: Names of a query.
MAX_FIELDS = 100

_PLAIN_LINE = re.compile(r"(DELETE|GET|PATCH|POST|PUT) ((?:/[A-Za-z0-9._~-]+)+)(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n")
_PLAIN_HEADERS = re.compile(r"((?:[A-Za-z0-9-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n")
_FIELD = re.compile(r"([^:]+): (.+)\r\n")
#: Headers that change how a request is read.
_SPECIAL = frozenset({"expect", "proxy-connection", "transfer-encoding", "upgrade"})
_PARTED = methodcaller("partition", "=")
#: Digits of the length of a body that is read at once.
_DIGITS = 8
#: Bytes of headers that are remembered for the next request of their connection.
_REMEMBERED = 2048


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


class PlainRequests:
    """The plain requests of one connection. Headers that come again as they were, as most do, are not read again."""

    __slots__ = ("_headers", "_identity", "_length", "_lines", "_peer")

    def __init__(self, peer: str, identity: str) -> None:
        self._peer, self._identity = peer, identity
        #: The headers of the request before as they stood, and what they are; None where they are to be read again.
        self._lines: bytes | None = None
        self._headers: Mapping[str, str] = {}
        #: Bytes of the body behind them.
        self._length = 0

    def read(self, data: bytes) -> HttpRequest | None:
        """The request that these very bytes are, where that is plain; its connection stays open after it then."""
        begin, end = data.find(b"\r\n") + 2, data.find(b"\r\n\r\n") + 4
        line, lines = data[:begin], data[begin:end]
        found = _PLAIN_LINE.fullmatch(line.decode()) if line.isascii() else None
        if found is None or not (lines == self._lines or self._reads(lines)) or len(data) != end + self._length:
            return None
        method, path, query = found.groups()
        return HttpRequest(method, path, query or "", self._headers, data[end:], self._peer, self._identity)

    def _reads(self, lines: bytes) -> bool:
        """Read headers; False where they are not plain."""
        self._lines = None
        found = _PLAIN_HEADERS.fullmatch(lines.decode()) if lines.isascii() else None
        if found is None:
            return False
        fields = _FIELD.findall(found[1])
        self._headers = headers = {name.lower(): value for name, value in fields}
        if len(headers) != len(fields) or "host" not in headers or not _SPECIAL.isdisjoint(headers):
            return False
        if "connection" in headers and headers["connection"].lower() != "keep-alive":
            return False
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > _DIGITS:
            return False
        self._length = int(length)
        if len(lines) <= _REMEMBERED:
            self._lines = lines
        return True


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


@remembered(1024)
def parse_query(raw: str) -> Mapping[str, tuple[str, ...]]:
    """Every value of each name. Raises Refused for what is no UTF-8, or more names than any form has."""
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
