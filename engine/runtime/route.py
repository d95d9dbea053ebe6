"""Commit 2: what became of each message is recorded, with one delivery for each destination.

One Router per channel works through messages in the order of commit 1, so a delivery never overtakes an earlier message
of its key that is not routed yet. What has arrived meanwhile is routed together and shares one commit. While nothing
waits, a message that only passes pure steps goes straight: it is routed as it comes, and commit 1 is commit 2 too.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import structlog

from engine.config.plan import ChannelPlan
from engine.delivery import DeliveryState, MessageState
from engine.envelope import Envelope
from engine.errors import DoesNotFit, StoreError
from engine.hl7.bulk import Pieces
from engine.hl7.modes import Wanted
from engine.runtime.acknowledge import Acknowledgements
from engine.runtime.arrivals import Arrival, Arrivals
from engine.runtime.deliver import Lanes
from engine.runtime.parts import Parts
from engine.runtime.pressure import CROWDED, Pressure
from engine.runtime.routing import Outcome, Routed, Routing
from engine.store.base import Accept, MessageRow, Route

log = structlog.get_logger("engine.route")

ROUTED, QUEUED = MessageState.ROUTED, DeliveryState.QUEUED

#: Messages that share one commit 2.
BATCH = 64
#: Messages routed between two turns of the event loop: bounds how long sockets wait, and lets deliveries keep up.
TURN = 4
#: Seconds before a route that could not be committed is tried again.
RETRY = 1.0

#: Cause of a message whose route did not fit what is stored.
NOT_STORED = "internal not_stored"


class Router:
    """Has the messages of one channel routed in their order, and records what follows."""

    def __init__(self, plan: ChannelPlan, parts: Parts, lanes: dict[str, Lanes]) -> None:
        self.plan, self.parts, self.lanes = plan, parts, lanes
        self.acks = Acknowledgements(plan, parts, lanes)
        self.routing = Routing(plan, parts, self.acks)
        #: Messages that were routed, and those of them that were filtered, or failed.
        self.routed = self.filtered = self.failed = 0
        #: Those that failed since what became of them does not fit what is stored.
        self.not_stored = 0
        #: Made before any of them has a delivery, and never fewer nor more.
        self._all = tuple(lanes.values())
        #: Of whoever waits for commit 1 alone.
        self.pressure = Pressure(self._crowd, parts.store, patient=plan.ack != "delivered")
        for each in self._all:
            each.outcome, each.moved = self.pressure.outcome, self.pressure.moved
        self._log = log.bind(channel=plan.name)
        self._tells_all = self._log.is_enabled_for(logging.DEBUG)
        self._arrivals = Arrivals(lambda after, limit: parts.store.unrouted(plan.name, after, limit))
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        #: A message may be routed as it comes: no step has to wait, and nothing waits that came before it.
        self.is_free = self.routing.pure
        #: Messages that come as soon as they have been committed.
        self._expected = 0

    # -- what comes in ---------------------------------------------------------------------------------------------

    def push(self, arrival: Arrival) -> None:
        """Route it when its turn comes; calls come in the order of commit 1."""
        self._arrivals.push(arrival)
        self._wake_up()

    def expect(self) -> None:
        """A message is being committed that is to be routed here: what comes after it comes after it."""
        self._expected += 1
        self.is_free = False

    def expected(self) -> None:
        """Its commit has ended; it is pushed now, or never."""
        self._expected -= 1
        self._look()

    def _look(self) -> None:
        self.is_free = self.routing.pure and self._idle.is_set() and not self._expected

    def straight(self, envelope: Envelope, key: str) -> Outcome | None:
        """Route a message of a channel of pure steps whose commit 1 is to come; ``took`` follows its commit.

        None for what has to be routed after that: it is to be read back from the store, for it may be changed.
        """
        try:
            outcome = self.routing.outcome(envelope, key)
        except asyncio.CancelledError:
            return None  # a site's Python waits, or has waited, for what was cancelled: see what it does in its turn
        for delivery in outcome.deliveries:
            if type(delivery.body) is Pieces:
                return None  # large bodies are written before the unit that refers to them
        return outcome

    def _crowd(self) -> int:
        """How many wait where most do, here or for a partner that takes them; where that are few, not how few."""
        most = len(self._arrivals)
        for lanes in self._all:
            if lanes.waiting > CROWDED:
                most = max(most, lanes.crowd)
        return most

    def recover(self) -> None:
        """Begin with what an earlier run received and did not route; it is read as its turn comes."""
        self._wake_up()

    def again(self, row: MessageRow) -> None:
        """Route a message that a person reopened; it takes its place at the end."""
        self._arrivals.again(row)
        self._wake_up()

    def _wake_up(self) -> None:
        self.is_free = False
        self._idle.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Wait until nothing waits to be routed."""
        await self._idle.wait()

    # -- the loop --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Route until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._arrivals.empty:
                if batch := await self._batch():
                    await self._commit(batch)
                    batch = []  # not kept until the next one comes: what was routed may be large
            self._idle.set()
            self._look()

    async def _batch(self) -> list[Routed]:
        batch: list[Routed] = []
        while len(batch) < BATCH and (arrival := await self._next()) is not None:
            if arrival.large and batch:
                self._arrivals.put_back(arrival)  # what came before it does not wait until it is written
                break
            batch.append(await self.routing.route(arrival))
            if arrival.large:
                break
            if len(batch) % TURN == 0:
                await asyncio.sleep(0)
        return batch

    async def _next(self) -> Arrival | None:
        while True:
            try:
                return self._arrivals.next()
            except StoreError:
                log.error("route.unreadable", channel=self.plan.name)
                await asyncio.sleep(RETRY)

    async def _commit(self, batch: list[Routed]) -> None:
        while True:
            try:
                for routed in batch:
                    routed.route = await self.parts.kept(routed.route)
                # Messages that were routed as they came may wait there, with deliveries before those of a reopened one.
                self.pressure.release()
                committed = self.parts.store.submit(
                    *(operation for routed in batch for operation in (routed.route, *routed.beside))
                )
                self.pressure.flush()
                await committed
            except DoesNotFit:
                await self._apart(batch)
                return
            except StoreError:
                # Later messages must not be routed before these: wait here until the store takes them.
                log.error("route.not_stored", channel=self.plan.name, messages=len(batch))
                await asyncio.sleep(RETRY)
            else:
                break
        for routed in batch:
            self.committed(routed)
        self.pressure.moved()

    async def _apart(self, batch: list[Routed]) -> None:
        """One of these does not fit what is stored: it alone fails, for a person to see."""
        if len(batch) > 1:
            for routed in batch:
                await self._commit([routed])
            return
        route = batch[0].route
        log.error("route.refused", channel=route.channel, message_id=route.message_id)
        if route.cause == NOT_STORED:
            decided = batch[0].decided
            told = decided and replace(decided, owed=None)
            self.committed(replace(batch[0], route=replace(route, deliveries=()), decided=told))
            return
        failed = self.routing.routed(batch[0].arrival, Outcome(MessageState.FAILED, (), NOT_STORED), batch[0].modes)
        await self._commit([failed])

    def committed(self, routed: Routed) -> None:
        """Its route has been committed: its deliveries take their places, and whoever waits is told."""
        self.took(routed.route)
        if routed.decided is not None:
            self.acks.committed(routed.decided)
        elif routed.arrival.undecided:
            self.watch(routed.route, routed.modes)

    def took(self, route: Accept | Route) -> None:
        """What became of a message has been committed: its deliveries take their places."""
        usual = route.state is ROUTED
        self.routed += 1
        for delivery in route.deliveries:
            if delivery.state is QUEUED:
                self.lanes[delivery.destination].push(delivery, route)
                continue
            usual = False
            if delivery.state is DeliveryState.HELD:
                self.lanes[delivery.destination].push(delivery, route)
        if not usual or self._tells_all:
            self._tell(route, usual=usual)

    def watch(self, route: Accept | Route, modes: Wanted) -> None:
        """The ack of a message waits for its deliveries."""
        self.acks.watch(route.message_id, route.correlation_id, modes, self.acks.awaited(route.deliveries))

    def _tell(self, route: Accept | Route, *, usual: bool) -> None:
        """One log line, but for what is on its way: the outcome of each delivery has a line of its own."""
        tell = self._log.debug if usual else self._log.info
        if route.state is MessageState.FAILED:
            self.failed += 1
            tell = self._log.warning
        elif route.state is MessageState.FILTERED:
            self.filtered += 1
        tell(
            f"message.{route.state}",
            message_id=route.message_id,
            correlation_id=route.correlation_id,
            cause=route.cause,
            deliveries=len(route.deliveries),
        )
