"""Reading request bodies: each has a limit and a time, and all of them together have one bound.

A body counts until its request is answered. When all hold too much, the largest of those that still come is given up,
so that callers who send what is usual notice nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from engine.errors import Refused
from engine.sources.serving.telling import Telling

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

#: Bytes of a refused body that are read and dropped, so that the caller can read the answer before the connection ends.
LINGER = 1024 * 1024
#: Seconds that this may take.
LINGER_TIME = 2.0


class Gone(Exception):
    """The caller hung up before its request was whole."""


class TimedOut(Exception):
    """The body did not arrive in time."""


class _Coming:
    """What one request holds."""

    __slots__ = ("given_up", "size", "timeout")

    def __init__(self) -> None:
        self.size, self.given_up = 0, False
        self.timeout: asyncio.Timeout | None = None


class Bodies:
    """The bodies of one listener."""

    def __init__(self, memory: int, seconds: float, telling: Telling) -> None:
        """``memory``: bytes of all of them; ``seconds``: for one of them to come."""
        self._memory, self._seconds, self._telling = memory, seconds, telling
        self._coming: dict[_Coming, None] = {}
        #: Bytes of all requests that have not been answered.
        self.held = 0

    def take(self, size: int) -> bool:
        """Count a body that came whole until it is given back; False where there is no room for it."""
        if self.held + size > self._memory:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """The request of a body that was taken has been answered."""
        self.held -= size

    @asynccontextmanager
    async def read(self, headers: Mapping[str, str], receive: Receive, limit: int, peer: str) -> AsyncIterator[bytes]:
        """The body of a request, held until the block ends.

        Raises Refused (body_too_large, listener_full), TimedOut or Gone.
        """
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            # A caller who asked whether to send it (Expect: 100-continue) has sent nothing yet.
            if "expect" not in headers:
                await _discard(receive)
            raise Refused("body_too_large")
        coming = _Coming()
        try:
            yield await self._read(coming, receive, limit, peer)
        finally:
            self.held -= coming.size

    async def _read(self, coming: _Coming, receive: Receive, limit: int, peer: str) -> bytes:
        body = bytearray()
        self._coming[coming] = None
        try:
            async with asyncio.timeout(self._seconds) as coming.timeout:
                while len(body) <= limit:
                    part, more = await _next(receive)
                    body += part
                    self._hold(coming, len(part), peer)
                    if not more and len(body) <= limit:
                        return bytes(body)
        except TimeoutError:
            if coming.given_up:
                raise Refused("listener_full") from None
            raise TimedOut from None
        finally:
            self._coming.pop(coming, None)
        await _discard(receive)
        raise Refused("body_too_large")

    def _hold(self, coming: _Coming, size: int, peer: str) -> None:
        coming.size += size
        self.held += size
        while self.held > self._memory:
            largest = max(self._coming, key=lambda one: one.size, default=coming)
            self._telling.tell("memory_full", peer=peer, limit=self._memory)
            self.held -= largest.size
            largest.size, largest.given_up = 0, True
            if largest is coming or largest.timeout is None:
                raise Refused("listener_full")
            largest.timeout.reschedule(asyncio.get_running_loop().time())
            self._coming.pop(largest, None)


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise Gone
    return message.get("body", b""), message.get("more_body", False)


async def _discard(receive: Receive) -> None:
    left = LINGER
    try:
        async with asyncio.timeout(LINGER_TIME):
            more = True
            while more and left > 0:
                part, more = await _next(receive)
                left -= len(part)
    except TimeoutError:
        return
