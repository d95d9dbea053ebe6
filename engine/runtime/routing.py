"""What becomes of one message: its transforms run, and one delivery for each destination follows. Commits nothing.

Where no step waits for anything, ``Routing.outcome`` runs them in one go; where every step is pure as well, that can be
in the very commit that receives the message. When that is done, and what is committed, is for ``receive.py`` and
``route.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from engine.config.plan import ChannelPlan, DestinationPlan, Order
from engine.delivery import DeliveryState, MessageState
from engine.envelope import ACCEPT, Ack, Envelope
from engine.errors import HL7EngineError, MalformedMessage, Refused, StepFailed, Unmappable
from engine.hl7.bulk import Bulk, Pieces
from engine.hl7.header import Header
from engine.hl7.message import Message
from engine.hl7.modes import ORIGINAL, Wanted
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

# Before 3.12 a member of an enumeration is a call away.
DROP, QUEUED, HELD = Verdict.DROP, DeliveryState.QUEUED, DeliveryState.HELD
ROUTED, FILTERED, FAILED = MessageState.ROUTED, MessageState.FILTERED, MessageState.FAILED

STEP_FAILED = Ack("error", condition=207, cause="step_failed")


#: No destination has anything of its own.
_NONE: Mapping[str, Any] = {}


class Outcome(NamedTuple):
    """What became of one message."""

    state: MessageState
    deliveries: tuple[NewDelivery, ...] = ()
    cause: str = ""
    #: What steps want committed with it.
    effects: Sequence[Operation] = ()


@dataclass(slots=True)
class Routed:
    """An outcome that is about to be committed by itself, after the message."""

    arrival: Arrival
    route: Route
    effects: Sequence[Operation]
    modes: Wanted
    #: What the ack comes to; None where it waits for deliveries, or was decided before.
    decided: Decided | None = None

    @property
    def beside(self) -> list[Operation]:
        """What is committed together with its route."""
        return [*self.effects] if self.decided is None else [*self.effects, self.decided.operation]


class _Outlet:
    """A destination, with what its file says once for all messages."""

    def __init__(self, plan: DestinationPlan, order: Order) -> None:
        """``order`` is the channel's."""
        self.plan, self.name, self.where = plan, plan.name, plan.where
        #: Its own steps; None for none.
        self.own = plan.transform if plan.transform.steps else None
        #: False where each delivery has a lane for itself.
        self.ordered = plan.order.kind != "none"
        #: The key of its lanes, where that is not the channel's.
        self.order = plan.order if plan.order != order else None
        self.interrupted, self.sealed = INTERRUPTED[plan.on_unanswered], bool(plan.secret)


class Routing:
    """Runs the transforms of one channel."""

    def __init__(self, plan: ChannelPlan, parts: Parts, acks: Acknowledgements) -> None:
        self.plan, self.parts, self.acks = plan, parts, acks
        self._new_ids, self._make_control_id = parts.store.new_ids, parts.make_control_id
        self._outlets = tuple(_Outlet(item, plan.order) for item in plan.destinations)
        #: Every destination gets every message.
        self._all_match = all(destination.where is None for destination in plan.destinations)
        #: Destinations whose lanes have another key than the channel's.
        self._reordered = [outlet for outlet in self._outlets if outlet.order is not None]
        self._routed_by = _routed_by(plan.destinations)
        chains = [plan.transform, *(destination.transform for destination in plan.destinations)]
        #: Whether some step waits for something.
        self.asynchronous = any(chain.asynchronous for chain in chains)
        #: Whether every step is pure and none waits.
        self.pure = all(chain.pure for chain in chains) and not self.asynchronous
        conditions = [outlet.where for outlet in self._outlets if outlet.where is not None]
        #: Whether something may be asked of a message beyond its kind.
        self.opens = any(chain.opens for chain in chains) or any(condition.opens for condition in conditions)

    async def route(self, arrival: Arrival) -> Routed:
        """Run the transforms on one message; nothing is committed yet."""
        try:
            envelope = arrival.envelope or await self._read_back(arrival)
        except MalformedMessage:
            return self.routed(arrival, Outcome(FAILED, (), "malformed"))
        arrival.envelope = None
        modes = ORIGINAL
        if arrival.undecided and isinstance(envelope.body, Message):
            modes = modes_of(envelope.body.header, envelope.origin.source)
        if self.asynchronous:
            return self.routed(arrival, await self.awaited(envelope, arrival.key), modes)
        return self.routed(arrival, self.outcome(envelope, arrival.key), modes)

    def routed(self, arrival: Arrival, outcome: Outcome, modes: Wanted = ORIGINAL) -> Routed:
        """What is to be committed of an outcome."""
        number, correlation_id, at = arrival.message_id, arrival.correlation_id, self.parts.clock.time()
        route = Route(number, self.plan.name, correlation_id, outcome.state, at, outcome.cause, outcome.deliveries)
        decided = None
        if arrival.undecided:
            decided = self.decided(arrival, outcome, modes, arrival.header)
        return Routed(arrival, route, outcome.effects, modes, decided)

    def decided(self, of: Arrival | Envelope, outcome: Outcome, modes: Wanted, header: Header | None) -> Decided | None:
        """The ack of a sender who waits for more than commit 1, unless it waits for the deliveries themselves."""
        ack = ACCEPT
        if outcome.state is FAILED:
            ack = STEP_FAILED
        elif self.plan.ack == "delivered":
            awaited = set(self.acks.awaited(outcome.deliveries))
            states = {delivery.state for delivery in outcome.deliveries if delivery.delivery_id in awaited}
            if states == {QUEUED}:
                return None
            ack = NOT_DELIVERED if states else ACCEPT
        return self.acks.decide(of.message_id, of.correlation_id, modes, ack, header)

    # -- the steps -------------------------------------------------------------------------------------------------

    def outcome(self, envelope: Envelope, key: str) -> Outcome:
        """Run the transforms on one message, where no step waits; ``key`` is the channel's ordering key of it."""
        context = StepContext(self.parts, self.plan.name, envelope.message_id)
        keys = self._own_keys(envelope) if self._reordered else _NONE
        try:
            if keys or lane_keys.BETWEEN in key:
                _check(key, *keys.values())
            if self.plan.transform.run(envelope, context) is DROP:
                return Outcome(FILTERED, (), "", self._effects(context) if context.effects else ())
            matched = self._outlets if self._all_match else self._matched(envelope, context)
        except Exception as error:  # noqa: BLE001 - a fault of ours or of a site's Python must not stop the channel
            return self._failed(error, key, keys)
        return self._owed(matched, envelope, context, key, keys, _NONE)

    async def awaited(self, envelope: Envelope, key: str) -> Outcome:
        """``outcome`` for a channel some of whose steps wait."""
        context, keys = StepContext(self.parts, self.plan.name, envelope.message_id), self._own_keys(envelope)
        try:
            _check(key, *keys.values())
            if await self.plan.transform.run_async(envelope, context) is DROP:
                return Outcome(FILTERED, (), "", self._effects(context) if context.effects else ())
            matched = self._matched(envelope, context)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error, key, keys)
        ready = {outlet.name: await _begun(outlet.own, envelope, context) for outlet in matched if outlet.own}
        return self._owed(matched, envelope, context, key, keys, ready)

    def _own_keys(self, envelope: Envelope) -> dict[str, str]:
        """The keys of the lanes that have another one than the channel's, read before any step changes the message."""
        hashed = self.parts.store.lane_key
        return {
            outlet.name: lane_keys.key_of(outlet.order, envelope.body, hashed)
            for outlet in self._reordered
            if outlet.order is not None
        }

    def _matched(self, envelope: Envelope, context: StepContext) -> tuple[_Outlet, ...]:
        """Who gets it."""
        matched = tuple(one for one in self._outlets if one.where is None or one.where(envelope, context))
        if self._routed_by and (unroutable := self._unroutable(envelope, context)):
            raise StepFailed("where", "unroutable", unroutable)
        return matched

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

    def _owed(
        self,
        matched: Sequence[_Outlet],
        shared: Envelope,
        context: StepContext,
        key: str,
        keys: Mapping[str, str],
        ready: Mapping[str, Envelope | Exception | None],
    ) -> Outcome:
        """One delivery for each destination. ``ready``: by destination, what steps that wait have made of it already.

        What goes to every destination without steps of its own is encoded once.
        """
        deliveries: list[NewDelivery] = []
        alike: Built | None = None
        left = len(matched)
        delivery_id = self._new_ids(left) - 1
        for outlet in matched:
            left, delivery_id = left - 1, delivery_id + 1
            lane = keys.get(outlet.name, key) if outlet.ordered else own_lane(delivery_id)
            try:
                if outlet.own is None:
                    built = alike = alike or content.encode(shared)
                else:
                    own = ready[outlet.name] if ready else _run(outlet.own, shared, context, last=not left)
                    if own is None:
                        continue
                    built = _built(own)
            except Exception as error:  # noqa: BLE001 - a fault of a site's Python concerns this destination alone
                deliveries.append(self._spoilt(outlet, delivery_id, lane, self._step_failed(error, outlet.name)))
                continue
            body, content_type, control_id = built
            deliveries.append(
                NewDelivery(
                    delivery_id,
                    outlet.name,
                    lane,
                    body,
                    control_id or self._make_control_id(),
                    content_type,
                    QUEUED,
                    "",
                    outlet.interrupted,
                    outlet.sealed,
                )
            )
        effects = self._effects(context) if context.effects else ()
        return Outcome(ROUTED if matched else FILTERED, tuple(deliveries), "", effects)

    def _effects(self, context: StepContext) -> list[Operation]:
        return operations_of(context.effects, self.parts.settled)

    # -- what fails ------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception, key: str, keys: Mapping[str, str]) -> Outcome:
        """A failed message; where it holds its keys, a place-holder blocks their lanes at every destination."""
        handled = self.plan.on_error
        if isinstance(error, StepFailed | Refused):
            cause = cause_of(error)
            handled = getattr(error, "outcome", None) or handled
        else:
            cause = f"internal {type(error).__name__}"
            log.error("route.internal_error", channel=self.plan.name, error=type(error).__name__, at=where(error))
        holders = [
            NewDelivery(self.parts.store.new_id(), one.name, keys.get(one.name, key), b"", state=HELD, cause=cause)
            for one in self._outlets
            if handled == "hold" and one.ordered
        ]
        return Outcome(FAILED, tuple(holders), cause)

    def _spoilt(self, outlet: _Outlet, delivery_id: int, lane: str, error: StepFailed) -> NewDelivery:
        """What ``outlet`` is owed and cannot be made: a person sees to it."""
        state = HELD if (error.outcome or self.plan.on_error) == "hold" else DeliveryState.PARKED
        return NewDelivery(delivery_id, outlet.name, lane, b"", state=state, cause=cause_of(error))

    def _step_failed(self, error: Exception, destination: str) -> StepFailed:
        """What went wrong while a message was made ready for one destination."""
        if isinstance(error, StepFailed):
            return error
        if isinstance(error, Unmappable):
            return StepFailed("encode", "unmappable", error.path_hint)
        if isinstance(error, HL7EngineError):
            return StepFailed("transform", type(error).__name__)
        ids = {"channel": self.plan.name, "destination": destination}
        log.error("route.internal_error", **ids, error=type(error).__name__, at=where(error))
        return StepFailed("transform", f"internal {type(error).__name__}")

    # -- a stored message ------------------------------------------------------------------------------------------

    async def rebuild(self, row: MessageRow, destination: str) -> Built | None:
        """Transform a stored message anew for one destination (its first attempt to do so failed).

        None when steps drop it. Raises StepFailed.
        """
        envelope = await self._read_back(Arrival.from_row(row))
        context = StepContext(self.parts, self.plan.name, row.message_id)
        if await self.plan.transform.run_async(envelope, context) is DROP:
            return None
        own = next(outlet.own for outlet in self._outlets if outlet.name == destination)
        try:
            made = envelope if own is None else await _begun(own, envelope, context)
            return None if made is None else _built(made)
        except Exception as error:  # noqa: BLE001 - as above
            raise self._step_failed(error, destination) from None

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


def _check(*keys: str) -> None:
    if any(map(lane_keys.too_many, keys)):
        raise StepFailed("order", "too_many_keys")


def _run(own: Chain, shared: Envelope, context: StepContext, *, last: bool) -> Envelope | None:
    """What the steps of one destination make of a message; None when they drop it. ``last``: nobody else needs it."""
    envelope = shared if last else shared.fork()
    return None if own.run(envelope, context) is DROP else envelope


async def _begun(own: Chain, shared: Envelope, context: StepContext) -> Envelope | Exception | None:
    """The same for steps that wait; what fails is told in its turn."""
    envelope = shared.fork()
    try:
        return None if await own.run_async(envelope, context) is DROP else envelope
    except Exception as error:  # noqa: BLE001 - told by ``_built``
        return error


def _built(own: Envelope | Exception) -> Built:
    if isinstance(own, Exception):
        raise own
    return content.encode(own)


def _routed_by(destinations: Sequence[DestinationPlan]) -> Mapping[str, frozenset[str]]:
    """The variables that destinations are chosen by, and the values of each that any of them takes."""
    taken: dict[str, frozenset[str]] = {}
    for plan in destinations:
        for name, values in (plan.where.variables if plan.where is not None else {}).items():
            taken[name] = taken.get(name, frozenset()) | values
    return taken


def cause_of(error: StepFailed | Refused) -> str:
    """What a person reads: step, cause and place; never a value."""
    if isinstance(error, Refused):
        return error.code
    return f"step {error.step}: {error.cause}{' ' + error.where if error.where else ''}"
