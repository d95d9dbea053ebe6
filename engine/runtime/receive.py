"""Commit 1: bytes from a source become a recorded message, and only then a positive acknowledgement.

``Receiver`` is the ``receive`` of a channel without a reply. It returns a Receipt at once; the order of calls is the
order of ids and so of delivery. What is no message is recorded as ``refused`` and answered negatively. What came
before (``duplicates.py``) is recorded and gets the answer of the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from engine.config.plan import ChannelPlan
from engine.delivery import MessageState
from engine.envelope import ACCEPT, Ack, Origin, Receipt, new_correlation_id
from engine.errors import DoesNotFit, MalformedMessage, StoreError
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.hl7.message import Message
from engine.promise import Promise
from engine.runtime import content, lane_keys
from engine.runtime.acknowledge import OWED, STORE_UNAVAILABLE, UNDECIDED, Decided, modes_of, recorded, refused_with
from engine.runtime.arrivals import Arrival
from engine.runtime.batches import Batches
from engine.runtime.duplicates import DUPLICATE, Found, Seen, UnderWay
from engine.runtime.entries import Entries
from engine.runtime.parts import Parts
from engine.runtime.route import NOT_STORED, Router
from engine.runtime.routing import STEP_FAILED, Routed
from engine.store.base import Accept, Route

log = structlog.get_logger("engine.receive")

MALFORMED = Ack("reject", condition=100, location="MSH^1", cause="malformed")
STOPPED = Ack("reject", condition=207, cause="channel_stopped")
#: ``duplicates: {changed: refuse}``: understood, and refused for what MSH-10 says.
REUSED = Ack("error", condition=205, location="MSH^1^10", cause="control_id_reused")


@dataclass(slots=True)
class Coming:
    """A message whose commit 1 is under way."""

    receipt: Receipt
    parsed: Any = field(repr=False)
    origin: Origin
    begun: UnderWay | None
    #: It is kept for a person to route.
    parked: bool
    #: It waits for the router then, unless ``routed`` says what became of it.
    arrival: Arrival | None = None
    routed: Routed | None = None
    #: Its ack, where that is decided by commit 1 and goes out on a connection of its own.
    decided: Decided | None = None
    #: Commit 1 but for what became of it.
    accept: Callable[..., Accept] = field(init=False, repr=False)


class Receiver:
    """Takes messages in for one channel."""

    def __init__(self, plan: ChannelPlan, parts: Parts, router: Router) -> None:
        self.plan, self.parts, self.store, self.clock = plan, parts, parts.store, parts.clock
        self.router, self.acks = router, router.acks
        self.entries = Entries(plan, parts)
        self.seen = Seen(plan.duplicates, plan.name, parts) if plan.duplicates is not None else None
        self.batches = Batches(plan, plan.batch, self.entries, self) if plan.batch is not None else None
        self.open = True
        self.received = 0
        self._keeping: set[asyncio.Task[None]] = set()
        #: Messages whose commit 1 is under way, and those of them that the router gets then.
        self._committing = self._to_route = 0
        self._settled = asyncio.Event()
        self._settled.set()
        #: Messages that came before, and messages under an MSH-10 that another one had.
        self.duplicates = self.reused = 0

    def __call__(self, body: bytes | bytearray, origin: Origin) -> Receipt:
        """Take one message in; see ``engine.envelope.Receive``."""
        correlation_id = origin.correlation_id or new_correlation_id()
        receipt = Receipt(correlation_id)
        if not self.open:
            return _answered(receipt, STOPPED)
        large = Bulk(body) if len(body) >= LARGE else None
        try:
            parsed = content.parse(large or bytes(body), origin, self.plan.charset)
        except MalformedMessage as error:
            if self._of_batch(receipt, body, origin):
                return receipt
            receipt.message_id = self.store.new_id()
            log.warning("message.refused", **self._ids(receipt), cause="malformed", offset=error.offset)
            self.entries.refuse(receipt.message_id, correlation_id, bytes(body[:LARGE]), origin, "malformed", "AR")
            return _answered(receipt, MALFORMED)
        if isinstance(parsed, Message):
            receipt.header = parsed.header
        elif isinstance(parsed, bytes) and self._of_batch(receipt, body, origin):
            return receipt
        if large is not None and self.seen is not None and isinstance(parsed, Message) and parsed.control_id:
            self._begun()
            begun = self.seen.begin(parsed.control_id, body, receipt, looks=True)
            self._spawn(self._look(self.seen, begun, parsed, large, origin))
            return receipt
        try:
            found = self.seen.find(parsed, body) if self.seen is not None and isinstance(parsed, Message) else None
            if found is not None and found.same:
                return self._again(found, receipt, parsed, origin)
        except StoreError:
            # Whether it came before cannot be known: its sender keeps it and asks again.
            log.error("message.not_stored", **self._ids(receipt), cause="store_unavailable")
            return _answered(receipt, STORE_UNAVAILABLE)
        self.received += 1
        return self._first(receipt, parsed, body if large is None else large, origin, found)

    async def drained(self) -> None:
        """Until commit 1 of everything that was taken in has ended, and the router has it."""
        await self._settled.wait()

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        """Record what a source answered negatively by itself."""
        correlation_id = origin.correlation_id or new_correlation_id()
        log.info("message.refused", channel=self.plan.name, correlation_id=correlation_id, cause=code)
        self.entries.refuse(self.store.new_id(), correlation_id, body, origin, code)

    def _of_batch(self, receipt: Receipt, body: bytes | bytearray, origin: Origin) -> bool:
        """Whether what is no message is a batch, or a broken message inside of one; that is seen to then."""
        if self.batches is None:
            return False
        if origin.batch:
            self.batches.keep_failed(receipt, bytes(body), origin)
        elif (taken := self.batches.begin(receipt, body, origin)) is not None:
            self._begun()
            self._spawn(self.batches.run(taken, self._over))
        return bool(origin.batch) or receipt.batch

    # -- a message that did not come before ------------------------------------------------------------------------

    def _first(
        self, receipt: Receipt, parsed: Any, body: bytes | bytearray | Bulk, origin: Origin, reused: Found | None
    ) -> Receipt:
        parked = False
        if reused is not None and self.seen is not None:
            self.reused += 1
            policy = self.seen.plan.changed
            log.warning("message.control_id_reused", **self._ids(receipt), first=reused.first, handled=policy)
            if policy == "refuse":
                receipt.message_id = self.store.new_id()
                word = refused_with(modes_of(receipt.header, origin.source), REUSED)
                kept = bytes(body.data[:LARGE] if isinstance(body, Bulk) else body)
                self.entries.refuse(receipt.message_id, receipt.correlation_id, kept, origin, REUSED.cause, word)
                return _answered(receipt, REUSED)
            parked = policy == "park"
        begun = None
        if self.seen is not None and receipt.header is not None and (control_id := receipt.header.control_id):
            begun = self.seen.begin(control_id, body.data if isinstance(body, Bulk) else body, receipt)
        self._begun()
        coming = Coming(receipt, parsed, origin, begun, parked)
        if isinstance(body, Bulk):
            self._spawn(self._keep(coming, body))
        else:
            self._submit(coming, bytes(body))
        return receipt

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{self.plan.name}: large message")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _look(self, seen: Seen, begun: UnderWay, parsed: Message, large: Bulk, origin: Origin) -> None:
        """Whether a large message came before takes a while to see; one that comes meanwhile finds it under way."""
        receipt = begun.receipt
        try:
            found = await seen.find_large(parsed, begun)
            if found is not None and found.same:
                self._again(found, receipt, parsed, origin)
            else:
                self.received += 1
                self._first(receipt, parsed, large, origin, found)
        except StoreError:
            log.error("message.not_stored", **self._ids(receipt), cause="store_unavailable")
            _answered(receipt, STORE_UNAVAILABLE)
        finally:
            seen.end(begun)
            self._over()

    async def _keep(self, coming: Coming, large: Bulk) -> None:
        """Write a large body before the message takes its place in the order; its sender sends no other meanwhile."""
        body = Pieces([Slice(large, 0, len(large))])
        try:
            large.place = (await self.store.keep(body)).place
        except StoreError:
            self._unstored(coming)
        else:
            self._submit(coming, body)

    def _submit(self, coming: Coming, body: bytes | Pieces) -> None:
        """Commit 1. The id is the message's place in the order."""
        receipt, parsed, origin = coming.receipt, coming.parsed, coming.origin
        receipt.message_id = self.store.new_id()
        modes, waits = modes_of(receipt.header, origin.source), self.plan.ack != "received"
        key = lane_keys.key_of(self.plan.order, parsed, self.store.lane_key)
        about = (receipt.message_id, receipt.correlation_id, modes)
        coming.accept = partial(
            self.entries.accept, receipt, body, origin, key=key, **self.entries.facts(receipt.header, parsed, origin)
        )
        if waits:
            self.acks.wait(receipt.message_id, receipt)
        if coming.parked:
            # Kept, shown as failed, and not routed until a person says so.
            coming.decided = self.acks.decide(*about, REUSED if waits else ACCEPT, receipt.header)
            accepted = coming.accept(state=MessageState.FAILED, cause=REUSED.cause)
        else:
            word = self.acks.at_commit_1(modes)
            if word == OWED and not waits:
                coming.decided = self.acks.decide(*about, ACCEPT, receipt.header)
            route = self._route(coming, key, waits, large=isinstance(body, Pieces))
            accepted = coming.accept(ack=word, route=route)
        self._commit(coming, accepted)

    def _commit(self, coming: Coming, accepted: Accept) -> None:
        beside = [] if coming.decided is None else [coming.decided.operation]
        if coming.routed is not None:
            beside += coming.routed.beside
        self.store.submit(accepted, *beside).add_done_callback(partial(self._committed, coming))

    def _route(self, coming: Coming, key: str, waits: bool, *, large: bool) -> Route | None:
        """What becomes of it, where that is known at once; otherwise the router is to see to it."""
        receipt = coming.receipt
        envelope = self.entries.envelope(receipt, coming.parsed, coming.origin)
        coming.arrival = arrival = Arrival(
            receipt.message_id, receipt.correlation_id, key, envelope, waits, large, receipt.header
        )
        if not large and not self._to_route:
            coming.routed = self.router.straight(arrival)
        if coming.routed is not None:
            return coming.routed.route
        self._to_route += 1
        return None

    def _committed(self, coming: Coming, outcome: Promise[None]) -> None:
        receipt = coming.receipt
        if (error := outcome.exception()) is not None:
            if coming.routed is not None and isinstance(error, DoesNotFit):
                self._keep_failed(coming)
            else:
                self._unstored(coming)
            return
        self._ended(coming)
        if coming.routed is not None:
            self.router.committed(coming.routed)
        elif coming.arrival is not None:
            self.router.push(coming.arrival)
        if coming.decided is not None:
            self.acks.committed(coming.decided)
        if self.plan.ack != "received":
            receipt.accept(ACCEPT)
            return
        if delay := self.router.pressure():
            asyncio.get_running_loop().call_later(delay, _accepted, receipt)
        else:
            _accepted(receipt)

    def _keep_failed(self, coming: Coming) -> None:
        """What became of it does not fit what is stored: the message alone is kept, for a person to see."""
        receipt = coming.receipt
        log.error("route.refused", **self._ids(receipt))
        coming.arrival = coming.routed = None
        modes, word = modes_of(receipt.header, coming.origin.source), ""
        if self.plan.ack == "received":
            word = self.acks.at_commit_1(modes)
        else:
            about = (receipt.message_id, receipt.correlation_id, modes)
            coming.decided = self.acks.decide(*about, STEP_FAILED, receipt.header)
        self._commit(coming, coming.accept(state=MessageState.FAILED, cause=NOT_STORED, ack=word))

    def _unstored(self, coming: Coming) -> None:
        self._ended(coming)
        log.error("message.not_stored", **self._ids(coming.receipt), cause="store_unavailable")
        self.acks.forget(coming.receipt.message_id)
        _answered(coming.receipt, STORE_UNAVAILABLE)

    def _ended(self, coming: Coming) -> None:
        if coming.begun is not None and self.seen is not None:
            self.seen.end(coming.begun)
        if coming.arrival is not None and coming.routed is None:
            self._to_route -= 1
        self._over()

    def _begun(self) -> None:
        self._committing += 1
        self._settled.clear()

    def _over(self) -> None:
        self._committing -= 1
        if not self._committing:
            self._settled.set()

    # -- a message that came before --------------------------------------------------------------------------------

    def _again(self, found: Found, receipt: Receipt, parsed: Message, origin: Origin) -> Receipt:
        """The answer of the first one, as soon as that has one. Nothing is delivered. Raises StoreError."""
        row, told = found.row, None
        if row is not None and row.ack in UNDECIDED:
            self.acks.resume(row)
        elif row is not None:
            modes = modes_of(receipt.header, origin.source)
            told = self.acks.told(row, modes)
            self.acks.again(row, modes)
        self.duplicates += 1
        receipt.message_id = self.store.new_id()
        receipt.correlation_id = found.correlation_id
        log.info("message.duplicate", **self._ids(receipt), first=found.first)
        receipt.answer.add_done_callback(partial(self._record_again, found, receipt, parsed, origin, self.clock.time()))
        if found.receipt is not None:
            _follow(found.receipt, receipt)
            return receipt
        receipt.accept(ACCEPT)
        if told is not None:
            receipt.finish(told)
        else:
            self.acks.wait(found.first, receipt)
        return receipt

    def _record_again(
        self,
        found: Found,
        receipt: Receipt,
        parsed: Message,
        origin: Origin,
        came_at: float,
        answer: Promise[Any],
    ) -> None:
        if receipt.accepted is None or not receipt.accepted.positive:
            return  # the first one was not stored either
        word = recorded(modes_of(receipt.header, origin.source), answer.result())
        # Its bytes are those of the first one, which are kept once.
        cause = f"{DUPLICATE}{found.first}"
        facts = self.entries.facts(receipt.header, parsed, origin)
        accept = self.entries.accept(receipt, b"", origin, state=MessageState.FILTERED, cause=cause, ack=word, **facts)
        # It waited for the answer of the first one; ids rise with the times at which messages came.
        self.parts.record(replace(accept, received_at=came_at))

    def _ids(self, receipt: Receipt) -> dict[str, Any]:
        return {
            "channel": self.plan.name,
            "message_id": receipt.message_id,
            "correlation_id": receipt.correlation_id,
        }


def _follow(first: Receipt, second: Receipt) -> None:
    """What is told of the first is told of the second."""
    first.committed.add_done_callback(lambda told: second.accept(told.result()))
    first.answer.add_done_callback(lambda told: second.finish(told.result()))


def _accepted(receipt: Receipt) -> None:
    _answered(receipt, ACCEPT)


def _answered(receipt: Receipt, ack: Ack) -> Receipt:
    receipt.settle(ack)
    return receipt
