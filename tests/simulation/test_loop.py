"""The loop of a world ends like the process of one: whatever its tasks would still have done does not happen."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from simulation.choose import choose
from simulation.ledger import Ledger
from simulation.loop import SimulatedLoop
from simulation.network import Network
from simulation.world import World


def test_a_task_that_awaits_again_and_again_while_it_ends_is_ended_without_a_word(monkeypatch) -> None:
    """Exit stacks and async generators go on to their next callback, and begin tasks, when they are closed."""
    world, told, done = World(1), [], []
    network = Network(world, Ledger(), choose(world.random("workload")).weather)
    loop = SimulatedLoop(world, network)
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_value))

    @asynccontextmanager
    async def paused() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(1)
            loop.create_task(asyncio.sleep(1))

    async def work() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                stack.push_async_callback(asyncio.sleep, 1)
            async with paused():
                await asyncio.sleep(100)
        done.append(True)

    asyncio._set_running_loop(loop)
    try:
        task = loop.create_task(work())
        world.engine = loop
        world.run(lambda: False, 10.0)
        loop.abandon()
        del task
        gc.collect()
    finally:
        asyncio._set_running_loop(None)
    assert (told, done, world.failures) == ([], [], [])
