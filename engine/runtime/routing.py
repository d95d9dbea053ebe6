"""What becomes of one message: its transforms run, and one delivery for each destination follows. Commits nothing.

Where every step is pure, nothing here waits for anything: ``Routing.at_once`` runs it in one go, so that its outcome
can stand in the very commit that receives the message. When that is done, and what is committed, is for
``receive.py`` and ``route.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from engine.config.plan import ChannelPlan, DestinationPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import ACCEPT, Ack, Envelope
from engine.errors import HL7EngineError, MalformedMessage, Refused, StepFailed, Unmappable
from engine.hl7.ack import ORIGINAL, Wanted
from engine.hl7.bulk import Bulk, Pieces
from engine.hl7.message import Message
from engine.runtime import content, lane_keys
from engine.runtime.acknowledge import NOT_DELIVERED, Acknowledgements, Decided, modes_of
from engine.runtime.arrivals import Arrival
from engine.runtime.context import StepContext, operations_of
from engine.runtime.faults import where
from engine.runtime.item import own_lane
from engine.runtime.parts import Parts
from engine.runtime.retry import INTERRUPTED
from engine.store.base import MessageRow, NewDelivery, Operation, Route
from engine.transforms.base import Chain, Verdict

log = structlog.get_logger("engine.route")

#: Bytes, content type and control id of what goes to a destination.
Built = tuple[bytes | Pieces, str, str]

DROP, QUEUED = Verdict.DROP, DeliveryState.QUEUED  # before 3.12 a member of an enumeration is a call away

STEP_FAILED = Ack("error", condition=207, cause="step_failed")


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
    def beside(self) -> list[Operation]:
        """What is committed together with its route."""
        return self.effects if self.decided is None else [*self.effects, self.decided.operation]


class Routing:
    """Runs the transforms of one channel."""

    def __init__(self, plan: ChannelPlan, parts: Parts, acks: Acknowledgements) -> None:
        self.plan, self.parts, self.acks = plan, parts, acks
        self._by_name = {destination.name: destination for destination in plan.destinations}
        #: Every destination gets every message.
        self._all_match = all(destination.where is None for destination in plan.destinations)
        #: Destinations whose lanes have another key than the channel's.
        self._reordered = [destination for destination in plan.destinations if destination.order != plan.order]
        self._routed_by = _routed_by(plan.destinations)
        chains = [plan.transform, *(destination.transform for destination in plan.destinations)]
        #: Whether every step is pure and none is asynchronous.
        self.pure = all(chain.pure and not chain.asynchronous for chain in chains)

    def at_once(self, arrival: Arrival) -> Routed | None:
        """``route`` for a channel of pure steps, and a message that is at hand; None when that waits for something."""
        running = self.route(arrival)
        try:
            running.send(None)
        except StopIteration as ended:
            routed: Routed = ended.value
            return routed
        except asyncio.CancelledError:
            return None  # a site's Python waits, or has waited, for what was cancelled: see what it does in its turn
        running.close()
        return None

    async def route(self, arrival: Arrival) -> Routed:
        """Run the transforms on one message; nothing is committed yet."""
        try:
            envelope = arrival.envelope or await self._read_back(arrival)
        except MalformedMessage:
            return self.failed(arrival, "malformed", "park", {})
        arrival.envelope = None
        modes = ORIGINAL
        if arrival.undecided and isinstance(envelope.body, Message):
            modes = modes_of(envelope.body.header, envelope.origin.source)
        context = self._context(arrival.message_id)
        keys = self._lane_keys(envelope, arrival.key)
        try:
            if any(map(lane_keys.too_many, set(keys.values()))):
                raise StepFailed("order", "too_many_keys")
            verdict = await run_chain(self.plan.transform, envelope, context)
            if verdict is DROP:
                return self._ended(arrival, MessageState.FILTERED, (), context, modes)
            matched: Sequence[DestinationPlan] = self.plan.destinations
            if not self._all_match:
                matched = [plan for plan in matched if plan.where is None or plan.where(envelope, context)]
            if self._routed_by and (unroutable := self._unroutable(envelope, context)):
                raise StepFailed("where", "unroutable", unroutable)
        except (StepFailed, Refused) as error:
            outcome = getattr(error, "outcome", None) or self.plan.on_error
            return self.failed(arrival, cause_of(error), outcome, keys, modes)
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a site's Python must not stop the channel
            log.error("route.internal_error", channel=self.plan.name, error=type(error).__name__, at=where(error))
            return self.failed(arrival, f"internal {type(error).__name__}", self.plan.on_error, keys, modes)
        deliveries: list[NewDelivery] = []
        alike: list[Built] = []
        left = len(matched)
        for plan in matched:
            left -= 1
            delivery = await self._delivery(plan, envelope, context, keys[plan.name], alike, last=not left)
            if delivery is not None:
                deliveries.append(delivery)
        state = MessageState.ROUTED if matched else MessageState.FILTERED
        return self._ended(arrival, state, tuple(deliveries), context, modes)

    async def _delivery(
        self, plan: DestinationPlan, shared: Envelope, context: StepContext, key: str, alike: list[Built], *, last: bool
    ) -> NewDelivery | None:
        """What ``plan`` is owed; None when its own transform drops the message. ``alike``, ``last``: see ``build``."""
        delivery_id = self.parts.store.new_id()
        if plan.order.kind == "none":
            key = own_lane(delivery_id)
        try:
            built = await self.build(plan, shared, context, alike, last=last)
        except StepFailed as error:
            state = DeliveryState.HELD if (error.outcome or self.plan.on_error) == "hold" else DeliveryState.PARKED
            return NewDelivery(delivery_id, plan.name, key, b"", state=state, cause=cause_of(error))
        if built is None:
            return None
        body, content_type, control_id = built
        return NewDelivery(
            delivery_id,
            plan.name,
            key,
            body,
            control_id or self.parts.make_control_id(),
            content_type,
            QUEUED,
            "",
            INTERRUPTED[plan.on_unanswered],
            bool(plan.secret),
        )

    async def build(
        self, plan: DestinationPlan, shared: Envelope, context: StepContext, alike: list[Built], *, last: bool
    ) -> Built | None:
        """What goes to ``plan``; None when its own transform drops the message. Raises StepFailed.

        ``alike`` holds what goes to every destination without steps of its own, once that is known. ``last``: no other
        destination needs ``shared``.
        """
        try:
            if plan.transform.steps:
                shared = shared if last else shared.fork()
                if await run_chain(plan.transform, shared, context) is DROP:
                    return None
                return content.encode(shared)
            if not alike:
                alike.append(content.encode(shared))
            return alike[0]
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

    async def rebuild(self, row: MessageRow, destination: str) -> Built | None:
        """Transform a stored message anew for one destination (its first attempt to do so failed)."""
        envelope = await self._read_back(Arrival.from_row(row))
        context = self._context(row.message_id)
        if await run_chain(self.plan.transform, envelope, context) is DROP:
            return None
        return await self.build(self._by_name[destination], envelope, context, [], last=True)

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
        keys = dict.fromkeys(self._by_name, key)
        for plan in self._reordered:
            keys[plan.name] = lane_keys.key_of(plan.order, envelope.body, self.parts.store.lane_key)
        return keys

    def _unroutable(self, envelope: Envelope, context: StepContext) -> str:
        """The looked-up variable one of whose values no destination takes; empty when there is none."""
        for name in context.looked_up:
            taken = self._routed_by.get(name)
            if taken is None:
                continue
            value = envelope.variables.get(name)
            values = value if isinstance(value, list) else [value]
            if any(str(item) not in taken for item in values):
                return name
        return ""

    def failed(
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
        return self._ended(arrival, MessageState.FAILED, tuple(holders), None, modes, cause)

    def _ended(
        self,
        arrival: Arrival,
        state: MessageState,
        deliveries: tuple[NewDelivery, ...],
        context: StepContext | None,
        modes: Wanted,
        cause: str = "",
    ) -> Routed:
        at = self.parts.clock.time()
        route = Route(arrival.message_id, self.plan.name, arrival.correlation_id, state, at, cause, deliveries)
        effects: list[Operation] = []
        if context is not None and context.effects:
            effects = operations_of(context.effects, self.parts.settled)
        decided = self._decided(arrival, state, deliveries, modes) if arrival.undecided else None
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
        return self.acks.decide(arrival.message_id, arrival.correlation_id, modes, ack, arrival.header)


def _routed_by(destinations: Sequence[DestinationPlan]) -> Mapping[str, frozenset[str]]:
    """The variables that destinations are chosen by, and the values of each that any of them takes."""
    taken: dict[str, frozenset[str]] = {}
    for plan in destinations:
        for name, values in (plan.where.variables if plan.where is not None else {}).items():
            taken[name] = taken.get(name, frozenset()) | values
    return taken


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
