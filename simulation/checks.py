"""What must be true of every run, judged from outside: senders, partners, and what the store shows to anybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from engine.delivery import DELIVERY_MOVES, MESSAGE_MOVES, DeliveryState, MessageState
from simulation.ledger import Ledger, Message, Taken
from simulation.process import Shown
from simulation.workload import Channel, To, Workload

_ENDS = {"S12": "routed", "S99": "filtered", "S66": "failed"}


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


#: Nobody acts by hand in a simulation: a delivery that waits for a person stays as it is.
_BY_ITSELF = {
    state: after if state in (DeliveryState.QUEUED, DeliveryState.SENDING) else frozenset()
    for state, after in DELIVERY_MOVES.items()
}
_MESSAGE_REACH = _reachable(
    {state: after if state is MessageState.RECEIVED else frozenset() for state, after in MESSAGE_MOVES.items()}
)
_DELIVERY_REACH = _reachable(_BY_ITSELF)


def kept(before: Shown, after: Shown) -> Iterator[str]:
    """What the store had shown is there after a restart, and moved only as the tables of the engine allow."""
    for row_id, (control_id, state) in before.messages.items():
        if row_id not in after.messages:
            yield f"message {control_id} ({state}) was shown and is gone"
        elif after.messages[row_id][1] not in _MESSAGE_REACH[MessageState(state)]:
            yield f"message {control_id} went from {state} to {after.messages[row_id][1]}"
    for row_id, (message_id, destination, state, *_) in before.deliveries.items():
        if row_id not in after.deliveries:
            yield f"delivery of {message_id} to {destination} ({state}) was shown and is gone"
        elif after.deliveries[row_id][2] not in _DELIVERY_REACH[DeliveryState(state)]:
            yield f"delivery of {message_id} to {destination} went from {state} to {after.deliveries[row_id][2]}"


def acknowledged(ledger: Ledger, shown: Shown) -> Iterator[str]:
    """Whatever a sender was told yes about is in the store."""
    accepted = {control_id for control_id, state in shown.messages.values() if state != "refused"}
    for control_id in ledger.messages:
        if ledger.positive(control_id) and control_id not in accepted:
            yield f"{control_id} was acknowledged and is lost"


class Account:
    """Every message of a run that is over, accounted for."""

    def __init__(self, work: Workload, ledger: Ledger, shown: Shown) -> None:
        self.work, self.ledger, self.shown = work, ledger, shown
        self.channels = {channel.name: channel for channel in work.channels}
        self.rows: dict[str, list[int]] = defaultdict(list)
        for row_id, (control_id, _) in shown.messages.items():
            self.rows[control_id].append(row_id)
        self.deliveries: dict[tuple[int, str], list[int]] = defaultdict(list)
        for row_id, (message_id, destination, *_) in shown.deliveries.items():
            self.deliveries[message_id, destination].append(row_id)
        self.taken: dict[tuple[str, str], list[Taken]] = defaultdict(list)
        for taken in ledger.taken:
            self.taken[taken.partner, taken.control_id].append(taken)

    def violations(self) -> Iterator[str]:
        """Everything that is wrong."""
        yield from acknowledged(self.ledger, self.shown)
        for message in self.ledger.messages.values():
            yield from self._received(message)
            yield from self._acks(message)
            channel = self.channels[message.channel]
            for to in channel.destinations:
                yield from self._delivered(message, to)
                yield from self._duplicates(message, to)
        for channel in self.work.channels:
            for to in channel.destinations:
                yield from self._order(channel, to)
        yield from self._senders_order()
        yield from self._strangers()

    # -- in --------------------------------------------------------------------------------------------------------

    def _received(self, message: Message) -> Iterator[str]:
        control_id = message.control_id
        attempts, heard = len(self.ledger.attempts[control_id]), self.ledger.heard[control_id]
        rows = [row_id for row_id in self.rows[control_id] if self.shown.messages[row_id][1] != "refused"]
        for row_id in rows:
            state = self.shown.messages[row_id][1]
            if state != _ENDS[message.event]:
                yield f"{control_id} ended {state}, not {_ENDS[message.event]}"
        if self.channels[message.channel].ack == "received":
            negative = sum(code not in ("AA", "CA") for code in heard)
            if len(rows) > attempts - negative:
                yield f"{control_id} is there {len(rows)} times: sent {attempts} times, refused {negative} times"
        if not rows and control_id not in self.ledger.given_up:
            yield f"{control_id} is nowhere, and its sender has not given it up"

    def _acks(self, message: Message) -> Iterator[str]:
        codes = self.ledger.acknowledged[message.control_id]
        if self.channels[message.channel].ack == "received" and message.event != "S66":
            first = next((at for at, code in enumerate(codes) if code in ("AA", "CA")), len(codes))
            if any(code not in ("AA", "CA") for code in codes[first:]) and self.strict_acks:
                yield f"{message.control_id} was acknowledged twice differently: {' '.join(codes)}"

    #: Whether a repetition is known again as the message it repeats.
    strict_acks = False
    #: Whether what was on its way when the engine died is marked when it is sent again.
    marked_after_a_crash = True

    # -- out -------------------------------------------------------------------------------------------------------

    def _delivered(self, message: Message, to: To) -> Iterator[str]:
        control_id = message.control_id
        taken = self.taken[to.name, control_id]
        claimed = 0
        for row_id in self.rows[control_id]:
            if self.shown.messages[row_id][1] != "routed":
                continue
            owed = self.deliveries[row_id, to.name]
            if len(owed) != 1:
                yield f"{control_id} is owed to {to.name} {len(owed)} times"
                continue
            _, _, state, _, _, cause = self.shown.deliveries[owed[0]]
            claimed += state == "delivered"
            if state in ("sending", "discarded"):
                yield f"{control_id} to {to.name} ended {state}"
            if state == "parked" and not cause.startswith(("rejected", "expired")):
                yield f"{control_id} to {to.name} is parked for {cause!r}"
        if claimed > sum(item.took and item.answer == "AA" for item in taken):
            yield f"{control_id} counts as delivered to {to.name} {claimed} times, which never took it so often"

    def _duplicates(self, message: Message, to: To) -> Iterator[str]:
        control_id = message.control_id
        rows = [row_id for row_id in self.rows[control_id] for row_id in self.deliveries[row_id, to.name]]
        took = [item for item in self.taken[to.name, control_id] if item.took]
        if len(took) <= len(rows):
            return
        if to.on_unanswered == "hold":
            yield f"{to.name} took {control_id} {len(took)} times although unanswered messages are held"
        lives = {departed.life for departed in self.ledger.departed[to.port] if departed.control_id == control_id}
        if len(lives) > 1 and not self.marked_after_a_crash:
            return
        if not any(self.shown.deliveries[row_id][4] for row_id in rows):
            yield f"{to.name} took {control_id} {len(took)} times and no delivery is marked"

    def _order(self, channel: Channel, to: To) -> Iterator[str]:
        """What leaves for a partner leaves in the order of commit 1, within its key; repetitions included."""
        if channel.order == "none":
            return
        place: dict[str, tuple[str, int]] = {}
        for row_id, (message_id, destination, *_) in self.shown.deliveries.items():
            control_id = self.shown.messages[message_id][0]
            if destination == to.name and len(self.rows[control_id]) == 1:
                key = self.ledger.messages[control_id].key if channel.order == "key" else ""
                place[control_id] = key, row_id
        latest: dict[str, tuple[int, str]] = {}
        for departed in self.ledger.departed[to.port]:
            if departed.control_id not in place:
                continue
            key, row_id = place[departed.control_id]
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
            if taken and not self.rows[control_id]:
                yield f"{partner} got {control_id}, which the store does not know"


def blocked(shown: Shown) -> Iterator[int]:
    """Deliveries that still have to go, and that nothing held stands in front of."""
    held: set[tuple[str, str]] = set()
    for row_id in sorted(shown.deliveries):
        _, destination, state, key, *_ = shown.deliveries[row_id]
        if state == "held":
            held.add((destination, key))
        elif state in ("queued", "sending") and (destination, key) not in held:
            yield row_id
