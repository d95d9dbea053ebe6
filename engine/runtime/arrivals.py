"""The messages of one channel that wait to be routed, in the order of commit 1; memory has the first of them.

The store has all of them in state received. While more wait than memory keeps, those that come are left there and read
when their turn is near. Who waits for the ack of one is ``acknowledge.py``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.envelope import Envelope
from engine.hl7.header import Header
from engine.runtime.acknowledge import UNDECIDED
from engine.store.base import MessageRow

#: Envelopes kept in memory while they wait; of others the bytes are read back from the store.
KEPT = 2000
#: Messages in memory; beyond it they are left in the store.
ROOM = 10_000
#: Messages read at once.
PAGE = 200


@dataclass(slots=True)
class Arrival:
    """A message whose turn to be routed will come."""

    message_id: int
    correlation_id: str
    key: str = field(repr=False)
    envelope: Envelope | None
    #: Its ack waits for more than commit 1 and is not decided.
    undecided: bool
    #: Nobody waits for its commit who came before it.
    large: bool = False
    #: Its MSH as it was received, where its bytes may not be in the store yet.
    header: Header | None = None

    @classmethod
    def from_row(cls, row: MessageRow) -> Arrival:
        """The arrival of a stored message."""
        return cls(row.message_id, row.correlation_id, row.key, None, row.ack in UNDECIDED)


class Arrivals:
    """A queue. ``read(after, limit)`` gives messages in state received in order of ids."""

    def __init__(self, read: Callable[[int, int], Sequence[MessageRow]], room: int = ROOM, page: int = PAGE) -> None:
        self._read, self._room, self._page = read, room, page
        self._queue: deque[Arrival] = deque()
        self._seen = 0
        #: The store may have more behind what was looked at.
        self._behind = True

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def empty(self) -> bool:
        """Whether nothing waits, here or in the store."""
        return not self._queue and not self._behind

    def push(self, arrival: Arrival) -> None:
        """Take in what was just committed; calls come in the order of commit 1."""
        if not self._behind and arrival.message_id > self._seen:
            if len(self._queue) < self._room:
                if len(self._queue) >= KEPT:
                    arrival.envelope = None
                self._seen = arrival.message_id
                self._queue.append(arrival)
                return
            self._behind = True

    def again(self, row: MessageRow) -> None:
        """Take in a message that a person reopened, at the end of what is here."""
        if not self._behind or row.message_id <= self._seen:
            self._queue.append(Arrival.from_row(row))

    def put_back(self, arrival: Arrival) -> None:
        """It is the next again."""
        self._queue.appendleft(arrival)

    def next(self) -> Arrival | None:
        """The next in order; None when nothing waits. Raises StoreError."""
        if not self._queue and self._behind:
            rows = self._read(self._seen, self._page)
            self._queue.extend(Arrival.from_row(row) for row in rows)
            self._seen = rows[-1].message_id if rows else self._seen
            self._behind = len(rows) == self._page
        return self._queue.popleft() if self._queue else None
