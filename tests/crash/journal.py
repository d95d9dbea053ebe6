"""What really happened, as the ends of the engine saw it: what was sent and answered, what arrived and what it got.

Times are those of the harness (``time.monotonic``). ``epoch`` counts the runs of the engine: two arrivals in different
epochs have a kill between them.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from .messages import Message


@dataclass(slots=True)
class Sent:
    """A message that left a sender, with every answer it got."""

    message: Message
    #: Codes of MSA-1, in order of arrival.
    answers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Arrival:
    """A message that reached a partner."""

    number: int
    key: str
    epoch: int
    #: Place among everything that reached this partner.
    place: int
    #: What the partner said: ``AA``, ``AE``, …; empty when it said nothing.
    answer: str = ""


@dataclass(slots=True)
class Booking:
    """A request under an idempotency key, repeated by its caller until the outcome is known."""

    number: int
    #: (status, confirmation) of every answer.
    answers: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Journal:
    """All of it since the last account."""

    sent: dict[int, Sent] = field(default_factory=dict)
    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    bookings: dict[int, Booking] = field(default_factory=dict)
    #: booking number → MSH-10s under which it reached the RIS, with what it said
    requests: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    #: deliveries a person sent again: (destination, number)
    resent: set[tuple[str, int]] = field(default_factory=set)
    #: number → (MSA-1, MSH-10) of each application ack that came on a connection of its own
    acks: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    queries: int = 0
    #: The highest number of the rounds before.
    accounted: int = 0
    epoch: int = 0
    #: Things that must never happen, seen as they happened.
    wrong: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Begin anew after an account."""
        self.accounted = max([self.accounted, *self.sent])
        for kept in (self.sent, self.arrivals, self.bookings, self.requests, self.resent, self.acks):
            kept.clear()
        self.queries = 0
