"""A message on its way into the store: from its last byte until commit 1 has ended.

It is one object for everybody, because every message makes it: what its source holds (a Receipt), what the steps work
on (an Envelope), and what the receiver knows of it meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.envelope import Envelope, Origin, Receipt
from engine.store.base import Accept

if TYPE_CHECKING:
    from engine.runtime.acknowledge import Decided
    from engine.runtime.arrivals import Arrival


class Coming(Receipt, Envelope):
    """What is known of one until then."""

    #: MSH-10, where messages that come again are known by it; else empty.
    control_id: str = ""
    #: It waits for the router after commit 1; None where it was routed as it came.
    arrival: Arrival | None = None
    #: Its ack, where commit 1 decides it: it is recorded in the same unit.
    decided: Decided | None = None
    #: It is kept for a person to route.
    parked: bool = False
    #: For a large one that looks whether it came before: those under its MSH-10 that were coming then.
    before: tuple[Coming, ...] = ()
    #: Commit 1; known as soon as it has its place in the order.
    entry: Accept

    def __init__(self, correlation_id: str, raw: bytes | bytearray, origin: Origin, channel: str) -> None:
        self.correlation_id = correlation_id
        #: The bytes as they were received.
        self.raw: bytes | bytearray | None = raw
        self.origin = origin
        self.channel = channel
        self.variables = {}
        self.accepted = self.answered = self.listener = None

    def let_go(self) -> None:
        """It has been committed: its contents are needed only where it is still to be routed, and not as they came."""
        self.raw = None
        del self.entry
