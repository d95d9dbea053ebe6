"""How a channel is doing, as values: numbers, states and codes; nothing of any message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.config.plan import ChannelPlan, DestinationPlan, SitePlan
from engine.runtime.channel import RunningChannel
from engine.runtime.supervised import Supervised

Counts = Mapping[tuple[str, str, str], int]


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
    delivered_since_start: int = 0
    last_error: str = ""
    #: The connector's own numbers (open connections).
    connector: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """How one channel is doing."""

    name: str
    description: str
    #: ``running`` | ``stopped`` | ``failed`` (will be started again) | ``broken`` (its file is wrong)
    state: str
    source: str = ""
    ack: str = ""
    problems: tuple[str, ...] = ()
    error: str = ""
    destinations: tuple[DestinationStatus, ...] = ()
    received_since_start: int = 0
    #: Messages in state failed.
    failed: int = 0
    #: Messages whose transforms have not run.
    received: int = 0


def channel_status(name: str, channel: Supervised | None, site: SitePlan, counts: Counts) -> ChannelStatus:
    """The status of one channel of the site."""
    if channel is None:
        problems = tuple(str(problem) for problem in site.broken.get(name, ()))
        return ChannelStatus(name, "", "broken", problems=problems)
    plan, running = channel.plan, channel.running
    return ChannelStatus(
        name,
        plan.description,
        channel.state,
        plan.source.address,
        "reply" if plan.reply is not None else plan.ack,
        error=channel.error,
        destinations=tuple(_destination(plan, item, running, counts) for item in plan.destinations),
        received_since_start=running.receiver.received if running is not None else 0,
        failed=counts.get((name, "", "failed"), 0),
        received=counts.get((name, "", "received"), 0),
    )


def _destination(
    plan: ChannelPlan, item: DestinationPlan, running: RunningChannel | None, counts: Counts
) -> DestinationStatus:
    def count(state: str) -> int:
        return counts.get((plan.name, item.name, state), 0)

    delivered, error = 0, ""
    if running is not None and running.exchange is not None:
        delivered, error = running.exchange.answered, running.exchange.caller.last_error
    elif running is not None:
        delivered, error = running.lanes[item.name].delivered, running.lanes[item.name].last_error
    return DestinationStatus(
        item.name,
        item.to.address,
        count("queued"),
        count("sending"),
        count("held"),
        count("parked"),
        count("unknown"),
        delivered,
        error,
        item.to.summary(),
    )
