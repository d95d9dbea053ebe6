"""A data folder after years: 40 channels of very different traffic, 500,000 patients, every state a real store holds.

The first tenth is written by the engine's own store (sealing, hashing, every index), thousands of messages to a commit.
The other nine are copies of its rows, inside SQLite, under ids, control ids, correlation ids, times and buckets of their
own: no search opens a body, and a copied one would not open, since it is bound to its row. Used by ``ten_million.py``.
"""
# ruff: noqa: E501  # statements stay whole

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import perf_counter

from engine.delivery import DeliveryState, MessageState
from engine.store import SqliteStore, database, keeping
from engine.store.base import Accept, Find, NewDelivery, Route, Settle
from engine.store.late import IndexMessages

DAY = 86400.0
BEGAN = 1_700_000_000.0
SPAN = 3 * 365 * DAY
CHANNELS = [f"channel-{number:02}" for number in range(40)]
#: The first channel carries most, the last has a few messages in all.
WEIGHTS = [1 / (number + 1) for number in range(39)] + [1e-6]
PATIENTS = 500_000
BODY = (
    b"MSH|^~\\&|RIS|DTI|EPIC|DTI|20260101120000||SIU^S12|%d|P|2.3\rPID|1||MRN%07d^^^DTI||DOE^JANE\r"
    + b"AIL|1||ROOM1^^^DTI\r" * 24
)
ANSWER = b"MSH|^~\\&|EPIC|DTI|RIS|DTI|20260101120000||ACK^S12|%d|P|2.3\rMSA|AA|%d\r"
CHANCE = 7
#: Messages in one commit of the fill.
BATCH = 1000
RARE = {
    MessageState.FAILED: 0.0005,
    MessageState.FILTERED: 0.05,
    MessageState.REFUSED: 0.0002,
}


def operations(store: SqliteStore, part: float, chance: random.Random) -> list[Accept | Route | Settle]:
    """The life of one message: commits 1, 2 and 3; ``part`` of the first tenth of the years has gone by."""
    message_id, at = store.new_id(), BEGAN + SPAN / 10 * part
    channel = chance.choices(CHANNELS, WEIGHTS)[0]
    patient = chance.randrange(PATIENTS)
    body = BODY % (message_id, patient)
    correlation = f"{int(at * 1000):012x}-{message_id:012}"
    accept = Accept(
        message_id,
        channel,
        correlation,
        at,
        body,
        f"C{message_id}",
        "SIU^S12",
        origin={"source": "mllp", "peer": "127.0.0.1:1"},
        patients=(f"MRN{patient:07}",),
    )
    draw = chance.random()
    for state, share in RARE.items():
        if (draw := draw - share) < 0:
            if state is MessageState.REFUSED:
                return [Accept(message_id, channel, correlation, at, body, state=state, cause="malformed")]
            return [accept, Route(message_id, channel, correlation, state, at, "step lookup: missing")]
    delivery = NewDelivery(store.new_id(), f"{channel}-out", "", body, f"D{message_id}")
    route = Route(message_id, channel, correlation, MessageState.ROUTED, at, deliveries=(delivery,))
    state = DeliveryState.DELIVERED if chance.random() > 0.0003 else DeliveryState.PARKED
    return [accept, route, Settle(delivery.delivery_id, state, at, 1, answer=ANSWER % (message_id, message_id))]


def first_patient() -> str:
    """Of the first message."""
    chance = random.Random(CHANCE)
    chance.choices(CHANNELS, WEIGHTS)
    return f"MRN{chance.randrange(PATIENTS):07}"


FIRST_PATIENT = first_patient()


async def fill(folder: Path, key: bytes, points: Sequence[int]) -> AsyncIterator[int]:
    """Write the first tenth, which is the last of ``points``; tells each point when so many messages are stored."""
    chance, stored, total, began = random.Random(CHANCE), 0, points[-1], perf_counter()
    for point in points:
        store = SqliteStore(folder, key)
        await store.open()
        while stored < point:
            some = range(stored, min(stored + BATCH, point))
            await store.submit(*(each for number in some for each in operations(store, number / total, chance)))
            await store.submit(IndexMessages(1))  # as it does by itself after so many messages
            stored = some.stop
        await store.close()
        print(f"  {stored:>11,} messages, {perf_counter() - began:,.0f} s", flush=True)
        yield stored


#: A tenth of all rows once more: ids are shifted by :ids, times by :seconds. From id :first to :last.
COPIES = (
    """INSERT INTO message (id, channel, correlation_id, control_id, message_type, key, state, cause, received_at, routed_at,
        ack, origin, sealed)
    SELECT id + :ids, channel, printf('%012x', CAST((received_at + :seconds) * 1000 AS INTEGER)) || printf('-%012d', id + :ids),
        'C' || (id + :ids), message_type, key, state, cause, received_at + :seconds, routed_at + :seconds, ack, origin, sealed
    FROM message WHERE id BETWEEN :first AND :last""",
    "INSERT INTO message_body (message_id, sealed, body, length) SELECT message_id + :ids, sealed, body, length"
    " FROM message_body WHERE message_id BETWEEN :first AND :last",
    """INSERT INTO delivery (id, message_id, channel, destination, key, state, cause, attempts, next_at, control_id,
        content_type, interrupted, created_at, sent_at, settled_at, ack, body_start, body_length, sealed, answer)
    SELECT id + :ids, message_id + :ids, channel, destination, key, state, cause, attempts, next_at,
        'D' || (message_id + :ids), content_type, interrupted, created_at + :seconds, sent_at, settled_at + :seconds, ack,
        body_start, body_length, sealed, answer
    FROM delivery WHERE id BETWEEN :first AND :last""",
    "INSERT INTO delivery_body (delivery_id, sealed, body) SELECT delivery_id + :ids, sealed, body FROM delivery_body"
    " WHERE delivery_id BETWEEN :first AND :last",
    "INSERT INTO delivery_answer (delivery_id, sealed, answer) SELECT delivery_id + :ids, sealed, answer"
    " FROM delivery_answer WHERE delivery_id BETWEEN :first AND :last",
    "INSERT INTO patient (bucket, hash, message_id) SELECT (message_id + :ids) >> 15, hash, message_id + :ids"
    " FROM patient WHERE bucket BETWEEN :first >> 15 AND :last >> 15 AND message_id BETWEEN :first AND :last",
)


def multiply(folder: Path, tenth: int) -> None:
    """Nine copies of everything that is stored, which is a tenth of ``10 * tenth``."""
    connection = sqlite3.connect(folder / database.DATABASE_FILE, isolation_level=None)
    for pragma in ("synchronous = OFF", "wal_autocheckpoint = 20000", "cache_size = -262144"):
        connection.execute(f"PRAGMA {pragma}")
    [(last,)] = connection.execute("SELECT max((SELECT max(id) FROM message), (SELECT max(id) FROM delivery))")
    connection.execute(keeping.INDEX_CONTROL_IDS, (0, last))
    began = perf_counter()
    for copy in range(1, 10):
        for first in range(1, last + 1, 100_000):
            shifts = {
                "ids": copy * last,
                "seconds": copy * SPAN / 10,
                "first": first,
                "last": min(first + 99_999, last),
            }
            connection.execute("BEGIN")
            for statement in COPIES:
                connection.execute(statement, shifts)
            connection.execute("COMMIT")
        print(f"  {(copy + 1) * tenth:>11,} messages, {perf_counter() - began:,.0f} s of copying", flush=True)
    connection.execute("UPDATE meta SET value = (SELECT max(id) FROM message) WHERE name = 'patients_up_to'")
    connection.close()


def searches(control_id: str, correlation_id: str) -> dict[str, Find]:
    """What people look for; a message in the middle by its ids."""
    patient = FIRST_PATIENT
    at = BEGAN + SPAN / 2
    month = {"since": at, "until": at + 30 * DAY}
    return {
        "control id in": Find(control_id=control_id),
        "control id out": Find(control_id=f"D{control_id[1:]}"),
        "control id unknown": Find(control_id="C-none"),
        "correlation id": Find(correlation_id=correlation_id),
        "patient": Find(patient=patient),
        "patient unknown": Find(patient="MRN-none"),
        "patient, a month long ago": Find(patient=patient, **month),
        "newest": Find(),
        "a month long ago": Find(**month),
        "an hour long ago": Find(since=at, until=at + 3600),
        "busy channel": Find(channel=CHANNELS[0]),
        "channel with few": Find(channel=CHANNELS[-1]),
        "channel with few, long ago": Find(channel=CHANNELS[-1], **month),
        "failed": Find(state="failed"),
        "failed, a month long ago": Find(state="failed", **month),
        "refused, channel with few": Find(state="refused", channel=CHANNELS[-1]),
        "parked": Find(delivery_state="parked"),
        "parked, a month long ago": Find(delivery_state="parked", **month),
        "parked, channel with few": Find(delivery_state="parked", channel=CHANNELS[-1]),
        "delivered, routed, month": Find(delivery_state="delivered", state="routed", **month),
        "held (none is)": Find(delivery_state="held"),
    }
