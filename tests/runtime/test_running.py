"""Coroutines without a task, and turns: told once, cancelled where they wait, in order and in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.runtime.running import Running, Wait, in_task
from engine.runtime.turns import Turns


class Bell(Wait[Any]):
    """Something to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = False

    def begin(self, tell: Any) -> None:
        assert tell == self.tell

    def give_up(self) -> None:
        self.given_up = True


def run(coroutine: Any) -> tuple[Running, list[Running]]:
    ended: list[Running] = []
    running = Running(coroutine, ended.append)
    running.go_on()
    return running, ended


async def test_it_goes_on_in_the_very_call_that_tells_it() -> None:
    first, second, heard = Bell(), Bell(), list[Any]()

    async def go() -> None:
        heard.append(await first)
        try:
            await second
        except ValueError as error:
            heard.append(error)

    running, ended = run(go())
    first.tell(1)
    assert (heard, ended) == ([1], [])
    first.tell(2)  # nobody listens to that any more
    second.tell(error := ValueError())
    assert (heard, ended) == ([1, error], [running])
    running.cancel()  # nothing any more


async def test_one_that_is_cancelled_gives_up_what_it_waits_for_and_may_wait_for_something_else() -> None:
    first, last, heard = Bell(), Bell(), list[Any]()

    async def go() -> None:
        try:
            await first
        except asyncio.CancelledError:
            heard.append(await last)
            raise

    running, ended = run(go())
    running.cancel()
    assert (first.given_up, ended) == (True, [])
    first.tell("too late")
    last.tell("done")
    assert (heard, ended) == (["done"], [running])


async def test_what_cannot_begin_is_told_where_it_is_waited_for() -> None:
    class Refused(Bell):
        def begin(self, tell: Any) -> None:
            raise ConnectionError

    async def go() -> None:
        with pytest.raises(ConnectionError):
            await Refused()

    running, ended = run(go())
    assert ended == [running]


async def test_a_task_is_awaited_and_cancelled_with_it() -> None:
    heard: list[Any] = []

    async def pause(seconds: float) -> str:
        try:
            async with asyncio.timeout(60):
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise
        return "slept"

    async def go() -> None:
        heard.append(await in_task(pause(0)))
        await in_task(pause(60))

    running, ended = run(go())
    async with asyncio.timeout(5):
        while not heard:  # noqa: ASYNC110 - it runs by itself
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        while len(heard) < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
    assert (heard, ended) == (["slept", "cancelled"], [running])


async def test_turns_come_in_order_and_no_turn_is_lost() -> None:
    turns, began = Turns(1, 60.0), list[int]()

    async def go(number: int, until: Bell) -> None:
        assert await turns.take()
        began.append(number)
        await until
        turns.give_back()

    bells = [Bell() for _ in range(5)]
    runs = [run(go(number, bell)) for number, bell in enumerate(bells)]
    runs[1][0].cancel()  # while it waits
    assert began == [0]
    bells[0].tell(None)
    runs[2][0].cancel()  # when it has its turn and has not heard of it
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert began == [0, 3]
    bells[3].tell(None)
    await asyncio.sleep(0)
    bells[4].tell(None)
    assert began == [0, 3, 4]
    assert all(ended for _, ended in runs)
    assert await turns.take()


async def test_a_turn_that_does_not_come_in_time_is_none() -> None:
    turns, heard = Turns(1, 0.01), list[bool]()
    assert await turns.take()

    async def go() -> None:
        heard.append(await turns.take())

    _, ended = run(go())
    async with asyncio.timeout(5):
        while not ended:  # noqa: ASYNC110 - it is the loop's timer
            await asyncio.sleep(0.01)
    turns.give_back()
    assert (heard, await turns.take()) == ([False], True)


async def test_many_who_fail_at_once_do_not_do_so_within_each_other() -> None:
    turns, failed = Turns(1, 60.0), list[int]()
    assert await turns.take()

    async def go(number: int) -> None:
        await turns.take()
        failed.append(number)
        turns.give_back()

    runs = [run(go(number)) for number in range(3000)]
    turns.give_back()
    async with asyncio.timeout(10):
        while not all(ended for _, ended in runs):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
    assert failed == list(range(3000))
