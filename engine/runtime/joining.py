"""``batch:`` of a destination: deliveries wait until there are enough of them, or long enough, and go out as one batch.

Nothing is taken from its lane while it waits, so pausing, discarding, stopping and crashes are those of any other
delivery. Members are in the order of their ids, and each stands behind all that its lanes have before it. Each settles
by itself when the batch is answered; without an answer all go again. What is sent is made of the members that go: the
same members make the same BHS-11, also after a crash. A batch that comes in is ``batches.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from engine.config.plan import DestinationPlan, JoinPlan
from engine.delivery import DeliveryState
from engine.destinations.base import Outgoing, Response
from engine.destinations.connections.verdict import verdict
from engine.errors import (
    DeliveryError,
    DoesNotFit,
    Evidence,
    MalformedMessage,
    StoreError,
    Unanswered,
)
from engine.hl7.ack import in_charset_of
from engine.hl7.batch import header_line, join, joinable
from engine.hl7.batch_answers import read_answer
from engine.hl7.header import Header, header_of
from engine.hl7.mllp import frame
from engine.runtime.attempt import Attempt, Sender, unread
from engine.runtime.clock import Clock
from engine.runtime.deliver import Lanes
from engine.runtime.faults import where
from engine.runtime.item import Item
from engine.runtime.outcomes import attempted
from engine.runtime.retry import Decision
from engine.store.base import Sending, Store

log = structlog.get_logger("engine.deliver")

#: Seconds before it is looked at how many may go, where that is not plain.
LOOK = 0.01
#: Bytes of the members of one batch; what is larger goes alone.
MOST = 8 * 1024 * 1024
#: What cannot be a member: it is no HL7 in single bytes, or holds what would end the batch or its frame.
NOT_JOINABLE = Decision(DeliveryState.PARKED, "batch not_joinable")


def lanes_of_plan(channel: str, plan: DestinationPlan, store: Store, clock: Clock, salt: bytes = b"") -> Lanes:
    """The lanes of a destination, which join deliveries where its file says so."""
    kind = Lanes if plan.batch is None else JoiningLanes
    return kind(channel, plan, store, clock, salt)


def hurry(lanes: Lanes) -> None:
    """No batch waits any more until it is full: these lanes are to become empty."""
    if isinstance(lanes, JoiningLanes):
        lanes.hurry()


@dataclass(slots=True)
class Joint:
    """How the send of one batch ended, for each of its members."""

    attempts: list[tuple[Item, Attempt]] = field(default_factory=list)
    #: They go with another batch.
    released: list[Item] = field(default_factory=list)
    #: The store does not let them be sent.
    refused: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class _Member:
    item: Item
    body: bytes = field(repr=False)


class JointSender(Sender):
    """Sends the deliveries of one destination, many in one batch."""

    def __init__(self, channel: str, plan: DestinationPlan, store: Store, clock: Clock, salt: bytes) -> None:
        super().__init__(channel, plan, store, clock, salt)
        self._join = plan.batch or JoinPlan()
        self.at_once = False  # nothing leaves without its batch

    async def send_all(self, items: Sequence[Item]) -> Joint:
        """Send what of these can be read and joined, once."""
        joint = Joint()
        members = await self._members(items, joint)
        if self.plan.on_unanswered != "repeat":
            members = await self._commit_all(members, joint)
        if not members:
            return joint
        begun = self.clock.time()
        outgoing = self._joined(members)
        facts = {"channel": self.channel, "destination": self.plan.name, "control_id": outgoing.control_id}
        log.info("batch.sending", **facts, messages=len(members), bytes=len(outgoing.body))
        result: Response | DeliveryError
        try:
            result = await self.plan.to.send(outgoing)
        except DeliveryError as error:
            result = error
        except asyncio.CancelledError:
            await asyncio.shield(self._all_interrupted(members))
            raise
        except Exception as error:  # noqa: BLE001 - a fault in a connector must not stop the lanes; the outcome is unknown
            log.error("delivery.internal_error", **facts, error=type(error).__name__, at=where(error))
            result = Unanswered(f"internal {type(error).__name__}")
        for member, each in zip(members, self._results(result, outgoing), strict=True):
            joint.attempts.append((member.item, self.outcome(member.item, each, member.body, begun)))
        return joint

    # -- what goes -------------------------------------------------------------------------------------------------

    async def _members(self, items: Sequence[Item], joint: Joint) -> list[_Member]:
        members: list[_Member] = []
        size, blocked, marks = 0, set[str](), b""
        for at, item in enumerate(items):
            if not blocked.isdisjoint(item.keys):
                joint.released.append(item)
                continue
            try:
                body = bytes(item.body or await self._body(item))
            except (StoreError, KeyError) as error:
                log.error("delivery.unreadable", **self.ids(item))
                decision = unread(error)
                joint.attempts.append((item, (self._failed(item, decision, item.attempts, None), None)))
                if decision.state is DeliveryState.QUEUED:
                    blocked.update(item.keys)  # what comes later of its keys waits
                continue
            size += len(body)
            if members and size > MOST:
                joint.released += items[at:]
                break
            # The header of the batch has the delimiters of its first message.
            if _fits(body, marks or _delimiters(body)):
                marks = marks or _delimiters(body)
                item.body = None
                members.append(_Member(item, body))
            else:
                log.error("delivery.not_joinable", **self.ids(item))
                joint.attempts.append((item, (self._failed(item, NOT_JOINABLE, item.attempts, None), None)))
        return members

    async def _commit_all(self, members: list[_Member], joint: Joint) -> list[_Member]:
        """Commit what must be on disk before the first byte leaves; those that the store lets go."""
        sendings = [Sending(each.item.delivery_id, self.clock.time(), each.item.attempts + 1) for each in members]
        with contextlib.suppress(DoesNotFit):
            await self._commit(*sendings)
            return await self._leaving(members, sendings, joint)
        kept: list[_Member] = []
        committed: list[Sending] = []
        for member, sending in zip(members, sendings, strict=True):
            try:
                await self._commit(sending)
            except DoesNotFit:
                joint.refused.append(member.item)
            except asyncio.CancelledError:
                await asyncio.shield(self.take_back(committed))
                raise
            else:
                kept.append(member)
                committed.append(sending)
        return await self._leaving(kept, committed, joint) if kept else kept

    async def _leaving(self, members: list[_Member], sendings: Sequence[Sending], joint: Joint) -> list[_Member]:
        """All of them, when they may leave; none where the destination was paused meanwhile."""
        if await self._in_turn(*sendings):
            return members
        joint.attempts += [(member.item, (self._put_back(member.item), None)) for member in members]
        return []

    def _joined(self, members: Sequence[_Member]) -> Outgoing:
        first = members[0].item
        head = header_of(members[0].body) or Header.empty()
        # Made of its members alone: after a crash the same ones are the same batch to the partner, and the same file.
        about = ",".join(f"{member.item.delivery_id}:{member.item.created_at}" for member in members)
        number = hashlib.sha256(about.encode()).hexdigest()[:19].upper()
        control_id = f"B{number}"
        now, parties = self.clock.now(), head.several((3, 4, 5, 6))
        batch = in_charset_of(head, [header_line("BHS", head.separators, parties, now, control_id)])
        file = b""
        if self._join.file:
            file = in_charset_of(head, [header_line("FHS", head.separators, parties, now, f"F{number}")])
        return Outgoing(
            join([member.body for member in members], batch, file),
            control_id,
            first.correlation_id,
            self.channel,
            self.plan.name,
            first.message_id,
            first.delivery_id,
            first.content_type,
            first.created_at,
            max(member.item.attempts for member in members) + 1,
            members=tuple((header_of(member.body) or Header.empty()).control_id for member in members),
        )

    # -- what came of it -------------------------------------------------------------------------------------------

    def _results(self, result: Response | DeliveryError, outgoing: Outgoing) -> list[Response | DeliveryError]:
        """What is told of each member: by an ack of its own, else by the one for the whole."""
        answered = None
        if isinstance(result, Response):
            try:
                answered = read_answer(result.body)
            except MalformedMessage:
                answered, result = None, Unanswered("malformed")
        if answered is None:
            return [result] * len(outgoing.members)
        otherwise: Response | DeliveryError = Unanswered("mismatch")
        if outgoing.control_id in answered.acks:
            otherwise = _told(answered.acks[outgoing.control_id])
        elif self._join.answer == "errors" and outgoing.control_id in answered.references:
            otherwise = Response(evidence=Evidence("AA"))
        return [_told(answered.acks[name]) if name in answered.acks else otherwise for name in outgoing.members]

    async def _all_interrupted(self, members: Sequence[_Member]) -> None:
        for member in members:
            await self.interrupted(member.item)


class JoiningLanes(Lanes):
    """The deliveries owed to one destination that takes them in batches."""

    _one_by_one = False
    _sends = JointSender
    _sender: JointSender

    def __init__(self, channel: str, plan: DestinationPlan, store: Store, clock: Clock, salt: bytes = b"") -> None:
        super().__init__(channel, plan, store, clock, salt)
        self._join = plan.batch or JoinPlan()
        self._most *= self._join.count
        #: By the delivery that its worker was given.
        self._batches: dict[int, list[Item]] = {}
        #: Until the first has waited long enough; until it is looked at how many may go.
        self._ripening: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._ripe = False

    @property
    def crowd(self) -> int:
        """As ever; what waits for its batch to become full is no crowd."""
        return max(0, super().crowd - self._join.count)

    def close(self) -> None:
        """Forget what was to come; the store has everything."""
        super().close()
        self._unripe()

    def hurry(self) -> None:
        """See ``hurry``."""
        self._join = replace(self._join, seconds=0.0)
        self._ripened()

    # -- which may go, and when ------------------------------------------------------------------------------------

    def _first(self) -> Item | None:
        """The next one, when enough wait or have waited long enough."""
        item = super()._first()
        if item is None or self._ripe:
            return item
        if len(self._window) - self.sending - len(self._timers) >= self._join.count:
            if not self.sending and not self._timers:
                return item
            # Some may stand behind one that is being sent or waits: how many may go is looked at now and then.
            if self._looking is None:
                self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)
        if self._ripening is None:
            self._ripening = asyncio.get_running_loop().call_later(self._join.seconds, self._ripened)
        return None

    def _look(self) -> None:
        self._looking = None
        item = super()._first()
        if item is not None and len(self._together(item)) == self._join.count:
            self._ripe = True
        self.dispatch()

    def _ripened(self) -> None:
        self._ripening, self._ripe = None, True
        self.dispatch()

    def _unripe(self) -> None:
        for timer in (self._ripening, self._looking):
            if timer is not None:
                timer.cancel()
        self._ripening, self._looking, self._ripe = None, None, False

    def _together(self, item: Item) -> list[Item]:
        return self._window.together(item, self._join.count, self._may_join)

    def _begin(self, item: Item) -> None:
        """It is sent, and with it what may go in the same batch."""
        self._unripe()
        super()._begin(item)
        batch = self._together(item)
        for other in batch:
            if other is not item:
                self._suspect(other)
                super()._begin(other)
        self._batches[item.delivery_id] = batch
        self._window.stirred = True  # others of it were offered

    def _may_join(self, item: Item) -> bool:
        return item.delivery_id not in self._timers and item.delivery_id not in self._withheld

    # -- the workers -----------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """One connection's worth of sending, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            items = self._batches.pop((await self._workers.turn()).delivery_id)
            try:
                joint = await self._sender.send_all(items)
            except BaseException:  # also a cancellation: whoever waits for the end of sends must not wait for these
                for _ in items:
                    self._end()
                raise
            self._last_outcome = loop.time()
            for item in joint.refused:
                self._refused(item, "sending")
            for item in joint.released:
                self._end()
                self._window.again(item)
            for item, (settle, error) in joint.attempts:
                attempted(self.pace, self.counts, settle, error, self._last_outcome)
                self._record(item, settle)


def _delimiters(body: bytes) -> bytes:
    return (header_of(body) or Header.empty()).separators.characters.encode()


def _fits(body: bytes, marks: bytes) -> bool:
    if not joinable(body, marks):
        return False
    try:
        frame(body)
    except MalformedMessage:
        return False
    return True


def _told(raw: bytes) -> Response | DeliveryError:
    try:
        return verdict(raw)
    except DeliveryError as error:
        return error
