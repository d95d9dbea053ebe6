"""Stores on a fresh folder, a clock that is held, and short ways to write what most tests write first."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.delivery import DeliveryState, MessageState
from engine.store import SqliteStore, Store
from engine.store.base import Accept, NewDelivery, Route
from engine.store.pruning import SweepParts, SweepPatients

KEY = bytes(range(32))
#: Parts that are removed in one unit.
PARTS = 2


@dataclass
class HeldClock:
    """Stands still until a test moves it."""

    at: float = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


#: Makes a store on a folder; every store that follows the contract gets a line here.
STORES: dict[str, Callable[[Path, Callable[[], float]], Store]] = {
    "sqlite": lambda folder, now: SqliteStore(folder, KEY, now=now),
}


@pytest.fixture(params=STORES)
async def new_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: HeldClock
) -> AsyncIterator[Callable[[], Store]]:
    """Makes stores on one folder, not open yet; closes what a test left open."""
    made: list[Store] = []

    def make() -> Store:
        made.append(STORES[request.param](tmp_path / "data", clock))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def store(new_store: Callable[[], Store]) -> Store:
    """An open store."""
    store = new_store()
    await store.open()
    return store


@pytest.fixture
async def sqlite(tmp_path: Path, clock: HeldClock) -> AsyncIterator[SqliteStore]:
    """An open embedded store, for what only it has."""
    store = SqliteStore(tmp_path / "data", KEY, now=clock)
    await store.open()
    yield store
    await store.close()


async def sweep(store: Store) -> int:
    """Remove what removed messages leave; in how many units."""
    units = 0
    while store.retained.orphaned_hashes():
        await store.submit(SweepPatients(100))
        units += 1
    while store.retained.dropped_parts(PARTS) is not None:
        await store.submit(SweepParts(PARTS))
        units += 1
    return units


class Samples:
    """Operations with as much of them filled in as a test does not care about."""

    def accept(self, store: Store, **members: Any) -> Accept:
        message_id = members.pop("message_id", None) or store.new_id()
        defaults = {
            "channel": "siu",
            "correlation_id": f"correlation-{message_id}",
            "received_at": 1_000_000.0 + message_id,
            "body": b"MSH|",
        }
        return Accept(message_id=message_id, **{**defaults, **members})

    def delivery(self, store: Store, **members: Any) -> NewDelivery:
        delivery_id = members.pop("delivery_id", None) or store.new_id()
        return NewDelivery(delivery_id=delivery_id, **{"destination": "epic", "key": "", "body": b"MSH|out", **members})

    def route(self, accept: Accept, *deliveries: NewDelivery, **members: Any) -> Route:
        defaults = {"state": MessageState.ROUTED, "at": accept.received_at + 1, "deliveries": deliveries}
        return Route(accept.message_id, accept.channel, accept.correlation_id, **{**defaults, **members})

    async def message(self, store: Store, **members: Any) -> int:
        """Commit 1 of a message; gives its id."""
        accept = self.accept(store, **members)
        await store.submit(accept)
        return accept.message_id

    async def owed(self, store: Store, **members: Any) -> int:
        """A routed message with one delivery; gives the id of the delivery."""
        known = inspect.signature(NewDelivery).parameters
        accept = self.accept(store, **{name: value for name, value in members.items() if name not in known})
        delivery = self.delivery(store, **{name: value for name, value in members.items() if name in known})
        await store.submit(accept, self.route(accept, delivery))
        return delivery.delivery_id


@pytest.fixture
def samples() -> Samples:
    return Samples()


@pytest.fixture
def states(store: Store) -> Callable[[int], DeliveryState | None]:
    """The state of a delivery."""

    def state(delivery_id: int) -> DeliveryState | None:
        row = store.delivery(delivery_id)
        return row and row.state

    return state
