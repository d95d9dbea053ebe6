"""Seals stored values again in the background, after a rotation of the store key and for what was stored plain.

The store does the work in small units (``Store.reseal``); this says when the next one comes, so that messages do not
feel it.
"""

from __future__ import annotations

import asyncio

import structlog

from engine.errors import StoreError
from engine.runtime.background import Background, give_way
from engine.store.base import Store

log = structlog.get_logger("engine.store")

#: Seconds before the next try when the store could not commit.
_RETRY = 5.0


class Resealing:
    """The background task of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._background = Background("resealing", self._run)

    def begin(self) -> None:
        """Go to work if there is any and nobody is at it."""
        self._background.begin()

    async def end(self) -> None:
        """Stop between two units; the next start goes on from there."""
        await self._background.end()

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
                await give_way(began)
        if told:
            log.info("store.resealed")
