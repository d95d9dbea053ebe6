"""Commit 3: the lanes of one destination, and what becomes of each delivery.

A lane is (destination, ordering key): first in, first out. ``connections`` workers take the heads of lanes that are
ready; a lane is never worked on twice at once. The outcome of a send is committed before its lane moves on (the
connection serves other lanes meanwhile), so after a crash at most the sends in flight, and those whose outcome was not
committed yet, are repeated. Which deliveries are in memory is ``window.py``'s business, how fast they may go
``pace.py``'s, one send ``attempt.py``'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from engine.config.plan import DestinationPlan
from engine.delivery import DeliveryState
from engine.errors import DeliveryError, DoesNotFit, StoreError
from engine.runtime.ahead import Ahead
from engine.runtime.attempt import RETRY, Sender
from engine.runtime.clock import Clock
from engine.runtime.doubt import Doubt
from engine.runtime.item import Item, lanes_by
from engine.runtime.outcomes import Counts, attempted, discarded, tell
from engine.runtime.pressure import Told
from engine.runtime.window import Window
from engine.runtime.workers import Workers
from engine.store.base import Accept, DeliveryRow, NewDelivery, Operation, Route, Settle, Store

log = structlog.get_logger("engine.deliver")

#: Sends of each connection that are under way or whose outcome is not committed; 1 where there is one connection.
UNCOMMITTED = 12
#: Seconds after its last outcome in which a partner counts as one that takes what it gets.
MOVING = 1.0
#: Bodies kept in memory per destination while they wait, and how large they are at most.
KEPT = 1000
KEPT_BYTES = 16 * 1024

# Before 3.12 a member of an enumeration is a call away.
QUEUED, HELD, DELIVERED = DeliveryState.QUEUED, DeliveryState.HELD, DeliveryState.DELIVERED


class Lanes:
    """The deliveries owed to one destination."""

    #: Whichever is ready may go; else ``_first`` says so.
    _one_by_one = True
    #: What sends them.
    _sends: type[Sender] = Sender

    def __init__(self, channel: str, plan: DestinationPlan, store: Store, clock: Clock, salt: bytes = b"") -> None:
        self.channel, self.plan, self.store, self.clock = channel, plan, store, clock
        self._loop = asyncio.get_running_loop()
        self.sending, self.counts, self.last_error = 0, Counts(), ""
        #: Called with (delivery id, delivered?) when a delivery has settled for good or waits for a person.
        self.settled: Callable[[int, bool], None] = lambda _delivery_id, _delivered: None
        #: What commits an outcome, at once or with others; and is called when one that waited waits no more.
        self.outcome: Callable[[Sequence[Operation], Told, bool], None] = lambda unit, told, _: store.commit(unit, told)
        self.moved: Callable[[], None] = lambda: None
        self._sender = self._sends(channel, plan, store, clock, salt)
        self._workers = Workers(self._sender, self)
        self._window = Window(self._read, self._offered, parallel=plan.order.kind != "received")
        self.pace = self._sender.pace
        self._ready: deque[Item] = deque()
        #: Until the next attempt of a delivery is due.
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._filling: asyncio.Handle | None = None
        #: A person gives them up: they do not go while that is being committed.
        self._withheld: set[int] = set()
        #: People who do so: the lanes are not gone before they are done.
        self._discarding = 0
        self._finishing, self._closed, self._last_outcome = False, False, 0.0
        #: Sends under way or waiting for their commit: so many may come twice after a crash.
        self._most = plan.connections * max(UNCOMMITTED if plan.connections > 1 else 1, plan.sends_ahead)
        #: While there are fewer, and others may go, no send waits for the commit of an outcome. A lane that sends ahead
        #: goes on without it: there none is to be committed behind that of a later one.
        self._easy = self._most * 2 // 3 if plan.sends_ahead == 1 else 0
        self._doubt = Doubt(lambda: store.in_doubt_up_to, plan.sends_ahead, ordered=plan.order.kind != "none")
        self._ahead = Ahead(self._window, self._doubt, plan.sends_ahead) if plan.sends_ahead > 1 else None
        #: Nothing is under way any more; of interest to whoever waits for that.
        self._quiet = asyncio.Event()
        self._lanes_of = lanes_by(plan.order)
        self._log = log.bind(channel=channel, destination=plan.name)

    # -- what comes in ---------------------------------------------------------------------------------------------

    def push(self, new: NewDelivery, route: Route | Accept, *, late: bool = False) -> None:
        """Take in a delivery that was just committed; calls come in the order of commit 1, but for ``late`` ones."""
        body, number, window = new.body, new.delivery_id, self._window
        is_small = type(body) is bytes and len(body) <= KEPT_BYTES
        has_room = body and len(window.items) < KEPT
        kept = body if has_room and (is_small or isinstance(body, bytes) or body.at_hand) else None
        keys, at, held = self._lanes_of(new.key, number), route.at or 0.0, new.state is HELD
        item = Item(
            number, route.message_id, keys, route.correlation_id, new.control_id, new.content_type, at, held, kept
        )
        if window.push_late(item) if late else window.push(item):
            self._ready.append(item)
            if self._withheld:
                window.stirred = True  # it may be one of them
        if window.behind or (self._ready and self._workers.idle):
            self.dispatch()
        if not is_small and not item.sending:
            item.body = None  # it has to wait: it is read from the store in its turn

    def recover(self) -> None:
        """Begin with what an earlier run left; the rest is read while the first are sent."""
        self.pace.paused = self.plan.name in self.store.paused(self.channel)
        self._fill()

    def insert(self, row: DeliveryRow, control_id: str, content_type: str) -> None:
        """It goes again, out of its turn (committed as queued), at the place its id gives it."""
        item = Item.from_row(row, self._lanes_of)
        item.next_at, item.held, item.out_of_turn = 0.0, False, True
        item.control_id, item.content_type = control_id, content_type
        self._unrest(item.delivery_id)
        self._window.insert(item)
        self.dispatch()

    def pause(self, paused: bool) -> None:
        """Send nothing, or go on (committed); sends under way end."""
        self.pace.paused = paused
        self.dispatch()

    async def discard(self, rows: Sequence[DeliveryRow], *noted: Operation) -> int:
        """Give up those that nobody is sending, with ``noted`` in the same commit; how many. Raises StoreError."""
        resting = [row for row in rows if not self.in_flight(row.delivery_id)]
        if not resting:
            return 0
        ids = {row.delivery_id for row in resting}
        self._discarding += 1
        self._quiet.clear()
        self._withheld |= ids
        # They do not go while this is being committed, nor one of them when another is removed.
        self._window.stirred = True
        try:
            await self.store.submit(*(discarded(row, self.clock.time()) for row in resting), *noted)
            for row in resting:
                self.remove(row)
        finally:
            self._withheld -= ids
            self._discarding -= 1
            self._be_quiet()
            self._window.stirred = True
            for item in filter(None, map(self._window.find, ids)):
                if item.offered and not item.sending and item.delivery_id not in self._timers:
                    self._ready.append(item)
            self.dispatch()
        return len(resting)

    def remove(self, row: DeliveryRow) -> None:
        """It waits no more (committed); its lanes go on without it."""
        self._unrest(row.delivery_id)
        self._window.remove(row.delivery_id, self._lanes_of(row.key, row.delivery_id))
        self.dispatch()

    @property
    def waiting(self) -> int:
        """How many wait in memory, whatever for."""
        return len(self._window.items)

    @property
    def crowd(self) -> int:
        """How many wait in memory for a partner that takes them; 0 for one that is away, silent, slowed or paused."""
        now = self._loop.time()
        if self.pace.paused or now - self._last_outcome > MOVING or self.pace.wait(now):
            return 0
        return len(self._window.items)

    def in_flight(self, delivery_id: int) -> bool:
        """Whether a worker is sending this delivery right now."""
        item = self._window.find(delivery_id)
        return item is not None and item.sending and not item.stuck

    # -- which may go ----------------------------------------------------------------------------------------------

    def _read(self, after: int, limit: int) -> Sequence[Item]:
        rows = self.store.queued(self.channel, self.plan.name, after, limit)
        return [Item.from_row(row, self._lanes_of) for row in rows]

    def _offered(self, item: Item) -> None:
        """It is the first of its lanes: it goes, or waits for its next attempt."""
        if item.delivery_id <= self._doubt.last:
            self._suspect(item)
        if not item.next_at:
            self._ready.append(item)
            self._window.stirred = self._window.stirred or bool(self._withheld)  # it may be one of them
            return
        # No longer than the longest back-off, whatever the clock says: it may have been put back meanwhile.
        delay = min(item.next_at - self.clock.time(), max(self.plan.retry.backoff))
        if delay > 0:
            self._unrest(item.delivery_id)
            self._timers[item.delivery_id] = self._loop.call_later(delay, self._due, item)
            self._window.resting = len(self._timers)
        else:
            self._ready.append(item)

    def _suspect(self, item: Item) -> None:
        if self._doubt.concerns(item):
            item.may_be_duplicated = True
            self.counts.may_be_duplicated += 1

    def _due(self, item: Item) -> None:
        self._unrest(item.delivery_id)
        self._ready.append(item)
        self._window.stirred = True  # it may have lost its place while it waited
        self.dispatch()

    def _unrest(self, delivery_id: int) -> None:
        timer = self._timers.pop(delivery_id, None)
        if timer is not None:
            timer.cancel()
            self._window.resting = len(self._timers)

    def dispatch(self) -> None:
        """Give the free workers what may go now."""
        if self._finishing or self._closed or self.pace.paused:
            return
        window, ready, idle = self._window, self._ready, self._workers.idle
        while ready and idle and self.sending < self._most:
            item = ready[0] if self._one_by_one and not window.stirred else self._first()
            if item is None:
                break
            worker = idle.popleft()
            if worker.turn.done():
                continue  # it was stopped
            if not self.pace.easy:
                now = self._loop.time()
                if wait := self.pace.wait(now):
                    idle.appendleft(worker)
                    self._alarm = self._alarm or self._loop.call_later(wait, self._rung)
                    return
                self.pace.begun(now)
            ready.popleft()
            self._begin(item)
            worker.send(item)
        if window.behind and self._filling is None and self._window.wants(self._is_idle):
            self._filling = self._loop.call_soon(self._fill)

    @property
    def _is_idle(self) -> bool:
        return not self._ready and self.sending < self.plan.connections

    def _first(self) -> Item | None:
        """The next that may go. What was offered stands where it stood, unless the window was stirred since."""
        if self._window.stirred:
            self._look_anew()
        return self._ready[0] if self._ready else None

    def _look_anew(self) -> None:
        offered = dict.fromkeys(self._ready)
        self._ready.clear()
        for item in offered:
            withheld = item.delivery_id in self._withheld
            if self._window.may_go(item) and not withheld:
                self._ready.append(item)
            else:
                item.offered = withheld
        self._window.stirred = False

    def _rung(self) -> None:
        self._alarm = None
        self.dispatch()

    def _fill(self) -> None:
        """Read a page from the store; the loop has a turn before the next."""
        self._filling = None
        if self._closed:
            return
        try:
            more = self._window.fill(self._is_idle)
        except StoreError:
            log.error("delivery.unreadable", channel=self.channel, destination=self.plan.name)
            self._filling = self._loop.call_later(RETRY, self._fill)
            return
        self.dispatch()
        if more and self._window.behind and self._filling is None:
            self._filling = self._loop.call_soon(self._fill)

    # -- what the workers tell -------------------------------------------------------------------------------------

    def work(self) -> Coroutine[Any, Any, None]:
        """One connection's worth of sending, until cancelled."""
        return self._workers.work()

    async def finish(self) -> None:
        """Begin no further send and wait for those under way, for their commits, and for what is being given up."""
        self._finishing = True
        self._be_quiet()
        await self._quiet.wait()

    def close(self) -> None:
        """Forget what was to come; the store has everything."""
        self._closed = True
        for handle in (*self._timers.values(), self._alarm, self._filling):
            if handle is not None:
                handle.cancel()
        self._timers.clear()

    def _begin(self, item: Item) -> None:
        self._window.begin(item)
        self.sending += 1
        if item.may_be_duplicated:
            self.counts.repeated += 1

    def came(self, item: Item, settle: Settle, error: DeliveryError | None) -> None:
        """A send has ended."""
        self._last_outcome = now = self._loop.time()
        if error is not None or not self.pace.easy:
            attempted(self.pace, self.counts, settle, error, now)
        if self._ahead is not None and settle.state is DELIVERED:
            self._ahead.arrived(item)
        self._record(item, settle)
        if self._ready or self._window.behind:
            self.dispatch()

    def may_not_go(self, item: Item) -> None:
        """The store refuses that it is sent."""
        self._refused(item, "sending")

    def given_up(self) -> None:
        """A worker was stopped in the middle of a send."""
        self._end()

    def _end(self) -> None:
        self.sending -= 1
        self._be_quiet()

    def _be_quiet(self) -> None:
        if self._finishing and not self.sending and not self._discarding:
            self._quiet.set()

    # -- what came of it -------------------------------------------------------------------------------------------

    def _record(self, item: Item, settle: Settle) -> None:
        """Commit an outcome. The connection goes on meanwhile; the lane does not, until the store has it."""
        patient = self.sending < self._easy and bool(self._ready)
        self.outcome((settle,), partial(self._recorded, item, settle), patient)

    def _recorded(self, item: Item, settle: Settle, error: StoreError | None) -> None:
        if error is not None:
            self._not_recorded(item, settle, error)
            return
        self.last_error, state, window = settle.cause, settle.state, self._window
        tell(self._log, self.counts, item, settle)
        self.sending -= 1
        if self._finishing:
            self._be_quiet()
        if state is QUEUED:
            item.attempts, item.next_at = settle.attempts, settle.next_at
            window.again(item)
        else:
            if item.delivery_id <= self._doubt.last and not window.has_passed(item):
                self._doubt.moved(item)
            (window.hold if state is HELD else window.end)(item)
            if self._ahead is not None:
                self._ahead.ended(item)
            self.settled(item.delivery_id, state is DELIVERED)
            self.moved()
        if window.behind or (self._ready and self._workers.idle):
            self.dispatch()

    def _not_recorded(self, item: Item, settle: Settle, error: StoreError) -> None:
        if isinstance(error, DoesNotFit):
            self._refused(item, settle.state)
            return
        log.error("delivery.not_stored", **self._sender.ids(item))
        self._loop.call_later(RETRY, self._record, item, settle)

    def _refused(self, item: Item, outcome: str) -> None:
        """The store will never take this outcome: go by what it has, and where that is open let a person act."""
        try:
            row = self.store.delivery(item.delivery_id)
        except StoreError:
            self._loop.call_later(RETRY, self._refused, item, outcome)
            return
        stored = row.state if row is not None else None
        log.error("delivery.outcome_refused", **self._sender.ids(item), outcome=outcome, stored=stored or "missing")
        self.counts.outcomes_refused += 1
        self.last_error = f"outcome {outcome} refused by the store"
        self._end()
        if self._ahead is not None:
            self._ahead.ended(item)
        if stored in (QUEUED, DeliveryState.SENDING):
            item.stuck = True  # nobody knows whether it may go again: its keys wait for `resend` or `discard`
            self._window.again(item)
        elif stored is HELD:
            self._window.hold(item)
        else:
            self._window.end(item)
        self.settled(item.delivery_id, stored is DELIVERED)
        self.dispatch()
