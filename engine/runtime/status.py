"""How a channel is doing, as values: numbers, states and codes; nothing of any message."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.config.plan import ChannelPlan, DestinationPlan, SitePlan
from engine.errors import Problem
from engine.runtime.channel import RunningChannel
from engine.runtime.orphans import Counts, waiting
from engine.runtime.receive import Receiver
from engine.runtime.supervised import Supervised

#: What is told of a destination's sends since its channel was started; the rest is for ``metrics.py``.
COUNTED = ("delivered", "unanswered", "repeated", "may_be_duplicated", "outcomes_refused")


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """How one destination is doing."""

    name: str
    address: str
    queued: int = 0
    sending: int = 0
    held: int = 0
    parked: int = 0
    unknown: int = 0
    #: Since when a person has it paused; None when it is not.
    paused_since: float | None = None
    delivered_since_start: int = 0
    #: Sends that reached the partner, or may have, and had no valid answer.
    unanswered_since_start: int = 0
    #: Sends of what the partner may have had before.
    repeated_since_start: int = 0
    #: Deliveries that were marked as possible duplicates.
    may_be_duplicated_since_start: int = 0
    #: Outcomes that the store refused for good; a person has to look.
    outcomes_refused_since_start: int = 0
    last_error: str = ""
    #: The connector's own numbers (open connections).
    connector: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """How one channel is doing."""

    name: str
    description: str
    #: ``running`` | ``stopped`` | ``failed`` (will be started again) | ``broken`` (its file is wrong) |
    #: ``refused`` (its file would leave behind what waits) | ``removed`` (its file is gone, and something waits)
    state: str
    source: str = ""
    ack: str = ""
    problems: tuple[str, ...] = ()
    error: str = ""
    destinations: tuple[DestinationStatus, ...] = ()
    received_since_start: int = 0
    #: The source's own numbers (connections, what was refused and why).
    connector: Mapping[str, Any] = field(default_factory=dict)
    #: Messages in state failed.
    failed: int = 0
    #: Messages whose transforms have not run.
    received: int = 0
    #: Messages that came before and were not delivered again.
    duplicates_since_start: int = 0
    #: Messages under an MSH-10 that another one had.
    control_ids_reused_since_start: int = 0


def channel_status(
    name: str,
    channel: Supervised | None,
    site: SitePlan,
    counts: Counts,
    paused: Mapping[str, float],
    lost: Problem | None = None,
) -> ChannelStatus:
    """The status of one channel of the site; ``lost``: why it is told of although it has no file."""
    failed, received = counts.get((name, "", "failed"), 0), counts.get((name, "", "received"), 0)
    if channel is None:
        state, problems = ("removed", (lost,)) if lost is not None else ("broken", site.broken.get(name, ()))
        return ChannelStatus(
            name,
            "",
            state,
            problems=tuple(str(problem) for problem in problems),
            destinations=_undeclared(name, (), counts),
            failed=failed,
            received=received,
        )
    plan, running = channel.plan, channel.running
    return ChannelStatus(
        name,
        plan.description,
        channel.state,
        plan.source.address,
        "reply" if plan.reply is not None else plan.ack,
        problems=tuple(str(problem) for problem in (*channel.problems, *channel.kept)),
        error=channel.error,
        destinations=(
            *(_destination(plan, item, running, counts, paused.get(item.name)) for item in plan.outlets),
            *_undeclared(name, [item.name for item in plan.outlets], counts),
        ),
        received_since_start=running.receiver.received if running is not None else 0,
        connector=plan.source.summary(),
        failed=failed,
        received=received,
        **_repeated(running),
    )


def _repeated(running: RunningChannel | None) -> dict[str, Any]:
    receiver = running.receiver if running is not None else None
    if not isinstance(receiver, Receiver):
        return {}
    return {"duplicates_since_start": receiver.repeats.number, "control_ids_reused_since_start": receiver.reused}


def _undeclared(channel: str, declared: Collection[str], counts: Counts) -> tuple[DestinationStatus, ...]:
    """Destinations that something waits for and no valid file names."""
    return tuple(
        DestinationStatus(name, "", **dict[str, Any](states))
        for name, states in waiting(counts, channel).items()
        if name and name not in declared
    )


def _destination(
    plan: ChannelPlan,
    item: DestinationPlan,
    running: RunningChannel | None,
    counts: Counts,
    paused_since: float | None,
) -> DestinationStatus:
    facts: dict[str, Any] = {
        state: counts.get((plan.name, item.name, state), 0)
        for state in ("queued", "sending", "held", "parked", "unknown")
    }
    if running is not None and running.exchange is not None:
        facts["delivered_since_start"] = running.exchange.answered
        facts["last_error"] = running.exchange.caller.last_error
    elif running is not None:
        lanes = running.lanes[item.name]
        facts |= {f"{name}_since_start": getattr(lanes.counts, name) for name in COUNTED}
        facts["last_error"] = lanes.last_error
    return DestinationStatus(
        item.name, item.to.address, **facts, paused_since=paused_since, connector=item.to.summary()
    )
