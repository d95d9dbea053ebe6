"""A listening socket, or an OSError: servers that bind by themselves end the process, or say nothing of the port."""

from __future__ import annotations

import asyncio
import socket

#: Connections the system keeps for us while the loop is busy.
BACKLOG = 1024


async def listen(host: str, port: int) -> socket.socket:
    """Listen on the first address of ``host``. Raises OSError when it is not to be had."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
