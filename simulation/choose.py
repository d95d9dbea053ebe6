"""How a seed chooses a workload: each thing that may happen is in some worlds and not in others."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from simulation.disk import Trouble
from simulation.ledger import Message
from simulation.network import Weather
from simulation.partners import MOODS, Temper
from simulation.workload import ACK_DEADLINE, ACKS, Act, Channel, Death, Feed, To, Workload, Writing

#: MSH-15 and MSH-16 of a sender in enhanced mode.
MODES = (("AL", "AL"), ("AL", "NE"), ("NE", "AL"), ("ER", "AL"), ("AL", "ER"), ("AL", "SU"), ("NE", "NE"), ("ER", "ER"))
#: What people do, and how often.
ACTS = {
    "resend delivery": 8,
    "resend message": 5,
    "discard delivery": 4,
    "discard waiting": 1,
    "pause": 4,
    "resume": 3,
    "stop": 2,
    "start": 2,
    "mend": 1,
    "prune": 3,
    "edit": 8,
    "reload": 2,
}
_HOUR, _DAY = 3600.0, 86400.0


def choose(random: Random) -> Workload:
    """A workload."""
    work = Workload(storm=random.choice((8.0, 20.0, 40.0)), first_run=random.random() < 0.1)
    work.log_pages = random.choice((20, 200, 1000))
    port = 2600
    for number in range(random.choice((1, 1, 2))):
        destinations = []
        for which in range(random.choice((1, 1, 2, 3))):
            port += 1
            destinations.append(_destination(random, f"emr{number}{which}", port))
        work.channels.append(_channel(random, number, tuple(destinations)))
    merges = random.random() < 0.3
    work.feeds = [_feed(random, work, number, merges) for number in range(random.choice((1, 2, 3)))]
    work.weather = _weather(random)
    _disturb(random, work)
    if random.random() < 0.4:
        work.writing = _writing(random)
    return work


def _writing(random: Random) -> Writing:
    return Writing(
        many=random.choice((1, 1, 4)),
        idle=random.choice((0.5, 60.0)),
        pause=random.choice((0.0, 0.0, 2.0)),
        inline=random.choice((0, 0, 1)),
        lot=random.choice((1, 2, 24)),
        dies=random.choice((0.0, 0.03, 0.1, 0.4)),
        slow=random.choice((0.0, 0.0, 0.05)),
        not_started=random.choice((0.0, 0.0, 0.5)),
        both=random.choice((0.0, 0.5, 1.0)),
        hangs=random.choice((0.0, 0.0, 0.0, 0.02)),
    )


def _channel(random: Random, number: int, destinations: tuple[To, ...]) -> Channel:
    acks = None
    if random.random() < 0.15:
        acks = replace(_destination(random, ACKS, 2700 + number), connections=1, on_unanswered="repeat")
    return Channel(
        f"channel{number}",
        2575 + number,
        random.choice(("received", "received", "routed", "delivered")),
        random.choice(("received", "key", "key", "none")),
        random.choice(("park", "park", "hold")),
        destinations,
        duplicates=random.random() < 0.6,
        acks=acks,
        straight=random.random() < 0.6,
        keep=random.choice((0.5, 5.0)) if random.random() < 0.2 else None,
    )


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
        rate=random.choice((2.0, 10.0)) if random.random() < 0.15 else None,
        delay=random.choice((0.02, 0.3)) if random.random() < 0.1 else 0.0,
        ahead=Random(random.getrandbits(32)).choice((1, 1, 2, 5)),
    )


def _feed(random: Random, work: Workload, number: int, merges: bool) -> Feed:
    channel = random.choice(work.channels)
    name = f"S{number}"
    modes = random.choice(MODES) if random.random() < (0.8 if channel.acks is not None else 0.25) else ("", "")
    keys = [f"P{number if random.random() < 0.7 else 9}{patient}" for patient in range(random.choice((1, 2, 4)))]
    messages = []
    due = random.random()
    gap = random.choice((0.0, 0.01, 0.5, 2.0))
    for count in range(random.choice((2, 5, 8, 12))):
        messages.append(_message(random, channel, name, count, due, keys, modes, merges))
        due += gap * random.random()
    patience = random.choice((2.0, 5.0, 20.0))
    if channel.ack == "delivered":
        patience += ACK_DEADLINE  # who waits less hears nothing, ever
    return Feed(name, channel.port, random.choice((1, 1, 1, 4)), patience, tuple(messages))


def _message(
    random: Random,
    channel: Channel,
    sender: str,
    count: int,
    due: float,
    keys: list[str],
    modes: tuple[str, str],
    merges: bool,
) -> Message:
    key, control_id = random.choice(keys), f"{sender}-{count:04}"
    kind = random.choices(("S12", "S99", "S66"), (92, 4, 4))[0]
    prior = random.choice((*keys, f"P9{random.randrange(4)}")) if merges and random.random() < 0.25 else ""
    asked = f"|||{modes[0]}|{modes[1]}" if any(modes) else ""
    body = (
        f"MSH|^~\\&|{sender}|SITE|ENGINE|SITE|20260101120000||{'ADT^A40' if prior else f'SIU^{kind}'}"
        f"|{control_id}|P|2.3{asked}\r"
        f"SCH|O{control_id}|{'x' * random.choice((0, 0, 0, 300, 9000))}\rPID|1||{key}||Doe^John\r"
    )
    if prior:
        kind, body = "A40", f"{body}MRG|{prior}\r"
    return Message(control_id, channel.name, sender, key, kind, body.encode(), due, prior, modes)


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
    work.deaths = [_death(random, work.storm) for _ in range(random.choice((0, 0, 1, 1, 2, 3)))]
    for _ in range(random.choice((0, 0, 1, 2))):
        begin, length = random.random() * work.storm, random.choice((0.2, 2.0, 8.0))
        work.troubles.append((begin, length, _trouble(random)))
    for to in work.outlets:
        if random.random() < 0.2:
            work.outages.append((random.random() * work.storm, random.choice((0.5, 5.0, 20.0)), to.partner))
    if random.random() < 0.2:
        for _ in range(random.choice((1, 2, 3))):
            far = random.choice((0.7, 5.0, 90.0, _HOUR, 40 * _DAY)) * random.choice((1, -1))
            work.jumps.append((random.random() * work.storm, far))
    if random.random() < 0.35:
        work.acts = [_act(random, work) for _ in range(random.choice((1, 3, 6, 12)))]
    if random.random() < 0.05:
        _crowd(random, work)


def _crowd(random: Random, work: Workload) -> None:
    """A world in which everything happens, and often."""
    work.storm = 40.0
    work.acts = [_act(random, work) for _ in range(random.choice((10, 20, 40)))]
    work.deaths = [_death(random, 8.0) for _ in range(random.choice((0, 3, 8)))]
    work.troubles = [
        (random.random() * work.storm, random.choice((0.2, 1.0, 4.0)), _trouble(random))
        for _ in range(random.choice((0, 3, 6)))
    ]


def _death(random: Random, within: float) -> Death:
    at = random.random()
    return Death(
        random.choice(("power", "power", "kill", "stop")),
        random.random() * within,
        step=random.randrange(1, 800) if at < 0.4 else None,
        operation=random.randrange(1, 120) if 0.4 <= at < 0.7 else None,
        after_failure=random.choice((0.0, 0.005, 0.05, 0.3)) if 0.7 <= at < 0.85 else None,
        pause=random.choice((0.0, 0.5, 3.0)),
    )


def _act(random: Random, work: Workload) -> Act:
    what: Any = random.choices(list(ACTS), list(ACTS.values()))[0]
    patience = random.choice((0.0005, 0.003, 0.02, 0.5)) if random.random() < 0.25 else None
    return Act(random.random() * work.storm, what, random.random(), patience)


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
