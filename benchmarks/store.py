"""How fast the embedded store commits: units per second at 1, 16, 64 and 256 concurrent submitters.

Each submitter lives the life of a message (Accept, then Route with one delivery, then Settle), waiting for every
commit. The reference in the same run is what the disk allows: a file that gets the same bytes appended and fsynced once
per group. Ratios travel between machines; the figures themselves do not.

Run: ``python benchmarks/store.py`` (at most 20 s).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import uuid
from pathlib import Path
from time import perf_counter, process_time, time

from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence
from engine.store import SqliteStore
from engine.store.base import Accept, NewDelivery, Route, Settle

_SECONDS = 2.0
_CONCURRENCY = (1, 16, 64, 256)
_BODY = b"MSH|^~\\&|RIS|DTI|EPIC|DTI|20260101120000||SIU^S12|00000001|P|2.3\r" + b"AIL|1||ROOM1^^^DTI\r" * 28
_ANSWER = b"MSH|^~\\&|EPIC|DTI|RIS|DTI|20260101120000||ACK^S12|00000002|P|2.3\rMSA|AA|00000001\r"
_EVIDENCE = Evidence("AA")


async def _life(store: SqliteStore, seconds: float, took: list[float]) -> int:
    """Messages through commits 1, 2 and 3, one after the other, until the time is over; gives the number of units."""
    end, units = perf_counter() + seconds, 0
    while (began := perf_counter()) < end:
        message_id, correlation_id = store.new_id(), str(uuid.uuid4())
        origin = {"source": "mllp", "peer": "127.0.0.1:50312"}
        await store.submit(
            Accept(message_id, "bench", correlation_id, time(), _BODY, f"C{message_id}", "SIU^S12", origin=origin)
        )
        took.append(perf_counter() - began)
        delivery_id = store.new_id()
        delivery = NewDelivery(delivery_id, "epic", "", _BODY, f"D{delivery_id}")
        await store.submit(
            Route(message_id, "bench", correlation_id, MessageState.ROUTED, time(), deliveries=(delivery,))
        )
        await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, time(), 1, evidence=_EVIDENCE, answer=_ANSWER))
        units += 3
    return units


def _append_and_fsync(path: Path, group: int, seconds: float) -> float:
    """Units per second of a plain file: the bytes of ``group`` units, then one fsync."""
    chunk = (_BODY + _BODY + _ANSWER) * max(1, group // 3)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    began, units = perf_counter(), 0
    while perf_counter() - began < seconds:
        os.write(file, chunk)
        os.fdatasync(file)
        units += group
    os.close(file)
    return units / (perf_counter() - began)


async def _measure(folder: Path, submitters: int) -> tuple[float, float, float, float]:
    """Units per second, units per commit, and the median and 99th percentile of commit 1 in milliseconds."""
    store = SqliteStore(folder, secrets.token_bytes(32))
    await store.open()
    took: list[float] = []
    began = perf_counter()
    units = sum(await asyncio.gather(*(_life(store, _SECONDS, took) for _ in range(submitters))))
    elapsed, commits = perf_counter() - began, store.commits
    await store.close()
    took.sort()
    return units / elapsed, units / commits, took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000


async def _statements(folder: Path, encrypt: bool) -> float:
    """Microseconds of processor for the statements of one message's three commits, without any commit; best of 7."""
    store = SqliteStore(folder, secrets.token_bytes(32), encrypt=encrypt)
    await store.open()
    transaction, best = store._state.group._transaction, float("inf")
    for _ in range(7):
        units: list[object] = []
        for _ in range(2000):
            message_id, delivery_id, correlation_id = store.new_id(), store.new_id(), str(uuid.uuid4())
            delivery = NewDelivery(delivery_id, "epic", "", _BODY, f"D{delivery_id}")
            units += (
                Accept(message_id, "bench", correlation_id, time(), _BODY, f"C{message_id}", "SIU^S12"),
                Route(message_id, "bench", correlation_id, MessageState.ROUTED, time(), deliveries=(delivery,)),
                Settle(delivery_id, DeliveryState.DELIVERED, time(), 1, evidence=_EVIDENCE, answer=_ANSWER),
            )
        transaction._connection.execute("BEGIN")
        began = process_time()
        for unit in units:
            transaction._handlers[type(unit)](unit)
        best = min(best, (process_time() - began) / 2000 * 1e6)
        transaction._connection.execute("COMMIT")
    await store.close()
    return best


def main() -> None:
    """Print one line per number of submitters, then what encryption costs."""
    print(f"{'submitters':>10} {'units/s':>9} {'units/commit':>12} {'p50 ms':>7} {'p99 ms':>7} {'file, units/s':>13}")
    for submitters in _CONCURRENCY:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
            folder = Path(name)
            rate, per_commit, median, slow = asyncio.run(_measure(folder / "data", submitters))
            limit = _append_and_fsync(folder / "reference", submitters, 1.0)
        print(f"{submitters:>10} {rate:>9,.0f} {per_commit:>12.1f} {median:>7.2f} {slow:>7.2f} {limit:>13,.0f}")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        plain, sealed = (asyncio.run(_statements(Path(name) / str(encrypt), encrypt)) for encrypt in (False, True))
    print(f"statements of a message, processor: {plain:.0f} µs plain, {sealed:.0f} µs encrypted")


if __name__ == "__main__":
    main()
