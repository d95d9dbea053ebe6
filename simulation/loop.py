"""The event loop the engine runs on: one callback per step, time that jumps, no threads and no sockets.

What asyncio promises is kept (callbacks in the order of ``call_soon``, timers not before their time). Everything else,
when bytes come and how long a disk takes, is the world's.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from simulation.network import Network, SimulatedTransport
from simulation.world import World


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop of one life of the engine's process."""

    def __init__(self, world: World, network: Network) -> None:
        self.world, self.network = world, network
        self._threads = world.random(f"threads {world.now}")
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._sequence = 0
        #: The process has died: nothing is run any more, whoever asks.
        self.dead = False
        self.steps = 0
        self._at_step: tuple[int, Callable[[], None]] | None = None

    # -- what the world calls --------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether a callback waits."""
        return bool(self._ready)

    def step(self) -> None:
        """Run one callback."""
        if self._timers and self._timers[0][0] <= self.world.now:
            self.wake_timers()
        handle = self._ready.popleft()
        self.steps += 1
        if not handle._cancelled:
            handle._run()
        if self._at_step is not None and self.steps >= self._at_step[0]:
            _, callback = self._at_step
            self._at_step = None
            callback()

    def call_at_step(self, step: int, callback: Callable[[], None]) -> None:
        """Call something after so many steps."""
        self._at_step = step, callback

    def next_timer(self) -> float:
        """When the next timer is due."""
        while self._timers and self._timers[0][2]._cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else float("inf")

    def wake_timers(self) -> None:
        """Make what is due ready."""
        while self._timers and self._timers[0][0] <= self.world.now:
            handle = heapq.heappop(self._timers)[2]
            if not handle._cancelled:
                self._ready.append(handle)

    def abandon(self) -> None:
        """The process is gone: what its tasks would still have done does not happen."""
        self.dead = True
        tasks = asyncio.all_tasks(self)  # first: of one that has not begun nothing but what is ready knows
        self._ready.clear()
        self._timers.clear()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _end(task.get_coro())

    # -- what asyncio calls ----------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self._sequence += 1
            heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        if self.dead:
            coro.close()
            return cast("asyncio.Task[Any]", _cancelled(self.create_future()))
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            error = context.get("exception")
            self.world.failures.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """What a thread would do is done in one step a little later, and heard of later still."""
        done = self.create_future()

        def work() -> None:
            try:
                result, error = func(*args), None
            except Exception as failure:  # noqa: BLE001 - whoever awaits the thread is told
                result, error = None, failure
            self.call_later(self._threads.expovariate(1 / 0.0005), heard, result, error)

        def heard(result: Any, error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(result)

        self.call_later(self._threads.expovariate(1 / 0.0005), work)
        return done

    # -- the network -----------------------------------------------------------------------------------------------

    async def sock_accept(self, sock: Any) -> Any:
        return await sock.accept()

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_: Any) -> Any:  # type: ignore[override]
        return await self.network.accepted(self, protocol_factory, sock)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Any, host: str, port: int, *, ssl: Any = None, server_hostname: Any = None
    ) -> tuple[SimulatedTransport, Any]:
        return await self.network.connect(self, port, protocol_factory)


def _cancelled(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    future.cancel()
    return future


class _Gone(BaseException):
    """There is no process any more in which anything could go on."""


def _end(coroutine: Any) -> None:
    """End a coroutine for good, also one that awaits again and again while it ends."""
    with suppress(BaseException):
        for _ in range(1000):
            coroutine.throw(_Gone())
