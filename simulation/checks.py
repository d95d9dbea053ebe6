"""What must be true of every run, judged from outside: senders, partners, and what the store shows to anybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations_with_replacement

from engine.delivery import DELIVERY_MOVES, MESSAGE_MOVES, DeliveryState, MessageState
from engine.store.base import Find, Store
from simulation.ledger import Ledger, Message, Taken
from simulation.process import Shown
from simulation.workload import Channel, To, Workload

#: Event → the states in which its message may end.
_ENDS = {"S12": ("routed",), "A40": ("routed",), "S99": ("filtered",), "S66": ("failed", "routed")}
_NEGATIVE = ("AE", "AR", "CE", "CR")
_FINISHED = ("delivered", "discarded")
#: Between the keys of a delivery that has several.
_BETWEEN = "\x1e"


def _reachable(moves: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    reach = {state: {state, *after} for state, after in moves.items()}
    changed = True
    while changed:
        changed = False
        for known in reach.values():
            wider = known.union(*(reach[state] for state in known))
            changed = changed or wider != known
            known |= wider
    return {state: frozenset(known) for state, known in reach.items()}


#: Where nobody acts by hand a delivery that waits for a person stays as it is.
_BY_ITSELF = {
    state: after if state in (DeliveryState.QUEUED, DeliveryState.SENDING) else frozenset()
    for state, after in DELIVERY_MOVES.items()
}
_MESSAGE_BY_ITSELF = _reachable(
    {state: after if state is MessageState.RECEIVED else frozenset() for state, after in MESSAGE_MOVES.items()}
)
_DELIVERY_BY_ITSELF = _reachable(_BY_ITSELF)
_MESSAGE_BY_HAND, _DELIVERY_BY_HAND = _reachable(MESSAGE_MOVES), _reachable(DELIVERY_MOVES)  # type: ignore[arg-type]


def waits_for_an_answer(message: Message) -> bool:
    """Whether MSH-15 or MSH-16 makes a partner say that it took the message."""
    return message.asks("CA") or message.asks("AA")


class History:
    """What was true once and may be true no more, because it was old enough or because somebody said so."""

    def __init__(self, work: Workload, ledger: Ledger) -> None:
        self.ledger = ledger
        self.channels = {channel.name: channel for channel in work.channels}

    def kept(self, before: Shown, after: Shown) -> Iterator[str]:
        """What the store had shown is there after a restart, and moved only as the tables of the engine allow."""
        by_hand = {touched.delivery_id for touched in self.ledger.touched}
        for row_id, row in before.messages.items():
            if row_id not in after.messages:
                if not self._was_finished(before, row_id) or not self.may_be_pruned(row.control_id):
                    yield f"message {row.control_id} ({row.state}) was shown and is gone"
                continue
            reach = _MESSAGE_BY_HAND if row_id in self.ledger.reopened else _MESSAGE_BY_ITSELF
            if after.messages[row_id].state not in reach[MessageState(row.state)]:
                yield f"message {row.control_id} went from {row.state} to {after.messages[row_id].state}"
        for row_id, owed in before.deliveries.items():
            told = f"delivery of {owed.message_id} to {owed.destination}"
            if row_id not in after.deliveries:
                reopened = owed.message_id in self.ledger.reopened and owed.state in ("held", "discarded")
                if owed.message_id in after.messages and not reopened:
                    yield f"{told} ({owed.state}) was shown and is gone"
                continue
            acted = row_id in by_hand or (owed.channel, owed.destination) in self.ledger.cleared
            reach_of = _DELIVERY_BY_HAND if acted else _DELIVERY_BY_ITSELF
            if after.deliveries[row_id].state not in reach_of[DeliveryState(owed.state)]:
                yield f"{told} went from {owed.state} to {after.deliveries[row_id].state}"

    def acknowledged(self, shown: Shown) -> Iterator[str]:
        """Whatever a sender was told yes about is in the store."""
        accepted = {row.control_id for row in shown.messages.values() if row.is_taken}
        for control_id in self.ledger.messages:
            if control_id not in accepted and self.ledger.positive(control_id) and not self.may_be_pruned(control_id):
                yield f"{control_id} was acknowledged and is lost"

    def may_be_pruned(self, control_id: str) -> bool:
        """Whether a message is old enough, and finished as far as anybody outside can tell."""
        message = self.ledger.messages.get(control_id)
        if message is None or not self.ledger.attempts[control_id]:
            return False
        channel = self.channels[message.channel]
        age = self.ledger.now() - self.ledger.attempts[control_id][0] + self.ledger.forwards
        if channel.keep is None or age < channel.keep:
            return False
        return message.event in ("S99", "S66") or all(self._is_over(message, channel, to) for to in channel.outlets)

    def _is_over(self, message: Message, channel: Channel, to: To) -> bool:
        if to is channel.acks:
            return True
        ledger, control_id = self.ledger, message.control_id
        if any(item.partner == to.partner and item.control_id == control_id and item.took for item in ledger.taken):
            return True
        if (channel.name, to.name) in ledger.absent | ledger.cleared or not waits_for_an_answer(message):
            return True
        return any(
            touched.what == "discard" and (touched.control_id, touched.destination) == (control_id, to.name)
            for touched in ledger.touched
        )

    @staticmethod
    def _was_finished(shown: Shown, message_id: int) -> bool:
        if shown.messages[message_id].state == "received":
            return False
        return all(row.state in _FINISHED for row in shown.deliveries.values() if row.message_id == message_id)


class Account:
    """Every message of a run that is over, accounted for."""

    def __init__(self, work: Workload, ledger: Ledger, shown: Shown) -> None:
        self.work, self.ledger, self.shown = work, ledger, shown
        self.history = History(work, ledger)
        self.channels = self.history.channels
        self.rows: dict[str, list[int]] = defaultdict(list)
        for row_id, row in sorted(shown.messages.items()):
            if row.is_taken:
                self.rows[row.control_id].append(row_id)
        self.deliveries: dict[tuple[int, str], list[int]] = defaultdict(list)
        for row_id, owed in shown.deliveries.items():
            self.deliveries[owed.message_id, owed.destination].append(row_id)
        self.taken: dict[tuple[str, str], list[Taken]] = defaultdict(list)
        for taken in ledger.taken:
            self.taken[taken.partner, taken.control_id].append(taken)
        self.by_hand = {touched.delivery_id for touched in ledger.touched} | {
            row_id for row_id, owed in shown.deliveries.items() if (owed.channel, owed.destination) in ledger.cleared
        }

    def violations(self) -> Iterator[str]:
        """Everything that is wrong."""
        yield from self.history.acknowledged(self.shown)
        for message in self.ledger.messages.values():
            yield from self._received(message)
            channel = self.channels[message.channel]
            for to in channel.destinations:
                yield from self._delivered(message, channel, to)
                yield from self._duplicates(message, to)
        for channel in self.work.channels:
            for to in channel.destinations:
                yield from self._order(channel, to)
        yield from self._senders_order()
        yield from self._strangers()

    # -- in --------------------------------------------------------------------------------------------------------

    def _received(self, message: Message) -> Iterator[str]:
        control_id, channel = message.control_id, self.channels[message.channel]
        attempts, heard = len(self.ledger.attempts[control_id]), self.ledger.heard[control_id]
        rows = self.rows[control_id]
        for row_id in rows:
            state = self.shown.messages[row_id].state
            if state not in _ENDS[message.event]:
                yield f"{control_id} ended {state}"
        if channel.ack == "received":
            negative = sum(code in _NEGATIVE for code in heard)
            if len(rows) > attempts - negative:
                yield f"{control_id} is there {len(rows)} times: sent {attempts} times, refused {negative} times"
        if channel.duplicates and any(self.shown.messages[row_id].ack not in _NEGATIVE for row_id in rows[:-1]):
            yield f"{control_id} was taken, and taken again when it came again"
        if not rows and control_id not in self.ledger.given_up and not self.history.may_be_pruned(control_id):
            yield f"{control_id} is nowhere, and its sender has not given it up"

    # -- out -------------------------------------------------------------------------------------------------------

    def _delivered(self, message: Message, channel: Channel, to: To) -> Iterator[str]:
        control_id = message.control_id
        taken = self.taken[to.partner, control_id]
        claimed = 0
        for row_id in self.rows[control_id]:
            if self.shown.messages[row_id].state != "routed":
                continue
            owed = self.deliveries[row_id, to.name]
            if len(owed) != 1:
                if owed or (channel.name, to.name) not in self.ledger.absent:
                    yield f"{control_id} is owed to {to.name} {len(owed)} times"
                continue
            row = self.shown.deliveries[owed[0]]
            claimed += row.state == "delivered"
            if row.state == "sending" or (row.state == "discarded" and owed[0] not in self.by_hand):
                yield f"{control_id} to {to.name} ended {row.state}"
            if row.state == "parked" and not row.cause.startswith(("rejected", "expired")):
                yield f"{control_id} to {to.name} is parked for {row.cause!r}"
            yield from self._given_up(owed[0], control_id, to)
        if waits_for_an_answer(message) and claimed > sum(item.took and item.answer == "AA" for item in taken):
            yield f"{control_id} counts as delivered to {to.name} {claimed} times, which never took it so often"

    def _given_up(self, delivery_id: int, control_id: str, to: To) -> Iterator[str]:
        told = self.ledger.discarded.get(delivery_id)
        if told is None or delivery_id in self.ledger.wanted or len(self.rows[control_id]) != 1:
            return
        if any(item.control_id == control_id and item.at > told for item in self.ledger.departed[to.port]):
            yield f"{control_id} left for {to.name} after somebody was told that it is given up"

    def _duplicates(self, message: Message, to: To) -> Iterator[str]:
        control_id = message.control_id
        rows = [owed for row_id in self.rows[control_id] for owed in self.deliveries[row_id, to.name]]
        took = [item for item in self.taken[to.partner, control_id] if item.took]
        if len(took) <= len(rows) or self.history.may_be_pruned(control_id):
            return
        if to.on_unanswered == "hold" and self.by_hand.isdisjoint(rows):
            yield f"{to.name} took {control_id} {len(took)} times although unanswered messages are held"
        if not any(self.shown.deliveries[row_id].may_be_duplicated for row_id in rows):
            yield f"{to.name} took {control_id} {len(took)} times and no delivery is marked"

    def _order(self, channel: Channel, to: To) -> Iterator[str]:
        """What leaves for a partner leaves in the order of commit 1, within its keys.

        Repetitions too, unless sends may run ahead: after a crash several of a lane go again, in their order.
        """
        if channel.order == "none":
            return
        place: dict[str, tuple[set[str], int]] = {}
        anew = {touched.delivery_id for touched in self.ledger.touched if touched.state != "held"}
        for row_id, row in self.shown.deliveries.items():
            control_id = self.shown.messages[row.message_id].control_id
            if (row.channel, row.destination) != (channel.name, to.name) or row_id in anew:
                continue  # what a person sends again cannot go back before what was sent meanwhile
            if len(self.rows[control_id]) == 1 and (channel.keep is None or len(self.ledger.attempts[control_id]) == 1):
                keys = self.ledger.messages[control_id].keys if channel.order == "key" else {""}
                place[control_id] = keys, row_id
        latest: dict[str, tuple[int, str]] = {}
        left: set[str] = set()
        for departed in self.ledger.departed[to.port]:
            if departed.control_id not in place or (to.ahead > 1 and departed.control_id in left):
                continue
            left.add(departed.control_id)
            keys, row_id = place[departed.control_id]
            for key in sorted(keys):
                before = latest.get(key)
                if before is not None and before[0] > row_id:
                    yield f"{departed.control_id} left for {to.name} after {before[1]} of the same key"
                latest[key] = max(before or (0, ""), (row_id, departed.control_id))

    def _senders_order(self) -> Iterator[str]:
        """What one sender sent one by one is in the store in its order."""
        for feed in self.work.feeds:
            if feed.window > 1:
                continue
            latest, who = 0, ""
            for message in feed.messages:
                rows = self.rows[message.control_id]
                if len(rows) != 1 or message.control_id in self.ledger.given_up:
                    continue
                if rows[0] < latest:
                    yield f"{message.control_id} came in before {who}, which was sent earlier"
                latest, who = max((latest, who), (rows[0], message.control_id))

    def _strangers(self) -> Iterator[str]:
        for (partner, control_id), taken in self.taken.items():
            if not taken or taken[0].acknowledges[1] or self.rows[control_id] or self.history.may_be_pruned(control_id):
                continue
            yield f"{partner} got {control_id}, which the store does not know"


def account(work: Workload, ledger: Ledger, shown: Shown) -> Iterator[str]:
    """Everything that is wrong with what came in and what went out."""
    return Account(work, ledger, shown).violations()


def blocked(shown: Shown) -> Iterator[int]:
    """Deliveries that still have to go, and that nothing held stands in front of."""
    held: set[tuple[str, str, str]] = set()
    for row_id in sorted(shown.deliveries):
        row = shown.deliveries[row_id]
        lanes = {(row.channel, row.destination, key) for key in row.key.split(_BETWEEN)}
        if row.state == "held":
            held |= lanes
        elif row.state in ("queued", "sending"):
            if held.isdisjoint(lanes):
                yield row_id
            else:
                held |= lanes  # whatever comes behind it waits with it


def searches(store: Store, shown: Shown) -> Iterator[str]:
    """Whatever the clock has done, a search by time finds what was received in it, and nothing else."""
    times = sorted({row.received_at for row in shown.messages.values()})
    for since, until in combinations_with_replacement(times[:: max(1, len(times) // 3)], 2):
        found = {row.message_id for row in store.find(Find(since=since, until=until, limit=10_000))}
        meant = {row_id for row_id, row in shown.messages.items() if since <= row.received_at <= until}
        if found != meant:
            yield f"a search from {since} until {until} finds {len(found)} messages, not {len(meant)}"
