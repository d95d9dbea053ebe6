"""Removes what is finished and older than its channel keeps it, beside the traffic: messages, or their contents alone.

The store does the work in small units (``engine/store/pruning.py``); this says which channels and states, since when,
and when the next unit comes. What is unfinished is never touched, whatever its age: received, queued, sending, unknown,
held and parked have no word in a file.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from engine.config.plan import SitePlan
from engine.delivery import MessageState
from engine.runtime.background import give_way
from engine.runtime.clock import Clock
from engine.store.base import Store
from engine.store.pruning import PassBodies, Prune, RemoveBodies, Shrink, SweepParts, SweepPatients
from engine.store.retained import Lot

log = structlog.get_logger("engine.pruning")

#: Word of ``retention:`` → the state of a message that it is about.
STATES = {
    "delivered": MessageState.ROUTED,
    "filtered": MessageState.FILTERED,
    "failed": MessageState.FAILED,
    "refused": MessageState.REFUSED,
}
_WORDS = {state: word for word, state in STATES.items()}
#: Messages that are looked at, and removed at the most, in one unit; and about how many bytes of them.
LOT = 50
SIZE = 1 << 20
#: The same for what a removed message leaves: patient hashes, parts (of half a megabyte), pages.
HASHES = 200
PARTS = 2
PAGES = 100
#: What a unit took, so many times as long is left to others while they commit: it touches pages all over the file, and
#: what it commits is large, which they wait for …
SHARE = 39.0
#: … and so many times while nobody does.
ALONE = 4.0

#: (channel, word) → number of messages.
Numbers = Counter[tuple[str, str]]


@dataclass(slots=True)
class Run:
    """What one run has removed, or would."""

    #: Seconds since the epoch.
    began: float
    #: None while it is under way, or when it was broken off.
    ended: float | None = None
    messages: Numbers = field(default_factory=Counter)
    #: Messages whose contents alone are gone.
    bodies: Numbers = field(default_factory=Counter)
    #: Bytes of contents, as they were stored.
    size: int = 0
    #: Bytes that the file system has again.
    given_back: int = 0


class Pruning:
    """One engine's removal of old messages."""

    def __init__(self, store: Store, clock: Clock, plan: Callable[[], SitePlan]) -> None:
        self.store, self.clock, self.plan = store, clock, plan
        #: The last run that was more than counting, under way or ended; None before the first.
        self.last: Run | None = None
        self._running = asyncio.Lock()
        #: Others have committed while it rested the last time.
        self._others = True

    async def run(self, dry_run: bool = False) -> Run:
        """Remove all that is old enough now; ``dry_run`` only counts. Raises StoreError."""
        async with self._running:
            run = Run(self.clock.time())
            if not dry_run:
                self.last = run
            for channel in self.store.stored_channels():
                for word, keep in self._kept(channel).items():
                    if keep is not None:
                        await self._messages(run, channel, word, run.began - keep, dry_run)
            await self._left(run, dry_run)
            for channel in self.store.stored_channels():
                for word, keep in self._bodies_kept(channel).items():
                    if keep is not None:
                        await self._bodies(run, channel, word, run.began - keep, dry_run)
            if not dry_run:
                await self._clean_up(run)
                self._tell(run)
            run.ended = self.clock.time()
            return run

    # -- what the files say ----------------------------------------------------------------------------------------

    def _kept(self, channel: str) -> Mapping[str, float | None]:
        plan = self.plan()
        known = plan.channels.get(channel)
        return {**plan.settings.retention.words, **(known.retention if known is not None else {})}

    def _bodies_kept(self, channel: str) -> Mapping[str, float | None]:
        plan = self.plan()
        known = plan.channels.get(channel)
        return {**plan.settings.retention.bodies.model_dump(), **(known.bodies if known is not None else {})}

    # -- messages, and contents ------------------------------------------------------------------------------------

    async def _messages(self, run: Run, channel: str, word: str, before: float, dry_run: bool) -> None:
        state = STATES[word]
        async for lot in self._lots(channel, state, before, 0):
            if lot.ids and not dry_run:
                await self.store.submit(Prune(lot.ids, state, before))
            run.messages += Counter({(channel, word): len(lot.ids)})
            run.size += lot.size

    async def _bodies(self, run: Run, channel: str, word: str, before: float, dry_run: bool) -> None:
        state = STATES[word]
        async for lot in self._lots(channel, state, before, self.store.retained.bodies_after(channel, state)):
            if lot.up_to and not dry_run:
                removed = RemoveBodies(lot.ids, state, before, self.clock.time())
                await self.store.submit(removed, PassBodies(channel, state, lot.up_to))
            run.bodies += Counter({(channel, word): len(lot.ids)})
            run.size += lot.size

    async def _lots(self, channel: str, state: MessageState, before: float, after: int) -> AsyncIterator[Lot]:
        """What is old enough, a unit's worth at a time; others have their turn in between."""
        while True:
            began = asyncio.get_running_loop().time()
            lot = self.store.retained.messages(channel, state, before, after, LOT, SIZE)
            yield lot
            await self._rest(began)
            if lot.ended:
                return
            after = lot.up_to

    async def _left(self, run: Run, dry_run: bool) -> None:
        """Contents that earlier runs passed by: their messages may be finished now."""
        after = 0
        while rows := self.store.retained.bodies_left(after, LOT):
            began = asyncio.get_running_loop().time()
            units, size = list[RemoveBodies](), 0
            for row in rows:
                after = row.message_id
                keep = self._bodies_kept(row.channel).get(_WORDS.get(row.state, ""))
                if keep is None or row.finished_at is None or row.finished_at >= run.began - keep:
                    continue
                units.append(RemoveBodies((after,), row.state, run.began - keep, self.clock.time()))
                run.bodies[row.channel, _WORDS[row.state]] += 1
                size += row.size
                if size >= SIZE:
                    break
            run.size += size
            if units and not dry_run:
                await self.store.submit(*units)
            await self._rest(began)

    # -- what they leave -------------------------------------------------------------------------------------------

    async def _clean_up(self, run: Run) -> None:
        """Parts of large bodies, hashes of patients whose messages are gone, then the disk space."""
        retained = self.store.retained
        while True:
            began = asyncio.get_running_loop().time()
            if (size := retained.dropped_parts(PARTS)) is not None:
                await self.store.submit(SweepParts(PARTS))
                run.size += size
            elif retained.orphaned_hashes():
                await self.store.submit(SweepPatients(HASHES))
            elif (pages := min(retained.spare_pages(), PAGES)) > 0:
                await self.store.submit(Shrink(pages))
                run.given_back += pages * retained.page_bytes()
            else:
                return
            await self._rest(began)

    def _tell(self, run: Run) -> None:
        for event, numbers in (("messages.pruned", run.messages), ("bodies.pruned", run.bodies)):
            for (channel, word), number in numbers.items():
                log.info(event, channel=channel, kept_as=word, number=number)
        if run.size or run.given_back:
            log.info("store.pruned", bytes=run.size, given_back=run.given_back)

    async def _rest(self, began: float) -> None:
        """Leave time to others after a unit that began at ``began``."""
        before = self.store.commits
        await give_way(began, SHARE if self._others else ALONE)
        self._others = self.store.commits > before
