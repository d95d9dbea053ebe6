"""What waits in the store and would be left behind: for a destination, or in a channel, that the files no longer name;
or in a channel that has become one of the other sort.

Names address what waits, so a channel whose file has lost a name with something in its lane is not started: nobody
would ever send that, and nobody would see it missing. A channel with `reply:` has no lanes, and one without it answers
no caller, so the same holds when `reply:` comes or goes. Pure: counts and plans in, Problems out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from engine.config.plan import ChannelPlan
from engine.config.problems import nearest
from engine.delivery import DeliveryState, MessageState
from engine.errors import Problem

#: States in which a delivery is owed, or waits for a person.
OPEN = (
    DeliveryState.QUEUED,
    DeliveryState.SENDING,
    DeliveryState.HELD,
    DeliveryState.PARKED,
    DeliveryState.UNKNOWN,
)

#: What only the lanes of a channel without `reply:` know …
_OF_LANES = (DeliveryState.QUEUED, DeliveryState.HELD, DeliveryState.PARKED)
#: … and what only the callers of one with it. What is `sending` is settled when the channel stops.
_OF_CALLERS = (DeliveryState.UNKNOWN,)

#: (channel, destination or "" for the messages themselves, state) → number, as ``Store.open_counts`` gives it.
Counts = Mapping[tuple[str, str, str], int]


def waiting(counts: Counts, channel: str) -> dict[str, dict[str, int]]:
    """What waits in a channel: destination ("": not routed, or failed) → state → number; nothing that is 0."""
    found: dict[str, dict[str, int]] = {}
    for (name, destination, state), number in sorted(counts.items()):
        if name == channel and number:
            found.setdefault(destination, {})[state] = number
    return found


def left_behind(plan: ChannelPlan, counts: Counts) -> tuple[Problem, ...]:
    """A problem for everything that waits in the channel and ``plan`` would never come to."""
    return (*_lost_destinations(plan, counts), *_of_the_other_sort(plan, counts))


def _of_the_other_sort(plan: ChannelPlan, counts: Counts) -> Iterator[Problem]:
    """A problem for each destination for which something waits that a channel of this sort does not know."""
    sort = _OF_CALLERS if plan.reply is None else _OF_LANES
    for name, states in waiting(counts, plan.name).items():
        strange = {state: number for state, number in states.items() if state in sort}
        if plan.reply is not None and not name and MessageState.RECEIVED in states:
            yield Problem(
                plan.file,
                plan.reply_line,
                "reply",
                f"the channel was without it, and {told({'received': states['received']})} to be routed",
                "the file without `reply:` until the channel has drained",
            )
        if not strange or not name or name not in _declared(plan):
            continue
        if plan.reply is not None:
            yield Problem(
                plan.file,
                plan.reply_line,
                "reply",
                f"the channel was without it, and {told(strange)} for `{name}`, which would have no lane any more",
                f"the file without `reply:` until `{name}` has drained, or `hl7engine discard --channel {plan.name}"
                f" --destination {name}`",
            )
        else:
            yield Problem(
                plan.file,
                plan.line,
                "destinations",
                f"the channel had a `reply:` from `{name}`, and {told(strange)} to be settled by a caller",
                "`reply:` put back until each is repeated by its caller or resolved, or each given up with"
                " `hl7engine discard`",
            )


def _lost_destinations(plan: ChannelPlan, counts: Counts) -> tuple[Problem, ...]:
    """A problem for each destination that ``plan`` does not have and something waits for."""
    found = waiting(counts, plan.name)
    declared = _declared(plan)
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


def _declared(plan: ChannelPlan) -> list[str]:
    return [item.name for item in plan.outlets]


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
