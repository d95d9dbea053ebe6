"""What commit 1 writes of a message that is not routed: refused, or kept for another reason."""

from __future__ import annotations

from typing import Any

from engine.config.plan import ChannelPlan
from engine.delivery import MessageState
from engine.envelope import Origin, Receipt
from engine.hl7.bulk import Pieces
from engine.runtime.parts import Parts
from engine.store.base import Accept


class Entries:
    """Makes the entries of one channel."""

    def __init__(self, plan: ChannelPlan, parts: Parts) -> None:
        self.plan, self.parts, self.clock = plan, parts, parts.clock
        #: What came and is kept for people only.
        self.refused = 0

    def accept(self, receipt: Receipt, body: bytes | Pieces, origin: Origin, **more: Any) -> Accept:
        """The entry of a message that was taken; ``more`` are further members of it."""
        return Accept(
            receipt.message_id,
            self.plan.name,
            receipt.correlation_id,
            self.clock.time(),
            body,
            origin=origin.record,
            **more,
        )

    def refuse(
        self, message_id: int, correlation_id: str, body: bytes, origin: Origin, cause: str, ack: str = ""
    ) -> None:
        """Record what was answered negatively and is kept for people only; nobody waits for that."""
        self.refused += 1
        accept = Accept(
            message_id,
            self.plan.name,
            correlation_id,
            self.clock.time(),
            body,
            state=MessageState.REFUSED,
            cause=cause,
            ack=ack,
            origin=origin.record,
        )
        self.parts.record(accept)
