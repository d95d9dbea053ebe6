"""The account: what became of every message, from what its sender, its partners and the engine itself say of it.

Pure: it reads a Journal and the engine's own rows, and finds what must never be. Lost, out of order and twice without a
mark are counted apart, since each breaks a promise of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .journal import Arrival, Journal, Sent
from .messages import CLASSES, control_id
from .site import ORDERED

#: Destinations of the other channels.
OTHERS = {
    "orders": ("webhook", "slow"),
    "results": ("results",),
    "moving": ("mover",),
    "later": ("late",),
    "again": ("again",),
}
POSITIVE = ("AA", "CA")
#: States in which a person sees a delivery, and why.
VISIBLE = ("held", "parked", "unknown")
#: Destinations whose lane is one for all keys.
ONE_LANE = ("webhook", "slow")

NUMBERS = (
    *("sent", "acknowledged", "delivered", "visible", "filtered", "failed", "bookings", "queries"),
    *("acks", "repetitions"),
)
#: Begins the cause of a message that came before.
DUPLICATE = "duplicate "
#: (destination, MSH-10) → the engine's delivery rows in full
Details = Callable[[str, str], list[dict[str, Any]]]
#: (partner, number)
Taken = frozenset[tuple[str, int]]
#: channel → MSH-10 → the engine's messages
Rows = Mapping[str, Mapping[str, list[dict[str, Any]]]]


@dataclass(slots=True)
class Account:
    """What was found."""

    sent: int = 0
    acknowledged: int = 0
    delivered: int = 0
    visible: int = 0
    filtered: int = 0
    failed: int = 0
    bookings: int = 0
    queries: int = 0
    #: Application acks that came on a connection of their own.
    acks: int = 0
    #: Messages that their sender repeated.
    repetitions: int = 0
    #: Messages that reached a partner again though it had not refused them: why → how many.
    repeated: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    #: Answers that contradict each other, deliveries of what was refused, what nobody sent.
    wrong: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """Everything that must never be."""
        kinds = ("lost", "out_of_order", "unexplained", "wrong")
        return [f"{kind}: {text}" for kind in kinds for text in getattr(self, kind)]

    def add(self, other: "Account") -> None:
        """Sum up two rounds."""
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.repeated.update(other.repeated)
        for name in ("lost", "out_of_order", "unexplained", "wrong"):
            getattr(self, name).extend(getattr(other, name))


def account(journal: Journal, rows: Rows, details: Details) -> Account:
    """The account of one round; ``rows`` are the engine's messages of it."""
    found = Account(sent=len(journal.sent), queries=journal.queries, wrong=list(journal.wrong))
    taken = _taken(journal)
    for sent in journal.sent.values():
        _message(found, taken, rows, sent)
    for name, arrivals in journal.arrivals.items():
        _order(found, journal, name, arrivals)
        _repeats(found, journal, name, arrivals, details)
    _bookings(found, journal)
    _acks(found, journal, rows)
    return found


def wanted_by(sent: Sent) -> tuple[str, ...]:
    """The destinations that a message is owed to."""
    message = sent.message
    if message.channel != "notes":
        return OTHERS[message.channel]
    return () if message.letter == "X" else CLASSES[message.letter]


def _message(found: Account, taken: Taken, rows: Rows, sent: Sent) -> None:
    message, answers = sent.message, sent.answers
    again = message.channel == "again"
    kept = rows[message.channel].get(message.control_id, [])
    if again:
        found.repetitions += max(0, len(kept) - 1)
        kept = [row for row in kept if not row["cause"].startswith(DUPLICATE)]
    if len(set(answers)) > 1 if again else not _agree(answers):
        found.wrong.append(f"{message.control_id} of {message.channel} was answered {answers}")
    if len(kept) > 1:
        found.wrong.append(f"{message.control_id} of {message.channel} was stored {len(kept)} times")
    if answers == ["AR"] and kept and kept[0]["state"] != "refused":
        found.wrong.append(f"{message.control_id} was refused and is in the store all the same")
    told = answers[-1:] if message.channel != "later" else []  # there the store holds the ack that comes later
    if told and kept and kept[0]["ack"] and not _agree([*told, kept[0]["ack"]], same=True):
        found.wrong.append(f"{message.control_id} was answered {answers}, and the store says {kept[0]['ack']}")
    if not any(answer in POSITIVE for answer in answers):
        return
    found.acknowledged += 1
    if not kept:
        found.lost.append(f"{message.control_id} of {message.channel} was acknowledged and is not in the store")
        return
    row = kept[0]
    states = {delivery["destination"]: delivery["state"] for delivery in row["deliveries"]}
    wanted = wanted_by(sent)
    expected = "failed" if message.letter == "X" else "routed" if wanted else "filtered"
    if row["state"] != expected:
        found.lost.append(f"{message.control_id} of {message.channel} is {row['state']}, not {expected}")
    found.filtered += row["state"] == "filtered"
    found.failed += row["state"] == "failed"
    for name in wanted:
        _delivery(found, taken, name, message.number, states.get(name, "missing"))
        if name == "hop":
            passed_on = rows["second"].get(message.control_id, [])
            beyond = [item["state"] for other in passed_on for item in other["deliveries"]]
            _delivery(found, taken, "second", message.number, "delivered" if "delivered" in beyond else str(beyond))


def _agree(answers: list[str], *, same: bool = False) -> bool:
    """Whether a sender was told one thing: one ack, or an accept ack and one application ack."""
    if same:
        return len({answer[1:] for answer in answers}) == 1
    return len(answers) < 2 or (len(answers) == 2 and answers[0] == "CA" and answers[1] in ("AA", "AE"))


def _delivery(found: Account, taken: Taken, name: str, number: int, state: str) -> None:
    if state == "delivered" and (name == "hop" or (name, number) in taken):
        found.delivered += 1
    elif state == "delivered":
        found.lost.append(f"{control_id(number)} counts as delivered to {name}, which never took it")
    elif state in VISIBLE:
        found.visible += 1
    else:
        found.lost.append(f"{control_id(number)} is {state} at {name}")


def _taken(journal: Journal) -> Taken:
    """Everything that a partner said yes to."""
    return frozenset(
        (name, item.number) for name, items in journal.arrivals.items() for item in items if item.answer == "AA"
    )


# -- order ---------------------------------------------------------------------------------------------------------


def _lanes(name: str, arrivals: list[Arrival]) -> Iterator[list[Arrival]]:
    lanes: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        lanes["" if name in ONE_LANE else arrival.key].append(arrival)
    yield from lanes.values()


def _order(found: Account, journal: Journal, name: str, arrivals: list[Arrival]) -> None:
    if not ORDERED[name]:
        return
    for lane in _lanes(name, arrivals):
        # What a person sent again comes where it comes.
        by_itself = [item for item in lane if (name, item.number) not in journal.resent]
        for before, after in pairwise(by_itself):
            if after.number < before.number:
                found.out_of_order.append(f"{name}: {after.number} came after {before.number} of key {after.key}")
        if name == "cautious":
            for before, after in pairwise(lane):
                if before.answer != "AA" and after.number != before.number:
                    found.out_of_order.append(f"{name}: {after.number} passed {before.number}, which must be held")


# -- what came twice -----------------------------------------------------------------------------------------------


def _repeats(found: Account, journal: Journal, name: str, arrivals: list[Arrival], details: Details) -> None:
    last: dict[int, Arrival] = {}
    for arrival in arrivals:
        if arrival.number not in journal.sent:
            if arrival.number <= journal.accounted and (name, arrival.number) in journal.resent:
                continue  # an old one that was parked and is sent again by a person
            found.wrong.append(f"{name} got {arrival.number}, which nobody sent")
        before = last.get(arrival.number)
        last[arrival.number] = arrival
        if before is None or before.answer not in ("AA", ""):
            continue
        if (name, arrival.number) in journal.resent:
            found.repeated["sent again by a person"] += 1
            continue
        # What goes through two channels is marked where the outcome was unknown: between them.
        marked_at = ("second", "hop") if name == "second" else (name,)
        marked = any(
            row["may_be_duplicated"] for place in marked_at for row in details(place, control_id(arrival.number))
        )
        why = "answer lost in a kill" if arrival.epoch != before.epoch else "no answer in time"
        if marked:
            found.repeated[f"{why}, marked"] += 1
        else:
            found.unexplained.append(f"{name} got {arrival.number} again ({why}), and no mark says so")


# -- acks on a connection of their own -----------------------------------------------------------------------------


def _acks(found: Account, journal: Journal, rows: Rows) -> None:
    """Who was told CA is told the rest: at least once, and each time the same."""
    for number, acks in journal.acks.items():
        found.acks += 1
        if len(set(acks)) > 1:
            found.wrong.append(f"{control_id(number)} has the application acks {sorted(set(acks))}")
        if number not in journal.sent:
            found.wrong.append(f"an application ack for {number}, which nobody sent")
        for row in rows["later"].get(control_id(number), []):
            if row["ack"] != acks[0][0]:
                found.wrong.append(f"{control_id(number)} got the application ack {acks[0][0]}, not {row['ack']}")
    for sent in journal.sent.values():
        if sent.message.channel == "later" and "CA" in sent.answers and sent.message.number not in journal.acks:
            found.lost.append(f"the application ack of {sent.message.control_id}")


def _bookings(found: Account, journal: Journal) -> None:
    for booking in journal.bookings.values():
        found.bookings += 1
        number = booking.number
        definite = {answer for answer in booking.answers if answer[0] in (201, 502)}
        if len(definite) > 1:
            found.wrong.append(f"booking {number} was answered {sorted(definite)}")
        odd = {status for status, _ in booking.answers} - {201, 409, 429, 502, 503, 504}
        if odd:
            found.wrong.append(f"booking {number} was answered {sorted(odd)}")
        requests = journal.requests.get(number, [])
        if len({control for control, _ in requests}) > 1:
            found.wrong.append(f"booking {number} reached the RIS under {len({c for c, _ in requests})} MSH-10s")
        for status, confirmation in definite:
            if status == 201 and (confirmation, "AA") not in requests:
                found.lost.append(f"booking {number} was confirmed and the RIS never took it")
