"""What commit 1 writes of a message: where it came from, what it is found by, its bytes; and its envelope."""

from __future__ import annotations

from typing import Any

from engine.config.plan import ChannelPlan
from engine.delivery import MessageState
from engine.envelope import Envelope, Origin, Receipt
from engine.hl7.bulk import Pieces
from engine.hl7.header import Header
from engine.hl7.message import Message
from engine.runtime.parts import Parts
from engine.runtime.patients import patient_ids
from engine.store.base import Accept


def origin_record(origin: Origin) -> dict[str, Any]:
    """What the store keeps of an Origin."""
    record: dict[str, Any] = {"source": origin.source, "peer": origin.peer}
    if origin.api_key:
        record["api_key"] = origin.api_key
    if origin.identity:
        record["identity"] = origin.identity
    if origin.query:
        record["query"] = dict(origin.query)
    if origin.headers:
        record["headers"] = dict(origin.headers)
    if origin.batch:
        record["batch"] = dict(origin.batch)
    return record


class Entries:
    """Makes the entries of one channel."""

    def __init__(self, plan: ChannelPlan, parts: Parts) -> None:
        self.plan, self.parts, self.clock = plan, parts, parts.clock

    def envelope(self, receipt: Receipt, parsed: Any, origin: Origin) -> Envelope:
        """What its steps work on."""
        return Envelope(
            parsed,
            origin,
            receipt.correlation_id,
            self.plan.name,
            receipt.message_id,
            self.clock.time(),
            request=None if isinstance(parsed, Message | bytes) else parsed,
        )

    def facts(self, header: Header | None, parsed: Any, origin: Origin) -> dict[str, Any]:
        """What is stored of its content, read before any step changes it."""
        return {
            "control_id": header.control_id if header is not None else "",
            "message_type": header.message_type if header is not None else "",
            "patients": patient_ids(self.plan.patients, parsed, origin.query),
        }

    def accept(self, receipt: Receipt, body: bytes | Pieces, origin: Origin, **more: Any) -> Accept:
        """The entry of a message that was taken; ``more`` are further members of it."""
        return Accept(
            receipt.message_id,
            self.plan.name,
            receipt.correlation_id,
            self.clock.time(),
            body,
            origin=origin_record(origin),
            **more,
        )

    def refuse(
        self, message_id: int, correlation_id: str, body: bytes, origin: Origin, cause: str, ack: str = ""
    ) -> None:
        """Record what was answered negatively and is kept for people only; nobody waits for that."""
        accept = Accept(
            message_id,
            self.plan.name,
            correlation_id,
            self.clock.time(),
            body,
            state=MessageState.REFUSED,
            cause=cause,
            ack=ack,
            origin=origin_record(origin),
        )
        self.parts.record(accept)
