"""A store with N messages queued for a partner that is away, written through the engine's own store.

    python -m benchmarks.fill FOLDER N

The key is HL7ENGINE_STORE_KEY of the environment. After 0, 1,000, 10,000, … messages, and at the end, it measures what
a unit of a commit and a search cost beside what is stored, and prints that as one JSON line each.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
import time
from pathlib import Path

from engine.delivery import DeliveryState, MessageState
from engine.store import SqliteStore
from engine.store.base import Accept, Find, NewDelivery, Route, Settle

CHANNEL, DESTINATION = "router", "other"
#: Messages in one commit of the fill.
BATCH = 1000
PATIENTS = 5_000
BODY = (
    b"MSH|^~\\&|ADT1|HOSPITAL|OIE|RADIOLOGY|20260105101500||ADT^A08^ADT_A01|F%d|P|2.3.1\rPID|1||F%d^^^HOSP^MR\r"
    + b"NTE|1|L|note\r" * 10
)
#: Lives of messages for one measurement of commits, how many at a time, and how often it is measured.
LIVES, TOGETHER, TIMES = 1_280, 64, 4


def queued(store: SqliteStore, number: int) -> list[Accept | Route]:
    """A message and its delivery, which waits."""
    patient = f"F{number % PATIENTS}"
    message_id, key, body = store.new_id(), store.lane_key(patient), BODY % (number, number % PATIENTS)
    control_id = f"F{number}"
    accept = Accept(message_id, CHANNEL, control_id, time.time(), body, control_id, "ADT^A08", key, patients=(patient,))
    delivery = NewDelivery(store.new_id(), DESTINATION, key, body, control_id)
    route = Route(message_id, CHANNEL, control_id, MessageState.ROUTED, time.time(), deliveries=(delivery,))
    return [accept, route]


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


async def cost(store: SqliteStore, stored: int) -> dict[str, float]:
    """Of three commits of a message, the cheapest of some times, and of searches, beside so many messages."""
    # The first times still pay for the checkpoint of what was filled in just before.
    measured = [await commits(store) for _ in range(TIMES)]
    found = {"stored": float(stored), **sorted(measured, key=lambda one: one["cpu_us"])[0]}
    middle = stored // 2
    searches = {"control_id_ms": Find(control_id=f"F{middle}"), "patient_ms": Find(patient=f"F{middle % PATIENTS}")}
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


async def main(folder: Path, number: int) -> None:
    """Fill and measure."""
    store = SqliteStore(folder, base64.b64decode(os.environ["HL7ENGINE_STORE_KEY"]))
    await store.open()
    await cost(store, 0)  # the first of everything
    points = {0, number, *(10**power for power in range(3, 9) if 10**power < number)}
    filled = 0
    while True:
        if filled in points:
            print(json.dumps(await cost(store, filled)), flush=True)
        if filled == number:
            break
        nearest = min(point for point in points if point > filled)
        until = min(filled + BATCH, nearest)
        await store.submit(*(unit for one in range(filled, until) for unit in queued(store, one)))
        filled = until
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
