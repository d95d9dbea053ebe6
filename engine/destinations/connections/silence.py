"""Whether a kept connection has kept silent: what comes unasked belongs to no message that is still to be sent."""

from __future__ import annotations

import asyncio
import select


def has_something_to_read(transport: asyncio.BaseTransport) -> bool:
    """Whether the socket holds bytes or the end of the stream that the loop has not seen yet."""
    handle = transport.get_extra_info("socket")
    descriptor = handle.fileno() if handle is not None else -1
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))
