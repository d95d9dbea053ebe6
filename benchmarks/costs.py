"""What a message's three commits and a search cost a store, beside what it holds: processor, not the clock."""

from __future__ import annotations

import asyncio
import secrets
import time

from engine.delivery import DeliveryState, MessageState
from engine.store import SqliteStore
from engine.store.base import Accept, Find, NewDelivery, Route, Settle

BODY = (
    b"MSH|^~\\&|ADT1|HOSPITAL|OIE|RADIOLOGY|20260105101500||ADT^A08^ADT_A01|F%d|P|2.3.1\rPID|1||F%d^^^HOSP^MR\r"
    + b"NTE|1|L|note\r" * 10
)
PATIENTS = 5_000
#: Lives of messages for one measurement of commits, how many at a time, and how often it is measured.
LIVES, TOGETHER, TIMES = 1_280, 64, 4


async def cost(store: SqliteStore, stored: int, searches: dict[str, Find]) -> dict[str, float]:
    """Beside so many messages: three commits of a message, the cheapest of some times, and the median of searches."""
    # The first times still pay for the checkpoint of what was filled in just before.
    measured = [await commits(store) for _ in range(TIMES)]
    found = {"stored": float(stored), **sorted(measured, key=lambda one: one["cpu_us"])[0]}
    for name, search in searches.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            list(store.find(search))
            times.append((time.perf_counter() - began) * 1000)
        found[name] = sorted(times)[2]
    return found


async def commits(store: SqliteStore) -> dict[str, float]:
    """Messages per second, and microseconds of processor of each."""
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(life(store, LIVES // TOGETHER) for _ in range(TOGETHER)))
    took, used, lives = time.perf_counter() - began, time.process_time() - cpu, LIVES // TOGETHER * TOGETHER
    return {"messages_per_s": lives / took, "cpu_us": used / lives * 1e6}


async def life(store: SqliteStore, times: int) -> None:
    """Messages one after the other, each through its three commits."""
    for _ in range(times):
        message_id, delivery_id, name = store.new_id(), store.new_id(), secrets.token_hex(8)
        body = BODY % (message_id, message_id % PATIENTS)
        await store.submit(Accept(message_id, "measured", name, time.time(), body, name, "SIU^S12"))
        delivery = NewDelivery(delivery_id, "partner", "", body, name)
        await store.submit(
            Route(message_id, "measured", name, MessageState.ROUTED, time.time(), deliveries=(delivery,))
        )
        await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, time.time(), 1))
