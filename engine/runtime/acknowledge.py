"""Which acknowledgement each message of a channel gets: who waits for it, when it is decided, and its record.

Decided once per message. ``ack: received`` is decided by commit 1; ``routed`` by commit 2, whose unit holds the record;
``delivered``, and the answer that is passed on, by the last outcome it waits for: that record is committed before the
sender hears of it. So a message that comes again is told the same, also after a crash.

An application ack of enhanced mode that goes out on a connection of its own is a delivery (``AckOwed``): it is owed
until the sender has taken it. What an ack looks like is ``engine/hl7/ack.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from engine.config.plan import ACKS, ChannelPlan
from engine.delivery import ASKED_AGAIN, DeliveryState, MessageState
from engine.envelope import ACCEPT, APPLICATION_CODES, Ack, Receipt
from engine.errors import DoesNotFit, StoreError
from engine.hl7.ack import AckCode, make_ack
from engine.hl7.header import Header, header_of
from engine.hl7.modes import ORIGINAL, AcceptMode, Wanted
from engine.hl7.passing import answer_in, application_code, pass_on
from engine.promise import Promise
from engine.runtime.deliver import Lanes
from engine.runtime.parts import Parts
from engine.store.base import AckOwed, AckSent, DeliveryRow, MessageRow, NewDelivery, Operation, Requeue, Route

log = structlog.get_logger("engine.acknowledge")

DEADLINE = Ack("error", condition=207, cause="not_delivered_in_time")
NOT_DELIVERED = Ack("error", condition=207, cause="not_delivered")
STORE_UNAVAILABLE = Ack("reject", condition=207, cause="store_unavailable")

#: Recorded while an ack for a connection of its own is not decided.
OWED = "owed"
#: Recorded where MSH-15 and MSH-16 ask for no ack of what came out.
NONE = "none"
UNDECIDED = ("", OWED)
#: Seconds before the record of an ack that could not be committed is offered to the store again.
RETRY = 1.0

_OUTCOMES = {code: outcome for outcome, code in APPLICATION_CODES.items()}
#: Nothing more comes of these by itself; whether a held one is delivered, a person decides.
_NOT_DELIVERED = (DeliveryState.UNKNOWN, DeliveryState.HELD, DeliveryState.PARKED, DeliveryState.DISCARDED)


def modes_of(header: Header | None, source: str) -> Wanted:
    """What the sender of a message asks for; only MLLP knows two acks, everywhere else it is original mode."""
    return header.wanted if source == "mllp" and header is not None else ORIGINAL


def recorded(modes: Wanted, ack: Ack) -> str:
    """The word of the ack that a sender gets: the application ack, else the accept ack, else ``none``."""
    if modes.application_ack(ack.positive):
        return ack.application_code.value
    return AckCode.CA.value if modes.accept_ack(True) else NONE


def refused_with(modes: Wanted, ack: Ack) -> str:
    """The word of the ack of a message that is refused at commit 1: nothing follows an accept ack that says no."""
    level = "C" if modes.accept_ack(False) else "A" if modes.application_ack(False) else ""
    return level and level + ack.application_code.value[1]


@dataclass(slots=True)
class Decided:
    """The ack of one message, to be committed and then told."""

    message_id: int
    ack: Ack
    operation: Operation
    #: The ack as a delivery, and whose: it waits in its lane as soon as it is committed.
    owed: tuple[NewDelivery, Route] | None = None


@dataclass(slots=True)
class _Watch:
    """A message whose ack waits until deliveries have settled."""

    message_id: int
    correlation_id: str
    modes: Wanted
    all: tuple[int, ...]
    open: set[int]
    timer: asyncio.TimerHandle


class Acknowledgements:
    """The acks of one channel."""

    def __init__(self, plan: ChannelPlan, parts: Parts, lanes: dict[str, Lanes]) -> None:
        self.plan, self.parts, self.lanes = plan, parts, lanes
        self._decides_at_once = plan.ack == "received"
        self._waiting: dict[int, list[Receipt]] = {}
        #: By delivery.
        self._watches: dict[int, _Watch] = {}
        #: Messages with a watch, or with a decided ack whose record is not committed.
        self._watched: set[int] = set()
        #: The channel has stopped.
        self._over = False

    # -- deciding --------------------------------------------------------------------------------------------------

    def at_commit_1(self, modes: Wanted) -> str:
        """What commit 1 records: the ack that follows from it, ``owed``, or nothing yet."""
        if self.plan.ack_to is not None and self._elsewhere(modes):
            return OWED
        return (modes.well or NONE) if self._decides_at_once else ""

    def decide(
        self, message_id: int, correlation_id: str, modes: Wanted, ack: Ack, request: Header | None = None
    ) -> Decided:
        """The record of an ack. ``request`` is of the message as it was received, where it is not in the store yet."""
        word = recorded(modes, ack)
        if not self._elsewhere(modes) or word in (AckCode.CA, NONE):
            return Decided(message_id, ack, AckSent(message_id, word, ack.answer))
        parts, now = self.parts, self.parts.clock.time()
        control_id = parts.make_control_id()
        request = request or header_of(parts.store.message_body(message_id)) or Header.empty()
        delivery = NewDelivery(parts.store.new_id(), ACKS, "", self._rendered(request, ack, control_id), control_id)
        route = Route(message_id, self.plan.name, correlation_id, MessageState.ROUTED, now)
        return Decided(message_id, ack, AckOwed(message_id, self.plan.name, now, word, delivery), (delivery, route))

    def committed(self, decided: Decided) -> None:
        """Tell whoever waits; an ack for a connection of its own takes its place in its lane."""
        if decided.owed is not None:
            self._owe(*decided.owed)
        self._tell(decided.message_id, decided.ack)

    def _owe(self, delivery: NewDelivery, route: Route) -> None:
        """Send an owed ack, unless the message has another one that was decided before: that stays, and is sent."""
        lanes = self.lanes[ACKS]
        try:
            stored = self.parts.store.deliveries_of(route.message_id)
        except StoreError:
            stored = ()  # what the store does not have it will not let settle either
        first = [row for row in stored if row.destination == ACKS and row.delivery_id != delivery.delivery_id]
        if not first or any(row.delivery_id == delivery.delivery_id for row in stored):
            lanes.push(delivery, route, late=True)  # some are decided early and committed late
            return
        for row in first:
            if row.state is DeliveryState.QUEUED and not lanes.in_flight(row.delivery_id):
                lanes.insert(row, row.control_id, row.content_type)

    def wait(self, message_id: int, receipt: Receipt) -> None:
        """``receipt`` is answered when the ack of that message is decided and recorded."""
        self._waiting.setdefault(message_id, []).append(receipt)

    def told(self, row: MessageRow, modes: Wanted) -> Ack:
        """The ack that was decided for a stored message, for one that repeats it."""
        if row.ack in _OUTCOMES:
            outcome = _OUTCOMES[AckCode(row.ack)]
            return Ack(
                outcome,
                condition=None if outcome == "accept" else 207,
                cause="duplicate",
                answer=self.parts.store.message_ack(row.message_id),
            )
        # No application ack was given. Whatever came out, it was what MSH-16 does not ask for.
        return ACCEPT if not modes.application_ack(True) else NOT_DELIVERED

    def again(self, row: MessageRow, modes: Wanted) -> None:
        """The ack of ``row`` once more, where it has a connection of its own: who repeats a message has not got it.

        One that is on its way comes by itself, and where the sender asks for an accept ack it may be that one that was
        lost. Raises StoreError.
        """
        if not self._elsewhere(modes):
            return
        for owed in self.parts.store.deliveries_of(row.message_id):
            lost = owed.state is DeliveryState.PARKED
            lost = lost or (owed.state is DeliveryState.DELIVERED and not modes.accept_ack(True))
            if owed.destination == ACKS and lost and not self.lanes[ACKS].in_flight(owed.delivery_id):
                requeued = self.parts.store.submit(
                    Requeue(owed.delivery_id, self.parts.clock.time(), cause=ASKED_AGAIN)
                )
                requeued.add_done_callback(partial(self._requeued, owed))

    def _requeued(self, owed: DeliveryRow, outcome: Promise[None]) -> None:
        if outcome.exception() is not None:
            log.error("ack.not_stored", channel=self.plan.name, message_id=owed.message_id)
            return  # its sender asks again
        self.lanes[ACKS].insert(owed, owed.control_id, owed.content_type)

    def forget(self, message_id: int) -> None:
        """Nobody waits for this message: it was not stored."""
        self._waiting.pop(message_id, None)

    def _tell(self, message_id: int, ack: Ack) -> None:
        for receipt in self._waiting.pop(message_id, ()):
            receipt.finish(ack)

    def _elsewhere(self, modes: Wanted) -> bool:
        """Whether the sender may get an application ack on a connection of its own."""
        return self.plan.ack_to is not None and modes.enhanced and modes.answered

    def _rendered(self, request: Header, ack: Ack, control_id: str) -> bytes:
        now, accept = self.parts.clock.now(), AcceptMode(self.plan.ack_accept)
        answer = answer_in(ack.answer) if ack.answer else None
        if answer is not None:
            return pass_on(request, answer, control_id, now, accept=accept)
        code, place = ack.application_code, ack.location
        return make_ack(request, code, control_id, now, condition=ack.condition, location=place, accept=accept)

    # -- what waits for deliveries ---------------------------------------------------------------------------------

    def awaited(self, deliveries: Sequence[NewDelivery] | Sequence[DeliveryRow]) -> list[int]:
        """Which deliveries of a message its ack waits for: those of ``from``, else all."""
        passing = self.plan.ack_from
        return [
            item.delivery_id
            for item in deliveries
            if (item.destination == passing if passing else item.destination != ACKS)
        ]

    def watch(self, message_id: int, correlation_id: str, modes: Wanted, deliveries: Sequence[int]) -> None:
        """Decide the ack of a message when all of ``deliveries`` have settled, negatively at the deadline."""
        if message_id in self._watched:
            return
        ids = tuple(deliveries)
        timer = asyncio.get_running_loop().call_later(self.plan.ack_deadline, self._at_deadline, ids[0])
        watch = _Watch(message_id, correlation_id, modes, ids, set(ids), timer)
        self._watched.add(message_id)
        for delivery_id in ids:
            self._watches[delivery_id] = watch

    def delivery_settled(self, delivery_id: int, delivered: bool) -> None:
        """A delivery has settled (or waits for a person)."""
        watch = self._watches.get(delivery_id)
        if watch is None:
            return
        watch.open.discard(delivery_id)
        if not delivered:
            self._end(watch, self._outcome(delivery_id, NOT_DELIVERED))
        elif not watch.open:
            self._end(watch, self._outcome(delivery_id, ACCEPT))

    def resume(self, row: MessageRow) -> None:
        """Take up the ack of a message that an earlier run left undecided; the router does so of one not routed yet."""
        if row.state is MessageState.RECEIVED or row.message_id in self._watched:
            return
        store = self.parts.store
        rows, header = store.deliveries_of(row.message_id), header_of(store.message_body(row.message_id))
        about = (row.message_id, row.correlation_id, modes_of(header, row.origin.get("source", "")))
        awaited = set(self.awaited(rows))
        settled = [item for item in rows if item.delivery_id in awaited]
        refused = next((item for item in settled if item.state in _NOT_DELIVERED), None)
        still_open = [item.delivery_id for item in settled if item.state is not DeliveryState.DELIVERED]
        if row.state is MessageState.FAILED:
            self._record(*about, NOT_DELIVERED)
        elif refused is not None:
            self._record(*about, self._outcome(refused.delivery_id, NOT_DELIVERED))
        elif still_open:
            self.watch(*about, still_open)
        else:
            self._record(*about, self._outcome(settled[-1].delivery_id, ACCEPT) if settled else ACCEPT)

    def recover(self) -> None:
        """Take up every ack that is owed on a connection of its own and that an earlier run did not decide."""
        last = 0
        while rows := self.parts.store.acks_owed(self.plan.name, last, 1000):
            for row in rows:
                self.resume(row)
            last = rows[-1].message_id

    def end(self) -> None:
        """The channel stops: whoever still waits is told that delivery is not known yet. The ack stays undecided.

        So does one whose record the store has not taken: who comes after takes it up.
        """
        self._over = True
        for watch in self._watches.values():
            watch.timer.cancel()
        self._watches.clear()
        for message_id in list(self._waiting):
            self._tell(message_id, DEADLINE)

    def _at_deadline(self, delivery_id: int) -> None:
        watch = self._watches.get(delivery_id)
        if watch is not None:
            self._end(watch, DEADLINE)

    def _end(self, watch: _Watch, ack: Ack) -> None:
        watch.timer.cancel()
        for delivery_id in watch.all:
            self._watches.pop(delivery_id, None)
        self._record(watch.message_id, watch.correlation_id, watch.modes, ack)

    def _outcome(self, delivery_id: int, otherwise: Ack) -> Ack:
        """The ack that a settled delivery comes to: the partner's own answer where that is passed on."""
        if not self.plan.ack_from:
            return otherwise
        try:
            raw = self.parts.store.delivery_answer(delivery_id)
        except StoreError:
            return otherwise  # the outcome is known all the same
        answer = answer_in(raw) if raw else None
        # Not every answer is the last word: a code that says no may be `delivered` by a rule of `on_answer`.
        if answer is None or answer.code.positive is not otherwise.positive:
            return otherwise
        return Ack(_OUTCOMES[application_code(answer.code)], cause=otherwise.cause, answer=raw)

    def _record(self, message_id: int, correlation_id: str, modes: Wanted, ack: Ack) -> None:
        """Commit a decided ack, then tell whoever waits."""
        if self._over:
            return
        self._watched.add(message_id)
        try:
            decided = self.decide(message_id, correlation_id, modes, ack)
        except StoreError:
            self._tell(message_id, STORE_UNAVAILABLE)
            asyncio.get_running_loop().call_later(RETRY, self._record, message_id, correlation_id, modes, ack)
            return
        self._submit(decided)

    def _submit(self, decided: Decided) -> None:
        if self._over:
            return
        self.parts.store.submit(decided.operation).add_done_callback(partial(self._submitted, decided))

    def _submitted(self, decided: Decided, outcome: Promise[None]) -> None:
        if outcome.exception() is not None:
            log.error("ack.not_stored", channel=self.plan.name, message_id=decided.message_id)
            # No positive ack without its record. A sender that asks again gets the one that is recorded then.
            self._tell(decided.message_id, STORE_UNAVAILABLE)
            if not isinstance(outcome.exception(), DoesNotFit):
                asyncio.get_running_loop().call_later(RETRY, self._submit, decided)
            return
        self._watched.discard(decided.message_id)
        self.committed(decided)
