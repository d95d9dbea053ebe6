"""Seals stored values again in the background, after a rotation of the store key and for what was stored plain.

The store does the work in small units (``Store.reseal``); this says when the next one comes, so that messages do not
feel it: what a unit takes, nine times as long is left to everybody else.
"""

from __future__ import annotations

import asyncio

import structlog

from engine.errors import StoreError
from engine.store.base import Store

log = structlog.get_logger("engine.store")

#: Share of the time that is left to everybody else, in units of what one took …
_SHARE = 9.0
#: … and the least, in seconds.
_PAUSE = 0.002
#: Seconds before the next try when the store could not commit.
_RETRY = 5.0


class Resealing:
    """The background task of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Go to work if there is any and nobody is at it."""
        if self._task is not None and not self._task.done():
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name="resealing")

    async def end(self) -> None:
        """Stop between two units; the next start goes on from there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        told = False
        while True:
            began = loop.time()
            try:
                if (table := self._store.resealing()) is None:
                    break
                if not told:
                    log.info("store.resealing", table=table)
                    told = True
                await self._store.reseal()
            except StoreError:
                log.error("store.reseal_failed")
                await asyncio.sleep(_RETRY)
            else:
                await asyncio.sleep(max(_PAUSE, (loop.time() - began) * _SHARE))
        if told:
            log.info("store.resealed")
