"""What a person does with messages and deliveries: send again, give up.

Each is in the audit trail, in the same commit. Raises KeyError for an id that does not exist and ValueError, with a
sentence, for what cannot be done now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from engine.delivery import DELIVERY_MOVES, DeliveryState, MessageState
from engine.errors import StepFailed
from engine.hl7.bulk import Pieces
from engine.runtime.channel import RunningChannel
from engine.runtime.clock import Clock
from engine.runtime.deliver import Lanes
from engine.runtime.supervised import Supervised
from engine.store.audit import Act, Who
from engine.store.base import Audit, DeliveryRow, MessageRow, Reopen, Requeue, Store

log = structlog.get_logger("engine.resend")

_UNFINISHED = frozenset({DeliveryState.PARKED, DeliveryState.HELD, DeliveryState.UNKNOWN, DeliveryState.DISCARDED})


class Resender:
    """Acts on stored messages through the channels that run."""

    def __init__(self, store: Store, clock: Clock, channels: Mapping[str, Supervised], who: Who) -> None:
        self.store, self.clock, self.channels, self.who = store, clock, channels, who

    async def message(self, message_id: int) -> str:
        """Route a failed message again, or send what a routed one still owes."""
        row = self.store.message(message_id)
        if row is None:
            raise KeyError(message_id)
        if row.state is MessageState.REFUSED:
            raise ValueError("the message was refused: its sender was told no and keeps it")
        if row.state is MessageState.FAILED:
            self._lanes_of(row.channel)
            _check_content(row)
            # What else it has is an acknowledgement that is owed, and stays so.
            holders = [item for item in self.store.deliveries_of(message_id) if item.state is DeliveryState.HELD]
            noted = Audit(Act.MESSAGE_RESENT, self.who, self.clock.time(), row.channel, message_id=message_id)
            await self.store.submit(Reopen(message_id), noted)
            if (present := self._present(row.channel)) is not None:
                for holder in holders:
                    if holder.destination in present.lanes:
                        present.lanes[holder.destination].remove(holder)
                present.router.again(row)
            log.info("message.reopened", channel=row.channel, message_id=message_id, correlation_id=row.correlation_id)
            return "routed again"
        deliveries = [item for item in self.store.deliveries_of(message_id) if item.state in _UNFINISHED]
        if not deliveries:
            raise ValueError(f"the message is {row.state} and nothing of it is parked, held, unknown or discarded")
        for delivery in deliveries:
            await self._again(delivery)
        return "1 delivery queued again" if len(deliveries) == 1 else f"{len(deliveries)} deliveries queued again"

    async def delivery(self, delivery_id: int) -> str:
        """Send one delivery again."""
        await self._again(self._row(delivery_id))
        return "queued again"

    async def discard(self, delivery_id: int) -> str:
        """Give one delivery up."""
        row = self._row(delivery_id)
        lanes = self._lanes(self._channel(row.channel), row.destination)
        if DeliveryState.DISCARDED not in DELIVERY_MOVES[row.state]:
            raise ValueError(f"the delivery is {row.state}")
        await self._at_rest(lanes, row)
        await lanes.discard([row], self._noted(Act.DELIVERY_DISCARDED, row))
        log.info("delivery.discarded", channel=row.channel, destination=row.destination, delivery_id=delivery_id)
        return "discarded"

    async def _again(self, row: DeliveryRow) -> None:
        channel = self._lanes_of(row.channel)
        if DeliveryState.QUEUED not in DELIVERY_MOVES[row.state]:
            raise ValueError(f"the delivery is {row.state}")
        _check_content(self.store.message(row.message_id))
        lanes = self._lanes(channel, row.destination)
        await self._at_rest(lanes, row)
        requeue = Requeue(row.delivery_id, self.clock.time())
        control_id, content_type = row.control_id, row.content_type
        if not next(self.store.delivery_chunks(row.delivery_id), b""):
            requeue = await self._rebuilt(channel, row)
            control_id, content_type = requeue.control_id, requeue.content_type
        await self.store.submit(requeue, self._noted(Act.DELIVERY_RESENT, row))
        present = self._present(row.channel)
        if present is not None and row.destination in present.lanes:
            present.lanes[row.destination].insert(row, control_id, content_type)
        log.info("delivery.requeued", channel=row.channel, destination=row.destination, delivery_id=row.delivery_id)

    async def _at_rest(self, lanes: Lanes, row: DeliveryRow) -> None:
        """Nobody acts on a delivery that is being sent; one whose outcome was just committed is waited for."""
        if row.state in (DeliveryState.QUEUED, DeliveryState.SENDING) and lanes.in_flight(row.delivery_id):
            raise ValueError("the delivery is being sent")
        while lanes.in_flight(row.delivery_id):  # noqa: ASYNC110 - a callback of this loop's next turns ends it
            await asyncio.sleep(0)

    async def _rebuilt(self, channel: RunningChannel, row: DeliveryRow) -> Requeue:
        """A delivery whose transform failed has no bytes yet: transform its message again."""
        message = self.store.message(row.message_id)
        if message is not None and message.state is MessageState.FAILED:
            # It only holds the place of what the message would be owed for, were it routed.
            raise ValueError(f"its message failed: send message {row.message_id} again")
        try:
            built = await channel.rebuild(row.message_id, row.destination)
        except StepFailed as error:
            raise ValueError(f"its transform fails still: {error}") from None
        if built is None:
            raise ValueError("its transform drops the message now")
        body, content_type, control_id = built
        if isinstance(body, Pieces):
            body = await self.store.keep(body)
        sealed = bool(channel.lanes[row.destination].plan.secret)
        return Requeue(row.delivery_id, self.clock.time(), body, control_id or row.control_id, content_type, sealed)

    def _noted(self, act: Act, row: DeliveryRow) -> Audit:
        now = self.clock.time()
        return Audit(act, self.who, now, row.channel, row.destination, row.message_id, row.delivery_id)

    def _row(self, delivery_id: int) -> DeliveryRow:
        row = self.store.delivery(delivery_id)
        if row is None:
            raise KeyError(delivery_id)
        return row

    def _lanes(self, channel: RunningChannel, destination: str) -> Lanes:
        lanes = channel.lanes.get(destination)
        if lanes is None:
            raise ValueError(f"channel {channel.plan.name} has no destination {destination} any more")
        return lanes

    def _lanes_of(self, name: str) -> RunningChannel:
        """A channel that sends by itself; where a caller waits for the reply there is nobody to give a later one to."""
        channel = self._channel(name)
        if channel.exchange is not None:
            raise ValueError("a request is repeated by its caller, with the same key")
        return channel

    def _present(self, name: str) -> RunningChannel | None:
        """Whoever has its lanes now: the channel may have been started anew while something was being committed."""
        known = self.channels.get(name)
        return known.present if known is not None else None

    def _channel(self, name: str) -> RunningChannel:
        known = self.channels.get(name)
        running = known.running if known is not None else None
        if running is None:
            raise ValueError(f"channel {name} does not run")
        return running


def _check_content(row: MessageRow | None) -> None:
    if row is not None and row.bodies_removed_at is not None:
        since = datetime.fromtimestamp(row.bodies_removed_at, UTC).isoformat(" ", "seconds")
        raise ValueError(
            f"there is nothing to send any more: its content was removed on {since} (`retention: bodies:`), only what"
            " is known about it is left"
        )
