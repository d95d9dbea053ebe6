"""A peer that does not read its answers is dropped: it must take so many bytes a second while some wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Bytes a second that a peer must read of an answer.
MIN_RATE = 256


class SlowReader:
    """The answers that wait on one connection."""

    def __init__(self, transport: asyncio.Transport, seconds: float, tell: Callable[[int], None]) -> None:
        """Look every so many ``seconds``; ``tell`` is called with the bytes that wait of a connection that is ended."""
        self._transport, self._seconds, self._tell = transport, seconds, tell
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Bytes may wait from now on."""
        left = self._transport.get_write_buffer_size()
        if self._timer is None and left:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look, left)

    def stop(self) -> None:
        """Nothing waits any more, or the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if not left:
            return
        if before - left < MIN_RATE * self._seconds:
            self._tell(left)
            self._transport.abort()
        else:
            self.watch()
