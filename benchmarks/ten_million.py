"""The store over years: what finding, starting and committing cost beside ten million stored messages.

The first tenth is written by the engine's own writer (sealing, hashing, every index) in large transactions: 40 channels
of very different traffic, 500,000 patients, a delivery for each routed message, and the states that a real store holds.
The other nine are copies of its rows, inside SQLite, under ids, control ids, correlation ids, times and buckets of their
own: no search opens a body, and a copied one would not open, since it is bound to its row. Each search is timed cold
(the file dropped from the page cache, a fresh store) and warm, in milliseconds of ``Store.find``. Commits are timed in
turns with an empty store beside it, so that a busy machine is as busy for both.

Run: ``make bench-large`` (20 GB in the temporary folder), or ``python benchmarks/ten_million.py --messages 1000000``.
"""
# ruff: noqa: E501  # the path to its neighbour comes first; statements stay whole

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

sys.path.insert(0, str(Path(__file__).parent))

from store import _life

from engine.delivery import DeliveryState, MessageState
from engine.store import SqliteStore, database
from engine.store.absent import Absent
from engine.store.base import Accept, Find, NewDelivery, Route, Settle
from engine.store.patients import IndexPatients
from engine.store.writer import Writer

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
BATCH = 5000
RARE = {
    MessageState.FAILED: 0.0005,
    MessageState.FILTERED: 0.05,
    MessageState.REFUSED: 0.0002,
}


def operations(number: int, total: int, chance: random.Random) -> list[object]:
    """The life of one message: commits 1, 2 and 3."""
    message_id, at = 2 * number + 1, BEGAN + SPAN / 10 * number / total
    channel = chance.choices(CHANNELS, WEIGHTS)[0]
    patient = chance.randrange(PATIENTS)
    body = BODY % (message_id, patient)
    correlation = f"{int(at * 1000):012x}-{message_id:012x}"
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
    delivery = NewDelivery(message_id + 1, f"{channel}-out", "", body, f"D{message_id}")
    route = Route(message_id, channel, correlation, MessageState.ROUTED, at, deliveries=(delivery,))
    state = DeliveryState.DELIVERED if chance.random() > 0.0003 else DeliveryState.PARKED
    return [accept, route, Settle(message_id + 1, state, at, 1, answer=ANSWER % (message_id, message_id))]


async def fill(folder: Path, key: bytes, total: int) -> None:
    """Write ``total`` messages as the engine would, thousands to a transaction and without waiting for the disk."""
    store = SqliteStore(folder, key)
    await store.open()
    connection, crypto = store._state.group._connection, store._crypto
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA wal_autocheckpoint = 20000")
    handlers, chance, began = (
        Writer(connection, crypto, lambda: BEGAN, Absent(lambda _: None)).handlers,
        random.Random(7),
        perf_counter(),
    )
    for first in range(0, total, BATCH):
        connection.execute("BEGIN")
        for number in range(first, min(first + BATCH, total)):
            for operation in operations(number, total, chance):
                handlers[type(operation)](operation)
        for _ in range(BATCH // 1000):
            handlers[IndexPatients](IndexPatients(1))
        connection.execute("COMMIT")
        if first % 500_000 == 0:
            print(f"  {first:>11,} messages, {perf_counter() - began:,.0f} s", flush=True)
    store._last_id = 2 * total + 2
    await store.close()


#: A tenth of all rows once more: ids are shifted by :ids, times by :seconds. From id :first to :last.
COPIES = (
    """INSERT INTO message (id, channel, correlation_id, control_id, message_type, key, state, cause, received_at, routed_at,
        ack, origin, sealed)
    SELECT id + :ids, channel, printf('%012x', CAST((received_at + :seconds) * 1000 AS INTEGER)) || printf('-%012x', id + :ids),
        'C' || (id + :ids), message_type, key, state, cause, received_at + :seconds, routed_at + :seconds, ack, origin, sealed
    FROM message WHERE id BETWEEN :first AND :last""",
    "INSERT INTO message_body (message_id, sealed, body) SELECT message_id + :ids, sealed, body FROM message_body"
    " WHERE message_id BETWEEN :first AND :last",
    """INSERT INTO delivery (id, message_id, channel, destination, key, state, cause, attempts, next_at, control_id,
        content_type, interrupted, created_at, sent_at, settled_at, ack)
    SELECT id + :ids, message_id + :ids, channel, destination, key, state, cause, attempts, next_at,
        'D' || (message_id + :ids), content_type, interrupted, created_at + :seconds, sent_at, settled_at + :seconds, ack
    FROM delivery WHERE id BETWEEN :first AND :last""",
    "INSERT INTO delivery_body (delivery_id, sealed, body) SELECT delivery_id + :ids, sealed, body FROM delivery_body"
    " WHERE delivery_id BETWEEN :first AND :last",
    "INSERT INTO delivery_answer (delivery_id, sealed, answer) SELECT delivery_id + :ids, sealed, answer"
    " FROM delivery_answer WHERE delivery_id BETWEEN :first AND :last",
    "INSERT INTO patient (bucket, hash, message_id) SELECT (message_id + :ids) >> 15, hash, message_id + :ids"
    " FROM patient WHERE bucket BETWEEN :first >> 15 AND :last >> 15 AND message_id BETWEEN :first AND :last",
)


def multiply(folder: Path, tenth: int) -> None:
    """Nine copies of the first tenth."""
    connection = sqlite3.connect(folder / database.DATABASE_FILE, isolation_level=None)
    for pragma in ("synchronous = OFF", "wal_autocheckpoint = 20000", "cache_size = -262144"):
        connection.execute(f"PRAGMA {pragma}")
    began = perf_counter()
    for copy in range(1, 10):
        for first in range(1, 2 * tenth + 1, 100_000):
            shifts = {
                "ids": copy * 2 * tenth,
                "seconds": copy * SPAN / 10,
                "first": first,
                "last": min(first + 99_999, 2 * tenth),
            }
            connection.execute("BEGIN")
            for statement in COPIES:
                connection.execute(statement, shifts)
            connection.execute("COMMIT")
        print(f"  {(copy + 1) * tenth:>11,} messages, {perf_counter() - began:,.0f} s of copying", flush=True)
    connection.execute("UPDATE meta SET value = (SELECT max(id) FROM message) WHERE name = 'patients_up_to'")
    connection.close()


def searches(middle: int, correlation_id: str) -> dict[str, Find]:
    """What people look for; a message in the middle by its ids."""
    chance = random.Random(7)
    chance.choices(CHANNELS, WEIGHTS)
    patient = f"MRN{chance.randrange(PATIENTS):07}"  # of the first message
    at = BEGAN + SPAN / 2
    month = {"since": at, "until": at + 30 * DAY}
    return {
        "control id in": Find(control_id=f"C{middle}"),
        "control id out": Find(control_id=f"D{middle}"),
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


def forget(folder: Path) -> None:
    """Drop the database from the page cache."""
    file = os.open(folder / database.DATABASE_FILE, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


async def find(folder: Path, key: bytes, total: int) -> None:
    """Time each search, cold and warm."""
    print(f"{'search':<28} {'found':>6} {'cold ms':>9} {'warm ms':>9}")
    probe = SqliteStore(folder, key)
    await probe.open()
    middle = next(row for row in probe.find(Find(state="routed", before_id=total)))
    await probe.close()
    for name, wanted in searches(middle.message_id, middle.correlation_id).items():
        forget(folder)
        store = SqliteStore(folder, key)
        await store.open()
        took = []
        for _ in range(6):
            began = perf_counter()
            rows = store.find(wanted)
            took.append((perf_counter() - began) * 1000)
        print(f"{name:<28} {len(rows):>6} {took[0]:>9.1f} {statistics.median(took[1:]):>9.1f}", flush=True)
        await store.close()


async def start(folder: Path, key: bytes) -> float:
    """Seconds of ``Store.open``, cold."""
    forget(folder)
    store, began = SqliteStore(folder, key), perf_counter()
    await store.open()
    took = perf_counter() - began
    await store.close()
    return took


async def lives(store: SqliteStore, seconds: float, submitters: int) -> tuple[float, float]:
    """Units per second, and microseconds of processor per unit, of messages through commits 1, 2 and 3."""
    began, cpu = perf_counter(), process_time()
    units = sum(await asyncio.gather(*(_life(store, seconds, []) for _ in range(submitters))))
    return units / (perf_counter() - began), (process_time() - cpu) / units * 1e6


async def commits(large: Path, empty: Path, key: bytes, turns: int) -> None:
    """Turns with the large and an empty store, one after the other."""
    stores = {"large": SqliteStore(large, key), "empty": SqliteStore(empty, key)}
    for store in stores.values():
        await store.open()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in stores}
    for turn in range(turns):
        for name in sorted(stores, reverse=bool(turn % 2)):
            rates[name].append(await lives(stores[name], 3.0, 64))
    for store in stores.values():
        await store.close()
    for name, found in rates.items():
        every = sorted(rate for rate, _ in found)
        print(
            f"{name}: {statistics.median(every):,.0f} units/s (of {turns}: {every[0]:,.0f} to {every[-1]:,.0f}),"
            f" {statistics.median(cpu for _, cpu in found):.0f} µs of processor each"
        )
    ratios = [one[0] / other[0] for one, other in zip(rates["large"], rates["empty"], strict=True)]
    print(
        f"large / empty, turn by turn: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


async def main(total: int, folder: Path, turns: int) -> None:
    """Fill, then measure; what was made is removed."""
    key = secrets.token_bytes(32)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        large, empty = Path(name) / "large", Path(name) / "empty"
        print(f"filling {total:,} messages", flush=True)
        await fill(large, key, total // 10)
        multiply(large, total // 10)
        size = (large / database.DATABASE_FILE).stat().st_size
        print(
            f"disk: {size / 1e9:.1f} GB, {size / total:,.0f} bytes a message (body of {len(BODY % (1, 1))} bytes twice)"
        )
        print("open, cold: " + ", ".join([f"{await start(large, key) * 1000:.0f} ms" for _ in range(3)]), flush=True)
        await find(large, key, total)
        await commits(large, empty, key, turns)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--messages", type=int, default=10_000_000)
    arguments.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments.add_argument("--turns", type=int, default=10)
    given = arguments.parse_args()
    asyncio.run(main(given.messages, given.folder, given.turns))
