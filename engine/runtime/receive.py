"""Commit 1: bytes from a source become a recorded message, and only then a positive acknowledgement.

``Receiver`` is the ``receive`` of a channel without a reply. It returns a Receipt at once; the order of calls is the
order of ids and so of delivery. What is no message is recorded as ``refused`` and answered negatively. What came
before (``duplicates.py``) is recorded and gets the answer of the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from engine.config.plan import ChannelPlan
from engine.delivery import MessageState
from engine.envelope import ACCEPT, Ack, Envelope, Origin, Receipt, new_correlation_id
from engine.errors import DoesNotFit, MalformedMessage, StoreError
from engine.hl7.ack import ORIGINAL, Wanted, wanted
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.hl7.header import Header
from engine.hl7.message import Message
from engine.promise import Promise
from engine.runtime import content, lane_keys, patients
from engine.runtime.acknowledge import OWED, STORE_UNAVAILABLE, UNDECIDED, modes_of, recorded, refused_with
from engine.runtime.arrivals import Arrival
from engine.runtime.batches import Batches
from engine.runtime.coming import Coming
from engine.runtime.duplicates import DUPLICATE, Found, Seen
from engine.runtime.entries import Entries
from engine.runtime.parts import Parts
from engine.runtime.route import NOT_STORED, Router
from engine.runtime.routing import STEP_FAILED
from engine.store.base import Accept, NewDelivery, Operation

log = structlog.get_logger("engine.receive")

MALFORMED = Ack("reject", condition=100, location="MSH^1", cause="malformed")
STOPPED = Ack("reject", condition=207, cause="channel_stopped")
#: ``duplicates: {changed: refuse}``: understood, and refused for what MSH-10 says.
REUSED = Ack("error", condition=205, location="MSH^1^10", cause="control_id_reused")

RECEIVED, FAILED = MessageState.RECEIVED, MessageState.FAILED  # before 3.12 a member of an enumeration is a call away


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
        self._key_of = lane_keys.reader(plan.order, parts.store.lane_key)
        self._patients_of = patients.reader(plan.patients)
        #: Acks wait for more than commit 1.
        self._waits = plan.ack != "received"
        self._keeping: set[asyncio.Task[None]] = set()
        #: Messages whose commit 1 is under way, and those of them that the router gets then.
        self._committing = self._to_route = 0
        #: Set when there are none; made for who waits for that.
        self._settled: asyncio.Event | None = None
        #: Messages that came before, and messages under an MSH-10 that another one had.
        self.duplicates = self.reused = 0

    def __call__(self, body: bytes | bytearray, origin: Origin) -> Receipt:
        """Take one message in; see ``engine.envelope.Receive``."""
        receipt = Receipt(origin.correlation_id or new_correlation_id())
        if not self.open:
            return _answered(receipt, STOPPED)
        large = Bulk(body) if len(body) >= LARGE else None
        try:
            parsed = content.parse(large or bytes(body), origin, self.plan.charset)
        except MalformedMessage as error:
            return self._malformed(receipt, body, origin, error)
        coming = Coming(receipt, body, parsed, origin)
        if isinstance(parsed, Message):
            receipt.header = header = parsed.header
            if self.seen is not None and header.control_id:
                coming.control_id = header.control_id
                if self._is_known(self.seen, header, coming, large):
                    return receipt
        elif isinstance(parsed, bytes) and self._of_batch(receipt, body, origin):
            return receipt
        self._take(coming, large)
        return receipt

    async def drained(self) -> None:
        """Until commit 1 of everything that was taken in has ended, and the router has it."""
        while self._committing:
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        """Record what a source answered negatively by itself."""
        correlation_id = origin.correlation_id or new_correlation_id()
        log.info("message.refused", channel=self.plan.name, correlation_id=correlation_id, cause=code)
        self.entries.refuse(self.store.new_id(), correlation_id, body, origin, code)

    # -- what is no message ----------------------------------------------------------------------------------------

    def _malformed(self, receipt: Receipt, body: bytes | bytearray, origin: Origin, error: MalformedMessage) -> Receipt:
        if not self._of_batch(receipt, body, origin):
            receipt.message_id = self.store.new_id()
            log.warning("message.refused", **self._ids(receipt), cause="malformed", offset=error.offset)
            self._refuse(receipt, bytes(body[:LARGE]), origin, MALFORMED, "AR")
        return receipt

    def _refuse(self, receipt: Receipt, body: bytes, origin: Origin, ack: Ack, word: str) -> None:
        self.entries.refuse(receipt.message_id, receipt.correlation_id, body, origin, ack.cause, word)
        receipt.settle(ack)

    def _of_batch(self, receipt: Receipt, body: bytes | bytearray, origin: Origin) -> bool:
        """Whether what is no message is a batch, or a broken message inside of one; that is seen to then."""
        if self.batches is None:
            return False
        if origin.batch:
            self.batches.keep_failed(receipt, bytes(body), origin)
        elif (taken := self.batches.begin(receipt, body, origin)) is not None:
            self._committing += 1
            self._spawn(self.batches.run(taken, self._over))
        return bool(origin.batch) or receipt.batch

    # -- whether it came before ------------------------------------------------------------------------------------

    def _is_known(self, seen: Seen, header: Header, coming: Coming, large: Bulk | None) -> bool:
        """Whether all is done, or going to be, of a message with an MSH-10. If not, it is coming from now on."""
        if large is not None:
            self._committing += 1
            seen.look(coming)
            self._spawn(self._look(seen, header, coming, large))
            return True
        try:
            found = seen.find(header, coming)
            if found is None:
                return False
            if found.same:
                self._again(found, coming)
                return True
        except StoreError:
            # Whether it came before cannot be known: its sender keeps it and asks again.
            log.error("message.not_stored", **self._ids(coming.receipt), cause="store_unavailable")
            _answered(coming.receipt, STORE_UNAVAILABLE)
            return True
        return self._is_refused(seen, found, coming)

    async def _look(self, seen: Seen, header: Header, looking: Coming, large: Bulk) -> None:
        """Whether a large message came before takes a while to see; one that comes meanwhile finds it coming."""
        coming = Coming(looking.receipt, looking.body, looking.parsed, looking.origin)
        coming.control_id = looking.control_id
        try:
            found = await seen.find_large(header, looking)
            if found is not None and found.same:
                self._again(found, coming)
            elif found is None or not self._is_refused(seen, found, coming):
                if found is None:
                    seen.begin(coming)
                self._take(coming, large)
        except StoreError:
            log.error("message.not_stored", **self._ids(looking.receipt), cause="store_unavailable")
            _answered(looking.receipt, STORE_UNAVAILABLE)
        finally:
            seen.end(looking)
            self._over()

    def _is_refused(self, seen: Seen, first: Found, coming: Coming) -> bool:
        """Whether the channel refuses other messages under the MSH-10 of an earlier one. If not, it is coming now."""
        receipt, policy = coming.receipt, seen.plan.changed
        self.reused += 1
        log.warning("message.control_id_reused", **self._ids(receipt), first=first.first, handled=policy)
        if policy != "refuse":
            coming.parked = policy == "park"
            seen.begin(coming)
            return False
        self.received += 1
        receipt.message_id = self.store.new_id()
        word = refused_with(modes_of(receipt.header, coming.origin.source), REUSED)
        self._refuse(receipt, bytes(coming.body[:LARGE]), coming.origin, REUSED, word)
        return True

    # -- commit 1 --------------------------------------------------------------------------------------------------

    def _take(self, coming: Coming, large: Bulk | None) -> None:
        self.received += 1
        self._committing += 1
        if large is None:
            self._submit(coming, bytes(coming.body))
        else:
            self._spawn(self._keep(coming, large))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{self.plan.name}: large message")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

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
        """The id is the message's place in the order."""
        receipt, origin, now = coming.receipt, coming.origin, self.clock.time()
        header = receipt.header
        receipt.message_id = message_id = self.store.new_id()
        modes = wanted(header) if header is not None and origin.source == "mllp" else ORIGINAL
        # Read before any step changes it.
        key, patients_of = self._key_of(coming.parsed), self._patients_of(coming.parsed, origin.query)
        if self._waits:
            self.acks.wait(message_id, receipt)
        state, cause, word = RECEIVED, "", ""
        if coming.parked:
            # Kept, shown as failed, and not routed until a person says so.
            state, cause = FAILED, REUSED.cause
            self._decide(coming, modes, REUSED if self._waits else ACCEPT)
        else:
            word = self.acks.at_commit_1(modes)
            if word == OWED and not self._waits:
                self._decide(coming, modes, ACCEPT)
            self._route(coming, key, now, large=not isinstance(body, bytes))
        at, deliveries = 0.0, tuple[NewDelivery, ...]()
        if coming.routed is not None:
            route = coming.routed.route
            state, cause, at, deliveries = route.state, route.cause, route.at, route.deliveries
        coming.accept = Accept(
            message_id,
            self.plan.name,
            receipt.correlation_id,
            now,
            body,
            "" if header is None else header.control_id,
            "" if header is None else header.kind.message_type,
            key,
            state,
            cause,
            word,
            origin.record,
            patients_of,
            at,
            deliveries,
        )
        self._commit(coming)

    def _decide(self, coming: Coming, modes: Wanted, ack: Ack) -> None:
        receipt = coming.receipt
        coming.decided = self.acks.decide(receipt.message_id, receipt.correlation_id, modes, ack, receipt.header)

    def _route(self, coming: Coming, key: str, now: float, *, large: bool) -> None:
        """What becomes of it, where that is known at once; otherwise the router is to see to it."""
        receipt, parsed = coming.receipt, coming.parsed
        message_id, correlation_id = receipt.message_id, receipt.correlation_id
        envelope = Envelope(parsed, coming.origin, correlation_id, self.plan.name, message_id, now)
        if receipt.header is None and not isinstance(parsed, bytes):
            envelope.request = parsed
        coming.arrival = Arrival(message_id, correlation_id, key, envelope, self._waits, large, receipt.header)
        if not large and not self._to_route:
            coming.routed = self.router.straight(coming.arrival)
        if coming.routed is None:
            self._to_route += 1

    def _commit(self, coming: Coming) -> None:
        operations: list[Operation] = [coming.accept]
        if coming.decided is not None:
            operations.append(coming.decided.operation)
        if coming.routed is not None:
            operations += coming.routed.beside
        self.router.pressure.commit(operations, partial(self._committed, coming))

    def _committed(self, coming: Coming, error: StoreError | None) -> None:
        routed = coming.routed
        if error is not None:
            if routed is not None and isinstance(error, DoesNotFit):
                self._keep_failed(coming)
            else:
                self._unstored(coming)
            return
        self._ended(coming)
        if routed is not None:
            self.router.committed(routed)
        elif coming.arrival is not None:
            self.router.push(coming.arrival)
        if coming.decided is not None:
            self.acks.committed(coming.decided)
        receipt = coming.receipt
        if self._waits:
            receipt.accept(ACCEPT)
        elif delay := self.router.pressure.wait():
            self.router.pressure.later(delay, partial(receipt.settle, ACCEPT))
        else:
            receipt.settle(ACCEPT)

    def _keep_failed(self, coming: Coming) -> None:
        """What became of it does not fit what is stored: the message alone is kept, for a person to see."""
        receipt, accept, word = coming.receipt, coming.accept, ""
        log.error("route.refused", **self._ids(receipt))
        coming.arrival = coming.routed = None
        modes = modes_of(receipt.header, coming.origin.source)
        if self._waits:
            self._decide(coming, modes, STEP_FAILED)
        else:
            word = self.acks.at_commit_1(modes)
        coming.accept = replace(accept, state=FAILED, cause=NOT_STORED, ack=word, at=0.0, deliveries=())
        self._commit(coming)

    def _unstored(self, coming: Coming) -> None:
        self._ended(coming)
        log.error("message.not_stored", **self._ids(coming.receipt), cause="store_unavailable")
        self.acks.forget(coming.receipt.message_id)
        _answered(coming.receipt, STORE_UNAVAILABLE)

    def _ended(self, coming: Coming) -> None:
        if self.seen is not None and coming.control_id:
            self.seen.end(coming)
        if coming.routed is None and coming.arrival is not None:
            self._to_route -= 1
        self._over()

    def _over(self) -> None:
        self._committing -= 1
        if self._settled is not None and not self._committing:
            self._settled.set()
            self._settled = None

    # -- a message that came before --------------------------------------------------------------------------------

    def _again(self, found: Found, coming: Coming) -> Receipt:
        """The answer of the first one, as soon as that has one. Nothing is delivered. Raises StoreError."""
        receipt, row, told = coming.receipt, found.row, None
        if row is not None and row.ack in UNDECIDED:
            self.acks.resume(row)
        elif row is not None:
            modes = modes_of(receipt.header, coming.origin.source)
            told = self.acks.told(row, modes)
            self.acks.again(row, modes)
        self.duplicates += 1
        receipt.message_id = self.store.new_id()
        receipt.correlation_id = found.correlation_id
        log.info("message.duplicate", **self._ids(receipt), first=found.first)
        receipt.answer.add_done_callback(partial(self._record_again, found, coming, self.clock.time()))
        if found.receipt is not None:
            _follow(found.receipt, receipt)
            return receipt
        receipt.accept(ACCEPT)
        if told is not None:
            receipt.finish(told)
        else:
            self.acks.wait(found.first, receipt)
        return receipt

    def _record_again(self, found: Found, coming: Coming, came_at: float, answer: Promise[Any]) -> None:
        receipt, origin, header = coming.receipt, coming.origin, coming.receipt.header
        if receipt.accepted is None or not receipt.accepted.positive:
            return  # the first one was not stored either
        accept = self.entries.accept(
            receipt,
            b"",  # those of the first one, which are kept once
            origin,
            control_id=coming.control_id,
            message_type=header.message_type if header is not None else "",
            state=MessageState.FILTERED,
            cause=f"{DUPLICATE}{found.first}",
            ack=recorded(modes_of(header, origin.source), answer.result()),
            patients=self._patients_of(coming.parsed, origin.query),
        )
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


def _answered(receipt: Receipt, ack: Ack) -> Receipt:
    receipt.settle(ack)
    return receipt
