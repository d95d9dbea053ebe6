"""Coroutines that run without a task: they wait for what calls back, and go on in that very call.

A task costs the event loop a turn when it begins and one for each thing that it waits for. An exchange waits for a
commit, an answer and a commit, which call back anyway. What does need a task (a site's ``async def``, a connector that
is awaited, asyncio's own time-outs) is given one by ``in_task``. A ``Running`` awaits nothing but a ``Wait``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Whom to tell what is waited for.
Tell = Callable[[Any], None]


class Wait(Generic[T]):
    """What a ``Running`` waits for."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        #: Who waits for it.
        self.running: Running | None = None

    def begin(self, tell: Tell) -> None:
        """Do it, and have ``tell`` called with what comes of it, once; an exception is raised where it is awaited."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Called in place of being told, when the one who waits has been cancelled."""

    def tell(self, told: T | BaseException | None) -> None:
        """It is known."""
        running, self.running = self.running, None
        if running is not None:
            running.go_on(told)

    def __await__(self) -> Generator[Any, Any, T]:
        told = yield self
        if isinstance(told, BaseException):
            raise told
        known: T = told
        return known


class Running:
    """One coroutine under way."""

    __slots__ = ("_coroutine", "_ended", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], ended: Callable[[Running], object]) -> None:
        """``ended`` is called when it has come to its end."""
        self._coroutine, self._ended = coroutine, ended
        self._waits_for: Wait[Any] | None = None

    def cancel(self) -> None:
        """Raise CancelledError where it waits; what it waited for is given up."""
        waited = self._waits_for
        if waited is not None:
            waited.running = None
            waited.give_up()
            self.go_on(asyncio.CancelledError(), self._coroutine.throw)

    def go_on(self, told: Any = None, step: Callable[[Any], Any] | None = None) -> None:
        """Run it (at first without anything that is told) until it waits for something, or has ended."""
        self._waits_for = None
        try:
            wait = self._coroutine.send(told) if step is None else step(told)
        except BaseException as error:  # whatever ended it, it has ended
            self._ended(self)
            if isinstance(error, StopIteration | asyncio.CancelledError):
                return
            raise
        wait.running, self._waits_for = self, wait
        try:
            wait.begin(wait.tell)
        except Exception as error:  # noqa: BLE001 - it is the coroutine's, which knows what it began
            wait.tell(error)


class _Task(Wait[T]):
    """A task."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[T]) -> None:
        super().__init__()
        self._task = task

    def begin(self, tell: Tell) -> None:
        self._task.add_done_callback(lambda task: tell(outcome(task)))

    def give_up(self) -> None:
        self._task.cancel()


def in_task(coroutine: Coroutine[Any, Any, T]) -> Wait[T]:
    """To be awaited: what cannot do without a task; cancelled with the one who waits."""
    return _Task(asyncio.get_running_loop().create_task(coroutine))


def outcome(task: asyncio.Task[T]) -> T | BaseException:
    """What a task that has ended gave or raised."""
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()
