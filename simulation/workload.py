"""What a seed chose, as values (``choose.py`` makes them): channels, senders, tempers, weather, people, deaths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simulation.disk import Trouble
from simulation.ledger import Message
from simulation.network import Weather
from simulation.partners import Temper

#: Seconds of ``ack: delivered``.
ACK_DEADLINE = 4.0
#: Seconds in which the engine may connect to a partner.
CONNECT_TIMEOUT = 1.0
#: Name of the destination that application acks on a connection of their own are owed to.
ACKS = "acks"


@dataclass(frozen=True)
class To:
    """One destination."""

    name: str
    port: int
    on_unanswered: Literal["repeat", "hold"]
    connections: int
    timeout: float
    keep: bool
    attempts: int | None
    temper: Temper
    #: Sends a second at most.
    rate: float | None = None
    #: Seconds between the end of a send and the next.
    delay: float = 0.0
    #: Sends of a lane whose outcomes are not committed.
    ahead: int = 1

    @property
    def partner(self) -> str:
        """Who listens there; names of destinations are a channel's own."""
        return f"{self.name}:{self.port}"


@dataclass(frozen=True)
class Channel:
    """One channel."""

    name: str
    port: int
    ack: Literal["received", "routed", "delivered"]
    order: Literal["received", "key", "none"]
    on_error: Literal["park", "hold"]
    destinations: tuple[To, ...]
    #: A message that comes again gets the ack of the first one.
    duplicates: bool = False
    #: Where the application acks of enhanced mode go; None: to the connection of the message.
    acks: To | None = None
    #: Its steps are pure: where nothing is before it a message is routed as it comes, in one commit.
    straight: bool = True
    #: Seconds that finished messages are kept; None for ever.
    keep: float | None = None

    @property
    def outlets(self) -> tuple[To, ...]:
        """Everything that is sent to."""
        return self.destinations if self.acks is None else (*self.destinations, self.acks)


@dataclass(frozen=True)
class Feed:
    """One sender's messages."""

    name: str
    port: int
    window: int
    #: Seconds the sender waits for an acknowledgement.
    ack_timeout: float
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Death:
    """How and when the engine's process ends."""

    how: Literal["power", "kill", "stop"]
    #: Seconds after its start; or, when given, the loop's step or the disk's operation since then.
    after: float
    step: int | None = None
    operation: int | None = None
    #: Or so many seconds after an fsync has failed.
    after_failure: float | None = None
    pause: float = 1.0


@dataclass(frozen=True)
class Act:
    """Something that a person does; which message, delivery or channel it is about is found when it happens."""

    at: float
    what: str
    #: Between 0 and 1: which of those that there are.
    pick: float
    #: Seconds after which the person hangs up, whatever has become of it.
    patience: float | None = None


@dataclass(frozen=True)
class Writing:
    """The process that writes, and what becomes of it."""

    #: It is started when so many batches came …
    many: int = 1
    #: … and ends when none has come for so many seconds; after a death none is started for so many.
    idle: float = 60.0
    pause: float = 0.0
    #: Batches of up to so many units are none of its business; it begins with so many.
    inline: int = 0
    lot: int = 2
    #: How often it dies of what it is asked, hears it late, is not started; and dies with the engine.
    dies: float = 0.0
    slow: float = 0.0
    not_started: float = 0.0
    #: How often it stops in the middle and answers nothing any more.
    hangs: float = 0.0
    both: float = 0.5


@dataclass
class Workload:
    """Everything a seed chose."""

    channels: list[Channel] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)
    weather: Weather = field(default_factory=Weather)
    #: When, for how long, and what the disk does then.
    troubles: list[tuple[float, float, Trouble]] = field(default_factory=list)
    #: When, for how long, and which partner is down.
    outages: list[tuple[float, float, str]] = field(default_factory=list)
    #: When, and by how many seconds the wall clock is set forwards or back.
    jumps: list[tuple[float, float]] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    #: None: the engine writes by itself.
    writing: Writing | None = None
    #: Seconds until everything is calm again.
    storm: float = 30.0
    #: Pages of the log that are moved into the database together.
    log_pages: int = 1000
    #: Nothing is on the disk yet.
    first_run: bool = False

    @property
    def messages(self) -> int:
        return sum(len(feed.messages) for feed in self.feeds)

    @property
    def outlets(self) -> list[To]:
        """Everything that any channel sends to."""
        return [to for channel in self.channels for to in channel.outlets]
