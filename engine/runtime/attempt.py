"""One send of one delivery, and the outcome that is to be committed of it.

It knows nothing of lanes. Bodies are read from the store unless they are at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from engine.config.plan import DestinationPlan
from engine.delivery import DeliveryState
from engine.destinations.base import Destination, Outgoing, Response
from engine.errors import (
    DeliveryError,
    DoesNotFit,
    DoesNotOpen,
    Evidence,
    Rejected,
    StoreError,
    Unanswered,
    Unavailable,
    Unexpected,
)
from engine.hl7.bulk import LARGE, Pieces
from engine.hl7.large import LONG
from engine.promise import Promise
from engine.runtime.clock import Clock
from engine.runtime.faults import where
from engine.runtime.item import Item
from engine.runtime.pace import Pace
from engine.runtime.retry import INTERRUPTED, Decision, accept, decide
from engine.runtime.secret import hashed_members
from engine.store.base import Sending, Settle, Store

log = structlog.get_logger("engine.deliver")

#: Seconds before what could not be committed is offered to the store again, and what could not be read is read again.
RETRY = 1.0
#: Seconds that a worker which is stopped waits to be told of a commit: a disk that fails may tell it nothing at all.
TOLD = 5.0

DELIVERED = DeliveryState.DELIVERED  # before 3.12 a member of an enumeration is a call away

#: How one send ended: the outcome, and why the partner did not take it; None when it did.
Attempt = tuple[Settle, DeliveryError | None]


class Sender:
    """Sends the deliveries of one destination, one call each."""

    def __init__(self, channel: str, plan: DestinationPlan, store: Store, clock: Clock, salt: bytes) -> None:
        self.channel, self.plan, self.store, self.clock, self.salt = channel, plan, store, clock, salt
        self.pace = Pace(1.0 / plan.rate if plan.rate else 0.0, plan.delay, plan.retry.backoff)
        #: Whether a delivery may leave as soon as a connection is free, with nothing committed before.
        self.at_once = plan.on_unanswered == "repeat" and type(plan.to).begin is not Destination.begin
        #: See ``Destination.begin``.
        self.begin = plan.to.begin
        self.now = clock.time
        #: The file says nothing of answers, and the body stays as it is: a positive answer is a delivery.
        self._plain = not plan.on_answer and not plan.secret

    async def send(self, item: Item) -> Attempt:
        """Send it once; what is to be committed of it. Raises DoesNotFit when it may not be sent at all."""
        attempt = item.attempts + 1
        try:
            body = item.body or await self._body(item)
        except (StoreError, KeyError) as error:
            log.error("delivery.unreadable", **self.ids(item))
            return self._failed(item, unread(error), item.attempts, None), None
        item.body = None
        if self.plan.on_unanswered != "repeat":
            sending = Sending(item.delivery_id, self.clock.time(), attempt)
            await self._commit(sending)
            if not await self._in_turn(sending):
                return self._put_back(item), None
        begun = self.clock.time()
        try:
            response = await self.plan.to.send(self.outgoing(item, body))
        except DeliveryError as error:
            return self.outcome(item, error, body, begun)
        except asyncio.CancelledError:
            await asyncio.shield(self.interrupted(item))
            raise
        except Exception as error:  # noqa: BLE001 - a fault in a connector must not stop the lane; the outcome is unknown
            log.error("delivery.internal_error", **self.ids(item), error=type(error).__name__, at=where(error))
            unknown = Unanswered(f"internal {type(error).__name__}")
            decision = decide(self.plan, unknown, attempt, self.clock.time() - item.created_at)
            return self._failed(item, decision, attempt, None, begun), unknown
        return self.outcome(item, response, body, begun)

    def outcome(self, item: Item, result: Response | DeliveryError, body: bytes | Pieces, begun: float) -> Attempt:
        """What came of a send."""
        attempt = item.attempts + 1
        if self._plain and type(result) is Response and not (evidence := result.evidence).wrong:
            number, at, marked = item.delivery_id, self.now(), item.may_be_duplicated
            return Settle(number, DELIVERED, at, attempt, "", 0.0, evidence, result.body, marked, None, begun), None
        age = self.clock.time() - item.created_at
        if isinstance(result, DeliveryError):
            decision = decide(self.plan, result, attempt, age)
            left = None if isinstance(result, Unavailable) else begun
            settle = self._failed(item, decision, attempt, evidence_of(result), left)
            if decision.state is DELIVERED and self.plan.secret:  # a rule says so
                settle = replace(settle, body=hashed_members(bytes(body), self.plan.secret, self.salt))
            return settle, result
        decided = accept(self.plan, result.evidence, attempt, age)
        if decided is None:
            return self._delivered(item, result, attempt, body, begun), None
        evidence = replace(result.evidence, body=result.body)
        return self._failed(item, decided, attempt, evidence, begun), Rejected(evidence)

    def ids(self, item: Item) -> dict[str, Any]:
        """What a log line about it carries."""
        return {
            "channel": self.channel,
            "destination": self.plan.name,
            "message_id": item.message_id,
            "delivery_id": item.delivery_id,
            "correlation_id": item.correlation_id,
            "control_id": item.control_id,
        }

    async def _body(self, item: Item) -> bytes | Pieces:
        """Its bytes, read from the store; others go on while a large body is read."""
        chunks = []
        for chunk in self.store.delivery_chunks(item.delivery_id):
            chunks.append(chunk)
            if len(chunk) >= LONG:
                await asyncio.sleep(0)
        pieces = Pieces(chunks)
        return pieces if len(pieces) >= LARGE else bytes(pieces)

    def outgoing(self, item: Item, body: bytes | Pieces) -> Outgoing:
        """A delivery as it goes out."""
        pieces = None
        if isinstance(body, Pieces):
            pieces, body = (body, b"") if self.plan.to.takes_pieces else (None, bytes(body))
        return Outgoing(
            body,
            item.control_id,
            item.correlation_id,
            self.channel,
            self.plan.name,
            item.message_id,
            item.delivery_id,
            item.content_type,
            item.created_at,
            item.attempts + 1,
            pieces,
        )

    def _delivered(self, item: Item, response: Response, attempt: int, body: bytes | Pieces, begun: float) -> Settle:
        secret = self.plan.secret
        return Settle(
            item.delivery_id,
            DELIVERED,
            self.clock.time(),
            attempt,
            "",
            0.0,
            response.evidence,
            response.body,
            item.may_be_duplicated,
            hashed_members(bytes(body), secret, self.salt) if secret else None,
            begun,
        )

    def _failed(
        self, item: Item, decision: Decision, attempt: int, evidence: Evidence | None, left: float | None = None
    ) -> Settle:
        """``left``: when its bytes began to leave; None when they did not."""
        now = self.clock.time()
        return Settle(
            item.delivery_id,
            decision.state,
            now,
            attempt,
            decision.cause,
            now + decision.delay if decision.state is DeliveryState.QUEUED else 0.0,
            evidence,
            evidence.body if evidence is not None else b"",
            decision.may_be_duplicated or item.may_be_duplicated,
            sent_at=left,
        )

    async def interrupted(self, item: Item) -> None:
        """The worker is stopped in the middle of a send: whether it was taken, nobody knows."""
        state, cause, attempt = INTERRUPTED[self.plan.on_unanswered], "unanswered interrupted", item.attempts + 1
        settle = Settle(item.delivery_id, state, self.clock.time(), attempt, cause, may_be_duplicated=True)
        try:
            await self.store.submit(settle)
        except StoreError:
            log.error("delivery.not_stored", **self.ids(item))  # recovery at the next start does the same

    async def take_back(self, sendings: Sequence[Sending], committing: Promise[None] | None = None) -> None:
        """The worker is stopped before the first byte of what is being committed, or is: it goes in its turn."""
        with contextlib.suppress(StoreError):  # recovery at the next start sees to it
            if committing is not None:
                if not await committing.wait(TOLD):
                    return
                committing.result()
            queued, now = DeliveryState.QUEUED, self.clock.time()
            await self.store.submit(*(Settle(of.delivery_id, queued, now, of.attempt - 1) for of in sendings))

    async def _in_turn(self, *sendings: Sending) -> bool:
        """Wait until the first byte of what is on disk may leave; False where the destination was paused meanwhile."""
        if wait := self.pace.leaves(asyncio.get_running_loop().time()):
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                await asyncio.shield(self.take_back(sendings))
                raise
        return not self.pace.paused

    def _put_back(self, item: Item) -> Settle:
        """Nothing of it has left: it goes in its turn, as if it had not been tried."""
        return Settle(item.delivery_id, DeliveryState.QUEUED, self.clock.time(), item.attempts)

    async def _commit(self, *sendings: Sending) -> None:
        """Commit what must be on disk before the first byte leaves."""
        while True:
            committing = self.store.submit(*sendings)
            try:
                await committing
            except asyncio.CancelledError:
                await asyncio.shield(self.take_back(sendings, committing))
                raise
            except DoesNotFit:
                raise
            except StoreError:
                log.error("delivery.not_stored", channel=self.channel, destination=self.plan.name)
                await asyncio.sleep(RETRY)
            else:
                return


def unread(error: StoreError | KeyError) -> Decision:
    """What becomes of a delivery whose bytes were not read: nothing was sent."""
    if isinstance(error, DoesNotOpen | KeyError):
        return Decision(DeliveryState.PARKED, "unreadable")
    # The disk may give them the next time; whatever comes later of its keys waits.
    return Decision(DeliveryState.QUEUED, "unreadable", RETRY)


def evidence_of(error: DeliveryError) -> Evidence | None:
    """What the partner's answer says, where there was one."""
    return error.evidence if isinstance(error, Rejected | Unexpected) else None
