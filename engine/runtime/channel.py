"""One running channel: how its parts are wired, started, watched, drained and stopped.

Started from the far end (destinations, lanes, router, source) and stopped from the near one: the source takes no more
in, what it took is routed, sends under way end, connections close. A part that dies takes its channel down, never
another one; the supervisor starts the channel again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from engine.config.plan import ChannelPlan
from engine.destinations.base import DestinationContext
from engine.errors import StepFailed, StoreError
from engine.hl7.bulk import Pieces
from engine.runtime.deliver import Lanes
from engine.runtime.exchange import Exchange
from engine.runtime.joining import hurry, lanes_of_plan
from engine.runtime.parts import Parts
from engine.runtime.receive import Receiver
from engine.runtime.route import Router
from engine.sources.base import SourceContext

log = structlog.get_logger("engine.channel")

#: Seconds for senders to hear what is known already, when a part of the channel has died.
FAILED_DRAIN = 1.0
#: Seconds in which the lanes of destinations that are to go may become empty.
LAST_SENDS = 5.0


class RunningChannel:
    """A channel between ``start`` and ``stop``."""

    def __init__(
        self,
        plan: ChannelPlan,
        parts: Parts,
        source_context: Callable[[Receiver | Exchange], SourceContext],
        destination_context: DestinationContext,
        salt: bytes = b"",
    ) -> None:
        self.plan, self.parts = plan, parts
        self.lanes: dict[str, Lanes] = {
            item.name: lanes_of_plan(plan.name, item, parts.store, parts.clock, salt) for item in plan.outlets
        }
        self.router = Router(plan, parts, self.lanes)
        self.exchange = Exchange(plan, plan.reply, parts) if plan.reply is not None else None
        self.receiver = self.exchange or Receiver(plan, parts, self.router)
        #: Set when a part of the channel has died; the supervisor waits for it.
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._source_context, self._destination_context = source_context, destination_context
        self._stack = AsyncExitStack()
        self._stopping = False

    async def start(self) -> None:
        """Start from the far end. Raises OSError when the source cannot listen."""
        try:
            await self._start()
        except BaseException:  # also a cancellation: what was started is stopped, then it goes on
            self._stopping = True
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        stack = self._stack
        for item in self.plan.outlets:
            await item.to.start(self._destination_context)
            stack.push_async_callback(item.to.stop)
        if self.exchange is not None:
            self._spawn("probe", self.exchange.caller.probe())
            stack.push_async_callback(self.exchange.close)
        else:
            for item in self.plan.outlets:
                self._start_lanes(self.lanes[item.name], item.connections)
            stack.callback(self.router.acks.end)
            self.router.recover()
            self.router.acks.recover()
            self._spawn("router", self.router.run())
        await self.plan.source.start(self._source_context(self.receiver))

    def _start_lanes(self, lanes: Lanes, connections: int) -> None:
        lanes.settled = self.router.acks.delivery_settled
        lanes.recover()
        self._stack.callback(lanes.close)
        for number in range(connections):
            self._spawn(f"{lanes.plan.name} {number + 1}", lanes.work())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{self.plan.name}: {name}")
        task.add_done_callback(self._ended)
        self._stack.push_async_callback(_cancel, task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping or self.failed.done():
            return
        # Nobody here cancels a worker before the stop: it cancelled itself (a step let CancelledError through).
        error = RuntimeError("a worker was cancelled") if task.cancelled() else task.exception()
        error = error or RuntimeError("a worker ended")
        log.error("channel.part_died", channel=self.plan.name, part=task.get_name(), error=type(error).__name__)
        self.failed.set_result(error)

    async def stop(self, deadline: float, drain: Collection[str] = ()) -> None:
        """Stop in the order of the message's path; what is not finished by the deadline stays in the store.

        ``drain``: destinations that are given ``LAST_SENDS`` seconds to send everything that waits for them.
        """
        self._stopping = True
        # Where a part has died, what waits for it would wait in vain.
        patience = FAILED_DRAIN if self.failed.done() else deadline * 0.75
        try:
            async with asyncio.timeout(patience):
                await self.plan.source.stop()
                self.receiver.open = False
                await self.receiver.drained()
                if self.exchange is None and not self.failed.done():
                    await self.router.drained()
                    await self._emptied(drain)
                    await asyncio.gather(*(lanes.finish() for lanes in self.lanes.values()))
        except TimeoutError:
            log.warning("channel.stopped_late", channel=self.plan.name)
        finally:  # whatever came in between: what is started anew must not find these lanes at work
            self.router.pressure.flush()
            await self._stack.aclose()

    async def _emptied(self, names: Collection[str]) -> None:
        loop, store = asyncio.get_running_loop(), self.parts.store
        until = loop.time() + LAST_SENDS
        for name in names:
            hurry(self.lanes[name])
        try:
            while any(self.lanes[name].sending or store.queued(self.plan.name, name, 0, 1) for name in names):
                if loop.time() > until:
                    return
                await asyncio.sleep(0.01)
        except StoreError:
            log.error("channel.unreadable", channel=self.plan.name)  # what waits stays, and is counted by who asked

    # -- what a person does ----------------------------------------------------------------------------------------

    async def rebuild(self, message_id: int, destination: str) -> tuple[bytes | Pieces, str, str] | None:
        """The bytes of a delivery whose transform failed before. Raises StepFailed."""
        row = self.parts.store.message(message_id)
        if row is None:
            raise StepFailed("resend", "message_missing")
        return await self.router.routing.rebuild(row, destination)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
