"""What the store asks of the machine, done by the machine itself."""

from __future__ import annotations

import asyncio
import gc
import weakref

from engine.promise import Promise
from engine.store.machine import CommitThread


class Written:
    """Stands for what a commit has written."""


async def test_the_thread_keeps_nothing_of_what_it_has_done() -> None:
    thread, ended = CommitThread(), Promise[None]()
    written = Written()
    seen = weakref.ref(written)
    thread.run(lambda: None, lambda _, of=written: ended.end(None))
    del written
    await ended
    async with asyncio.timeout(10.0):
        while seen() is not None:  # the thread is about to wait for more
            await asyncio.sleep(0.001)
            gc.collect()
    await thread.close()
