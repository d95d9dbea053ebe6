"""`mllp:` as a source: listens for HL7 v2 messages in MLLP frames and acknowledges them.

It survives what real senders do (junk between frames, two frames in a packet, a missing last CR, silence in the middle)
and bounds what one may cost. Connections, acknowledgements and handshakes are in
`serving/`; when a message counts as received, routed or delivered is the runtime's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from socket import socket

import structlog
from pydantic import BaseModel, ConfigDict, Field

from engine.sources.base import Building, Source, SourceContext
from engine.sources.serving.mllp_acks import AckWriter
from engine.sources.serving.mllp_connection import Connection, Limits, Listener
from engine.sources.serving.mllp_tls import TlsAcceptor
from engine.sources.serving.ports import BACKLOG, listen
from engine.tls_settings import ServerTlsKey
from engine.units import Size, Timeout

log = structlog.get_logger("engine.mllp")


class MllpSourceConfig(BaseModel):
    """One MLLP port."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every one of this machine.")
    port: int = Field(ge=0, le=65535, description="TCP port; 0 takes a free one.")
    tls: ServerTlsKey = Field(None, description="TLS; `client_ca` asks senders for a certificate.")
    max_size: Size = Field(16 * 1024 * 1024, description="Bytes of one message at most, such as 16MiB.")
    frame_timeout: Timeout = Field(30.0, description="Silence in the middle of a message after which it is given up.")
    idle_timeout: Timeout | None = Field(
        None, description="Silence between messages after which a connection is closed; without it never."
    )
    max_connections: int = Field(256, gt=0, description="Senders that may be connected at once.")
    pipeline: int = Field(64, gt=0, description="Messages one sender may send ahead of their acknowledgements.")


def _local_time() -> datetime:
    return datetime.now().astimezone()


class MllpSource(Source):
    """Listens on one port."""

    Config = MllpSourceConfig

    def __init__(
        self, config: MllpSourceConfig, building: Building, *, now: Callable[[], datetime] = _local_time
    ) -> None:
        self.config = config
        self._channel, self._now = building.channel, now
        self._contexts = config.tls.contexts(building.site, building.data) if config.tls is not None else None
        if self._contexts is not None:
            self._contexts.check()
        #: The port that is listened on; after start the real one.
        self.port = config.port
        self._server: asyncio.Server | None = None
        self._acceptor: TlsAcceptor | None = None
        self._listener: Listener | None = None
        self._listening: socket | None = None
        self._lent: socket | None = None

    def claims(self) -> tuple[str, ...]:
        """The port, which no two channels may share."""
        return (f"tcp:{self.config.port}",) if self.config.port else ()

    @property
    def address(self) -> str:
        """``mllp://127.0.0.1:2575``; ``mllps`` with TLS."""
        return f"{'mllps' if self.config.tls else 'mllp'}://{self.config.host}:{self.port}"

    async def start(self, context: SourceContext) -> None:
        """Listen. Raises OSError when the port or the certificate is not to be had."""
        config = self.config
        lent, self._lent = self._lent, None
        limits = Limits(
            config.max_size,
            config.max_connections,
            config.pipeline,
            config.frame_timeout,
            config.idle_timeout,
        )
        acks = AckWriter(context.make_control_id, self._now)
        listener = self._listener = Listener(limits, self._channel, context.receive, acks)
        try:
            if self._contexts is not None:
                self._contexts.get()
        except BaseException:
            if lent is not None:
                lent.close()
            raise
        listening = self._listening = lent or await listen(config.host, config.port)
        self.port = listening.getsockname()[1]
        if self._contexts is not None:
            self._acceptor = TlsAcceptor(listener, self._contexts, listening)
        else:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Connection(listener), sock=listening, backlog=BACKLOG)
        log.info("mllp.listening", channel=self._channel, address=self.address)

    def lend_port(self) -> socket | None:
        """See ``Source``."""
        return self._listening.dup() if self._listening is not None and self._listener is not None else None

    def take_port(self, listening: socket, before: Source) -> bool:
        """The port of a source with the same address."""
        same = isinstance(before, MllpSource) and (before.config.host, before.config.port) == (
            self.config.host,
            self.config.port,
        )
        if same:
            self._lent = listening
        return same

    async def stop(self) -> None:
        """Close the port, answer what was taken in, then close the connections (at once when this is cancelled)."""
        listener, self._listener = self._listener, None
        self._listening = None
        if listener is None:
            return
        listener.stopping = True
        try:
            if self._server is not None:
                self._server.close()
            if self._acceptor is not None:
                await self._acceptor.close()
            for connection in list(listener.connections):
                connection.finish()
            while listener.connections:
                listener.closed.clear()
                await listener.closed.wait()
        finally:
            for connection in list(listener.connections):
                connection.abort()
