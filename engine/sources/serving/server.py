"""uvicorn inside the engine's own loop: no signal handlers, no exit when a port is taken, and limits on request heads.

`Guarded` adds what uvicorn's httptools protocol leaves open: a size limit and a time limit for request line and headers
(a peer that sends one byte a minute), and JSON for what is no HTTP. Routes, keys and bodies are
`engine/sources/serving/listener.py`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from engine.envelope import correlation_id_from
from engine.errors import ErrorRow
from engine.sources.serving.accepting import Acceptor, Place, Places, ServerContexts
from engine.sources.serving.answers import error_reply

log = structlog.get_logger("engine.rest")

BAD_REQUEST = ErrorRow("bad_request", 400, "The request cannot be read.")
HEAD_TOO_LARGE = ErrorRow("headers_too_large", 431, "The address or the headers are too large.")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may take of the listener."""

    #: Bytes of request line and headers; nginx and Apache allow 8 KiB a line, 32 KiB or more in all.
    head: int = 32 * 1024
    #: Seconds for request line and headers.
    head_timeout: float = 10.0
    #: Seconds for the body.
    body_timeout: float = 30.0
    connections: int = 1024
    #: Connections of one address.
    per_address: int = 256
    #: Seconds an idle connection is kept.
    keep_alive: int = 30


class Guarded(HttpToolsProtocol):
    """One connection of the listener."""

    def __init__(self, *args: Any, limits: Limits, place: Place, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits, self._place = limits, place
        self._in_head, self._head, self._too_large = True, 0, False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        self._place.begun = True
        super().connection_made(transport)
        if (uid := _uid(transport)) is not None:
            self.app_state = {**self.app_state, "uid": uid}
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._disarm()
        self._place.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and give up on a head that does not end."""
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head += len(data)
        if self._in_head and self._head > self._limits.head and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._arm()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._disarm()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self._limits.head:
            self._too_large = True
            raise ValueError("head too large")  # httptools hands it to data_received as a parser error
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the shape of every other error."""
        del msg
        correlation_id = correlation_id_from(None)
        row = HEAD_TOO_LARGE if self._too_large else BAD_REQUEST
        body = json.dumps(error_reply(row, correlation_id).body, separators=(",", ":")).encode()
        self.transport.write(
            STATUS_LINE[row.status]
            + b"content-type: application/json; charset=utf-8\r\n"
            + b"content-length: %d\r\nx-correlation-id: %s\r\n" % (len(body), correlation_id.encode())
            + b"connection: close\r\n\r\n"
            + body
        )
        self.transport.close()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._limits.head_timeout, self._head_timed_out)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_timed_out(self) -> None:
        self._timer = None
        if self._head:
            log.warning("rest.head_timeout", peer=self.client[0] if self.client else "")
        self.transport.abort()


def _uid(transport: asyncio.Transport) -> int | None:
    """The user at the other end of a unix socket (``man 7 unix``, SO_PEERCRED); None for any other peer."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


class Server(uvicorn.Server):
    """A uvicorn server that leaves the process alone and says when it serves."""

    def __init__(self, config: uvicorn.Config, contexts: ServerContexts | None, limits: Limits, event: str) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        #: What happened since the start, by the last part of the event in the log.
        self.counts: Counter[str] = Counter()
        self._contexts, self._limits, self._event = contexts, limits, event
        self._acceptors: list[Acceptor] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the supervisor's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections of the sockets; uvicorn's own would read certificates only once."""
        places = Places(self._event, self._limits.connections, self._limits.per_address, {}, self.counts)
        self._acceptors = [
            Acceptor(listening, places, self._protocol, self._contexts, event=self._event, facts={}, counts=self.counts)
            for listening in sockets or []
        ]
        self.servers = []
        self.started = True
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, then end as uvicorn does."""
        for acceptor in self._acceptors:
            await acceptor.close()
        await super().shutdown(sockets)

    def _protocol(self, place: Place) -> Guarded:
        return Guarded(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            limits=self._limits,
            place=place,
        )


def make_server(app: Any, contexts: ServerContexts | None, limits: Limits, event: str = "rest") -> Server:
    """A server for an ASGI application, ready to be run on a bound socket; ``event`` begins what it logs."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=Guarded,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.keep_alive,
    )
    config.load()
    return Server(config, contexts, limits, event)
