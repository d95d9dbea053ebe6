"""Promises: kept once, told at once, and waited for by many."""

from __future__ import annotations

import asyncio

import pytest

from engine.promise import Promise


async def test_who_asked_is_told_at_the_moment_it_is_kept_and_in_order() -> None:
    promise, told = Promise[int](), list[str]()
    promise.add_done_callback(lambda kept: told.append(f"first {kept.result()}"))
    promise.add_done_callback(lambda kept: told.append(f"second {kept.result()}"))
    assert (promise.done(), told) == (False, [])
    promise.set_result(7)
    assert (promise.done(), told) == (True, ["first 7", "second 7"])


async def test_who_comes_late_is_told_in_the_next_turn() -> None:
    told = list[int]()
    Promise.of(7).add_done_callback(lambda kept: told.append(kept.result()))
    assert not told
    await asyncio.sleep(0)
    assert told == [7]


async def test_one_listener_that_fails_keeps_nothing_from_the_others() -> None:
    promise, told, reported = Promise[int](), list[int](), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(repr(context["exception"])))
    promise.add_done_callback(lambda _: 1 / 0)
    promise.add_done_callback(lambda kept: told.append(kept.result()))
    promise.set_result(7)
    assert (told, reported) == ([7], ["ZeroDivisionError('division by zero')"])


async def test_many_wait_and_one_that_gives_up_cancels_nothing() -> None:
    promise = Promise[int]()
    waiting = [asyncio.ensure_future(promise) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    promise.set_result(7)
    assert await asyncio.gather(*waiting[1:]) == [7, 7]
    assert await promise == 7


async def test_it_is_waited_for_so_long() -> None:
    promise = Promise[int]()
    assert not await promise.wait(0.001)
    asyncio.get_running_loop().call_soon(promise.set_result, 7)
    assert await promise.wait(5.0)
    assert await promise.wait()


async def test_a_failure_comes_in_place_of_the_result() -> None:
    promise = Promise[int]()
    waiting = asyncio.ensure_future(promise)
    await asyncio.sleep(0)
    promise.set_exception(KeyError("x"))
    assert isinstance(promise.exception(), KeyError)
    for awaited in (waiting, promise, Promise[int].failed(KeyError("y"))):
        with pytest.raises(KeyError):
            await awaited


async def test_it_is_kept_once_and_asked_when_it_is() -> None:
    promise = Promise[int]()
    for ask in (promise.result, promise.exception):
        with pytest.raises(asyncio.InvalidStateError):
            ask()
    promise.set_result(7)
    for again in (lambda: promise.set_result(8), lambda: promise.set_exception(KeyError())):
        with pytest.raises(asyncio.InvalidStateError):
            again()
    assert (promise.result(), promise.exception()) == (7, None)
