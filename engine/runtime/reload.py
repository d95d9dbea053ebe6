"""Files that have changed while the engine runs: which channels they concern, and how these pass from old to new.

A channel with the same inputs is not touched. A file that is not valid, or that would leave behind what waits, leaves
its channel running as it was. A changed channel is stopped in its order and started with its new plan, while its port
stays open; if it cannot start, the old one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from engine.config.plan import ChannelPlan, SitePlan
from engine.config.settings import SiteSettings
from engine.delivery import DeliveryState, MessageState
from engine.errors import Problem
from engine.runtime.orphans import Counts, left_behind, lost_channels, waiting
from engine.runtime.supervised import Supervised

log = structlog.get_logger("engine.reload")

#: What goes on by itself while its channel runs.
_MOVING = frozenset({str(MessageState.RECEIVED), str(DeliveryState.QUEUED), str(DeliveryState.SENDING)})


@dataclass(frozen=True, slots=True)
class Change:
    """What a reload did with one channel."""

    channel: str
    #: ``unchanged`` | ``restarted`` | ``started`` | ``removed`` | ``stopped`` (by a person: it stays so) |
    #: ``kept`` (the old version goes on) | ``refused`` (because of what waits) | ``broken`` (its file is wrong)
    what: str
    problems: tuple[Problem, ...] = ()


class Reload:
    """One reload. ``channels`` is the supervisor's own table and is changed."""

    def __init__(
        self,
        channels: dict[str, Supervised],
        fresh: SitePlan,
        make: Callable[[ChannelPlan], Supervised],
        counts: Callable[[], Counts],
        deadline: float,
    ) -> None:
        self.channels, self.fresh = channels, fresh
        self._make, self._counts, self._deadline = make, counts, deadline

    def names(self, asked: Collection[str]) -> list[str]:
        """The channels that this reload is about. Raises ValueError for one that there is not."""
        known = {*self.channels, *self.fresh.channels, *self.fresh.broken}
        for name in asked:
            if name not in known:
                raise ValueError(f"there is no channel {name}")
        return sorted(asked or known)

    async def channel(self, name: str) -> Change:
        """Bring one channel to what its file says."""
        old, plan = self.channels.get(name), self.fresh.channels.get(name)
        if old is None:
            return await self._new(name, plan)
        if plan is not None and plan.fingerprint == old.plan.fingerprint:
            old.kept = ()
            await old.look_again()
            return Change(name, old.state if old.state in ("refused", "stopped") else "unchanged", old.problems)
        if plan is None and name in self.fresh.broken:
            return self._kept(old, self.fresh.broken[name])
        return await (self._removed(old) if plan is None else self._changed(old, plan))

    # -- the cases -------------------------------------------------------------------------------------------------

    async def _new(self, name: str, plan: ChannelPlan | None) -> Change:
        if plan is None:
            return Change(name, "broken", self.fresh.broken[name])
        channel = self.channels[name] = self._make(plan)
        channel.begin()
        await channel.attempted()
        return Change(name, "refused" if channel.problems else "started", channel.problems)

    async def _removed(self, old: Supervised) -> Change:
        name = old.plan.name
        owed = waiting(self._counts(), name)
        problem = self._gone(name)
        if problem is not None and old.running is not None and not _may_drain(old, owed):
            return self._kept(old, (problem,))
        was_running = old.running is not None
        await old.end(self._deadline, [item for item in self._lanes(old) if item in owed])
        problem = self._gone(name)
        if problem is not None and was_running:
            old.begin()
            await old.attempted()
            return self._kept(old, (problem,))
        del self.channels[name]
        return Change(name, "removed", () if problem is None else (problem,))

    async def _changed(self, old: Supervised, plan: ChannelPlan) -> Change:
        before, was_running = old.plan, old.running is not None
        found = left_behind(plan, self._counts())
        if found and was_running and not _may_drain(old, self._lost(plan)):
            return self._kept(old, found)
        async with old.paused(self._deadline, [name for name in self._lanes(old) if name not in _lanes_of(plan)]):
            found = left_behind(plan, self._counts())
            if not (found and was_running):
                old.plan, old.kept = plan, ()
        if old.plan is before:
            return self._kept(old, found)
        if old.state == "failed":
            return await self._back(old, before)
        return Change(plan.name, {"running": "restarted"}.get(old.state, old.state), old.problems)

    async def _back(self, channel: Supervised, before: ChannelPlan) -> Change:
        """The new version cannot start: what stood in its way may be gone now; else the old one goes on."""
        async with channel.paused(self._deadline):
            pass
        if channel.state != "failed":
            return Change(channel.plan.name, "restarted")
        problem = Problem(channel.plan.file, 0, "", channel.error, "what this machine has")
        async with channel.paused(self._deadline):
            channel.plan = before
        return self._kept(channel, (problem,))

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _kept(self, channel: Supervised, problems: tuple[Problem, ...]) -> Change:
        channel.kept = problems
        log.error("channel.kept", channel=channel.plan.name, problems=[str(problem) for problem in problems])
        return Change(channel.plan.name, "kept", problems)

    def _gone(self, name: str) -> Problem | None:
        return lost_channels({*self.channels, *self.fresh.broken} - {name}, self._counts()).get(name)

    def _lost(self, plan: ChannelPlan) -> dict[str, dict[str, int]]:
        """What waits in lanes that ``plan`` does not have."""
        owed = waiting(self._counts(), plan.name)
        return {name: states for name, states in owed.items() if name and name not in _lanes_of(plan)}

    @staticmethod
    def _lanes(channel: Supervised) -> Collection[str]:
        running = channel.running
        return running.lanes if running is not None and running.exchange is None else ()


def _lanes_of(plan: ChannelPlan) -> set[str]:
    return {item.name for item in plan.outlets} if plan.reply is None else set()


def _may_drain(channel: Supervised, owed: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether what is owed may be gone in a moment: nothing of it waits for a person or for a partner that is away."""
    running = channel.running
    if running is None or running.exchange is not None:
        return False
    trouble = any(lanes.last_error for name, lanes in running.lanes.items() if name in owed)
    return not trouble and all(state in _MOVING for states in owed.values() for state in states)


def restart_needed(old: SiteSettings, fresh: SiteSettings) -> tuple[Problem, ...]:
    """A note for each setting of the process that has changed: those are read at start alone."""
    return tuple(
        Problem(
            "site.yaml", 0, name, "changed, and read when the engine starts", "a restart of the engine", level="note"
        )
        for name in ("rest", "admin", "store", "disk", "timezone")
        if getattr(old, name) != getattr(fresh, name)
    )
