"""How intake is kept from outrunning the rest: what comes in waits for what goes out.

While many messages wait to be routed, or many deliveries for a partner that takes them, each ack of commit 1 waits a
little. When the crowd, which is where most wait, has become smaller, so many of these acks go as soon as the next
commit is under way, whose time is filled with what they bring: one comes in for one that has gone out, everywhere where
as many wait. What comes in has no commit of its own then, which an outcome would have to wait for, and with it the next
send of its lane: it shares that of the next outcome, and is made ready while the one before is under way. An outcome
for which nobody waits, no send either, shares the commit of whatever comes next. Nothing waits longer than a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile

from engine.errors import StoreError
from engine.store.base import Operation, Store

#: Called when a unit has been committed, or with the reason why nothing of it was kept.
Told = Callable[[StoreError | None], object]
#: So many that wait are no crowd: some commits' worth. The fewer there are, the nearer what is settled stands in the
#: store to what is received, and the fewer pages a commit has to write.
CROWDED = 64
#: What part of the room for more may be filled before the crowd is looked at again.
SELDOM = 8
#: Seconds an ack waits at most: enough to catch up, too little for a sender to give up.
PATIENCE = 0.1
#: Seconds an ack waits for each ``CROWDED`` above the first.
WAIT = 0.2
#: Seconds a unit waits for another one to share its commit.
GATHER = 0.02


class Pressure:
    """The acks and the units of one channel that wait. ``crowd`` counts those of whatever there is most of."""

    def __init__(self, crowd: Callable[[], int], store: Store, *, patient: bool = True) -> None:
        """``patient``: no ack waits for the outcomes."""
        self._crowd, self._store, self._patient = crowd, store, patient
        self._loop = asyncio.get_running_loop()
        #: The acks that wait, in their order: until when (the loop's time), and what sends each.
        self.acks: deque[tuple[float, Callable[[], object]]] = deque()
        #: One for all of them: it looks again when it was too early.
        self._patience: asyncio.TimerHandle | None = None
        #: The crowd when it was last looked at, and what has come since.
        self._level = 0
        #: So many may come before it is to be looked at again: few, as what is none tells not how far it is from being
        #: one, and a partner that comes back makes one of what waits.
        self._room = 0
        self._has_moved = False
        self._units: list[tuple[Sequence[Operation], Told]] = []
        self._gathering: asyncio.TimerHandle | None = None

    # -- acks ------------------------------------------------------------------------------------------------------

    def wait(self) -> float:
        """Seconds the ack of what has just come should wait; 0 when the rest keeps up."""
        if self._room > 0 and not self.acks:
            self._room -= 1
            return 0.0
        self._level = crowd = self._level + 1 if self.acks else self._crowd()
        self._room = (CROWDED - crowd) // SELDOM
        return min(PATIENCE, (crowd - CROWDED) / CROWDED * WAIT) if crowd > CROWDED else 0.0

    def later(self, seconds: float, go: Callable[[], object]) -> None:
        """Have ``go`` called when its turn has come; no later than so many seconds from now, or when the one before."""
        until = self._loop.time() + seconds
        if not self.acks:
            self._store.crowded(1)
        self.acks.append((until, go))
        if self._patience is None:
            self._patience = self._loop.call_at(until, self._late)

    def moved(self) -> None:
        """Something that waited has moved on (committed)."""
        self._has_moved = True

    def _look(self) -> None:
        """One ack goes for each that has gone out, once for all that one commit has brought."""
        crowd = self._crowd()
        gone, self._level = self._level - crowd, crowd
        self._go(gone)

    def _late(self) -> None:
        now = self._loop.time()
        self._patience = None
        self._go(sum(1 for _ in takewhile(lambda waiting: waiting[0] <= now, self.acks)))
        if self.acks and self._patience is None:
            self._patience = self._loop.call_at(self.acks[0][0], self._late)

    def _go(self, number: int) -> None:
        """The first of the acks that wait."""
        for _ in range(min(number, len(self.acks))):
            _, go = self.acks.popleft()
            if not self.acks:
                self._store.crowded(-1)
            go()

    # -- units -----------------------------------------------------------------------------------------------------

    def commit(self, operations: Sequence[Operation], told: Told) -> None:
        """``Store.commit``, in the order of the calls; while acks wait, together with the next outcome."""
        if not self.acks and not self._units:
            self._store.commit(operations, told)
            return
        self._gather(operations, told)
        if not self.acks:
            self.flush()

    def outcome(self, operations: Sequence[Operation], told: Told, patient: bool) -> None:
        """``Store.commit`` for an outcome, and for the units that wait; a ``patient`` one, for which no send waits,
        waits with them for something else.
        """
        if patient and self._patient:
            self._gather(operations, told)
            return
        self._store.commit(operations, told)
        if self._has_moved or self._gathering is not None:
            self.flush()

    def release(self) -> None:
        """Hand the units that wait to the store: what is committed next may not be told before they are."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
            units, self._units = self._units, []
            for operations, told in units:
                self._store.commit(operations, told)

    def flush(self) -> None:
        """Something is being committed: what waits shares its commit, and when that is under way acks go."""
        self.release()
        if self._has_moved:
            self._has_moved = False
            if self.acks:
                self._store.meanwhile(self._look)

    def _gather(self, operations: Sequence[Operation], told: Told) -> None:
        self._units.append((operations, told))
        if self._gathering is None:
            self._gathering = self._loop.call_later(GATHER, self.flush)
