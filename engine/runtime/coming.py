"""A message on its way into the store: from its last byte until commit 1 has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.envelope import Origin, Receipt
from engine.store.base import Accept

if TYPE_CHECKING:
    from engine.runtime.acknowledge import Decided
    from engine.runtime.arrivals import Arrival
    from engine.runtime.routing import Routed


class Coming:
    """What is known of one until then. It is dropped with commit 1."""

    #: Commit 1 but for what goes with it; known as soon as it has its place in the order.
    accept: Accept
    #: It waits for the router then, unless ``routed`` says what became of it.
    arrival: Arrival | None = None
    routed: Routed | None = None
    #: Its ack, where that is decided by commit 1 and goes out on a connection of its own.
    decided: Decided | None = None
    #: It is kept for a person to route.
    parked = False
    #: For a large one that looks whether it came before: those under its MSH-10 that were coming then.
    before: tuple[Coming, ...] = ()

    def __init__(self, receipt: Receipt, body: bytes | bytearray, parsed: Any, origin: Origin) -> None:
        self.receipt = receipt
        self.body = body
        self.parsed = parsed
        self.origin = origin
        #: MSH-10, where messages that come again are known by it; else empty.
        self.control_id = ""
