"""What somebody asked for runs to its end, whoever stops waiting for it: a caller who hangs up breaks nothing off.

Half an act is worse than none or the whole: a channel that is stopped and not started again, a delivery that the store
has as queued and no lane knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import structlog

log = structlog.get_logger("engine.acts")

P = ParamSpec("P")
T = TypeVar("T")


def unbroken(act: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same act in a task of its own."""

    @wraps(act)
    async def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.get_running_loop().create_task(act(*args, **kwargs), name=act.__name__)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_unheard)
            raise

    return whole


def _unheard(task: asyncio.Task[Any]) -> None:
    """Nobody waits any more for how it ended."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("act.failed", act=task.get_name(), error=type(error).__name__)
