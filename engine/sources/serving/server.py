"""uvicorn inside the engine's own loop: no signal handlers, no exit when a port is taken, a bounded number of peers.

One connection is ``http_connection.py``; letting connections in is ``accepting.py``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import uvicorn

from engine.sources.serving.accepting import Acceptor, Place, Places, ServerContexts
from engine.sources.serving.http_connection import HttpConnection, Take
from engine.sources.serving.http_head import Limits
from engine.sources.serving.telling import Telling

#: Seconds without a request after which a connection gives its place to another when all are taken.
QUIET_FOR = 1.0


class Server(uvicorn.Server):
    """A uvicorn server that leaves the process alone and says when it serves."""

    def __init__(
        self,
        config: uvicorn.Config,
        contexts: ServerContexts | None,
        limits: Limits,
        telling: Telling,
        take: Take | None,
    ) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        self._contexts, self._limits, self._telling, self._take = contexts, limits, telling, take
        self._places = Places(telling, limits.connections, limits.per_address)
        self._places.make_room = self._displace_one
        self._acceptors: list[Acceptor] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the supervisor's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections of the sockets; uvicorn's own would read certificates only once."""
        self._acceptors = [
            Acceptor(listening, self._places, self._protocol, self._contexts, name=self._telling.event)
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

    def summary(self) -> Mapping[str, Any]:
        """How many are connected."""
        return {"connections": self._places.total}

    def _protocol(self, place: Place) -> HttpConnection:
        return HttpConnection(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            limits=self._limits,
            place=place,
            telling=self._telling,
            take=self._take,
        )

    def _displace_one(self) -> bool:
        """End the connection that has had nothing to do for longest, so that a new one has its place."""
        quiet: dict[HttpConnection, float] = {}
        for connection in self.server_state.connections:
            since = (held := cast("HttpConnection", connection)).idle_since(QUIET_FOR)
            if since is not None:
                quiet[held] = since
        if not quiet:
            return False
        min(quiet, key=quiet.__getitem__).displace()
        return True


def make_server(
    app: Any, contexts: ServerContexts | None, limits: Limits, telling: Telling, take: Take | None = None
) -> Server:
    """A server for an ASGI application, ready to be run on a bound socket; ``take`` is offered whole requests first."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=HttpConnection,
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
    return Server(config, contexts, limits, telling, take)
