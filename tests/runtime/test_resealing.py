"""Sealing again in the background: until nothing is left, over a store that fails, and ended between two units."""

from __future__ import annotations

import asyncio

from engine.errors import StoreError
from engine.runtime import resealing
from engine.runtime.resealing import Resealing


class Store:
    """Has a number of units to do; fails the ones named."""

    def __init__(self, units: int, *failing: int) -> None:
        self.left, self.tries, self.failing = units, 0, failing
        self.third = asyncio.Event()

    def resealing(self) -> str | None:
        return "message" if self.left else None

    async def reseal(self) -> None:
        self.tries += 1
        if self.tries == 3:
            self.third.set()
        if self.tries in self.failing:
            raise StoreError("not committed: SQLITE_FULL")
        self.left -= 1


async def ended(background: Resealing) -> None:
    task = background._background._task
    assert task is not None
    await task


async def test_it_goes_on_until_nothing_is_left_and_after_a_store_that_fails(monkeypatch) -> None:
    monkeypatch.setattr(resealing, "_RETRY", 0.0)
    store = Store(5, 2, 3)
    background = Resealing(store)
    background.begin()
    await ended(background)
    assert (store.left, store.tries) == (0, 7)


async def test_nobody_begins_it_twice_and_it_can_begin_again(monkeypatch) -> None:
    store = Store(3)
    background = Resealing(store)
    background.begin()
    first = background._background._task
    background.begin()
    assert background._background._task is first
    await ended(background)
    store.left = 1
    background.begin()
    await ended(background)
    assert store.left == 0


async def test_it_ends_between_two_units() -> None:
    store = Store(10**9)
    background = Resealing(store)
    background.begin()
    await store.third.wait()
    await background.end()
    assert store.left == 10**9 - store.tries
    await background.end()
