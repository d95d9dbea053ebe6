"""What a person does with everything that waits for one destination, or in a channel without a file: gives it up, or
gives it to the destination's new name.

In units of a few hundred, so that the engine's other work goes on meanwhile; what was begun and broken off is ended by
doing it again. Raises ValueError, with a sentence, for what cannot be done now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import structlog

from engine.config.plan import ChannelPlan
from engine.delivery import DeliveryState, MessageState
from engine.runtime.clock import Clock
from engine.runtime.deliver import Lanes
from engine.runtime.orphans import OPEN, waiting
from engine.runtime.outcomes import discarded
from engine.runtime.supervised import Supervised
from engine.store.audit import Act, Who
from engine.store.base import Audit, DeliveryRow, Find, MessageRow, Operation, Pause, Readdress, Resume, Route, Store

log = structlog.get_logger("engine.clearing")

#: Deliveries or messages per unit.
UNIT = 200
#: Why a message that was given up is `filtered`.
BY_HAND = "discarded by hand"


class Clearing:
    """Acts on what waits in one channel."""

    def __init__(
        self, store: Store, clock: Clock, channel: str, supervised: Supervised | None, broken: bool, who: Who
    ) -> None:
        """``supervised`` is None for a channel that has no valid file; ``broken``: it has one that is not valid."""
        self.store, self.clock, self.channel = store, clock, channel
        self.supervised, self.broken, self.who = supervised, broken, who

    async def discard(self, destination: str | None, states: Collection[str]) -> int:
        """Give up what waits for ``destination`` in one of ``states`` (none: in any); the number of deliveries.

        Without a destination: everything of a channel that has no file any more, its unrouted and failed messages too.
        """
        found = waiting(self.store.open_counts(), self.channel)
        if destination is None:
            return await self._discard_channel(found, states)
        if destination not in found:
            raise ValueError(f"nothing waits for {destination} in channel {self.channel}")
        await self._note(Act.WAITING_DISCARDED, found[destination], destination)
        done = await self._discard_destination(destination, states)
        await self._after("destination.discarded", destination=destination, number=done)
        return done

    async def rename(self, old: str, new: str) -> int:
        """Give what waits for ``old`` to ``new``; the number of deliveries. The channel must not run meanwhile."""
        supervised = self.supervised
        self.check_rename(None if supervised is None else supervised.plan, old, new)
        if supervised is None or supervised.running is not None:
            raise ValueError(f"channel {self.channel} runs; stop it first")
        # The pause goes first: what was broken off is begun again only while something waits for ``old``.
        since = self.store.paused(self.channel).get(old)
        pause = () if since is None else (Pause(self.channel, new, since), Resume(self.channel, old))
        waits = waiting(self.store.open_counts(), self.channel)[old]
        await self._note(Act.DESTINATION_RENAMED, waits, new, *pause)
        done = 0
        for state in OPEN:
            while rows := self._open(old, state):
                await self.store.submit(*(Readdress(row.delivery_id, new) for row in rows))
                done += len(rows)
        await self._after("destination.renamed", destination=old, to=new, number=done)
        return done

    def check_rename(self, plan: ChannelPlan | None, old: str, new: str) -> None:
        """Raises ValueError unless something waits for ``old`` and ``plan`` knows ``new`` instead."""
        if plan is None:
            raise ValueError(f"channel {self.channel} has no valid file")
        if old not in waiting(self.store.open_counts(), self.channel):
            raise ValueError(f"nothing waits for {old} in channel {self.channel}")
        names = [item.name for item in plan.outlets]
        if new not in names or old in names:
            raise ValueError(f"its file must name {new}, and {old} no more")

    async def _discard_channel(self, found: Mapping[str, Mapping[str, int]], states: Collection[str]) -> int:
        if self.supervised is not None or self.broken:
            raise ValueError(f"channel {self.channel} has a file: name one of its destinations")
        if not found:
            raise ValueError(f"nothing waits in channel {self.channel}")
        for destination, counts in found.items():
            await self._note(Act.WAITING_DISCARDED, counts, destination)
        done = 0
        for destination in found:
            if destination:
                done += await self._discard_destination(destination, states)
        if not states or MessageState.RECEIVED in states:
            while messages := self.store.unrouted(self.channel, 0, UNIT):
                done += await self._give_up(messages)
        if not states or MessageState.FAILED in states:
            find = Find(channel=self.channel, state=str(MessageState.FAILED), limit=UNIT)
            while messages := self.store.find(find):
                done += await self._give_up(messages)
        log.warning("channel.discarded", channel=self.channel, number=done)
        return done

    async def _discard_destination(self, destination: str, states: Collection[str]) -> int:
        done = 0
        for state in OPEN:
            if states and state not in states:
                continue
            last = 0
            while rows := self._open(destination, state, last):
                last = rows[-1].delivery_id
                done += await self._discard_rows(rows, self._lanes(destination))
        return done

    async def _discard_rows(self, rows: Sequence[DeliveryRow], lanes: Lanes | None) -> int:
        """Give up those of ``rows`` that nobody is sending; how many."""
        if lanes is not None:
            return await lanes.discard(rows)
        await self.store.submit(*(discarded(row, self.clock.time()) for row in rows))
        return len(rows)

    def _lanes(self, destination: str) -> Lanes | None:
        running = self.supervised.present if self.supervised is not None else None
        if running is None:
            return None
        if running.exchange is not None:
            raise ValueError("what waits for a reply is ended by its caller, with the same key, or one by one")
        return running.lanes.get(destination)

    def _open(self, destination: str, state: DeliveryState, after: int = 0) -> Sequence[DeliveryRow]:
        return self.store.open_of(self.channel, destination, state, after, UNIT)

    async def _give_up(self, messages: Sequence[MessageRow]) -> int:
        now = self.clock.time()
        await self.store.submit(
            *(
                Route(row.message_id, self.channel, row.correlation_id, MessageState.FILTERED, now, BY_HAND)
                for row in messages
            )
        )
        return len(messages)

    async def _note(self, act: Act, counts: Mapping[str, int], destination: str, *others: Operation) -> None:
        """Into the audit trail, before the first of it is touched; ``counts`` are what waits, by state."""
        entry = Audit(act, self.who, self.clock.time(), self.channel, destination, numbers=dict(counts))
        await self.store.submit(entry, *others)

    async def _after(self, event: str, **facts: str | int) -> None:
        log.warning(event, channel=self.channel, **facts)
        if self.supervised is not None:
            await self.supervised.look_again()
