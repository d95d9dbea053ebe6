"""The site's one HTTP listener: REST sources register their routes here.

A dispatch table served by uvicorn in the engine's loop (`server.py`). It does what is common to all routes: API
keys and their rights, rate and size limits, correlation ids, the one error shape. It knows no parameters and no
schemas: those are `rest.py`. Nothing a caller wrote is ever logged, a path that does not exist included.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from engine.envelope import Reply, correlation_id_from
from engine.errors import ERROR_TABLE, ErrorRow, Refused
from engine.sources.base import HttpRequest, HttpRoute
from engine.sources.serving.accepting import ServerContexts
from engine.sources.serving.answers import error_reply, row_of
from engine.sources.serving.bodies import Bodies, Gone, Receive, TimedOut
from engine.sources.serving.http_connection import Begin, Respond
from engine.sources.serving.http_head import Limits
from engine.sources.serving.http_request import parse_query, request_of
from engine.sources.serving.ports import listen
from engine.sources.serving.rates import Rates
from engine.sources.serving.rendering import render, wire
from engine.sources.serving.server import Server, make_server
from engine.sources.serving.telling import Telling

log = structlog.get_logger("engine.rest")

#: Names of API keys → their secret and the channels they may use.
Keys = Mapping[str, tuple[str, frozenset[str]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_NOWHERE: Mapping[str, _Entry] = {}
_NOBODY: tuple[str, frozenset[str]] = ("", frozenset())
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
        self._keys = {_digest(secret): (name, channels) for name, (secret, channels) in keys.items() if secret}

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

    def take(self, request: HttpRequest) -> Begin | None:
        """What has a whole request answered without a task; None for one that is not as usual: ``__call__`` has it."""
        entry = self._table.get(request.path, _NOWHERE).get(request.method)
        if entry is None or not entry.open:
            return None
        route, size = entry.route, len(request.body)
        if route.begin is None or route.verify is not None or size > route.max_body:
            return None
        if route.auth:
            request.api_key, channels = self._identify(request.headers.get("x-api-key", ""))
            if route.channel not in channels:
                return None
        if size and not self._bodies.take(size):
            return None
        if route.rate is not None and self._rates.take(route, request) > 0:
            self._bodies.give_back(size)
            return None
        request.correlation_id = correlation_id_from(request.headers.get("x-correlation-id"))
        return _Caller(self._bodies, request, route.begin).begin

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request, close = request_of(scope), False
        correlation_id = request.correlation_id = correlation_id_from(request.headers.get("x-correlation-id"))
        try:
            reply = await self._answer(request, receive)
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

    async def _answer(self, request: HttpRequest, receive: Receive) -> Reply:
        method, path, peer, correlation_id = request.method, request.path, request.peer, request.correlation_id
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
        refusal = self._admit(route, request)
        if refusal is None and not entry.open:
            refusal = ERROR_TABLE["channel_stopped"]
        if refusal is not None:
            return self._refuse(route, refusal, request)
        request.query = parse_query(request.raw_query)
        async with self._bodies.read(request.headers, receive, route.max_body, peer) as request.body:
            if route.verify is not None and not route.verify(request):
                self._tell_refused(peer, "", route.channel)
                return self._refuse(route, ERROR_TABLE["wrong_signature"], request)
            return await route.handler(request)

    def _refuse(self, route: HttpRoute, refusal: ErrorRow, request: HttpRequest) -> Reply:
        self._telling.tell(
            "refused",
            level="info",
            code=refusal.code,
            channel=route.channel,
            api_key=request.api_key,
            peer=request.peer,
            correlation_id=request.correlation_id,
        )
        reply = error_reply(refusal, request.correlation_id)
        challenge = {"WWW-Authenticate": "X-API-Key"} if refusal.status == 401 else {}
        return replace(reply, headers={**reply.headers, **challenge})

    def _admit(self, route: HttpRoute, request: HttpRequest) -> ErrorRow | None:
        """Find out whose key the caller has; why it may not pass."""
        if route.auth:
            request.api_key, channels = self._identify(request.headers.get("x-api-key", ""))
            if route.channel not in channels:
                self._tell_refused(request.peer, request.api_key, route.channel)
                return ERROR_TABLE["forbidden" if request.api_key else "unauthorized"]
        wait = self._rates.take(route, request)
        return replace(ERROR_TABLE["rate_limited"], retry_after=math.ceil(wait)) if wait > 0 else None

    def _tell_refused(self, peer: str, api_key: str, channel: str) -> None:
        if self._refused is not None:
            self._refused(peer, api_key, channel)

    def _identify(self, secret: str) -> tuple[str, frozenset[str]]:
        # Found by a keyed hash of its digest, so that the time tells nothing of the secrets there are.
        return self._keys.get(_digest(secret), _NOBODY)


class _Caller:
    """Who sent a request that was taken; answered once."""

    __slots__ = ("_begin", "_bodies", "_request", "_respond")

    def __init__(self, bodies: Bodies, request: HttpRequest, begin: Callable[[HttpRequest, _Caller], None]) -> None:
        self._bodies, self._request, self._begin = bodies, request, begin
        self._respond: Respond | None = None

    def begin(self, respond: Respond) -> None:
        """Hand the request over; see ``http_connection.Take``."""
        self._respond, request = respond, self._request
        try:
            request.query = parse_query(request.raw_query)
            self._begin(request, self)
        except Refused as refused:
            self(_refusal(refused, request.correlation_id))
        except Exception as error:  # noqa: BLE001 - as in RestListener.__call__
            self._fail(error)

    def __call__(self, reply: Reply) -> None:
        """Answer."""
        try:
            head, body = wire(reply, self._request.correlation_id)
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer that says nothing of it
            self._fail(error)
            return
        respond, self._respond = self._respond, None
        if respond is not None:
            if self._request.body:
                self._bodies.give_back(len(self._request.body))
            respond(reply.status, head, body)

    def _fail(self, error: Exception) -> None:
        """Answer that the engine is at fault."""
        correlation_id = self._request.correlation_id
        log.error("rest.internal_error", error=type(error).__name__, correlation_id=correlation_id)
        self(error_reply(ERROR_TABLE["internal_error"], correlation_id))


def _digest(secret: str) -> bytes:
    return hashlib.blake2s(secret.encode("utf-8", "surrogatepass")).digest()


def _other_method(method: str, methods: Mapping[str, _Entry], correlation_id: str) -> Reply:
    allow = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
    if method == "OPTIONS":
        return Reply(204, None, allow)
    reply = error_reply(ERROR_TABLE["method_not_allowed"], correlation_id)
    return replace(reply, headers={**reply.headers, **allow})


def _refusal(refused: Refused, correlation_id: str) -> Reply:
    return error_reply(row_of(refused.code, {}), correlation_id, field=refused.field, extra=refused.extra)
