"""Kept HTTP connections to a partner: TCP keep-alive, and none that has said something unasked.

HTTP/1.1 has no ids: the next response on a connection is that of the next request. aiohttp looks whether a connection
was silent when it is put back, and not when it is taken again; a response that comes in between would count for a
message that has not left yet.
"""

from __future__ import annotations

import socket
from typing import Any

import aiohttp
import structlog

from engine.destinations.connections.silence import has_something_to_read
from engine.keepalive import keep_alive

log = structlog.get_logger("engine.rest")


class Connector(aiohttp.TCPConnector):
    """aiohttp's own, which throws away what is not silent."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit, socket_factory=_socket)

    async def _get(self, key: Any, traces: Any) -> Any:
        # No public door leads here; test_hostile_partners.py fails when aiohttp no longer comes this way.
        for protocol, _ in tuple(self._conns.get(key, ())):
            transport = protocol.transport
            if transport is not None and (protocol.should_close or has_something_to_read(transport)):
                log.warning("rest.unasked_answer", host=key.host, port=key.port)
                protocol.abort()  # what is not connected is passed over
        return await super()._get(key, traces)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    keep_alive(made)
    return made
