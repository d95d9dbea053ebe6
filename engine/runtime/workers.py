"""The connections' worth of sending of one destination: who sends what may go.

A worker is a task. What can leave at once leaves without waking it, and its answer comes by a call; whatever has to
wait for something before its first byte, a connection or a commit, the task sends. Which deliveries may go, and what
follows from an attempt, is ``deliver.py``'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from engine.destinations.base import Response, UnderWay
from engine.errors import DeliveryError, DoesNotFit
from engine.runtime.attempt import Sender
from engine.runtime.item import Item
from engine.store.base import Settle


class Lanes(Protocol):
    """Who has work, and is told what came of it."""

    def dispatch(self) -> None:
        """A worker is free."""
        ...

    def came(self, item: Item, settle: Settle, error: DeliveryError | None) -> None:
        """A send has ended."""
        ...

    def may_not_go(self, item: Item) -> None:
        """The store refuses that it is sent."""
        ...

    def given_up(self) -> None:
        """A worker was stopped in the middle of a send."""
        ...


class Worker:
    """One connection's worth: a task, and what is under way without it."""

    __slots__ = ("_begun", "_came", "_idle", "_sender", "_told", "item", "turn", "under_way")

    def __init__(self, workers: Workers) -> None:
        self._sender, self._idle, self._came = workers.sender, workers.idle, workers.lanes.came
        #: Ends with what the task is to send.
        self.turn: asyncio.Future[Item] = asyncio.get_running_loop().create_future()
        self.item: Item | None = None
        self.under_way: UnderWay | None = None
        self._begun, self._told = 0.0, self._ended

    def send(self, item: Item) -> None:
        """Send ``item``: at once, where its bytes are at hand and may leave; the task sends any other."""
        sender, body = self._sender, item.body
        if type(body) is bytes and sender.at_once:
            self._begun = sender.now()
            self.under_way = under_way = sender.begin(body, item.control_id, self._told)
            if under_way is not None:
                self.item = item
                return
        self.turn.set_result(item)

    def _ended(self, result: Response | DeliveryError) -> None:
        item = self.item
        if item is None:
            return
        settle, error = self._sender.outcome(item, result, item.body or b"", self._begun)
        self.under_way = self.item = item.body = None
        self._idle.append(self)
        self._came(item, settle, error)


class Workers:
    """The workers of one destination."""

    def __init__(self, sender: Sender, lanes: Lanes) -> None:
        self.sender, self.lanes = sender, lanes
        self.idle: deque[Worker] = deque()

    async def work(self) -> None:
        """One of them, until cancelled."""
        while True:
            item = await self.turn()
            try:
                settle, error = await self.sender.send(item)
            except DoesNotFit:
                self.lanes.may_not_go(item)
                continue
            except BaseException:  # also a cancellation: whoever waits for the end of sends must not wait for this one
                self.lanes.given_up()
                raise
            self.lanes.came(item, settle, error)

    async def turn(self) -> Item:
        """What a task is to send that has nothing to do."""
        worker = Worker(self)
        self.idle.append(worker)
        self.lanes.dispatch()
        try:
            return await worker.turn
        except asyncio.CancelledError:
            if worker.under_way is not None and worker.item is not None:
                worker.under_way.cancel()
                await asyncio.shield(self.sender.interrupted(worker.item))
                self.lanes.given_up()
            raise
