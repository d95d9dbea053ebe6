"""Commit 1: bytes from a source become a recorded message, and only then a positive acknowledgement.

``Receiver`` is the ``receive`` of a channel without a reply. It returns a Receipt at once; the order of calls is the
order of ids and so of delivery. What is no message is recorded as ``refused`` and answered negatively.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from engine.config.plan import ChannelPlan
from engine.delivery import MessageState
from engine.envelope import ACCEPT, Ack, Envelope, Origin, Receipt, new_correlation_id
from engine.errors import MalformedMessage, StoreError
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.hl7.message import Message
from engine.runtime import content, lane_keys
from engine.runtime.arrivals import Arrival
from engine.runtime.clock import Clock
from engine.runtime.patients import patient_ids
from engine.runtime.route import Router
from engine.store.base import Accept, Store

log = structlog.get_logger("engine.receive")

MALFORMED = Ack("reject", condition=100, location="MSH^1", cause="malformed")
STOPPED = Ack("reject", condition=207, cause="channel_stopped")
STORE_UNAVAILABLE = Ack("reject", condition=207, cause="store_unavailable")


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
    return record


class Receiver:
    """Takes messages in for one channel."""

    def __init__(self, plan: ChannelPlan, store: Store, router: Router, clock: Clock) -> None:
        self.plan, self.store, self.router, self.clock = plan, store, router, clock
        self.open = True
        self.received = 0
        self._keeping: set[asyncio.Task[None]] = set()
        #: Messages whose commit 1 is under way.
        self._committing = 0
        self._settled = asyncio.Event()
        self._settled.set()

    def __call__(self, body: bytes | bytearray, origin: Origin) -> Receipt:
        """Take one message in; see ``engine.envelope.Receive``."""
        loop = asyncio.get_running_loop()
        correlation_id = origin.correlation_id or new_correlation_id()
        receipt = Receipt(correlation_id, 0, loop.create_future(), loop.create_future())
        if not self.open:
            return _answered(receipt, STOPPED)
        large = Bulk(body) if len(body) >= LARGE else None
        try:
            parsed = content.parse(large or bytes(body), origin, self.plan.charset)
        except MalformedMessage as error:
            receipt.message_id = self.store.new_id()
            log.warning("message.refused", **self._ids(receipt), cause="malformed", offset=error.offset)
            self._record_refusal(receipt.message_id, correlation_id, bytes(body[:LARGE]), origin, "malformed", "AR")
            return _answered(receipt, MALFORMED)
        self.received += 1
        self._committing += 1
        self._settled.clear()
        if large is None:
            self._submit(receipt, parsed, bytes(body), origin)
        else:
            task = loop.create_task(self._keep(receipt, parsed, large, origin), name=f"{self.plan.name}: large message")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        return receipt

    async def _keep(self, receipt: Receipt, parsed: Any, large: Bulk, origin: Origin) -> None:
        """Write a large body before the message takes its place in the order; its sender sends no other meanwhile."""
        body = Pieces([Slice(large, 0, len(large))])
        try:
            large.place = (await self.store.keep(body)).place
        except StoreError:
            self._unstored(receipt)
        else:
            self._submit(receipt, parsed, body, origin)

    def _submit(self, receipt: Receipt, parsed: Any, body: bytes | Pieces, origin: Origin) -> None:
        """Commit 1. The id is the message's place in the order."""
        receipt.message_id = self.store.new_id()
        envelope = self._envelope(receipt, parsed, origin)
        key = lane_keys.key_of(self.plan.order, parsed, self.store.lane_key)
        arrival = Arrival(
            receipt.message_id, receipt.correlation_id, key, envelope, receipt, large=isinstance(body, Pieces)
        )
        committed = self.store.submit(self._accept(arrival, envelope, body))
        committed.add_done_callback(lambda future: self._committed(future, arrival, receipt))

    async def drained(self) -> None:
        """Until commit 1 of everything that was taken in has ended, and the router has it."""
        await self._settled.wait()

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        """Record what a source answered negatively by itself."""
        correlation_id = origin.correlation_id or new_correlation_id()
        log.info("message.refused", channel=self.plan.name, correlation_id=correlation_id, cause=code)
        self._record_refusal(self.store.new_id(), correlation_id, body, origin, code)

    def _envelope(self, receipt: Receipt, parsed: Any, origin: Origin) -> Envelope:
        return Envelope(
            parsed,
            origin,
            receipt.correlation_id,
            self.plan.name,
            receipt.message_id,
            self.clock.time(),
            request=None if isinstance(parsed, Message | bytes) else parsed,
        )

    def _accept(self, arrival: Arrival, envelope: Envelope, body: bytes | Pieces) -> Accept:
        parsed = envelope.body
        return Accept(
            arrival.message_id,
            self.plan.name,
            arrival.correlation_id,
            envelope.received_at,
            body,
            control_id=parsed.control_id if isinstance(parsed, Message) else "",
            message_type=content.message_type(parsed),
            key=arrival.key,
            ack="AA" if self.plan.ack == "received" else "",
            origin=origin_record(envelope.origin),
            patients=patient_ids(self.plan.patients, parsed, envelope.origin.query),
        )

    def _record_refusal(
        self, message_id: int, correlation_id: str, body: bytes, origin: Origin, cause: str, ack: str = ""
    ) -> None:
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
        self.router.parts.record(accept)

    def _committed(self, future: asyncio.Future[None], arrival: Arrival, receipt: Receipt) -> None:
        if future.cancelled() or future.exception() is not None:
            self._unstored(receipt)
            return
        self._ended()
        self.router.push(arrival)
        if self.plan.ack != "received":
            _resolve(receipt.committed, ACCEPT)
            return
        arrival.receipt = None
        if delay := self.router.pressure():
            asyncio.get_running_loop().call_later(delay, _accepted, receipt)
        else:
            _accepted(receipt)

    def _unstored(self, receipt: Receipt) -> None:
        self._ended()
        log.error("message.not_stored", **self._ids(receipt), cause="store_unavailable")
        _answered(receipt, STORE_UNAVAILABLE)

    def _ended(self) -> None:
        self._committing -= 1
        if not self._committing:
            self._settled.set()

    def _ids(self, receipt: Receipt) -> dict[str, Any]:
        return {
            "channel": self.plan.name,
            "message_id": receipt.message_id,
            "correlation_id": receipt.correlation_id,
        }


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _accepted(receipt: Receipt) -> None:
    _answered(receipt, ACCEPT)


def _answered(receipt: Receipt, ack: Ack) -> Receipt:
    _resolve(receipt.committed, ack)
    _resolve(receipt.answer, ack)
    return receipt
