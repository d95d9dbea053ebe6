"""The site's one HTTP listener: REST sources register their routes here.

A dispatch table served by uvicorn in the engine's loop (`server.py`). It does what is common to all routes: API
keys and their rights, rate and size limits, correlation ids, the one error shape. It knows no parameters and no
schemas: those are `rest.py`. Nothing a caller wrote is ever logged, a path that does not exist included.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

import structlog

from engine.envelope import Reply, correlation_id_from
from engine.errors import ERROR_TABLE, ErrorRow, Refused
from engine.sources.base import HttpRequest, HttpRoute
from engine.sources.serving.accepting import ServerContexts
from engine.sources.serving.answers import error_reply, row_of
from engine.sources.serving.bodies import Bodies, Gone, Receive, TimedOut
from engine.sources.serving.http_connection import Respond
from engine.sources.serving.http_head import Limits
from engine.sources.serving.ports import listen
from engine.sources.serving.rates import Rates
from engine.sources.serving.rendering import render, wire
from engine.sources.serving.server import Server, make_server
from engine.sources.serving.telling import Telling

log = structlog.get_logger("engine.rest")

#: Names of API keys → their secret and the channels they may use.
Keys = Mapping[str, tuple[str, frozenset[str]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

#: Names of a query.
MAX_FIELDS = 100
#: Bytes of a query that do not stand for themselves.
_CODED = frozenset(b"%+")

REQUEST_TIMEOUT = ErrorRow("request_timeout", 408, "The request did not arrive in time.", retryable=True)


@dataclass(slots=True)
class _Entry:
    route: HttpRoute
    open: bool


class RestListener:
    """The HTTP listener of a site. One instance serves once: start, then stop."""

    def __init__(
        self,
        host: str,
        port: int,
        keys: Keys,
        contexts: ServerContexts | None = None,
        *,
        limits: Limits | None = None,
        refused: Callable[[str, str, str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``refused`` hears of callers without a right: peer, name of the key ("" for none that is valid), channel."""
        self.host, self.port = host, port
        self._refused = refused
        self._contexts, self._limits = contexts, limits or Limits()
        self.let_in(keys)
        self._table: dict[str, dict[str, _Entry]] = {}
        self._expected: set[tuple[str, str]] = set()
        self._rates = Rates(monotonic)
        self._telling = Telling(log, "rest", {})
        self._bodies = Bodies(self._limits.memory, self._limits.body_timeout, self._telling)
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """``http://127.0.0.1:8080``; after start with the real port."""
        return f"{'https' if self._contexts else 'http'}://{self.host}:{self.port}"

    def summary(self) -> Mapping[str, Any]:
        """Connections, bytes of requests, and what happened since the start by the events of the log."""
        serving = self._server.summary() if self._server is not None else {}
        counts = dict(sorted(self._telling.counts.items()))
        return {"address": self.address, **serving, "held_bytes": self._bodies.held, "since_start": counts}

    def let_in(self, keys: Keys) -> None:
        """The callers that are known from now on."""
        # A key without a secret must not let in a caller who sends an empty one.
        self._keys = [(name, _digest(secret), channels) for name, (secret, channels) in keys.items() if secret]

    def expect(self, claims: Iterable[str]) -> None:
        """Answer 503 channel_stopped where a channel will serve that has not started yet (``http:POST /path``)."""
        for claim in claims:
            kind, _, address = claim.partition(":")
            method, _, path = address.partition(" ")
            if kind == "http":
                self._expected.add((method, path))

    def add(self, route: HttpRoute) -> None:
        """Serve ``route`` from now on. Raises ValueError when another channel serves it."""
        methods = self._table.setdefault(route.path, {})
        entry = methods.get(route.method)
        if entry is not None and entry.open and entry.route.channel != route.channel:
            raise ValueError(f"{route.method} {route.path} belongs to channel {entry.route.channel}")
        methods[route.method] = _Entry(route, True)

    def remove(self, route: HttpRoute) -> None:
        """Answer 503 channel_stopped for ``route`` from now on."""
        entry = self._table.get(route.path, {}).get(route.method)
        if entry is not None and entry.route.channel == route.channel:
            entry.open = False

    async def start(self) -> None:
        """Listen. Raises OSError when the port is not to be had."""
        if self._contexts is not None:
            self._contexts.get()
        listener = await listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._server = make_server(self, self._contexts, self._limits, self._telling, self.take)
        self._task = asyncio.create_task(self._server.serve([listener]), name="rest-listener")
        serving = asyncio.create_task(self._server.serving.wait(), name="rest-listener-serving")
        await asyncio.wait({self._task, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            serving.cancel()
            await self._task

    async def stop(self) -> None:
        """Take no more requests, answer those that are under way (bounded by the caller's deadline)."""
        server, task = self._server, self._task
        if server is None or task is None:
            return
        self._server = self._task = None
        server.should_exit = True
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            server.force_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await asyncio.wait({task}, timeout=1.0)
            raise

    def take(self, scope: Mapping[str, Any], body: bytes | bytearray, respond: Respond) -> bool:
        """Have a request that came whole answered without a task; what is not as usual is left to ``__call__``."""
        method, path = scope["method"], scope["path"]
        entry = self._table.get(path, {}).get(method)
        if entry is None or not entry.open:
            return False
        route, headers, peer, api_key = entry.route, _headers(scope), _peer(scope), ""
        if route.begin is None or route.verify is not None or len(body) > route.max_body:
            return False
        if route.auth:
            api_key, channels = self._identify(headers.get("x-api-key", ""))
            if route.channel not in channels:
                return False
        if self._rates.take(route, api_key or peer.rpartition(":")[0]) > 0 or not self._bodies.take(len(body)):
            return False
        correlation_id = correlation_id_from(headers.get("x-correlation-id"))
        caller = _Caller(self._bodies, len(body), correlation_id, respond)
        raw, identity = scope["query_string"], scope["state"].get("identity", "")
        try:
            query = parse_query(raw)
            text = raw.decode("ascii")
            request = HttpRequest(
                method, path, query, headers, bytes(body), peer, api_key, correlation_id, identity, text
            )
            route.begin(request, caller)
        except Refused as refused:
            caller(_refusal(refused, correlation_id))
        except Exception as error:  # noqa: BLE001 - as in __call__
            caller.fail(error)
        return True

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        headers = _headers(scope)
        correlation_id = correlation_id_from(headers.get("x-correlation-id"))
        close = False
        try:
            reply = await self._answer(scope, headers, correlation_id, receive)
            start, body = render(reply, correlation_id)
        except Gone:
            return
        except TimedOut:
            close = True
            start, body = render(error_reply(REQUEST_TIMEOUT, correlation_id), correlation_id)
        except Refused as refused:
            close = refused.code in ("body_too_large", "listener_full")
            start, body = render(_refusal(refused, correlation_id), correlation_id)
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer that says nothing of it
            log.error("rest.internal_error", error=type(error).__name__, correlation_id=correlation_id)
            start, body = render(error_reply(ERROR_TABLE["internal_error"], correlation_id), correlation_id)
        if close:
            start["headers"].append((b"connection", b"close"))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Mapping[str, Any], headers: Mapping[str, str], correlation_id: str, receive: Receive
    ) -> Reply:
        method, path, peer = scope["method"], scope["path"], _peer(scope)
        methods = self._table.get(path)
        if method not in (methods or {}) and (method, path) in self._expected:
            # A caller must not take the moment of a start for a door that is not there: 404 is final.
            return error_reply(ERROR_TABLE["channel_stopped"], correlation_id)
        if methods is None:
            self._telling.tell("refused", level="info", code="not_found", peer=peer, correlation_id=correlation_id)
            return error_reply(ERROR_TABLE["not_found"], correlation_id)
        if method not in methods:
            return _other_method(method, methods, correlation_id)
        entry = methods[method]
        route = entry.route
        api_key, refusal = self._admit(route, headers, peer)
        if refusal is None and not entry.open:
            refusal = ERROR_TABLE["channel_stopped"]
        if refusal is not None:
            return self._refuse(route, refusal, api_key, peer, correlation_id)
        raw_query = scope["query_string"]
        query = parse_query(raw_query)
        identity = scope.get("state", {}).get("identity", "")
        async with self._bodies.read(headers, receive, route.max_body, peer) as body:
            request = HttpRequest(
                method, path, query, headers, body, peer, api_key, correlation_id, identity, raw_query.decode("ascii")
            )
            if route.verify is not None and not route.verify(request):
                self._tell_refused(peer, "", route.channel)
                return self._refuse(route, ERROR_TABLE["wrong_signature"], api_key, peer, correlation_id)
            return await route.handler(request)

    def _refuse(self, route: HttpRoute, refusal: ErrorRow, api_key: str, peer: str, correlation_id: str) -> Reply:
        self._telling.tell(
            "refused",
            level="info",
            code=refusal.code,
            channel=route.channel,
            api_key=api_key,
            peer=peer,
            correlation_id=correlation_id,
        )
        reply = error_reply(refusal, correlation_id)
        challenge = {"WWW-Authenticate": "X-API-Key"} if refusal.status == 401 else {}
        return replace(reply, headers={**reply.headers, **challenge})

    def _admit(self, route: HttpRoute, headers: Mapping[str, str], peer: str) -> tuple[str, ErrorRow | None]:
        """The name of the caller's key, and why it may not pass."""
        api_key = ""
        if route.auth:
            api_key, channels = self._identify(headers.get("x-api-key", ""))
            if not api_key:
                self._tell_refused(peer, "", route.channel)
                return "", ERROR_TABLE["unauthorized"]
            if route.channel not in channels:
                self._tell_refused(peer, api_key, route.channel)
                return api_key, ERROR_TABLE["forbidden"]
        wait = self._rates.take(route, api_key or peer.rpartition(":")[0])
        if wait > 0:
            return api_key, replace(ERROR_TABLE["rate_limited"], retry_after=math.ceil(wait))
        return api_key, None

    def _tell_refused(self, peer: str, api_key: str, channel: str) -> None:
        if self._refused is not None:
            self._refused(peer, api_key, channel)

    def _identify(self, secret: str) -> tuple[str, frozenset[str]]:
        found: tuple[str, frozenset[str]] = ("", frozenset())
        given = _digest(secret)
        for name, digest, channels in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, given):
                found = (name, channels)
        return found


class _Caller:
    """Who sent a request that was taken; answered once."""

    __slots__ = ("_bodies", "_correlation_id", "_respond", "_size")

    def __init__(self, bodies: Bodies, size: int, correlation_id: str, respond: Respond) -> None:
        self._bodies, self._size, self._correlation_id = bodies, size, correlation_id
        self._respond: Respond | None = respond

    def __call__(self, reply: Reply) -> None:
        """Answer."""
        try:
            head, body = wire(reply, self._correlation_id)
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer that says nothing of it
            self.fail(error)
            return
        respond, self._respond = self._respond, None
        if respond is not None:
            self._bodies.give_back(self._size)
            respond(reply.status, head, body)

    def fail(self, error: Exception) -> None:
        """Answer that the engine is at fault."""
        log.error("rest.internal_error", error=type(error).__name__, correlation_id=self._correlation_id)
        self(error_reply(ERROR_TABLE["internal_error"], self._correlation_id))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    pairs = scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1").strip(" \t") for name, value in pairs}
    if len(headers) != len(pairs):
        headers = {}
        for raw_name, raw_value in pairs:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _peer(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def parse_query(raw: bytes) -> dict[str, tuple[str, ...]]:
    """Raises Refused for what is no UTF-8, or more names than any form has."""
    query: dict[str, tuple[str, ...]] = {}
    pairs: Iterable[tuple[str, str]]
    try:
        if raw.isascii() and _CODED.isdisjoint(raw) and raw.count(b"&") < MAX_FIELDS:
            pairs = [pair.partition("=")[::2] for pair in raw.decode("ascii").split("&") if pair]
        else:
            pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("invalid_parameter") from None
    for name, value in pairs:
        query[name] = (*query.get(name, ()), value)
    return query


def _other_method(method: str, methods: Mapping[str, _Entry], correlation_id: str) -> Reply:
    allow = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
    if method == "OPTIONS":
        return Reply(204, None, allow)
    reply = error_reply(ERROR_TABLE["method_not_allowed"], correlation_id)
    return replace(reply, headers={**reply.headers, **allow})


def _refusal(refused: Refused, correlation_id: str) -> Reply:
    return error_reply(row_of(refused.code, {}), correlation_id, field=refused.field, extra=refused.extra)
