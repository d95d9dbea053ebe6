"""Work that an engine does for its store beside the traffic: one task, in small units that leave others their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from engine.runtime.faults import where

log = structlog.get_logger("engine.background")

#: What one unit took, so many times as long is left to everybody else where nobody says another number …
SHARE = 9.0
#: … and so many seconds at the least.
_PAUSE = 0.002
#: … and no more than so many: a unit may have waited for a disk, or for a process, that hung.
_MOST = 5.0


class Background:
    """The task of one such work. Where it dies by a fault of ours, the log says so at once."""

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name, self._work = name, work
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Go to work, unless it is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name=self._name)
            self._task.add_done_callback(self._ended)

    async def end(self) -> None:
        """Stop between two units; what a unit has begun is ended by the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background.died", work=self._name, error=type(error).__name__, at=where(error))


async def give_way(began: float, share: float = SHARE) -> None:
    """Leave the loop and the disk to others after a unit that began at ``began`` (the loop's time).

    A unit takes the longer the busier the others are, so under load there are fewer of them; some there are always.
    """
    took = asyncio.get_running_loop().time() - began
    await asyncio.sleep(min(max(_PAUSE, took * share), _MOST))
