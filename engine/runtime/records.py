"""What a request/response channel writes: the operations for a request, its delivery and its outcome."""

from __future__ import annotations

from engine.config.plan import ChannelPlan, DestinationPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import Origin
from engine.errors import ErrorRow
from engine.runtime.call import Call, Ended
from engine.runtime.entries import origin_record
from engine.runtime.patients import patient_ids
from engine.store.base import Accept, AckSent, NewDelivery, Operation, Route, Settle


def accept(plan: ChannelPlan, call: Call) -> Accept:
    """The request as it was received."""
    return Accept(
        call.message_id,
        plan.name,
        call.correlation_id,
        call.request.received_at,
        call.body,
        message_type=plan.source.address,
        origin=origin_record(call.request.origin),
        patients=patient_ids(plan.patients, call.request.request, call.request.origin.query),
    )


def refused(
    plan: ChannelPlan,
    message_id: int,
    correlation_id: str,
    at: float,
    body: bytes,
    origin: Origin,
    row: ErrorRow,
) -> Accept:
    """A request that was answered negatively and never accepted."""
    return Accept(
        message_id,
        plan.name,
        correlation_id,
        at,
        body,
        message_type=plan.source.address,
        state=MessageState.REFUSED,
        cause=row.code,
        ack=str(row.status),
        origin=origin_record(origin),
    )


def routed(plan: ChannelPlan, destination: DestinationPlan, call: Call, at: float) -> Route:
    """What the partner is owed; an exchange has a lane of its own."""
    delivery = NewDelivery(
        call.delivery_id,
        destination.name,
        f"\0{call.delivery_id}",
        call.outgoing,
        call.control_id,
        call.content_type,
        DeliveryState.QUEUED,
        interrupted=DeliveryState.UNKNOWN,
        sealed=bool(destination.secret),
    )
    return Route(call.message_id, plan.name, call.correlation_id, MessageState.ROUTED, at, deliveries=(delivery,))


def note(plan: ChannelPlan, call: Call, at: float, state: MessageState, cause: str) -> Route:
    """A request that causes no delivery of its own."""
    return Route(call.message_id, plan.name, call.correlation_id, state, at, cause)


def settled(call: Call, ended: Ended, at: float) -> list[Operation]:
    """The outcome of a call."""
    state = DeliveryState.DELIVERED if ended.success else DeliveryState.DISCARDED
    if ended.unknown:
        state = DeliveryState.UNKNOWN
    settle = Settle(
        call.delivery_id,
        state,
        at,
        call.attempts,
        ended.cause,
        evidence=ended.outcome.evidence,
        answer=ended.answer,
        may_be_duplicated=ended.unknown,
    )
    return [settle, AckSent(call.message_id, str(ended.reply.status)), *ended.effects]
