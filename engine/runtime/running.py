"""Coroutines that run without a task: they wait for what calls back, and go on in that very call.

A task costs the event loop a turn when it begins and one for each thing that it waits for. An exchange waits for a
commit, an answer and a commit, which call back anyway. What does need a task (a site's ``async def``, a connector that
is awaited, asyncio's own time-outs) is given one by ``in_task``. A ``Running`` awaits nothing but a ``Wait``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Whom to tell what is waited for.
Tell = Callable[[Any], None]


class Wait(Generic[T]):
    """What a ``Running`` waits for: ``begin`` is given whom to tell, which is done once; an exception is raised."""

    __slots__ = ("begin", "give_up")

    def __init__(self, begin: Callable[[Tell], object], give_up: Callable[[], object]) -> None:
        """``give_up`` is called in place of being told, when the one who waits has been cancelled."""
        self.begin, self.give_up = begin, give_up

    def __await__(self) -> Generator[Any, Any, T]:
        told = yield self
        if isinstance(told, BaseException):
            raise told
        known: T = told
        return known


def nothing() -> None:
    """Give up what goes on by itself."""


class Running:
    """One coroutine under way."""

    __slots__ = ("_coroutine", "_ended", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], ended: Callable[[Running], object]) -> None:
        """``ended`` is called when it has come to its end."""
        self._coroutine, self._ended = coroutine, ended
        self._waits_for: Wait[Any] | None = None

    def begin(self) -> None:
        """Run it until it waits for something, or has ended."""
        self._go_on(self._coroutine.send, None)

    def cancel(self) -> None:
        """Raise CancelledError where it waits; what it waited for is given up."""
        waited, self._waits_for = self._waits_for, None
        if waited is not None:
            waited.give_up()
            self._go_on(self._coroutine.throw, asyncio.CancelledError())

    def _told(self, waited: Wait[Any], told: Any) -> None:
        if self._waits_for is waited:
            self._waits_for = None
            self._go_on(self._coroutine.send, told)

    def _go_on(self, step: Callable[[Any], Any], value: Any) -> None:
        try:
            wait = step(value)
        except BaseException as error:
            self._ended(self)
            if isinstance(error, StopIteration | asyncio.CancelledError):
                return
            raise
        self._waits_for = wait
        try:
            wait.begin(partial(self._told, wait))
        except Exception as error:  # noqa: BLE001 - it is the coroutine's, which knows what it began
            self._told(wait, error)


async def in_task(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await, in a task, what cannot do without one; cancelled with the one who waits."""
    task = asyncio.get_running_loop().create_task(coroutine)

    def begin(tell: Tell) -> None:
        task.add_done_callback(lambda task: tell(outcome(task)))

    return await Wait(begin, task.cancel)


def outcome(task: asyncio.Task[T]) -> T | BaseException:
    """What a task that has ended gave or raised."""
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()
