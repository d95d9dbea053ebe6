"""Kept MLLP connections to a partner: one message at a time on each, and none that could answer for an earlier one.

A connection goes back to the pool only after a valid answer. Before it is used again it must be open and silent: an
end of the stream or a byte that nobody asked for, even one the loop has not read yet, throws it away. A partner that
closes after its answers is met with care: its connections are used again only when they have lasted a while. What
answers mean is `mllp.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

from engine.destinations.connections.silence import ear
from engine.errors import DeliveryError, FrameTooLarge, Unanswered, Unavailable
from engine.hl7.mllp import Framer
from engine.keepalive import keep_alive

L = TypeVar("L", bound="Link")

#: Seconds of silence after which FS at the end of an answer counts as its end (partners without the last CR).
FLUSH = 0.5
#: Answers that may wait to be read; one message has two at most (enhanced mode).
MAX_WAITING = 16
#: Seconds a kept connection must have lasted before it is used again, with a partner that has closed one early.
SETTLED = 1.0


class Link(asyncio.Protocol):
    """One connection. Of what it asks without anybody who awaits it, ``takes`` or ``told`` is told once."""

    def __init__(self, max_size: int) -> None:
        self._framer = Framer(max_size)
        self._max_size = max_size
        #: What came last ended a frame; nothing of another is here.
        self._at_rest = False
        self._frames: deque[bytes] = deque()
        self._transport: asyncio.Transport | None = None
        self._is_closing: Callable[[], bool] = lambda: True
        self._write: Callable[[bytes | memoryview], None] = lambda _data: None
        self._loop = asyncio.get_running_loop()
        #: See ``silence.py``; without one nobody knows.
        self._ear: Callable[[int], object] = lambda _timeout: True
        self._waiter: asyncio.Future[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._failure: DeliveryError | None = None
        #: What the next answer is to, and the loop's time until which it may take.
        self._asked: Any = None
        self._until = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._heard = self._buffered = False
        #: Loop time since when nobody has used it; 0 before its first answer.
        self.idle_since = 0.0
        #: Called when the connection has ended.
        self.ended: Callable[[Link], None] = lambda _link: None

    # -- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection, and its TLS, stand."""
        self._transport = cast("asyncio.Transport", transport)
        # Not 0: over TLS nothing that waits would count as too much then, and be told of as such after each write.
        self._transport.set_write_buffer_limits(1)
        self._is_closing, self._write = self._transport.is_closing, self._transport.write
        self._ear = ear(transport) or self._ear
        if (connected := self._transport.get_extra_info("socket")) is not None:
            # A partner that vanished while nobody sent is found before the next message waits for it in vain.
            keep_alive(connected)

    def pause_writing(self) -> None:
        """Bytes wait on this side."""
        self._buffered = True

    def resume_writing(self) -> None:
        """Everything has gone to the system."""
        self._buffered = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer, or of something nobody asked for."""
        asked = self._asked
        if asked is not None and self._at_rest and len(data) <= self._max_size:
            self._asked = None  # whoever takes it may ask the next at once
            if self.takes(asked, data):
                return
            self._asked = asked
        if self._failure is not None:
            return
        self._heard, self._at_rest = True, False
        try:
            bodies = self._framer.feed(data)
            self._at_rest = bool(bodies) and not self._framer.incomplete and not self._framer.too_large
            self._frames.extend(map(bytes, bodies))
            if len(self._frames) > MAX_WAITING:
                # Nobody asked for so much: what comes without end must not fill the memory until a time-out.
                self.abort()
        except FrameTooLarge:
            self._fail(Unanswered("malformed"))
        if self._framer.hint is not None and not self._frames:
            self._fail(Unanswered("malformed"))
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._framer.incomplete:
            self._flush_timer = self._loop.call_later(FLUSH, self._flush)
        self._wake()

    def eof_received(self) -> None:
        """The partner sends no more."""
        self._flush()
        self._fail(Unanswered("lost"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        for timer in (self._flush_timer, self._watch):
            if timer is not None:
                timer.cancel()
        self._fail(Unavailable("tls") if not self._heard and _is_refused_handshake(exc) else Unanswered("lost"))
        self._transport = None
        self.ended(self)

    # -- what the destination calls --------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether neither side is known to have ended it."""
        return self._failure is None and not self._is_closing()

    def is_usable(self) -> bool:
        """Whether nothing stands in the way of one more message."""
        if self._failure is not None or self._frames or self._is_closing() or self._ear(0):
            return False
        return self._at_rest or not self._framer.incomplete

    def send(self, data: bytes | memoryview) -> None:
        """Write one frame. Raises Unavailable when the connection is known to be gone; nothing was written then."""
        if self._transport is None or not self.is_open:
            raise Unavailable("lost")
        self._transport.write(data)

    def ask(self, data: bytes, seconds: float, asked: Any) -> None:
        """Write one frame, to a connection that is usable, and have ``takes`` or ``told`` told what comes of it in that
        time, and ``asked``: what it is to them.
        """
        self._asked, self._until = asked, self._loop.time() + seconds
        self._write(data)
        if self._watch is None:  # one timer for many messages: it looks again when it was too early
            self._watch = self._loop.call_at(self._until, self._late)

    def takes(self, asked: Any, frame: bytes) -> bool:
        """Whether these very bytes are, plainly, the positive answer that is waited for; that is seen to then."""
        del asked, frame
        return False

    def told(self, asked: Any, result: bytes | DeliveryError) -> None:
        """The next answer, or why none came."""

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self._asked = None
        self.abort()

    def _late(self) -> None:
        self._watch = None
        if self._asked is None:
            return
        if self._loop.time() < self._until:
            self._watch = self._loop.call_at(self._until, self._late)
        else:
            asked, self._asked = self._asked, None
            self.told(asked, Unanswered("timeout"))

    async def drained(self) -> None:
        """Until the system has taken every byte; over TLS, but for what was written last (64 KiB and a piece at most).

        Raises Unanswered when the connection ends before.
        """
        while self._buffered:
            if self._failure is not None:
                raise self._failure
            await self._woken()

    async def next_frame(self) -> bytes:
        """The next body the partner sends. Raises Unanswered (lost, malformed), or Unavailable for a refused TLS."""
        while not self._frames:
            if self._failure is not None:
                raise self._failure
            await self._woken()
        return self._frames.popleft()

    def close(self) -> None:
        """End an idle connection."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once: nothing more is sent, and nothing that still comes counts."""
        self._fail(Unanswered("lost"))
        if self._transport is not None:
            self._transport.abort()

    async def _woken(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _flush(self) -> None:
        try:
            self._frames.extend(map(bytes, self._framer.flush()))
        except FrameTooLarge:
            self._fail(Unanswered("malformed"))
        self._wake()

    def _fail(self, failure: DeliveryError) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._asked is not None and (self._frames or self._failure is not None):
            asked, self._asked = self._asked, None
            self.told(asked, self._frames.popleft() if self._frames else self._failure or Unanswered("lost"))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Pool(Generic[L]):
    """The connections to one partner, opened when they are needed."""

    def __init__(self, connect: Callable[[], Awaitable[L]], size: int, idle_timeout: float) -> None:
        self._connect, self._size, self._idle_timeout = connect, size, idle_timeout
        self._idle: list[L] = []
        self._open: dict[L, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: The loop's clock, once there is a connection.
        self._time: Callable[[], float] = lambda: 0.0
        #: The partner has closed a connection it had just answered on.
        self._wary = False

    @property
    def open(self) -> int:
        """Connections that stand."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections nobody uses."""
        return len(self._idle)

    def take_idle(self) -> L | None:
        """A kept connection that can be used at once."""
        idle = self._idle
        while idle:
            link = idle.pop()
            is_usable = link.is_usable()
            if is_usable and not self._wary:
                return link
            is_settled = link.idle_since <= self._time() - SETTLED
            if is_usable and is_settled:
                return link
            self._wary = self._wary or (not is_usable and not is_settled)
            link.close()
        return None

    async def take(self) -> L:
        """A connection that nobody else uses. Raises Unavailable."""
        if (idle := self.take_idle()) is not None:
            return idle
        link = await self._connect()
        self._time = asyncio.get_running_loop().time
        link.ended = self._forget
        self._open[link] = None
        return link

    def give(self, link: L) -> None:
        """Keep a connection, whose message was answered, for the next one."""
        if link.idle_since:
            self._wary = False
        idle = self._idle
        if len(idle) >= self._size or not link.is_open:
            link.close()
            return
        link.idle_since = self._time()
        idle.append(link)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_timeout, self._sweep)

    def drop(self, link: L) -> None:
        """End a connection whose message was not answered."""
        if link.idle_since:
            self._wary = True
        link.abort()

    def close(self) -> None:
        """End every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        for link in list(self._open):
            link.close()

    def _forget(self, link: Any) -> None:
        self._open.pop(link, None)
        if link in self._idle:
            self._idle.remove(link)
            if self._time() - link.idle_since < SETTLED:
                self._wary = True

    def _sweep(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._idle_timeout
        for link in [link for link in self._idle if link.idle_since <= oldest]:
            self._idle.remove(link)
            link.close()
        if self._idle:
            next_at = min(link.idle_since for link in self._idle) + self._idle_timeout
            self._timer = loop.call_at(next_at, self._sweep)


def _is_refused_handshake(error: Exception | None) -> bool:
    """Whether the partner turned our certificate down, which TLS 1.3 tells only after the handshake seemed done."""
    return isinstance(error, ssl.SSLError) and any(
        word in (error.reason or "") for word in ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")
    )
