"""What is not known yet and will be: a future whose callbacks run at the very moment when it is.

An asyncio future hands each callback to the event loop, which is a turn later and costs more than most callbacks do;
of every message several are waited for. Whoever keeps one does so in the loop's own thread, and is done with
its own work. A ``Promise`` can be awaited; who gives up waiting does not cancel it for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

_OPEN = object()


def told(callback: Callable[..., object], *of: object) -> None:
    """Call ``callback``; what it does wrong is reported, and reaches neither who tells nor other listeners."""
    try:
        callback(*of)
    except Exception as error:  # noqa: BLE001 - who tells has others to tell, whatever one of them does
        report(error)


def report(error: Exception) -> None:
    """Have the running loop tell of what a callback did wrong."""
    facts = {"message": "a callback failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(facts)


class Promise(Generic[T]):
    """A result, or an exception, that comes once."""

    __slots__ = ("_callbacks", "_error", "_result")

    def __init__(self) -> None:
        self._result: Any = _OPEN
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Promise[T]], object]] | None = None

    @classmethod
    def of(cls, result: T) -> Promise[T]:
        """One that is known."""
        made = cls()
        made._result = result
        return made

    @classmethod
    def failed(cls, error: BaseException) -> Promise[T]:
        """One that is known to be an exception."""
        made = cls()
        made._result, made._error = None, error
        return made

    def done(self) -> bool:
        """Whether it is known."""
        return self._result is not _OPEN

    def result(self) -> T:
        """The result. Raises the exception in its place; asyncio.InvalidStateError while it is not known."""
        if self._error is not None:
            raise self._error
        if self._result is _OPEN:
            raise asyncio.InvalidStateError("not known yet")
        known: T = self._result
        return known

    def exception(self) -> BaseException | None:
        """The exception that came, None for a result. Raises asyncio.InvalidStateError while it is not known."""
        if self._result is _OPEN:
            raise asyncio.InvalidStateError("not known yet")
        return self._error

    def add_done_callback(self, callback: Callable[[Promise[T]], object]) -> None:
        """Have it called with this promise as soon as it is known; of one that is, in the next turn of the loop."""
        if self._result is not _OPEN:
            asyncio.get_running_loop().call_soon(callback, self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[Promise[T]], object]) -> None:
        """Do not call it."""
        self._callbacks = [kept for kept in self._callbacks or () if kept != callback]

    def set_result(self, result: T) -> None:
        """Tell it. Raises asyncio.InvalidStateError when it is known."""
        if self._result is not _OPEN:
            raise asyncio.InvalidStateError("known already")
        self._result = result
        if self._callbacks is not None:
            self._tell(self._callbacks)

    def set_exception(self, error: BaseException) -> None:
        """Tell that it failed. Raises asyncio.InvalidStateError when it is known."""
        if self._result is not _OPEN:
            raise asyncio.InvalidStateError("known already")
        self._result, self._error = None, error
        if self._callbacks is not None:
            self._tell(self._callbacks)

    def end(self, error: BaseException | None) -> None:
        """Tell that it failed, or, with None, that what it stands for is done: its result is None then."""
        if error is None:
            self.set_result(cast(T, None))
        else:
            self.set_exception(error)

    def _tell(self, callbacks: list[Callable[[Promise[T]], object]]) -> None:
        self._callbacks = None
        for callback in callbacks:
            told(callback, self)

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is known, for ``seconds`` at most; whether it is."""
        if self._result is not _OPEN:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.add_done_callback(wake)
        timer = loop.call_later(seconds, wake) if seconds is not None else None
        try:
            await waiter
        finally:
            self.remove_done_callback(wake)
            if timer is not None:
                timer.cancel()
        return self.done()

    async def _known(self) -> T:
        await self.wait()
        return self.result()

    def __await__(self) -> Generator[Any, None, T]:
        return self._known().__await__()

    def __repr__(self) -> str:
        return f"<Promise {'open' if self._result is _OPEN else 'known'}>"
