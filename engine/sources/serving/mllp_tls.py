"""Accepting TLS connections of an MLLP listener, with a word for every handshake that fails.

asyncio's own server drops such a peer silently; an admin has to hear which partner it was and why (an expired
certificate, plain MLLP on a TLS port). After the handshake a Connection goes on as it would without TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import structlog

from engine.sources.serving.mllp_connection import Connection, Listener
from engine.tls_settings import Contexts, reason

log = structlog.get_logger("engine.mllp")

HANDSHAKE_TIMEOUT = 10.0
#: Seconds to wait when the process has no file descriptor left for another connection.
EXHAUSTED = 1.0


class TlsAcceptor:
    """Takes connections from a listening socket and shakes hands, each in a task of its own."""

    def __init__(self, listener: Listener, contexts: Contexts, listening: socket.socket) -> None:
        self._listener, self._contexts, self._socket = listener, contexts, listening
        self._task = asyncio.create_task(self._accept(), name="mllp-accept")

    async def close(self) -> None:
        """Accept no more; handshakes under way end without a connection."""
        ending = [self._task, *self._listener.handshakes]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(self._socket)
            except ConnectionError:
                continue
            except OSError as error:
                log.error("mllp.cannot_accept", channel=self._listener.channel, errno=error.errno)
                await asyncio.sleep(EXHAUSTED)
                continue
            peer = f"{address[0]}:{address[1]}"
            if not self._listener.admits(peer):
                connected.close()
                continue
            task = loop.create_task(self._shake_hands(connected, peer), name="mllp-handshake")
            self._listener.handshakes.add(task)
            task.add_done_callback(self._listener.handshakes.discard)

    async def _shake_hands(self, connected: socket.socket, peer: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._begin,
                connected,
                ssl=self._contexts.get(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                connected.close()
            log.warning("mllp.tls_failed", channel=self._listener.channel, peer=peer, reason=_why(error))

    def _begin(self) -> Connection:
        return Connection(self._listener, after_handshake=True)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ConnectionAbortedError):
        return "handshake timed out"
    return "connection lost" if isinstance(error, ConnectionError) else reason(error)
