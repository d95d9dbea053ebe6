"""Commit 3: the lanes of one destination, and what becomes of each delivery.

A lane is (destination, ordering key): first in, first out. ``connections`` workers take the heads of lanes that are
ready; a lane is never worked on twice at once. The outcome of a send is committed before its lane moves on (the
connection serves other lanes meanwhile), so after a crash at most the sends in flight, and those whose outcome was
being committed, are repeated. Bodies stay in the store until they are sent.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from engine.config.plan import DestinationPlan
from engine.delivery import DeliveryState
from engine.destinations.base import Outgoing, Response
from engine.errors import DeliveryError, Evidence, Rejected, StoreError, Unanswered, Unavailable
from engine.runtime.clock import Clock
from engine.runtime.faults import where
from engine.runtime.retry import Decision, decide
from engine.runtime.secret import hashed_members
from engine.store.base import DeliveryRow, NewDelivery, Operation, Route, Sending, Settle, Store

log = structlog.get_logger("engine.deliver")

#: Seconds before an outcome that could not be committed is offered to the store again.
RETRY = 1.0


@dataclass(slots=True, order=True)
class Item:
    """A delivery that waits in a lane; its bytes are in the store."""

    delivery_id: int
    message_id: int = field(compare=False)
    key: str = field(compare=False, repr=False)
    correlation_id: str = field(compare=False)
    control_id: str = field(compare=False)
    content_type: str = field(compare=False)
    created_at: float = field(compare=False)
    attempts: int = field(compare=False, default=0)
    next_at: float = field(compare=False, default=0.0)
    held: bool = field(compare=False, default=False)
    #: Kept while few wait, so that the common case reads nothing back.
    body: bytes | None = field(compare=False, default=None, repr=False)

    @classmethod
    def of(cls, new: NewDelivery, route: Route) -> Item:
        """The item of a delivery that was just committed."""
        return cls(
            new.delivery_id,
            route.message_id,
            new.key,
            route.correlation_id,
            new.control_id,
            new.content_type,
            route.at,
            held=new.state is DeliveryState.HELD,
            body=new.body or None,
        )

    @classmethod
    def from_row(cls, row: DeliveryRow) -> Item:
        """The item of a stored delivery."""
        return cls(
            row.delivery_id,
            row.message_id,
            row.key,
            row.correlation_id,
            row.control_id,
            row.content_type,
            row.created_at,
            row.attempts,
            row.next_at,
            row.state is DeliveryState.HELD,
        )


#: Bodies kept in memory per destination.
KEPT = 1000


class Lanes:
    """The deliveries owed to one destination."""

    def __init__(self, channel: str, plan: DestinationPlan, store: Store, clock: Clock, salt: bytes = b"") -> None:
        self.channel, self.plan, self.store, self.clock, self.salt = channel, plan, store, clock, salt
        self.waiting = 0
        self.sending = 0
        self.delivered = 0
        self.last_error = ""
        #: Called with (delivery id, delivered?) when a delivery has settled for good or waits for a person.
        self.settled: Callable[[int, bool], None] = lambda _delivery_id, _delivered: None
        self._lanes: dict[str, deque[Item]] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        #: Keys that are in ``_ready`` or with a worker or waiting for a timer.
        self._busy: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._finishing = False
        #: Sends under way or waiting for their commit: so many may come twice after a crash.
        self._room = asyncio.Semaphore(2 * plan.connections if plan.connections > 1 else 1)
        self._quiet = asyncio.Event()
        self._quiet.set()

    # -- what comes in ---------------------------------------------------------------------------------------------

    def push(self, item: Item) -> None:
        """Append a delivery to its lane; calls come in the order of commit 1."""
        if self.waiting >= KEPT:
            item.body = None
        self._lanes.setdefault(item.key, deque()).append(item)
        self.waiting += 1
        self._offer(item.key)

    def insert(self, item: Item) -> None:
        """Put a delivery that a person sends again at the place its id gives it; a held head is released."""
        lane = self._lanes.setdefault(item.key, deque())
        present = next((other for other in lane if other.delivery_id == item.delivery_id), None)
        if present is not None:
            present.held, present.next_at, present.body = False, 0.0, None
            present.control_id, present.content_type = item.control_id, item.content_type
        else:
            ordered = list(lane)
            insort(ordered, item)
            self._lanes[item.key] = deque(ordered)
            self.waiting += 1
        timer = self._timers.pop(item.key, None)
        if timer is not None:
            timer.cancel()
            self._busy.discard(item.key)
        self._offer(item.key)

    def remove(self, key: str, delivery_id: int) -> None:
        """Take a delivery out (a person discarded it); the lane goes on without it."""
        lane = self._lanes.get(key)
        if lane is None:
            return
        kept = deque(item for item in lane if item.delivery_id != delivery_id)
        self.waiting -= len(lane) - len(kept)
        self._lanes[key] = kept
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
            self._busy.discard(key)
        self._offer(key)

    def remove_all(self, delivery_ids: Collection[int]) -> set[int]:
        """Take many out; gives those that were, and leaves what is being sent."""
        removed: set[int] = set()
        for key in list(self._lanes):
            lane = self._lanes[key]
            gone = {
                item.delivery_id
                for item in lane
                if item.delivery_id in delivery_ids and not self.in_flight(key, item.delivery_id)
            }
            if gone:
                self._lanes[key] = deque(item for item in lane if item.delivery_id not in gone)
                self.waiting -= len(gone)
                removed |= gone
                timer = self._timers.pop(key, None)
                if timer is not None:
                    timer.cancel()
                    self._busy.discard(key)
                self._offer(key)
        return removed

    def in_flight(self, key: str, delivery_id: int) -> bool:
        """Whether a worker is sending this delivery right now."""
        lane = self._lanes.get(key)
        head = lane[0] if lane else None
        return head is not None and head.delivery_id == delivery_id and key in self._busy and key not in self._timers

    def recover(self) -> int:
        """Fill the lanes with what an earlier run left; returns how many."""
        last, found = 0, 0
        while rows := self.store.queued(self.channel, self.plan.name, last, 1000):
            for row in rows:
                self.push(Item.from_row(row))
            last, found = rows[-1].delivery_id, found + len(rows)
        return found

    def _offer(self, key: str) -> None:
        """Let a worker have the lane if its head may go now; else wake up when it may."""
        lane = self._lanes.get(key)
        if not lane:
            self._lanes.pop(key, None)
            return
        if key in self._busy or lane[0].held:
            return
        self._busy.add(key)
        delay = lane[0].next_at - self.clock.time()
        if delay > 0:
            self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)
        else:
            self._ready.put_nowait(key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self._ready.put_nowait(key)

    # -- the workers -----------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """One connection's worth of sending, until cancelled or told to finish."""
        while True:
            key = await self._ready.get()
            if self._finishing:
                return
            lane = self._lanes.get(key)
            if not lane or lane[0].held:
                self._free(key)
                continue
            await self._room.acquire()
            item = lane[0]
            self._begin()
            try:
                settle = await self._attempt(item, item.attempts + 1)
            except BaseException:
                self._end()
                raise
            self._record(item, settle)

    async def finish(self) -> None:
        """Begin no further send and wait for those under way and for their commits."""
        self._finishing = True
        await self._quiet.wait()

    def close(self) -> None:
        """Forget the timers; the store has everything."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _begin(self) -> None:
        self.sending += 1
        self._quiet.clear()

    def _end(self) -> None:
        self.sending -= 1
        self._room.release()
        if not self.sending:
            self._quiet.set()

    def _free(self, key: str) -> None:
        self._busy.discard(key)
        self._offer(key)

    async def _attempt(self, item: Item, attempt: int) -> Settle:
        """Send the head of a lane once; what is to be committed of it."""
        try:
            body = item.body or self.store.delivery_body(item.delivery_id)
        except StoreError:
            log.error("delivery.unreadable", **self._ids(item))
            return self._failed(item, Decision(DeliveryState.PARKED, "unreadable"), attempt, None)
        if self.plan.on_unanswered != "repeat":
            await self._commit(Sending(item.delivery_id, self.clock.time(), attempt))
        begun = self.clock.time()
        try:
            response = await self.plan.to.send(self._outgoing(item, body, attempt))
        except DeliveryError as error:
            decision = decide(self.plan, error, attempt, self.clock.time() - item.created_at)
            left = None if isinstance(error, Unavailable) else begun
            return self._failed(item, decision, attempt, _evidence(error), left)
        except asyncio.CancelledError:
            if self.plan.on_unanswered != "repeat":
                await asyncio.shield(self._interrupted(item, attempt))
            raise
        except Exception as error:  # noqa: BLE001 - a fault in a connector must not stop the lane; the outcome is unknown
            log.error("delivery.internal_error", **self._ids(item), error=type(error).__name__, at=where(error))
            decision = decide(self.plan, Unanswered(f"internal {type(error).__name__}"), attempt, 0.0)
            return self._failed(item, decision, attempt, None, begun)
        return self._delivered(item, response, attempt, body, begun)

    def _outgoing(self, item: Item, body: bytes, attempt: int) -> Outgoing:
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
            attempt,
        )

    # -- what came of it -------------------------------------------------------------------------------------------

    def _delivered(self, item: Item, response: Response, attempt: int, body: bytes, begun: float) -> Settle:
        return Settle(
            item.delivery_id,
            DeliveryState.DELIVERED,
            self.clock.time(),
            attempt,
            evidence=response.evidence,
            answer=response.body,
            body=hashed_members(body, self.plan.secret, self.salt) if self.plan.secret else None,
            sent_at=begun,
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
            decision.may_be_duplicated,
            sent_at=left,
        )

    def _record(self, item: Item, settle: Settle) -> None:
        """Commit an outcome. The connection goes on meanwhile; the lane does not, until the store has it."""
        self.store.submit(settle).add_done_callback(partial(self._recorded, item, settle))

    def _recorded(self, item: Item, settle: Settle, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            log.error("delivery.not_stored", **self._ids(item))
            asyncio.get_running_loop().call_later(RETRY, self._record, item, settle)
            return
        item.attempts, item.next_at, item.held = settle.attempts, settle.next_at, settle.state is DeliveryState.HELD
        self.last_error = settle.cause
        ids = {**self._ids(item), "attempt": settle.attempts}
        if settle.state is DeliveryState.DELIVERED:
            self.delivered += 1
            log.info("delivery.delivered", **ids, ack=settle.evidence.ack if settle.evidence is not None else "")
        else:
            log.warning(f"delivery.{settle.state}", **ids, cause=settle.cause)
        if settle.state not in (DeliveryState.QUEUED, DeliveryState.HELD):
            self._leave(item)
        if settle.state is not DeliveryState.QUEUED:
            self.settled(item.delivery_id, settle.state is DeliveryState.DELIVERED)
        self._end()
        self._free(item.key)

    async def _interrupted(self, item: Item, attempt: int) -> None:
        """The worker is stopped in the middle of a send whose repetition could duplicate."""
        state = DeliveryState.HELD if self.plan.on_unanswered == "hold" else DeliveryState.UNKNOWN
        settle = Settle(
            item.delivery_id, state, self.clock.time(), attempt, "unanswered interrupted", may_be_duplicated=True
        )
        try:
            await self.store.submit(settle)
        except StoreError:
            log.error("delivery.not_stored", **self._ids(item))  # recovery at the next start does the same

    async def _commit(self, operation: Operation) -> None:
        """Commit what must be on disk before the first byte leaves."""
        while True:
            try:
                await self.store.submit(operation)
            except StoreError:
                log.error("delivery.not_stored", channel=self.channel, destination=self.plan.name)
                await asyncio.sleep(RETRY)
            else:
                return

    def _leave(self, item: Item) -> None:
        lane = self._lanes.get(item.key)
        if not lane:
            return
        if lane[0] is item:
            lane.popleft()
        else:
            lane.remove(item)  # a person put an older one before it while it was under way
        self.waiting -= 1

    def _ids(self, item: Item) -> dict[str, Any]:
        return {
            "channel": self.channel,
            "destination": self.plan.name,
            "message_id": item.message_id,
            "delivery_id": item.delivery_id,
            "correlation_id": item.correlation_id,
            "control_id": item.control_id,
        }


def _evidence(error: DeliveryError) -> Evidence | None:
    return error.evidence if isinstance(error, Rejected) else None
