"""What a request/response channel writes: the operations for a request, its delivery and its outcome."""

from __future__ import annotations

from engine.config.plan import ChannelPlan, DestinationPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import Origin
from engine.errors import ErrorRow
from engine.runtime.call import Call, Ended
from engine.runtime.patients import reader
from engine.store.base import Accept, AckSent, NewDelivery, Operation, Route, Sending, Settle


class Records:
    """What is written of the requests of one channel."""

    def __init__(self, plan: ChannelPlan, destination: DestinationPlan) -> None:
        self.plan, self.destination = plan, destination
        self._patients_of = reader(plan.patients)

    def accept(self, call: Call, route: Route, status: int | None = None) -> Accept:
        """The request as it was received, and what became of it; ``status`` where its answer waits for this commit."""
        return Accept(
            call.message_id,
            self.plan.name,
            call.correlation_id,
            call.request.received_at,
            call.body,
            message_type=self.plan.source.address,
            ack="" if status is None else str(status),
            origin=call.request.origin.record,
            patients=self._patients_of(call.request.request, call.request.origin.query),
            state=route.state,
            cause=route.cause,
            at=route.at,
            deliveries=route.deliveries,
        )

    def refused(
        self,
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
            self.plan.name,
            correlation_id,
            at,
            body,
            message_type=self.plan.source.address,
            state=MessageState.REFUSED,
            cause=row.code,
            ack=str(row.status),
            origin=origin.record,
        )

    def intended(self, call: Call, at: float) -> Accept:
        """A request, and the first attempt to send what the partner is owed, which is about to begin."""
        return self.accept(call, self._routed(call, at, sending=Sending(call.delivery_id, at, 1)))

    def done(self, call: Call, ended: Ended, at: float) -> list[Operation]:
        """A request, what the partner was sent, and what came of it."""
        route = self._routed(call, at, settled=_settle(call, ended, at))
        return [self.accept(call, route, ended.reply.status), *ended.effects]

    def _routed(
        self,
        call: Call,
        at: float,
        sending: Sending | None = None,
        settled: Settle | None = None,
    ) -> Route:
        """What the partner is owed; an exchange has a lane of its own."""
        delivery = NewDelivery(
            call.delivery_id,
            self.destination.name,
            f"\0{call.delivery_id}",
            call.outgoing,
            call.control_id,
            call.content_type,
            DeliveryState.QUEUED if sending is None else DeliveryState.SENDING,
            interrupted=DeliveryState.UNKNOWN,
            sealed=bool(self.destination.secret),
            sending=sending,
            settled=settled,
        )
        return Route(
            call.message_id, self.plan.name, call.correlation_id, MessageState.ROUTED, at, deliveries=(delivery,)
        )

    def note(self, call: Call, at: float, state: MessageState, cause: str, status: int | None = None) -> Accept:
        """A request that causes no delivery of its own."""
        route = Route(call.message_id, self.plan.name, call.correlation_id, state, at, cause)
        return self.accept(call, route, status)

    def settled(self, call: Call, ended: Ended, at: float) -> list[Operation]:
        """The outcome of a call whose delivery is recorded."""
        return [_settle(call, ended, at), AckSent(call.message_id, str(ended.reply.status)), *ended.effects]


def _settle(call: Call, ended: Ended, at: float) -> Settle:
    state = DeliveryState.DELIVERED if ended.success else DeliveryState.DISCARDED
    if ended.unknown:
        state = DeliveryState.UNKNOWN
    return Settle(
        call.delivery_id,
        state,
        at,
        call.attempts,
        ended.cause,
        evidence=ended.outcome.evidence,
        answer=ended.answer,
        may_be_duplicated=ended.unknown,
    )
