"""The connections' worth of sending of one destination: who sends what may go.

A worker is a task. What can leave at once leaves without waking it, and its answer comes by a call; whatever has to
wait for something before its first byte, a connection or a commit, the task sends. Which deliveries may go, and what
follows from an attempt, is ``deliver.py``'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Protocol

from engine.destinations.base import UnderWay
from engine.errors import DoesNotFit
from engine.runtime.attempt import Attempt, Sender
from engine.runtime.item import Item
from engine.values import dataclass


class Lanes(Protocol):
    """Who has work, and is told what came of it."""

    def dispatch(self) -> None:
        """A worker is free."""
        ...

    def came(self, item: Item, attempt: Attempt) -> None:
        """A send has ended."""
        ...

    def may_not_go(self, item: Item) -> None:
        """The store refuses that it is sent."""
        ...

    def given_up(self) -> None:
        """A worker was stopped in the middle of a send."""
        ...


@dataclass(slots=True, eq=False)
class Worker:
    """One connection's worth."""

    #: Ends with what the task is to send.
    turn: asyncio.Future[Item]
    #: What is under way without the task.
    item: Item | None = None
    under_way: UnderWay | None = None


class Workers:
    """The workers of one destination."""

    def __init__(self, sender: Sender, lanes: Lanes) -> None:
        self._sender, self._lanes = sender, lanes
        self._idle: deque[Worker] = deque()

    @property
    def free(self) -> bool:
        """Whether one of them has nothing to do."""
        while self._idle and self._idle[0].turn.done():  # it was stopped
            self._idle.popleft()
        return bool(self._idle)

    def send(self, item: Item) -> None:
        """Have the next free one send ``item``."""
        worker = self._idle.popleft()
        worker.under_way = self._sender.begin(item, partial(self._ended, worker, item))
        if worker.under_way is None:
            worker.turn.set_result(item)
        else:
            worker.item = item

    async def work(self) -> None:
        """One of them, until cancelled."""
        while True:
            item = await self.turn()
            try:
                attempt = await self._sender.send(item)
            except DoesNotFit:
                self._lanes.may_not_go(item)
                continue
            except BaseException:  # also a cancellation: whoever waits for the end of sends must not wait for this one
                self._lanes.given_up()
                raise
            self._lanes.came(item, attempt)

    async def turn(self) -> Item:
        """What a task is to send that has nothing to do."""
        worker = Worker(asyncio.get_running_loop().create_future())
        self._idle.append(worker)
        self._lanes.dispatch()
        try:
            return await worker.turn
        except asyncio.CancelledError:
            if worker.under_way is not None and worker.item is not None:
                worker.under_way.cancel()
                await asyncio.shield(self._sender.interrupted(worker.item))
                self._lanes.given_up()
            raise

    def _ended(self, worker: Worker, item: Item, attempt: Attempt) -> None:
        worker.under_way = worker.item = None
        self._idle.append(worker)
        self._lanes.came(item, attempt)
        self._lanes.dispatch()
