"""Large bodies: written part by part before the unit that refers to them, shared, removed with the last of those."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import StoreError
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.store import SqliteStore
from engine.store.base import Requeue, Settle
from engine.store.parts import PART, KeepPart

from .conftest import sweep

BODY = bytes(range(256)) * (3 * PART // 256) + b"the end"


def rows(store: Any, table: str) -> int:
    return int(store._state.reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def kept(store: Any, data: bytes = BODY) -> Bulk:
    """A large body as a receiver keeps it."""
    bulk = Bulk(bytearray(data))
    bulk.place = (await store.keep(Pieces([Slice(bulk, 0, len(bulk))]))).place
    return bulk


async def received(store: Any, samples: Any, bulk: Bulk) -> Any:
    accept = samples.accept(store, body=Pieces([Slice(bulk, 0, len(bulk))]))
    await store.submit(accept)
    return accept


async def test_a_large_body_reads_as_it_was_received_and_a_part_at_a_time(new_store: Any, samples: Any) -> None:
    store = new_store()
    await store.open()
    accept = await received(store, samples, await kept(store))
    assert store.message_body(accept.message_id) == BODY
    chunks = list(store.message_chunks(accept.message_id))
    assert (b"".join(chunks), max(map(len, chunks))) == (BODY, PART)
    assert store.kept_at(accept.message_id) > 0
    await store.close()
    again = new_store()
    await again.open()
    assert again.message_body(accept.message_id) == BODY


async def test_deliveries_refer_to_what_they_hold_unchanged_and_nothing_is_written_twice(
    store: Any, samples: Any
) -> None:
    bulk = await kept(store)
    accept = await received(store, samples, bulk)
    before = rows(store, "body_part")
    body = Pieces([b"new head\r", Slice(bulk, 100, PART + 100), b"between", Slice(bulk, PART + 90, len(bulk)), b"\r"])
    same = Pieces([Slice(bulk, 0, len(bulk))])
    assert await store.keep(body) is body
    first, second = samples.delivery(store, body=body), samples.delivery(store, body=same, sealed=True)
    await store.submit(samples.route(accept, first, second))
    assert store.delivery_body(first.delivery_id) == bytes(body)
    assert store.delivery_body(second.delivery_id) == BODY
    assert rows(store, "body_part") == before == 4


async def test_what_was_written_anew_and_is_large_is_kept_in_parts_of_its_own(store: Any, samples: Any) -> None:
    accept = await received(store, samples, await kept(store))
    delivery = samples.delivery(store, body=await store.keep(Pieces([b"x" * LARGE, b"y" * LARGE])))
    await store.submit(samples.route(accept, delivery))
    assert store.delivery_body(delivery.delivery_id) == b"x" * LARGE + b"y" * LARGE
    assert rows(store, "body_part") == 4 + 2 * LARGE // PART
    await store.submit(Settle(delivery.delivery_id, "parked", 1.0, 1))
    await store.submit(Requeue(delivery.delivery_id, 1.0, b"small", "C", "text/plain"))
    assert store.delivery_body(delivery.delivery_id) == b"small"
    await sweep(store)
    assert rows(store, "body_part") == 4


async def test_a_body_that_was_not_kept_before_is_refused(store: Any, samples: Any) -> None:
    with pytest.raises(StoreError, match="was not kept before"):
        await received(store, samples, Bulk(BODY))


async def test_others_commit_between_the_parts(store: Any, samples: Any) -> None:
    keeping = asyncio.ensure_future(kept(store))
    committed = 0
    while not keeping.done():
        await samples.message(store)
        committed += 1
    assert committed >= 4


async def test_parts_that_nothing_refers_to_are_gone_after_a_restart(new_store: Any, samples: Any) -> None:
    store = new_store()
    await store.open()
    await kept(store)
    accept = await received(store, samples, await kept(store))
    assert (rows(store, "body_part"), rows(store, "open_run")) == (8, 1)
    await store.close()
    again = new_store()
    await again.open()
    await sweep(again)
    assert (rows(again, "body_part"), rows(again, "open_run")) == (4, 0)
    assert again.message_body(accept.message_id) == BODY


async def test_what_is_given_up_or_cannot_be_written_leaves_nothing(
    store: SqliteStore, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = asyncio.ensure_future(kept(store))
    while not rows(store, "body_part"):  # noqa: ASYNC110 - the first commit, which nobody announces
        await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await samples.message(store)
    await sweep(store)
    assert (rows(store, "body_part"), rows(store, "open_run")) == (0, 0)

    transaction = store._opened.group._transaction
    honest, seen = transaction._handlers[KeepPart], iter(range(100))

    def fail(operation: object) -> None:
        if next(seen) >= 2:
            raise sqlite3.OperationalError("database or disk is full")
        honest(operation)

    monkeypatch.setitem(transaction._handlers, KeepPart, fail)
    with pytest.raises(StoreError):
        await kept(store)
    await samples.message(store)
    await sweep(store)
    assert (rows(store, "body_part"), rows(store, "open_run")) == (0, 0)


async def test_parts_go_with_the_last_row_that_refers_to_them(sqlite: SqliteStore, samples: Any) -> None:
    bulk = await kept(sqlite)
    accept = await received(sqlite, samples, bulk)
    delivery = samples.delivery(sqlite, body=Pieces([b"head", Slice(bulk, 9, len(bulk))]))
    await sqlite.submit(samples.route(accept, delivery))
    writer = sqlite._state.group._transaction._connection  # type: ignore[union-attr]
    writer.execute("DELETE FROM message WHERE id = ?", (accept.message_id,))
    assert rows(sqlite, "body_part") == 4
    writer.execute("DELETE FROM delivery WHERE id = ?", (delivery.delivery_id,))
    assert rows(sqlite, "large_body") == 0
    await sweep(sqlite)
    assert rows(sqlite, "body_part") == 0


async def test_a_part_that_is_missing_is_told(sqlite: SqliteStore, samples: Any) -> None:
    accept = await received(sqlite, samples, await kept(sqlite))
    writer = sqlite._state.group._transaction._connection  # type: ignore[union-attr]
    writer.execute("DELETE FROM body_part WHERE id % 65536 = 2")
    with pytest.raises(StoreError, match=r"part .* is missing"):
        sqlite.message_body(accept.message_id)


async def test_a_store_that_closes_keeps_nothing_more(new_store: Callable[[], Any]) -> None:
    store = new_store()
    await store.open()
    keeping = asyncio.ensure_future(kept(store))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreError):
        await keeping
