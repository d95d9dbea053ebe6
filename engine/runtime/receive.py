"""Commit 1: bytes from a source become a recorded message, and only then a positive acknowledgement.

``Receiver`` is the ``receive`` of a channel without a reply. It returns a Receipt at once; the order of calls is the
order of ids and so of delivery. What is no message is recorded as ``refused`` and answered negatively. What came
before (``duplicates.py``) is recorded and gets the answer of the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from engine.config.plan import ChannelPlan
from engine.delivery import MessageState
from engine.envelope import ACCEPT, Ack, Envelope, Origin, Receipt, new_correlation_id
from engine.errors import DoesNotFit, MalformedMessage, StoreError
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.hl7.message import Message
from engine.hl7.modes import ORIGINAL, Wanted
from engine.promise import told
from engine.runtime import content, reading
from engine.runtime.acknowledge import NONE, OWED, STORE_UNAVAILABLE, modes_of, refused_with
from engine.runtime.arrivals import Arrival
from engine.runtime.batches import Batches
from engine.runtime.coming import Coming
from engine.runtime.duplicates import Found, Seen
from engine.runtime.entries import Entries
from engine.runtime.parts import Parts
from engine.runtime.repeats import Repeats
from engine.runtime.route import NOT_STORED, Router
from engine.runtime.routing import STEP_FAILED, Outcome
from engine.store.base import Accept, Operation

log = structlog.get_logger("engine.receive")

MALFORMED = Ack("reject", condition=100, location="MSH^1", cause="malformed")
STOPPED = Ack("reject", condition=207, cause="channel_stopped")
#: ``duplicates: {changed: refuse}``: understood, and refused for what MSH-10 says.
REUSED = Ack("error", condition=205, location="MSH^1^10", cause="control_id_reused")

RECEIVED, FAILED = MessageState.RECEIVED, MessageState.FAILED  # before 3.12 a member of an enumeration is a call away
#: Kept, shown as failed, and not routed until a person says so.
PARKED = Outcome(FAILED, (), REUSED.cause)
#: Its turn will come.
TO_ROUTE = Outcome(RECEIVED)
NO_EFFECTS: Sequence[Operation] = ()


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
        self._read = reading.reader(plan.order, plan.patients, parts.store.lane_key)
        self._opens = router.routing.opens
        #: Acks wait for more than commit 1.
        self._waits = plan.ack != "received"
        #: Acks follow from commit 1, and leave on the connection that the message came by.
        self._plain = not self._waits and plan.ack_to is None
        self._keeping: set[asyncio.Task[None]] = set()
        #: Messages whose commit 1 has ended, of those received; and what else is under way that takes some in.
        self._ended = self._spawned = 0
        #: Set when there are none; made for who waits for that.
        self._settled: asyncio.Event | None = None
        #: Who is to hear of what the commit has kept that is being told of.
        self._to_tell: list[Callable[[], object]] = []
        self.repeats = Repeats(self.entries, self.acks, self._read)
        #: Messages under an MSH-10 that another one had.
        self.reused = 0

    def __call__(self, body: bytes | bytearray, origin: Origin) -> Receipt:
        """Take one message in; see ``engine.envelope.Receive``."""
        coming = Coming(origin.correlation_id or "", body, origin, self.plan.name)
        if not self.open:
            return _answered(coming, STOPPED)
        raw: bytes | Bulk = bytes(body) if len(body) < LARGE else self._bulk(coming, body)
        try:
            coming.body = parsed = content.parse(raw, origin, self.plan.charset, split=self._opens)
        except MalformedMessage as error:
            return self._malformed(coming, body, error)
        if isinstance(parsed, Message):
            coming.header = header = parsed.header
            if self.seen is not None and header.control_id:
                coming.control_id = header.control_id
                if self._is_known(self.seen, coming, raw):
                    return coming
        elif not isinstance(parsed, bytes):
            coming.request = parsed
        elif self._of_batch(coming, body):
            return coming
        self.received += 1
        if isinstance(raw, bytes):
            self._submit(coming, raw)
        else:
            self._spawn(self._keep(coming, raw))
        return coming

    def _bulk(self, coming: Coming, body: bytes | bytearray) -> Bulk:
        coming.identify()  # the next one may be like it, before it has a place in the order
        return Bulk(body)

    async def drained(self) -> None:
        """Until commit 1 of everything that was taken in has ended, and the router has it."""
        while self._spawned or self.received > self._ended:
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()

    def refuse(self, origin: Origin, code: str, body: bytes = b"") -> None:
        """Record what a source answered negatively by itself."""
        message_id = self.store.new_id()
        correlation_id = origin.correlation_id or new_correlation_id(message_id)
        log.info("message.refused", channel=self.plan.name, correlation_id=correlation_id, cause=code)
        self.entries.refuse(message_id, correlation_id, body, origin, code)

    # -- what is no message ----------------------------------------------------------------------------------------

    def _malformed(self, coming: Coming, body: bytes | bytearray, error: MalformedMessage) -> Receipt:
        if not self._of_batch(coming, body):
            coming.message_id = self.store.new_id()
            log.warning("message.refused", **self._ids(coming), cause="malformed", offset=error.offset)
            self._refuse(coming, body, MALFORMED, "AR")
        return coming

    def _refuse(self, coming: Coming, body: bytes | bytearray, ack: Ack, word: str) -> None:
        kept = bytes(body[:LARGE])
        self.entries.refuse(coming.message_id, coming.correlation_id, kept, coming.origin, ack.cause, word)
        coming.settle(ack)

    def _of_batch(self, coming: Coming, body: bytes | bytearray) -> bool:
        """Whether what is no message is a batch, or a broken message inside of one; that is seen to then."""
        origin = coming.origin
        if self.batches is None:
            return False
        coming.identify()
        if origin.batch:
            self.batches.keep_failed(coming, bytes(body), origin)
        elif (taken := self.batches.begin(coming, body, origin)) is not None:
            self._spawned += 1
            self._spawn(self.batches.run(taken, self._over))
        return bool(origin.batch) or coming.batch

    # -- whether it came before ------------------------------------------------------------------------------------

    def _is_known(self, seen: Seen, coming: Coming, raw: bytes | Bulk) -> bool:
        """Whether all is done, or going to be, of a message with an MSH-10. If not, it is coming from now on."""
        try:
            if isinstance(raw, Bulk):
                seen.look(coming)
                self._spawned += 1
                self._spawn(self._look(seen, coming, raw))
                return True
            found = seen.find(coming)
            if found is None:
                return False
            if found.same:
                self.repeats.answer(found, coming)
                return True
        except StoreError:
            self._unknowable(coming)
            return True
        if self._is_refused(seen, found, coming):
            return True
        seen.begin(coming)
        return False

    async def _look(self, seen: Seen, coming: Coming, large: Bulk) -> None:
        """Whether a large message came before takes a while to see; one that comes meanwhile finds it coming."""
        is_new = False
        try:
            found = await seen.find_large(coming)
            if found is not None and found.same:
                self.repeats.answer(found, coming)
            elif found is None or not self._is_refused(seen, found, coming):
                is_new, coming.before = True, ()
                self.received += 1
                self._spawn(self._keep(coming, large))
        except StoreError:
            self._unknowable(coming)
        finally:
            if not is_new:
                seen.end(coming)
            self._over()

    def _unknowable(self, coming: Coming) -> None:
        """Whether it came before cannot be known: its sender keeps it and asks again."""
        log.error("message.not_stored", **self._ids(coming), cause="store_unavailable")
        coming.settle(STORE_UNAVAILABLE)

    def _is_refused(self, seen: Seen, first: Found, coming: Coming) -> bool:
        """Whether the channel refuses other messages under the MSH-10 of an earlier one."""
        policy = seen.plan.changed
        self.reused += 1
        log.warning("message.control_id_reused", **self._ids(coming), first=first.first, handled=policy)
        if policy != "refuse":
            coming.parked = policy == "park"
            return False
        self.received += 1
        self._ended += 1
        coming.message_id = self.store.new_id()
        word = refused_with(modes_of(coming.header, coming.origin.source), REUSED)
        self._refuse(coming, coming.raw or b"", REUSED, word)
        return True

    # -- commit 1 --------------------------------------------------------------------------------------------------

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
        coming.message_id = message_id = self.store.new_id()
        if not coming.correlation_id:
            coming.correlation_id = new_correlation_id(message_id)
        coming.received_at = now = self.clock.time()
        header, origin, control_id, kind, modes = coming.header, coming.origin, "", "", ORIGINAL
        if header is not None:
            control_id, kind = header.control_id, header.kind.message_type
            if origin.source == "mllp":
                modes = header.kind.wanted
        coming.wanted = modes
        # Read before any step changes it.
        key, patients = self._read(coming.body, origin.query)
        # What follows from commit 1 alone is plain in most channels.
        word = modes.well or NONE if self._plain and not coming.parked else self._decide(coming, modes)
        if coming.parked:
            outcome = PARKED
        elif self.router.is_free and type(body) is bytes:
            outcome = self.router.straight(coming, key) or self._later(coming, key, None)
        else:
            outcome = self._later(coming, key, coming, large=type(body) is not bytes)
        state, deliveries, cause, effects = outcome
        at = 0.0 if outcome is TO_ROUTE or outcome is PARKED else now
        if at and self._waits:
            coming.decided = self.router.routing.decided(coming, outcome, modes, header)
        coming.entry = Accept(
            message_id,
            self.plan.name,
            coming.correlation_id,
            now,
            body,
            control_id,
            kind,
            key,
            state,
            cause,
            word,
            origin.record,
            patients,
            at,
            deliveries,
        )
        if coming.arrival is None:
            coming.body = None  # at once: the memory of its fields, still at hand, is that of the next one's
        self._commit(coming, effects)

    def _later(self, coming: Coming, key: str, envelope: Envelope | None, *, large: bool = False) -> Outcome:
        """The router sees to it after commit 1. Without an ``envelope`` it is read back from the store."""
        about = (coming.message_id, coming.correlation_id, key, envelope)
        coming.arrival = Arrival(*about, self._waits, large, coming.header)
        self.router.expect()
        return TO_ROUTE

    def _decide(self, coming: Coming, modes: Wanted) -> str:
        """What commit 1 records of its ack, where that may wait for more or goes out on a connection of its own."""
        word = ""
        if self._waits:
            self.acks.wait(coming.message_id, coming)
        if not coming.parked:
            word = self.acks.at_commit_1(modes)
        if coming.parked or (word == OWED and not self._waits):
            self._note(coming, modes, REUSED if coming.parked and self._waits else ACCEPT)
        return word

    def _note(self, coming: Coming, modes: Wanted, ack: Ack) -> None:
        coming.decided = self.acks.decide(coming.message_id, coming.correlation_id, modes, ack, coming.header)

    def _commit(self, coming: Coming, effects: Sequence[Operation] = NO_EFFECTS) -> None:
        operations: list[Operation] = [coming.entry]
        if effects:
            operations += effects
        if coming.decided is not None:
            operations.append(coming.decided.operation)
        self.router.pressure.commit(operations, partial(self._committed, coming))

    def _committed(self, coming: Coming, error: StoreError | None) -> None:
        if error is not None:
            self._refused_by_the_store(coming, error)
            return
        entry, arrival = coming.entry, coming.arrival
        self._end(coming)
        if arrival is not None or self._waits:
            coming.let_go()
        if arrival is not None:
            self.router.push(arrival)
        elif entry.at:
            self.router.took(entry)
        if coming.decided is not None:
            self.acks.committed(coming.decided)
        elif self._waits and entry.at:
            self.router.watch(entry, coming.wanted or ORIGINAL)
        if self._waits:
            coming.note(ACCEPT)
        elif delay := self.router.pressure.wait():
            self.router.pressure.later(delay, partial(coming.settle, ACCEPT))
            return
        else:
            coming.note(ACCEPT, ACCEPT)
        if coming.listener is not None:
            if not self._to_tell:
                self.store.afterwards(self._tell)
            self._to_tell.append(coming.listener)

    def _tell(self) -> None:
        """Each sender is told once of all that one commit has kept."""
        listeners, self._to_tell = self._to_tell, []
        for listener in dict.fromkeys(listeners):
            told(listener)

    def _refused_by_the_store(self, coming: Coming, error: StoreError) -> None:
        if coming.entry.at and isinstance(error, DoesNotFit):
            self._keep_failed(coming)
        else:
            self._unstored(coming)

    def _keep_failed(self, coming: Coming) -> None:
        """What became of it does not fit what is stored: the message alone is kept, for a person to see."""
        word = ""
        self.router.not_stored += 1
        log.error("route.refused", **self._ids(coming))
        coming.decided = None
        modes = modes_of(coming.header, coming.origin.source)
        if self._waits:
            self._note(coming, modes, STEP_FAILED)
        else:
            word = self.acks.at_commit_1(modes)
        coming.entry = replace(coming.entry, state=FAILED, cause=NOT_STORED, ack=word, at=0.0, deliveries=())
        self._commit(coming)

    def _unstored(self, coming: Coming) -> None:
        self._end(coming)
        log.error("message.not_stored", **self._ids(coming), cause="store_unavailable")
        self.acks.forget(coming.message_id)
        coming.settle(STORE_UNAVAILABLE)

    def _end(self, coming: Coming) -> None:
        """Commit 1 has ended, well or not."""
        if coming.control_id and self.seen is not None:
            self.seen.end(coming)
        if coming.arrival is not None:
            self.router.expected()
        self._ended += 1
        if self._settled is not None:
            self._settle()

    def _over(self) -> None:
        """What was spawned has ended, but for what it has submitted."""
        self._spawned -= 1
        if self._settled is not None:
            self._settle()

    def _settle(self) -> None:
        if self._settled is not None and not self._spawned and self.received == self._ended:
            self._settled.set()
            self._settled = None

    def _ids(self, receipt: Receipt) -> dict[str, Any]:
        return {
            "channel": self.plan.name,
            "message_id": receipt.message_id,
            "correlation_id": receipt.identify(),
        }


def _answered(receipt: Receipt, ack: Ack) -> Receipt:
    receipt.settle(ack)
    return receipt
