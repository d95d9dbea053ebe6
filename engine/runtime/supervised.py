"""One channel of the site as its supervisor sees it: started, watched, started again when it dies, stopped.

A channel whose file has lost a destination that something waits for is ``refused``: it is looked at again every now
and then, and whenever somebody has acted on what waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import structlog

from engine.config.plan import ChannelPlan
from engine.errors import Problem, StoreError
from engine.runtime.channel import RunningChannel
from engine.runtime.clock import Clock
from engine.runtime.faults import where

log = structlog.get_logger("engine.supervisor")

#: Seconds before a channel that died or could not start is started again; the last repeats.
RESTART = (1.0, 2.0, 5.0, 15.0, 30.0)

#: Makes what runs of a plan.
Make = Callable[[ChannelPlan], RunningChannel]
#: What keeps a plan from being started, because of what waits in the store.
Look = Callable[[ChannelPlan], tuple[Problem, ...]]


class Supervised:
    """One channel of the site, running or not."""

    def __init__(self, plan: ChannelPlan, make: Make, look: Look, clock: Clock) -> None:
        self.plan = plan
        #: ``running`` | ``stopped`` (by a person) | ``failed`` (will be started again) | ``refused`` (see ``problems``)
        self.state = "stopped"
        self.error = ""
        #: Why it is refused.
        self.problems: tuple[Problem, ...] = ()
        #: Why it does not run as its file says: an older version of the file goes on.
        self.kept: tuple[Problem, ...] = ()
        self.running: RunningChannel | None = None
        #: The same, also while it starts and stops: what people do with its lanes holds until they are gone.
        self.present: RunningChannel | None = None
        self._make, self._look, self._clock = make, look, clock
        self._task: asyncio.Task[None] | None = None
        self._stop_wanted = asyncio.Event()
        #: Set when a refused channel may be looked at again.
        self._again = asyncio.Event()
        #: Set when the first attempt to start has ended, well or not.
        self._attempted = asyncio.Event()
        self._deadline = 20.0
        self._drain: Collection[str] = ()

    @property
    def active(self) -> bool:
        """Whether it runs, or is to be started again without anybody's doing."""
        return self._task is not None and not self._task.done()

    def begin(self) -> None:
        """Start it, and go on starting it until ``end``."""
        self._stop_wanted.clear()
        self._attempted.clear()
        self._task = asyncio.get_running_loop().create_task(self._supervise(), name=f"channel {self.plan.name}")

    async def attempted(self) -> None:
        """Until the first attempt to start has ended, well or not."""
        await self._attempted.wait()

    async def look_again(self) -> None:
        """What waited may be gone: a refused channel is started now if nothing stands in its way any more."""
        if self.state == "refused" and self.active:
            self._attempted.clear()
            self._again.set()
            await self.attempted()

    async def end(self, deadline: float, drain: Collection[str] = ()) -> None:
        """Stop it in order, within ``deadline`` seconds, and start it no more.

        ``drain``: destinations whose lanes are to be empty then, if that takes only a moment.
        """
        self._deadline, self._drain = deadline, drain
        self._stop_wanted.set()
        self._again.set()
        if self._task is not None:
            await self._task
            self._task = None

    @asynccontextmanager
    async def paused(self, deadline: float, drain: Collection[str] = ()) -> AsyncIterator[None]:
        """Stopped in order inside the ``with``; afterwards it goes on, with the plan that it has then.

        A port that both plans listen on stays open meanwhile: senders wait and are not refused.
        """
        before, was_active = self.plan, self.active
        port = before.source.lend_port() if self.running is not None else None
        try:
            await self.end(deadline, drain)
            yield
        finally:
            if port is not None and not self.plan.source.take_port(port, before.source):
                port.close()
            if was_active:
                self.begin()
                await self.attempted()

    # -- its life --------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Run until a person or the engine's stop ends it; start it again when it dies."""
        failures = 0
        while not self._stop_wanted.is_set():
            started = self._clock.time()
            try:
                if self._refused():
                    await self._pause(RESTART[-1], self._again)
                    continue
                error = await self._run_once()
            except StoreError:
                error = "cannot start: the store cannot be read"
            if error is None:
                break
            failures = failures + 1 if self._clock.time() - started < RESTART[-1] else 1
            delay = RESTART[min(failures, len(RESTART)) - 1]
            self.state, self.error = "failed", error
            log.error("channel.failed", channel=self.plan.name, error=error, again_in=delay)
            await self._pause(delay, self._stop_wanted)
        self.state, self.problems, self.running = "stopped", (), None
        self._attempted.set()
        log.info("channel.stopped", channel=self.plan.name)

    def _refused(self) -> bool:
        """Whether something waits that this plan would leave behind."""
        found = self._look(self.plan)
        if found and found != self.problems:
            log.error("channel.refused", channel=self.plan.name, problems=[str(problem) for problem in found])
        self.problems = found
        if found:
            self.state, self.error = "refused", ""
        self._again.clear()
        return bool(found)

    async def _pause(self, seconds: float, until: asyncio.Event) -> None:
        self._attempted.set()
        try:
            async with asyncio.timeout(seconds):
                await until.wait()
        except TimeoutError:
            return

    async def _run_once(self) -> str | None:
        """Start it and wait until it dies or is to stop; the reason when it died."""
        self.present = self._make(self.plan)
        try:
            return await self._live(self.present)
        finally:
            self.present = None

    async def _live(self, running: RunningChannel) -> str | None:
        try:
            await running.start()
        except OSError as error:
            return f"cannot start: {error.strerror or type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - a channel that cannot start must not take the others with it
            return f"cannot start: {type(error).__name__} at {where(error)}"
        self.running, self.state, self.error = running, "running", ""
        self._attempted.set()
        log.info("channel.running", channel=self.plan.name, source=self.plan.source.address)
        stop: asyncio.Future[Any] = asyncio.ensure_future(self._stop_wanted.wait())
        await asyncio.wait([stop, running.failed], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        self.running = None
        await running.stop(self._deadline, self._drain)
        return type(running.failed.result()).__name__ if running.failed.done() else None
