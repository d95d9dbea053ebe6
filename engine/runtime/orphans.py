"""What waits in the store and would be left behind: for a destination, or in a channel, that the files no longer name.

Names address what waits, so a channel whose file has lost a name with something in its lane is not started: nobody
would ever send that, and nobody would see it missing. Pure: counts and plans in, Problems out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.config.plan import ChannelPlan
from engine.config.problems import nearest
from engine.delivery import DeliveryState
from engine.errors import Problem

#: States in which a delivery is owed, or waits for a person.
OPEN = (
    DeliveryState.QUEUED,
    DeliveryState.SENDING,
    DeliveryState.HELD,
    DeliveryState.PARKED,
    DeliveryState.UNKNOWN,
)

#: (channel, destination or "" for the messages themselves, state) → number, as ``Store.open_counts`` gives it.
Counts = Mapping[tuple[str, str, str], int]


def waiting(counts: Counts, channel: str) -> dict[str, dict[str, int]]:
    """What waits in a channel: destination ("": not routed, or failed) → state → number; nothing that is 0."""
    found: dict[str, dict[str, int]] = {}
    for (name, destination, state), number in sorted(counts.items()):
        if name == channel and number:
            found.setdefault(destination, {})[state] = number
    return found


def lost_destinations(plan: ChannelPlan, counts: Counts) -> tuple[Problem, ...]:
    """A problem for each destination that ``plan`` does not have and something waits for."""
    found = waiting(counts, plan.name)
    declared = [item.name for item in plan.outlets]
    idle = [name for name in declared if name not in found]
    return tuple(
        Problem(
            plan.file,
            plan.line,
            "destinations",
            f"`{name}` is not among them, and {told(states)} for it",
            f"`{name}` put back until it has drained, or `hl7engine rename-destination {plan.name} {name}"
            f" {nearest(name, idle) or 'NEW'}`, or `hl7engine discard --channel {plan.name} --destination {name}`",
        )
        for name, states in found.items()
        if name and name not in declared
    )


def lost_channels(known: Collection[str], counts: Counts) -> dict[str, Problem]:
    """A problem for each channel that has no file (is not in ``known``) and in which something waits."""
    return {
        name: Problem(
            f"channels/{name}.yaml",
            0,
            "",
            f"the file is gone, and {told(_all(waiting(counts, name)))} in its channel",
            f"the file put back until the channel has drained, or `hl7engine discard --channel {name}`",
        )
        for name in sorted({channel for (channel, _, _), number in counts.items() if number})
        if name not in known
    }


def told(states: Mapping[str, int]) -> str:
    """``3 wait (2 queued, 1 parked)``"""
    number = sum(states.values())
    listed = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{number} {'waits' if number == 1 else 'wait'} ({listed})"


def _all(found: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The numbers of all destinations together."""
    total: dict[str, int] = {}
    for states in found.values():
        for state, number in states.items():
            total[state] = total.get(state, 0) + number
    return total
