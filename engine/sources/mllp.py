"""`mllp:` as a source: listens for HL7 v2 messages in MLLP frames and acknowledges them.

It survives what real senders do (junk between frames, two frames in a packet, a missing last CR, silence in the middle)
and bounds what one may cost. Connections, acknowledgements and handshakes are in
`serving/`; when a message counts as received, routed or delivered is the runtime's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from socket import socket
from typing import Annotated, Any, ClassVar

import structlog
from pydantic import BaseModel, ConfigDict, Field

from engine.sources.base import Building, Given, Source, SourceContext
from engine.sources.serving.accepting import Acceptor
from engine.sources.serving.mllp_acks import AckWriter
from engine.sources.serving.mllp_connection import Connection
from engine.sources.serving.mllp_listener import Limits, Listener
from engine.sources.serving.ports import listen
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
    max_connections_per_address: int = Field(64, gt=0, description="Of these, senders from one address.")
    max_memory: Size = Field(
        256 * 1024 * 1024, description="Bytes of unfinished messages that all senders together may have here."
    )
    min_rate: Annotated[Size, Field(ge=0)] = Field(
        256, description="Bytes a second on average that a message must come at after `frame_timeout`; 0 is any."
    )
    pipeline: int = Field(64, gt=0, description="Messages one sender may send ahead of their acknowledgements.")


class MllpSource(Source):
    """Listens on one port."""

    Config = MllpSourceConfig
    acknowledges: ClassVar[bool] = True
    given: Given

    def __init__(self, config: MllpSourceConfig, building: Building, *, now: Callable[[], float] = time.time) -> None:
        self.config, self.given = config, Given()
        self._channel, self._now = building.channel, now
        self.contexts = config.tls.contexts(building.site, building.data) if config.tls is not None else None
        if self.contexts is not None:
            self.contexts.check()
        #: The port that is listened on; after start the real one.
        self.port = config.port
        self._acceptor: Acceptor | None = None
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

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._acceptor is not None and self._acceptor.open

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
            config.max_connections_per_address,
            config.max_memory,
            config.min_rate,
        )
        acks = AckWriter(context.make_control_id, self._now, self.given, elsewhere=context.acks_elsewhere)
        listener = self._listener = Listener(limits, self._channel, context.receive, acks)
        try:
            if self.contexts is not None:
                self.contexts.get()
        except BaseException:  # whatever ends the start: a port that was lent does not stay open
            if lent is not None:
                lent.close()
            raise
        listening = self._listening = lent or await listen(config.host, config.port)
        self.port = listening.getsockname()[1]
        self._acceptor = Acceptor(
            listening,
            listener.places,
            lambda place: Connection(listener, place),
            self.contexts,
            name="mllp",
        )
        log.info("mllp.listening", channel=self._channel, address=self.address)

    def summary(self) -> dict[str, Any]:
        """Connections, bytes held, and what happened since the start by the events of the log."""
        listener = self._listener
        found: dict[str, Any] = {} if self.contexts is None else {"certificate_ends": self.contexts.ends()}
        if listener is None:
            return found
        held = {"connections": listener.places.total, "held_bytes": listener.held}
        return found | held | {"since_start": listener.counts}

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
