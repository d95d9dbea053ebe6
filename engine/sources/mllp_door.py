"""The TLS handshake of an MLLP listener, made before a Connection begins.

asyncio's own server drops a peer whose handshake fails without a word; an admin has to hear which partner it was and
why (an expired certificate, plain MLLP on a TLS port).
"""

from __future__ import annotations

import asyncio
from typing import cast

import structlog

from engine.sources.mllp_connection import Connection, Listener, peer_of
from engine.tls_settings import Contexts, reason

log = structlog.get_logger("engine.mllp")

HANDSHAKE_TIMEOUT = 10.0


class TlsDoor(asyncio.Protocol):
    """Shakes hands before a Connection begins, so that a failure can be told with peer and reason."""

    def __init__(self, listener: Listener, contexts: Contexts) -> None:
        self._listener, self._contexts = listener, contexts
        self._early = bytearray()
        self._eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected and is about to greet."""
        plain = cast("asyncio.Transport", transport)
        if not self._listener.admits(peer_of(plain)):
            plain.abort()
            return
        plain.pause_reading()
        task = asyncio.get_running_loop().create_task(self._shake_hands(plain), name="mllp-handshake")
        self._listener.handshakes[task] = plain
        task.add_done_callback(lambda done: self._listener.handshakes.pop(done, None))

    def data_received(self, data: bytes) -> None:
        """What the peer sent together with the last of its handshake."""
        self._early += data

    def eof_received(self) -> None:
        """The peer sent its end together with its handshake."""
        self._eof = True

    async def _shake_hands(self, plain: asyncio.Transport) -> None:
        peer = peer_of(plain)
        try:
            secure = await asyncio.get_running_loop().start_tls(
                plain, self, self._contexts.get(), server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except (OSError, ValueError) as error:
            why = "handshake timed out" if isinstance(error, ConnectionAbortedError) else reason(error)
            log.warning(
                "mllp.tls_failed",
                channel=self._listener.channel,
                peer=peer,
                reason="connection lost" if isinstance(error, ConnectionResetError) else why,
            )
            plain.abort()
            return
        if secure is None or secure.is_closing():
            plain.abort()
            return
        connection = Connection(self._listener)
        secure.set_protocol(connection)
        # The place that the handshake held is free for the connection it led to.
        self._listener.handshakes.pop(cast("asyncio.Task[None]", asyncio.current_task()), None)
        connection.connection_made(secure)
        if self._early:
            connection.data_received(bytes(self._early))
        if self._eof:
            connection.eof_received()
