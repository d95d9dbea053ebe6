"""One connection of an MLLP listener: thin over the sans-IO framer, one callback per read and no task per message.

Acknowledgements leave in the order in which their messages came. Memory is bounded: reading stops while `pipeline`
messages are unanswered or the peer does not read, and a frame has a largest size. What the bytes mean is
`engine/hl7/mllp.py`; which acknowledgement is due is `mllp_acks.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import structlog

from engine.envelope import Ack, Origin, Receipt
from engine.errors import FrameTooLarge
from engine.hl7.bulk import LARGE
from engine.hl7.header import is_acknowledgement
from engine.hl7.mllp import Framer
from engine.sources.serving.accepting import Place, identity_of, peer_of
from engine.sources.serving.mllp_acks import Owed
from engine.sources.serving.mllp_listener import Listener

log = structlog.get_logger("engine.mllp")

#: Seconds of silence after which FS at the end of what came counts as the end of a frame (senders without the last CR).
FLUSH = 0.5
#: Seconds in which a peer may still read a last answer while what it goes on sending is thrown away.
LINGER = 2.0
#: Bytes outside of any frame after which a peer is taken for something else.
MAX_JUNK = 64 * 1024
#: Unread acknowledgements, in bytes, after which nothing more is read from the peer.
WRITE_BUFFER = 64 * 1024


class Connection(asyncio.Protocol):
    """One sender."""

    def __init__(self, listener: Listener, place: Place) -> None:
        self._listener, self._limits = listener, listener.limits
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(self._limits.max_size)
        self._place = place
        #: Bytes that wait to become messages; the listener's.
        self.held = 0
        self._began = 0.0
        self._queued = 0
        self._transport: asyncio.Transport | None = None
        self._origin = Origin("mllp")
        #: Frames that wait for a free place; None stands for one that was too large.
        self._frames: deque[bytes | bytearray | None] = deque()
        self._owed = Owed(listener.acks, self._limits.pipeline)
        #: The last large message.
        self._large: Receipt | None = None
        #: Messages that were taken from this peer; how many of them, and how much junk, when junk was last looked for.
        self.taken = self._taken_before = self._junk_before = 0
        self._last_read = 0.0
        self._paused = self._write_paused = False
        #: Nothing more is taken from this peer; the connection ends when everybody has been answered.
        self._finishing = self._lingering = self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    @property
    def unanswered(self) -> int:
        """Messages that were handed over and may still be answered."""
        return self._owed.messages

    # -- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A sender has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._place.begun = True
        self._origin = Origin("mllp", peer_of(transport), identity=identity_of(transport))
        if self._listener.stopping:
            self._transport.abort()
            return
        self._listener.join(self)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._last_read = self._began = self._loop.time()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, by whomever."""
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        unanswered = self.unanswered
        self._transport = None
        self._frames.clear()
        self._queued = 0
        self._owed.clear()
        self._place.release()
        if self in self._listener.connections:
            self._listener.leave(self)
            if self.taken or self._framer.incomplete:
                self._log_info("mllp.disconnected", messages=self.taken, unanswered=unanswered)

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of messages, or of a part of one."""
        if self._finishing:
            return
        self._last_read = self._loop.time()
        body = None if self._paused else self._framer.single(data)
        if body is None:
            self._take_apart(data)
            return
        if self._receive(body):
            self._steer()

    def _take_apart(self, data: bytes) -> None:
        if not self._framer.incomplete:
            self._began = self._last_read
        if self.taken != self._taken_before:
            self._taken_before, self._junk_before = self.taken, self._framer.junk_bytes
        try:
            bodies = self._framer.feed(data)
        except FrameTooLarge:
            bodies = []
            self._frames.append(None)
        self._take_in(bodies)
        if self._framer.hint is not None and not self.taken:
            self._log_warning("mllp.wrong_protocol", looks_like=self._framer.hint)
            self._close()
        elif self._framer.junk_bytes - self._junk_before > MAX_JUNK:
            self._log_warning("mllp.junk", junk_bytes=self._framer.junk_bytes)
            self.finish()
        else:
            self._watch()

    def eof_received(self) -> bool:
        """The peer sends no more, but may still read."""
        if not self._finishing:
            self._flush()
            if self._framer.incomplete:
                self._log_warning("mllp.frame_cut", bytes=self._framer.pending)
            self._end_when_answered(drop=False)
        # TLS has no half-closed connections.
        return not self._ended and self._transport is not None and not self._transport.get_extra_info("sslcontext")

    def pause_writing(self) -> None:
        """The peer does not read its acknowledgements."""
        self._write_paused = True
        self._stall = self._loop.call_later(self._limits.frame_timeout, self._stalled)
        self._steer()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._write_paused = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._drain()

    # -- in --------------------------------------------------------------------------------------------------------

    def _take_in(self, bodies: Sequence[bytes | bytearray]) -> None:
        if bodies:
            self._frames.extend(bodies)
            self._queued += sum(map(len, bodies))
            self._began = self._last_read
            self._junk_before = self._framer.junk_bytes
        if self._framer.too_large:
            try:
                self._framer.flush()
            except FrameTooLarge:
                self._frames.append(None)
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the engine as many frames as there are free places, and read on only if all have gone."""
        full = self._is_full()
        while self._frames and not full:
            body = self._frames.popleft()
            if body is None:
                self._refuse_too_large()
                return
            self._queued -= len(body)
            full = self._receive(body)
        waiting = self._framer.pending + self._queued
        if waiting != self.held:
            self._listener.hold(self, waiting)
        self._steer()

    def _is_full(self) -> bool:
        """Whether nothing more may be handed over for now."""
        large = self._large
        return self._owed.is_full or self._write_paused or (large is not None and large.accepted is None)

    def _receive(self, body: bytes | bytearray) -> bool:
        """Hand one message over; whether no further one may be for now."""
        self.taken += 1
        receipt: Receipt | None
        # Looked for from the end, which takes half the time.
        if body.startswith(b"MSH") and len(body) < LARGE and body.rfind(b"MSA") < 0:
            receipt = self._listener.receive(body, self._origin)
        elif (receipt := self._receive_unusual(body)) is None:
            return self._is_full()
        receipt.listener = self._drain
        full = self._owed.expect(receipt, body)
        if receipt.accepted is not None or receipt.answered is not None:
            self._loop.call_soon(self._drain)  # not at once: what is handed over next may be answered at once as well
        return full if self._large is None else self._is_full()

    def _receive_unusual(self, body: bytes | bytearray) -> Receipt | None:
        """What may be an acknowledgement, a batch, large, or no message at all. None for what is not answered."""
        if is_acknowledgement(body):
            self._log_info("mllp.unexpected_ack")
            self._listener.receive.refuse(self._origin, "unexpected_ack", bytes(body))
            return None
        receipt = self._listener.receive(body, self._origin)
        if receipt.batch or len(body) >= LARGE:
            # It takes its place when it has been written: what this sender sends next must not be taken before.
            self._large = receipt
        return receipt

    def _refuse_too_large(self) -> None:
        self._log_warning("mllp.frame_too_large", limit=self._limits.max_size)
        head = self._framer.oversized_head
        self._listener.receive.refuse(self._origin, "too_large", head)
        self._frames.clear()
        self._queued = 0
        self._lingering = self._finishing = True
        self._resume_reading()
        refusal = Receipt("")
        refusal.settle(Ack("reject", cause="too_large"))
        self._owed.expect(refusal, head)
        self._loop.call_soon(self._drain)

    def _steer(self) -> None:
        """Read, or leave the bytes with the peer."""
        if (self._frames or self._is_full()) and not self._finishing:
            if not self._paused and self._transport is not None and not self._transport.is_closing():
                self._paused = True
                self._transport.pause_reading()
        else:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._last_read = self._loop.time()
            self._transport.resume_reading()

    # -- out -------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Write the acknowledgements that are due, all in one piece."""
        transport = self._transport
        if transport is None or self._write_paused:
            return
        try:
            due = self._owed.due()
        except Exception as error:  # noqa: BLE001 - an ack that cannot be made must not leave its sender without a word
            self._log_warning("mllp.ack_failed", error=type(error).__name__)
            transport.abort()
            return
        if due:
            transport.write(due)
        if self._large is not None and self._large.accepted is not None:
            self._large = None  # and with it what it holds
        if self._frames or self._paused:
            self._hand_over()
        if self._finishing and not self._frames:
            self._end_if_answered()

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Take nothing more; answer what was taken, then close."""
        self._end_when_answered(drop=True)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _end_when_answered(self, *, drop: bool) -> None:
        self._finishing = True
        if drop:
            self._frames.clear()
            self._queued = 0
            self._resume_reading()
        self._drain()

    def _end_if_answered(self) -> None:
        if self._ended or self.unanswered or self._transport is None:
            return
        self._ended = True
        if self._lingering and self._transport.can_write_eof():
            self._transport.write_eof()
        if self._lingering:
            # Closing while the peer still sends would reset the connection before it has read the answer.
            self._loop.call_later(LINGER, self._close)
        else:
            self._close()

    def _close(self) -> None:
        self._finishing = True
        if self._transport is None:
            return
        self._transport.close()
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._loop.call_later(self._limits.frame_timeout, self.abort)

    def _stalled(self) -> None:
        self._log_warning("mllp.peer_does_not_read", unanswered=self.unanswered)
        self.abort()

    def overload(self) -> None:
        """See ``Member``: what this connection holds is given up, so that the others go on."""
        self._log_warning("mllp.memory_full", bytes=self.held, limit=self._limits.max_memory)
        self._listener.receive.refuse(self._origin, "listener_full")
        self._frames.clear()
        self._queued = 0
        self._framer = Framer(self._limits.max_size)
        self._listener.hold(self, 0)
        self.finish()

    def displace(self, quiet_for: float) -> bool:
        """See ``Member``."""
        if self.taken or self._framer.incomplete or self._loop.time() - self._began < quiet_for:
            return False
        self._log_warning("mllp.displaced")
        self._place.release()
        self.abort()
        return True

    # -- silence ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Keep one timer going while silence would mean something."""
        if self._timer is not None or self._finishing or self._transport is None:
            return
        if self._framer.incomplete:
            self._timer = self._loop.call_later(FLUSH, self._silent)
        elif self._limits.idle_timeout is not None:
            self._timer = self._loop.call_later(self._limits.idle_timeout, self._silent)

    def _silent(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._paused:
            self._began += now - self._last_read  # it is this side that does not read
            self._last_read = now
        quiet = now - self._last_read
        if self._framer.incomplete:
            if quiet >= FLUSH:
                self._flush()
            if self._framer.incomplete and quiet >= self._limits.frame_timeout:
                self._log_warning("mllp.frame_timeout", bytes=self._framer.pending)
                self.finish()
            elif self._framer.incomplete and self._is_too_slow(now):
                self._log_warning("mllp.too_slow", bytes=self._framer.pending, seconds=round(now - self._began, 1))
                self.finish()
        elif self._limits.idle_timeout is not None and quiet >= self._limits.idle_timeout and not self.unanswered:
            self._log_info("mllp.idle")
            self.finish()
        self._watch()

    def _is_too_slow(self, now: float) -> bool:
        """Whether a message comes so slowly that it only takes a place (a byte now and then is no silence)."""
        lasted = now - self._began
        return lasted > self._limits.frame_timeout and self._framer.pending < lasted * self._limits.min_rate

    def _flush(self) -> None:
        try:
            bodies = self._framer.flush()
        except FrameTooLarge:
            bodies = []
            self._frames.append(None)
        self._take_in(bodies)

    # -- log -------------------------------------------------------------------------------------------------------

    def _log_warning(self, event: str, **facts: Any) -> None:
        self._listener.telling.tell(event.partition(".")[2], peer=self._origin.peer, **facts)

    def _log_info(self, event: str, **facts: Any) -> None:
        log.info(event, channel=self._listener.channel, peer=self._origin.peer, **facts)
