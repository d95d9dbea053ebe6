"""Commit 2: the transforms run, and one delivery per destination is recorded.

One Router per channel works through messages in the order of commit 1, so a delivery never overtakes an earlier message
of its key that is not routed yet. What has arrived meanwhile is routed together and shares one commit.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from engine.config.plan import ChannelPlan, DestinationPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import ACCEPT, Ack, Envelope
from engine.errors import DoesNotFit, HL7EngineError, MalformedMessage, Refused, StepFailed, StoreError, Unmappable
from engine.hl7.ack import ORIGINAL, Wanted
from engine.hl7.bulk import Bulk, Pieces
from engine.hl7.message import Message
from engine.runtime import content, lane_keys
from engine.runtime.acknowledge import NOT_DELIVERED, Acknowledgements, Decided, modes_of
from engine.runtime.arrivals import Arrival, Arrivals
from engine.runtime.context import StepContext, operations_of
from engine.runtime.deliver import Lanes
from engine.runtime.faults import where
from engine.runtime.item import own_lane
from engine.runtime.parts import Parts
from engine.runtime.retry import INTERRUPTED
from engine.store.base import MessageRow, NewDelivery, Operation, Route
from engine.transforms.base import Chain, Verdict

log = structlog.get_logger("engine.route")

#: Messages that share one commit 2.
BATCH = 64
#: Messages routed between two turns of the event loop: bounds how long sockets wait, and lets deliveries keep up.
TURN = 4
#: Messages waiting to be routed from which on senders feel it: each ack of commit 1 waits a little.
CROWDED = 200
#: Seconds such an ack waits at most: enough for routing to catch up, too little for a sender to give up.
PATIENCE = 0.1
#: Seconds before a route that could not be committed is tried again.
RETRY = 1.0

STEP_FAILED = Ack("error", condition=207, cause="step_failed")


#: Cause of a message whose route did not fit what is stored.
NOT_STORED = "internal not_stored"


@dataclass(slots=True)
class Routed:
    """What routing one message came to, before it is committed."""

    arrival: Arrival
    route: Route
    effects: list[Operation]
    modes: Wanted
    #: What the ack comes to; None where it waits for deliveries, or was decided before.
    decided: Decided | None = None

    @property
    def operations(self) -> list[Operation]:
        """What is committed of it, together."""
        return [self.route, *self.effects, *([self.decided.operation] if self.decided is not None else [])]


class Router:
    """Runs the transforms of one channel and records what follows."""

    def __init__(self, plan: ChannelPlan, parts: Parts, lanes: dict[str, Lanes]) -> None:
        self.plan, self.parts, self.lanes = plan, parts, lanes
        self.acks = Acknowledgements(plan, parts, lanes)
        self.failed = 0
        self._arrivals = Arrivals(lambda after, limit: parts.store.unrouted(plan.name, after, limit))
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._by_name = {destination.name: destination for destination in plan.destinations}

    # -- what comes in ---------------------------------------------------------------------------------------------

    def push(self, arrival: Arrival) -> None:
        """Route it when its turn comes; calls come in the order of commit 1."""
        self._arrivals.push(arrival)
        self._wake_up()

    def pressure(self) -> float:
        """Seconds the next sender's ack should wait, so that intake does not outrun routing; 0 when it keeps up."""
        crowd = len(self._arrivals) - CROWDED
        return min(PATIENCE, crowd / CROWDED * 0.01) if crowd > 0 else 0.0

    def recover(self) -> None:
        """Begin with what an earlier run received and did not route; it is read as its turn comes."""
        self._wake_up()

    def again(self, row: MessageRow) -> None:
        """Route a message that a person reopened; it takes its place at the end."""
        self._arrivals.again(row)
        self._wake_up()

    def _wake_up(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Wait until nothing waits to be routed."""
        await self._idle.wait()

    # -- the loop --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Route until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._arrivals.empty:
                if batch := await self._batch():
                    await self._commit(batch)
            self._idle.set()

    async def _batch(self) -> list[Routed]:
        batch: list[Routed] = []
        while len(batch) < BATCH and (arrival := await self._next()) is not None:
            if arrival.large and batch:
                self._arrivals.put_back(arrival)  # what came before it does not wait until it is written
                break
            batch.append(await self.route(arrival))
            if arrival.large:
                break
            if len(batch) % TURN == 0:
                await asyncio.sleep(0)
        return batch

    async def _next(self) -> Arrival | None:
        while True:
            try:
                return self._arrivals.next()
            except StoreError:
                log.error("route.unreadable", channel=self.plan.name)
                await asyncio.sleep(RETRY)

    async def _commit(self, batch: list[Routed]) -> None:
        while True:
            try:
                for routed in batch:
                    routed.route = await self.parts.kept(routed.route)
                await self.parts.store.submit(*(operation for routed in batch for operation in routed.operations))
            except DoesNotFit:
                await self._apart(batch)
                return
            except StoreError:
                # Later messages must not be routed before these: wait here until the store takes them.
                log.error("route.not_stored", channel=self.plan.name, messages=len(batch))
                await asyncio.sleep(RETRY)
            else:
                break
        for routed in batch:
            self._committed(routed)

    async def _apart(self, batch: list[Routed]) -> None:
        """One of these does not fit what is stored: it alone fails, for a person to see."""
        if len(batch) > 1:
            for routed in batch:
                await self._commit([routed])
            return
        route = batch[0].route
        log.error("route.refused", channel=route.channel, message_id=route.message_id)
        if route.cause == NOT_STORED:
            decided = batch[0].decided
            told = decided and replace(decided, owed=None)
            self._committed(replace(batch[0], route=replace(route, deliveries=()), decided=told))
            return
        await self._commit([self._failed(batch[0].arrival, NOT_STORED, "park", {}, batch[0].modes)])

    def _committed(self, routed: Routed) -> None:
        route = routed.route
        if route.state is MessageState.FAILED:
            self.failed += 1
        log.log(
            30 if route.state is MessageState.FAILED else 20,
            f"message.{route.state}",
            channel=route.channel,
            message_id=route.message_id,
            correlation_id=route.correlation_id,
            cause=route.cause,
            deliveries=len(route.deliveries),
        )
        for delivery in route.deliveries:
            if delivery.state in (DeliveryState.QUEUED, DeliveryState.HELD):
                self.lanes[delivery.destination].push(delivery, route)
        if routed.decided is not None:
            self.acks.committed(routed.decided)
        elif routed.arrival.undecided:
            awaited = self.acks.awaited(route.deliveries)
            self.acks.watch(route.message_id, route.correlation_id, routed.modes, awaited)

    # -- one message -----------------------------------------------------------------------------------------------

    async def route(self, arrival: Arrival) -> Routed:
        """Run the transforms on one message; nothing is committed yet."""
        try:
            envelope = arrival.envelope or await self._read_back(arrival)
        except MalformedMessage:
            return self._failed(arrival, "malformed", "park", {})
        arrival.envelope = None
        header = envelope.body.header if arrival.undecided and isinstance(envelope.body, Message) else None
        modes = modes_of(header, envelope.origin.source)
        context = self._context(arrival.message_id)
        keys = self._lane_keys(envelope, arrival.key)
        try:
            if any(map(lane_keys.too_many, keys.values())):
                raise StepFailed("order", "too_many_keys")
            verdict = await run_chain(self.plan.transform, envelope, context)
            if verdict is Verdict.DROP:
                return self._ended(arrival, MessageState.FILTERED, context=context, modes=modes)
            matched = [plan for plan in self.plan.destinations if plan.where is None or plan.where(envelope, context)]
            if unroutable := self._unroutable(envelope, context):
                raise StepFailed("where", "unroutable", unroutable)
        except (StepFailed, Refused) as error:
            outcome = getattr(error, "outcome", None) or self.plan.on_error
            return self._failed(arrival, cause_of(error), outcome, keys, modes)
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a site's Python must not stop the channel
            log.error("route.internal_error", channel=self.plan.name, error=type(error).__name__, at=where(error))
            return self._failed(arrival, f"internal {type(error).__name__}", self.plan.on_error, keys, modes)
        deliveries = [await self._delivery(plan, envelope, context, keys[plan.name]) for plan in matched]
        return self._ended(
            arrival,
            MessageState.ROUTED if matched else MessageState.FILTERED,
            deliveries=[delivery for delivery in deliveries if delivery is not None],
            context=context,
            modes=modes,
        )

    async def _delivery(
        self, plan: DestinationPlan, shared: Envelope, shared_context: StepContext, key: str
    ) -> NewDelivery | None:
        """What ``plan`` is owed; None when its own transform drops the message."""
        delivery_id = self.parts.store.new_id()
        lane = key if plan.order.kind != "none" else own_lane(delivery_id)
        try:
            built = await self.build(plan, shared, shared_context)
        except StepFailed as error:
            state = DeliveryState.HELD if (error.outcome or self.plan.on_error) == "hold" else DeliveryState.PARKED
            return NewDelivery(delivery_id, plan.name, lane, b"", state=state, cause=cause_of(error))
        if built is None:
            return None
        body, content_type, control_id = built
        return NewDelivery(
            delivery_id,
            plan.name,
            lane,
            body,
            control_id or self.parts.make_control_id(),
            content_type,
            interrupted=INTERRUPTED[plan.on_unanswered],
            sealed=bool(plan.secret),
        )

    async def build(
        self, plan: DestinationPlan, shared: Envelope, context: StepContext
    ) -> tuple[bytes | Pieces, str, str] | None:
        """Bytes, content type and control id of what goes to ``plan``. Raises StepFailed."""
        envelope = shared.fork()
        try:
            if await run_chain(plan.transform, envelope, context) is Verdict.DROP:
                return None
            return content.encode(envelope)
        except StepFailed:
            raise
        except Unmappable as error:
            raise StepFailed("encode", "unmappable", error.path_hint) from None
        except HL7EngineError as error:
            raise StepFailed("transform", type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 - a fault of a site's Python concerns this destination alone
            ids = {"channel": self.plan.name, "destination": plan.name}
            log.error("route.internal_error", **ids, error=type(error).__name__, at=where(error))
            raise StepFailed("transform", f"internal {type(error).__name__}") from None

    async def rebuild(self, row: MessageRow, destination: str) -> tuple[bytes | Pieces, str, str] | None:
        """Transform a stored message anew for one destination (its first attempt to do so failed)."""
        envelope = await self._read_back(Arrival.from_row(row))
        context = self._context(row.message_id)
        if await run_chain(self.plan.transform, envelope, context) is Verdict.DROP:
            return None
        return await self.build(self._by_name[destination], envelope, context)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _context(self, message_id: int) -> StepContext:
        return self.parts.context(self.plan.name, message_id)

    async def _read_back(self, arrival: Arrival) -> Envelope:
        store = self.parts.store
        row = store.message(arrival.message_id)
        if row is None:
            raise MalformedMessage("the message is not in the store")
        chunks = store.message_chunks(row.message_id)
        place = store.kept_at(row.message_id)
        if not place:
            return content.read_back(self.plan, row, b"".join(chunks))
        whole = bytearray()
        for chunk in chunks:
            whole += chunk
            await asyncio.sleep(0)
        return content.read_back(self.plan, row, Bulk(whole, place))

    def _lane_keys(self, envelope: Envelope, key: str) -> dict[str, str]:
        """The key of each destination's lane, read before any step changes the message."""
        return {
            plan.name: key
            if plan.order == self.plan.order
            else lane_keys.key_of(plan.order, envelope.body, self.parts.store.lane_key)
            for plan in self.plan.destinations
        }

    def _unroutable(self, envelope: Envelope, context: StepContext) -> str:
        """The looked-up variable one of whose values no destination takes; empty when there is none."""
        for name in context.looked_up:
            wanted = [
                plan.where.variables[name]
                for plan in self.plan.destinations
                if plan.where is not None and name in plan.where.variables
            ]
            if not wanted:
                continue
            value = envelope.variables.get(name)
            values = value if isinstance(value, list) else [value]
            if any(str(item) not in literals for item in values for literals in [frozenset().union(*wanted)]):
                return name
        return ""

    def _failed(
        self, arrival: Arrival, cause: str, outcome: str, keys: dict[str, str], modes: Wanted = ORIGINAL
    ) -> Routed:
        """A failed message; where it holds its keys, a place-holder blocks their lanes at every destination."""
        holders = [
            NewDelivery(
                self.parts.store.new_id(), plan.name, keys[plan.name], b"", state=DeliveryState.HELD, cause=cause
            )
            for plan in self.plan.destinations
            if outcome == "hold" and plan.order.kind != "none"
        ]
        return self._ended(arrival, MessageState.FAILED, cause=cause, deliveries=holders, modes=modes)

    def _ended(
        self,
        arrival: Arrival,
        state: MessageState,
        *,
        cause: str = "",
        deliveries: list[NewDelivery] | None = None,
        context: StepContext | None = None,
        modes: Wanted = ORIGINAL,
    ) -> Routed:
        made = tuple(deliveries or ())
        route = Route(
            arrival.message_id,
            self.plan.name,
            arrival.correlation_id,
            state,
            self.parts.clock.time(),
            cause,
            made,
        )
        effects = operations_of(context.effects, self.parts.settled) if context is not None else []
        decided = self._decided(arrival, state, made, modes) if arrival.undecided else None
        return Routed(arrival, route, effects, modes, decided)

    def _decided(
        self, arrival: Arrival, state: MessageState, deliveries: tuple[NewDelivery, ...], modes: Wanted
    ) -> Decided | None:
        """The ack of a sender who waits for more than commit 1, unless it waits for the deliveries themselves."""
        ack = ACCEPT
        if state is MessageState.FAILED:
            ack = STEP_FAILED
        elif self.plan.ack == "delivered":
            awaited = set(self.acks.awaited(deliveries))
            states = {delivery.state for delivery in deliveries if delivery.delivery_id in awaited}
            if states == {DeliveryState.QUEUED}:
                return None
            ack = NOT_DELIVERED if states else ACCEPT
        return self.acks.decide(arrival.message_id, arrival.correlation_id, modes, ack)


async def run_chain(chain: Chain, envelope: Envelope, context: StepContext) -> Verdict:
    """Run a chain, awaiting only where a step asks for it."""
    if chain.asynchronous:
        return await chain.run_async(envelope, context)
    return chain.run(envelope, context)


def cause_of(error: StepFailed | Refused) -> str:
    """What a person reads: step, cause and place; never a value."""
    if isinstance(error, Refused):
        return error.code
    return f"step {error.step}: {error.cause}{' ' + error.where if error.where else ''}"
