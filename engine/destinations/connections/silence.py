"""Whether a kept connection has kept silent: what comes unasked belongs to no message that is still to be sent."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


def ear(transport: asyncio.BaseTransport) -> Callable[[int], list[tuple[int, int]]] | None:
    """What tells, asked with 0, whether the socket holds bytes or an end that the loop has not seen; None without one.

    It is to be asked of a connection that stands only: the number of its socket may be another's afterwards.
    """
    handle = transport.get_extra_info("socket")
    descriptor = handle.fileno() if handle is not None else -1
    if descriptor < 0:
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLPRI)
    return poll.poll


def has_something_to_read(transport: asyncio.BaseTransport) -> bool:
    """Whether the socket holds bytes or the end of the stream that the loop has not seen yet."""
    heard = ear(transport)
    return heard is None or bool(heard(0))
