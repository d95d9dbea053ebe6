"""A store with N messages queued for a partner that is away, written through the engine's own store.

    python -m benchmarks.fill FOLDER N

The key is HL7ENGINE_STORE_KEY of the environment.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from pathlib import Path

from engine.delivery import MessageState
from engine.store import SqliteStore
from engine.store.base import Accept, NewDelivery, Route
from engine.store.late import IndexMessages

CHANNEL, DESTINATION = "router", "other"
#: Messages in one commit of the fill.
BATCH = 1000
PATIENTS = 5_000
BODY = (
    b"MSH|^~\\&|ADT1|HOSPITAL|OIE|RADIOLOGY|20260105101500||ADT^A08^ADT_A01|F%d|P|2.3.1\rPID|1||F%d^^^HOSP^MR\r"
    + b"NTE|1|L|note\r" * 10
)


def queued(store: SqliteStore, number: int) -> list[Accept | Route]:
    """A message and its delivery, which waits."""
    patient = f"F{number % PATIENTS}"
    message_id, key, body = store.new_id(), store.lane_key(patient), BODY % (number, number % PATIENTS)
    control_id = f"F{number}"
    accept = Accept(message_id, CHANNEL, control_id, time.time(), body, control_id, "ADT^A08", key, patients=(patient,))
    delivery = NewDelivery(store.new_id(), DESTINATION, key, body, control_id)
    route = Route(message_id, CHANNEL, control_id, MessageState.ROUTED, time.time(), deliveries=(delivery,))
    return [accept, route]


async def main(folder: Path, number: int) -> None:
    """Fill."""
    store = SqliteStore(folder, base64.b64decode(os.environ["HL7ENGINE_STORE_KEY"]))
    await store.open()
    for first in range(0, number, BATCH):
        some = range(first, min(first + BATCH, number))
        await store.submit(*(unit for one in some for unit in queued(store, one)))
        await store.submit(IndexMessages(1))  # as it does by itself after so many messages
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
