"""What the workers of one channel share: store, clock, ids, and the doors to the rest of the site."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from engine.envelope import MakeControlId
from engine.hl7.bulk import Pieces
from engine.promise import Promise
from engine.runtime.clock import Clock
from engine.runtime.context import Ask, Settled, StepContext
from engine.store.base import Operation, Route, Store

log = structlog.get_logger("engine.runtime")


@dataclass(slots=True)
class Parts:
    """One channel's tools."""

    store: Store
    clock: Clock
    make_control_id: MakeControlId
    ask: Ask
    settled: Settled
    #: Members of its requests by which steps of the site find its exchanges.
    found_by: frozenset[str] = frozenset()

    def context(self, channel: str, message_id: int) -> StepContext:
        """The context of one message's steps."""
        return StepContext(self, channel, message_id)

    async def kept(self, route: Route) -> Route:
        """The same, its large bodies written before the unit that refers to them. Raises StoreError."""
        if not any(isinstance(delivery.body, Pieces) for delivery in route.deliveries):
            return route
        deliveries = [
            replace(delivery, body=await self.store.keep(delivery.body))
            if isinstance(delivery.body, Pieces)
            else delivery
            for delivery in route.deliveries
        ]
        return replace(route, deliveries=tuple(deliveries))

    def record(self, *operations: Operation) -> None:
        """Commit something nobody waits for; a loss is logged."""
        future = self.store.submit(*operations)
        future.add_done_callback(_log_loss)


def _log_loss(outcome: Promise[None]) -> None:
    if outcome.exception() is not None:
        log.error("store.record_lost")
