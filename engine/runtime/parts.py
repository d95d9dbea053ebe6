"""What the workers of one channel share: store, clock, ids, and the doors to the rest of the site."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from engine.envelope import ACCEPT, Ack, MakeControlId, Receipt
from engine.hl7.bulk import Pieces
from engine.runtime.clock import Clock
from engine.runtime.context import Ask, Settled, StepContext
from engine.store.base import AckSent, Operation, Route, Store

log = structlog.get_logger("engine.runtime")

DEADLINE = Ack("error", condition=207, cause="not_delivered_in_time")
NOT_DELIVERED = Ack("error", condition=207, cause="not_delivered")


@dataclass(slots=True)
class _Watch:
    """A sender who waits until every delivery of its message has settled."""

    receipt: Receipt
    all: tuple[int, ...]
    open: set[int]
    timer: asyncio.TimerHandle


@dataclass(slots=True)
class Parts:
    """One channel's tools."""

    store: Store
    clock: Clock
    make_control_id: MakeControlId
    ask: Ask
    settled: Settled
    ack_deadline: float = 30.0
    _watches: dict[int, _Watch] = field(default_factory=dict)

    def context(self, channel: str, message_id: int) -> StepContext:
        """The context of one message's steps."""
        return StepContext(
            self.store, self.clock, self.make_control_id, self.ask, channel=channel, message_id=message_id
        )

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

    # -- ``ack: delivered`` ----------------------------------------------------------------------------------------

    def watch(self, receipt: Receipt, deliveries: Sequence[int]) -> None:
        """Answer ``receipt`` when all of ``deliveries`` have settled, negatively at the deadline."""
        ids = tuple(deliveries)
        timer = asyncio.get_running_loop().call_later(self.ack_deadline, self._end, ids[0])
        watch = _Watch(receipt, ids, set(ids), timer)
        for delivery_id in ids:
            self._watches[delivery_id] = watch

    def delivery_settled(self, delivery_id: int, delivered: bool) -> None:
        """A delivery has settled (or waits for a person)."""
        watch = self._watches.get(delivery_id)
        if watch is None:
            return
        watch.open.discard(delivery_id)
        if not delivered:
            self._answer(watch, NOT_DELIVERED)
        elif not watch.open:
            self._answer(watch, ACCEPT)

    def _end(self, delivery_id: int) -> None:
        watch = self._watches.get(delivery_id)
        if watch is not None:
            self._answer(watch, DEADLINE)

    def _answer(self, watch: _Watch, ack: Ack) -> None:
        watch.timer.cancel()
        for delivery_id in watch.all:
            self._watches.pop(delivery_id, None)
        if not watch.receipt.answer.done():
            watch.receipt.answer.set_result(ack)
            self.record(AckSent(watch.receipt.message_id, "AA" if ack.positive else "AE"))

    def end_watches(self) -> None:
        """The channel stops: whoever still waits is told that delivery is not known yet."""
        for watch in list(self._watches.values()):
            self._answer(watch, DEADLINE)


def _log_loss(future: asyncio.Future[None]) -> None:
    if not future.cancelled() and future.exception() is not None:
        log.error("store.record_lost")
