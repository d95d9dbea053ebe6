"""What a request/response channel writes: the operations for a request, its delivery and its outcome."""

from __future__ import annotations

from engine.config.plan import ChannelPlan, DestinationPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import Origin
from engine.errors import ErrorRow
from engine.runtime.call import Call, Ended
from engine.runtime.patients import reader
from engine.store.base import Accept, AckSent, NewDelivery, Operation, Sending, Settle


class Records:
    """What is written of the requests of one channel."""

    def __init__(self, plan: ChannelPlan, destination: DestinationPlan) -> None:
        self.plan, self.destination = plan, destination
        #: Requests that were answered negatively by their source, or before they were anything.
        self.number_refused = 0
        self._patients_of, self._type = reader(plan.patients), plan.source.address

    def note(
        self,
        call: Call,
        at: float,
        state: MessageState,
        cause: str = "",
        status: int | None = None,
        deliveries: tuple[NewDelivery, ...] = (),
    ) -> Accept:
        """The request as it was received, and what became of it; ``status`` where its answer waits for this commit."""
        request = call.request
        return Accept(
            request.message_id,
            request.channel,
            request.correlation_id,
            request.received_at,
            call.body,
            message_type=self._type,
            ack="" if status is None else str(status),
            origin=request.origin.record,
            patients=self._patients_of(request.request, request.origin.query),
            state=state,
            cause=cause,
            at=at,
            deliveries=deliveries,
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
        self.number_refused += 1
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
        call.sent_at = at
        owed = self._owed(call, Sending(call.delivery_id, at, 1))
        return self.note(call, at, MessageState.ROUTED, deliveries=(owed,))

    def done(self, call: Call, ended: Ended, at: float) -> list[Operation]:
        """A request, what the partner was sent, and what came of it."""
        owed = self._owed(call, settled=_settle(call, ended, at))
        return [self.note(call, at, MessageState.ROUTED, "", ended.reply.status, (owed,)), *ended.effects]

    def _owed(self, call: Call, sending: Sending | None = None, settled: Settle | None = None) -> NewDelivery:
        """What the partner is owed; an exchange has a lane of its own."""
        return NewDelivery(
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
        sent_at=call.sent_at,
    )
