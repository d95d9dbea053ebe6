"""Removes what is finished and older than its channel keeps it, beside the traffic.

The store does the work in small units (``engine/store/pruning.py``); this says which channels and states, since when,
and when the next unit comes. What is unfinished is never touched, whatever its age: received, queued, sending, unknown,
held and parked have no word in a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from engine.config.plan import SitePlan
from engine.delivery import MessageState
from engine.runtime.background import give_way
from engine.runtime.clock import Clock
from engine.store.base import Store
from engine.store.pruning import Prune, Shrink, SweepPatients

log = structlog.get_logger("engine.pruning")

#: Word of ``retention:`` → the state of a message that it is about.
STATES = {
    "delivered": MessageState.ROUTED,
    "filtered": MessageState.FILTERED,
    "failed": MessageState.FAILED,
    "refused": MessageState.REFUSED,
}
#: Messages that are looked at, and removed at the most, in one unit.
LOT = 50
HASHES = 200
PAGES = 100
#: What a unit took, so many times as long is left to others: it touches pages all over the file, and what it commits is
#: large, which those who send wait for.
SHARE = 39.0

#: (channel, word) → number of messages.
Pruned = dict[tuple[str, str], int]


class Pruning:
    """One engine's removal of old messages."""

    def __init__(self, store: Store, clock: Clock, plan: Callable[[], SitePlan]) -> None:
        self.store, self.clock, self.plan = store, clock, plan
        #: When the last run ended, seconds since the epoch, and what it removed.
        self.last: tuple[float, Pruned] | None = None
        self._running = asyncio.Lock()

    async def run(self, dry_run: bool = False) -> Pruned:
        """Remove all that is old enough now; ``dry_run`` only counts. Raises StoreError."""
        async with self._running:
            now, pruned = self.clock.time(), Pruned()
            for channel in self.store.stored_channels():
                for word, keep in self._retention(channel).items():
                    if keep is not None and (number := await self._state(channel, word, now - keep, dry_run)):
                        pruned[channel, word] = number
            if not dry_run:
                await self._clean_up()
                self.last = (self.clock.time(), pruned)
                for (channel, word), number in pruned.items():
                    log.info("messages.pruned", channel=channel, kept_as=word, number=number)
            return pruned

    def _retention(self, channel: str) -> Mapping[str, float | None]:
        plan = self.plan()
        known = plan.channels.get(channel)
        return {**plan.settings.retention.model_dump(), **(known.retention if known is not None else {})}

    async def _state(self, channel: str, word: str, before: float, dry_run: bool) -> int:
        state, number = STATES[word], 0
        after: int | None = 0
        while after is not None:
            began = asyncio.get_running_loop().time()
            ids, after = self.store.prunable(channel, state, before, after, LOT)
            if ids and not dry_run:
                await self.store.submit(Prune(tuple(ids), state, before))
            number += len(ids)
            await give_way(began, SHARE)
        return number

    async def _clean_up(self) -> None:
        """Hashes of patients whose messages are gone, then the disk space."""
        while True:
            hashes, pages = self.store.prune_left()
            if not hashes and pages <= 0:
                return
            began = asyncio.get_running_loop().time()
            await self.store.submit(SweepPatients(HASHES) if hashes else Shrink(min(pages, PAGES)))
            await give_way(began, SHARE)
