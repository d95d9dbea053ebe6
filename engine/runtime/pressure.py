"""How intake is kept from outrunning the rest: what comes in waits for what goes out.

While many messages wait to be routed, or many deliveries for a partner that takes them, each ack of commit 1 waits a
little. Whenever one of what there is most of has moved on, the first of these acks goes at once: one comes in for one
that has gone out. Meanwhile what comes in has no commit of its own, which an outcome would have to wait for, and with
it the next send of its lane: it shares that of the next outcome, and is made ready while the one before is under way.
Nothing waits longer than a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from engine.errors import StoreError
from engine.store.base import Operation, Store

#: So many that wait are no crowd.
CROWDED = 200
#: Seconds an ack waits at most: enough to catch up, too little for a sender to give up.
PATIENCE = 0.1
#: Seconds an ack waits for each ``CROWDED`` above the first.
WAIT = 0.05
#: Seconds a unit waits for an outcome to share its commit.
GATHER = 0.005


class Pressure:
    """The acks and the units of one channel that wait. ``crowd`` counts those of whatever there is most of."""

    def __init__(self, crowd: Callable[[], int], store: Store) -> None:
        self._crowd, self._store = crowd, store
        #: What sends the acks that wait, by their number.
        self.acks: dict[int, tuple[asyncio.TimerHandle, Callable[[], object]]] = {}
        self._number = 0
        self._units: list[tuple[Sequence[Operation], Callable[[StoreError | None], object]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> float:
        """Seconds the next ack should wait; 0 when the rest keeps up."""
        crowd = self._crowd()
        return min(PATIENCE, (crowd - CROWDED) / CROWDED * WAIT) if crowd > CROWDED else 0.0

    def later(self, seconds: float, go: Callable[[], object]) -> None:
        """Have ``go`` called when its turn has come, at the latest after so many seconds."""
        self._number += 1
        timer = asyncio.get_running_loop().call_later(seconds, self._go, self._number)
        if not self.acks:
            self._store.crowded(1)
        self.acks[self._number] = (timer, go)

    def commit(self, operations: Sequence[Operation], told: Callable[[StoreError | None], object]) -> None:
        """``Store.commit``, in the order of the calls; while acks wait, together with the next outcome."""
        if not self.acks and not self._units:
            self._store.commit(operations, told)
            return
        self._units.append((operations, told))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._commit)

    def moved(self, crowd: int) -> None:
        """One of so many that wait has moved on; its outcome is being committed."""
        if self._units:
            self._commit()
        if self.acks and crowd >= self._crowd():
            self._go(next(iter(self.acks)))

    def _commit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        units, self._units = self._units, []
        for operations, told in units:
            self._store.commit(operations, told)

    def _go(self, number: int) -> None:
        timer, go = self.acks.pop(number)
        timer.cancel()
        if not self.acks:
            self._store.crowded(-1)
        go()
