"""What the connections of one MLLP listener share: its limits, places, memory and counts.

Every limit holds for the listener as a whole: the sizes of single messages would allow far more memory in all than a
machine has. Who takes most is ended first, so that those who send what is usual notice nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import structlog

from engine.envelope import Receive
from engine.sources.serving.accepting import Places
from engine.sources.serving.mllp_acks import AckWriter
from engine.sources.serving.telling import Telling

log = structlog.get_logger("engine.mllp")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener allows; times in seconds, sizes in bytes."""

    max_size: int = 16 * 1024 * 1024
    max_connections: int = 256
    #: Messages of one connection that may be unanswered at once.
    pipeline: int = 64
    #: Silence inside of a frame, and a peer that does not read.
    frame_timeout: float = 30.0
    #: Silence between messages after which a connection is closed; None never closes it.
    idle_timeout: float | None = None
    #: Connections of one address.
    max_per_address: int = 64
    #: Bytes of all connections together that wait to become messages.
    max_memory: int = 256 * 1024 * 1024
    #: Bytes a second on average of a message, once it has taken `frame_timeout`; 0 lets it take for ever.
    min_rate: int = 256


class Member(Protocol):
    """What a listener asks of its connections."""

    #: Bytes that wait to become messages.
    held: int
    #: Messages that were taken from it.
    taken: int

    def overload(self) -> None:
        """End: this connection holds most of what there is."""
        ...

    def displace(self, quiet_for: float) -> bool:
        """End if nothing was ever sent for that long; whether that was so."""
        ...

    def finish(self) -> None:
        """Take nothing more; answer what was taken, then close."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Listener:
    """What the connections of one source share."""

    def __init__(self, limits: Limits, channel: str, receive: Receive, acks: AckWriter) -> None:
        self.limits, self.channel, self.receive, self.acks = limits, channel, receive, acks
        #: In the order in which they came.
        self.connections: dict[Member, None] = {}
        self.closed = asyncio.Event()
        self.stopping = False
        self.telling = Telling(log, "mllp", {"channel": channel})
        self.places = Places(self.telling, limits.max_connections, limits.max_per_address)
        self.places.make_room = self._displace_one
        #: Bytes of all connections that wait to become messages.
        self.held = 0
        #: Messages of connections that have ended.
        self._taken = 0

    @property
    def counts(self) -> dict[str, int]:
        """What happened since the start, by the last part of the event in the log."""
        taken = self._taken + sum(connection.taken for connection in self.connections)
        messages = {"messages": taken} if taken else {}
        return dict(sorted((self.telling.counts | messages).items()))

    def join(self, connection: Member) -> None:
        """A connection has begun."""
        self.connections[connection] = None

    def leave(self, connection: Member) -> None:
        """A connection has ended."""
        if connection in self.connections:
            del self.connections[connection]
            self._taken += connection.taken
        self.hold(connection, 0)
        if not self.connections:
            self.closed.set()

    def hold(self, connection: Member, size: int) -> None:
        """``connection`` holds ``size`` bytes from now on; where that is too much in all, the largest is ended."""
        self.held += size - connection.held
        connection.held = size
        while self.held > self.limits.max_memory:
            largest = max(self.connections, key=lambda member: member.held, default=None)
            if largest is None or not largest.held:
                return
            largest.overload()

    def _displace_one(self) -> bool:
        """End the oldest connection that has never sent anything, so that a new one has its place."""
        return any(member.displace(self.limits.frame_timeout) for member in list(self.connections))
