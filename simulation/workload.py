"""What a seed chooses: channels, messages, partners' tempers, weather, troubles and the moments of death."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Literal

from simulation.disk import Trouble
from simulation.ledger import Message
from simulation.network import Weather
from simulation.partners import MOODS, Temper

#: Seconds of ``ack: delivered``.
ACK_DEADLINE = 4.0


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


@dataclass(frozen=True)
class Channel:
    """One channel."""

    name: str
    port: int
    ack: Literal["received", "routed", "delivered"]
    order: Literal["received", "key", "none"]
    on_error: Literal["park", "hold"]
    destinations: tuple[To, ...]


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
    deaths: list[Death] = field(default_factory=list)
    #: Seconds until everything is calm again.
    storm: float = 30.0
    #: Nothing is on the disk yet.
    first_run: bool = False

    @property
    def messages(self) -> int:
        return sum(len(feed.messages) for feed in self.feeds)


def choose(random: Random) -> Workload:
    """A workload."""
    work = Workload(storm=random.choice((8.0, 20.0, 40.0)), first_run=random.random() < 0.1)
    port = 2600
    for number in range(random.choice((1, 1, 2))):
        destinations = []
        for which in range(random.choice((1, 1, 2, 3))):
            port += 1
            destinations.append(_destination(random, f"emr{number}{which}", port))
        work.channels.append(
            Channel(
                f"channel{number}",
                2575 + number,
                random.choice(("received", "received", "routed", "delivered")),
                random.choice(("received", "key", "key", "none")),
                random.choice(("park", "park", "hold")),
                tuple(destinations),
            )
        )
    work.feeds = [_feed(random, work, number) for number in range(random.choice((1, 2, 3)))]
    work.weather = _weather(random)
    _disturb(random, work)
    return work


def _destination(random: Random, name: str, port: int) -> To:
    moods: tuple[tuple[str, float], ...] = ()
    if random.random() < 0.6:
        chosen = random.sample([mood for mood in MOODS if mood != "AA"], random.randrange(1, 4))
        moods = tuple((mood, random.choice((0.05, 0.2))) for mood in chosen)
    return To(
        name,
        port,
        random.choice(("repeat", "repeat", "hold")),
        random.choice((1, 1, 2, 3)),
        random.choice((1.0, 3.0)),
        random.random() < 0.8,
        random.choice((None, None, 3)),
        Temper(moods, random.choice((0.002, 0.02, 0.2))),
    )


def _feed(random: Random, work: Workload, number: int) -> Feed:
    channel = random.choice(work.channels)
    name = f"S{number}"
    keys = [f"P{number if random.random() < 0.7 else 9}{patient}" for patient in range(random.choice((1, 2, 4)))]
    messages = []
    due = random.random()
    gap = random.choice((0.0, 0.01, 0.5, 2.0))
    for count in range(random.choice((2, 5, 8, 12))):
        key, control_id = random.choice(keys), f"{name}-{count:04}"
        event = random.choices(("S12", "S99", "S66"), (92, 4, 4))[0]
        body = (
            f"MSH|^~\\&|{name}|SITE|ENGINE|SITE|20260101120000||SIU^{event}|{control_id}|P|2.3\r"
            f"SCH|O{control_id}|{'x' * random.choice((0, 0, 0, 300, 9000))}\rPID|1||{key}||Doe^John\r"
        )
        messages.append(Message(control_id, channel.name, name, key, event, body.encode(), due))
        due += gap * random.random()
    patience = random.choice((2.0, 5.0, 20.0))
    if channel.ack == "delivered":
        patience += ACK_DEADLINE  # who waits less hears nothing, ever
    return Feed(name, channel.port, random.choice((1, 1, 1, 4)), patience, tuple(messages))


def _weather(random: Random) -> Weather:
    if random.random() < 0.3:
        return Weather(latency=random.choice((0.0005, 0.01)))
    return Weather(
        latency=random.choice((0.0005, 0.01, 0.1)),
        split=random.choice((0.0, 0.3, 0.9)),
        reset=random.choice((0.0, 0.1, 0.4)),
        silence=random.choice((0.0, 0.0, 0.1)),
        no_answer=random.choice((0.0, 0.0, 0.1)),
        refused=random.choice((0.0, 0.1)),
        buffer=random.choice((65536, 200)),
    )


def _disturb(random: Random, work: Workload) -> None:
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        at = random.random()
        work.deaths.append(
            Death(
                random.choice(("power", "power", "kill", "stop")),
                random.random() * work.storm,
                step=random.randrange(1, 800) if at < 0.4 else None,
                operation=random.randrange(1, 120) if 0.4 <= at < 0.7 else None,
                after_failure=random.choice((0.0, 0.005, 0.05, 0.3)) if 0.7 <= at < 0.85 else None,
                pause=random.choice((0.0, 0.5, 3.0)),
            )
        )
    for _ in range(random.choice((0, 0, 1, 2))):
        begin, length = random.random() * work.storm, random.choice((0.2, 2.0, 8.0))
        work.troubles.append((begin, length, _trouble(random)))
    for channel in work.channels:
        for to in channel.destinations:
            if random.random() < 0.2:
                work.outages.append((random.random() * work.storm, random.choice((0.5, 5.0, 20.0)), to.name))


def _trouble(random: Random) -> Trouble:
    kind = random.choice(("full", "write", "read", "sync", "sync", "slow"))
    share = random.choice((0.1, 0.5, 1.0))
    if kind == "slow":
        return Trouble(sync_seconds=0.01, sync_spread=random.choice((0.02, 0.5)))
    return Trouble(
        full=kind == "full",
        write_error=share if kind == "write" else 0.0,
        read_error=share * 0.2 if kind == "read" else 0.0,
        sync_error=share if kind == "sync" else 0.0,
    )
