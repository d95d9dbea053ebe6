"""Contents that are removed earlier than what is known of their messages."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from engine.delivery import DeliveryState, MessageState
from engine.errors import StoreError
from engine.hl7.bulk import LARGE, Bulk, Pieces, Slice
from engine.store import SqliteStore, backup
from engine.store.base import AckSent, Find, OpenKey, Reopen, Requeue, Settle
from engine.store.pruning import PassBodies, Prune, RemoveBodies
from engine.store.retained import LeftRow

from .conftest import KEY, PARTS, sweep

CONTENT = ("message_body", "message_ack", "delivery_body", "delivery_answer", "large_body", "body_part")
NAME = b"PLANTED^NAME"
LATER, AT = 9e9, 77.0
SIZE = 1 << 40


def rows(store: SqliteStore, *tables: str) -> dict[str, int]:
    execute = store._opened.group._transaction._connection.execute
    return {table: execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


async def remove(store: Any, state: MessageState = MessageState.ROUTED, before: float = LATER, lot: int = 1000) -> int:
    """As an engine removes contents: from the cursor on, in lots, then what they left."""
    number, after = 0, store.retained.bodies_after("siu", state)
    while True:
        found = store.retained.messages("siu", state, before, after, lot, SIZE)
        if found.up_to:
            await store.submit(RemoveBodies(found.ids, state, before, AT), PassBodies("siu", state, found.up_to))
        number += len(found.ids)
        if found.ended:
            await sweep(store)
            return number
        after = found.up_to


async def delivered(store: Any, samples: Any, **members: Any) -> tuple[int, int]:
    """A message that has everything a message can have, delivered; ids of it and its delivery."""
    accept = samples.accept(
        store,
        body=b"MSH|" + NAME,
        patients=("MRN1",),
        control_id="C1",
        origin={"source": "rest", "peer": "10.0.0.9", "query": {"mrn": NAME.decode()}, "headers": {"a": NAME.decode()}},
        **members,
    )
    delivery = samples.delivery(store, body=b"out " + NAME, control_id="O1")
    await store.submit(accept, samples.route(accept, delivery))
    await store.submit(
        Settle(delivery.delivery_id, DeliveryState.DELIVERED, 5.0, 1, answer=b"MSA|AA|" + NAME),
        AckSent(accept.message_id, "AA", b"MSA|AA|" + NAME),
    )
    return accept.message_id, delivery.delivery_id


@pytest.mark.parametrize("encrypt", [True, False])
async def test_contents_go_and_what_is_known_stays_for_search_and_audit(tmp_path, samples, encrypt):
    store = SqliteStore(tmp_path / "data", KEY, encrypt=encrypt)
    await store.open()
    message_id, delivery_id = await delivered(store, samples)
    before = store.message(message_id)
    assert (before.bodies_removed_at, await remove(store)) == (None, 1)
    row = store.message(message_id)
    assert row == replace(before, bodies_removed_at=AT, origin={"source": "rest", "peer": "10.0.0.9"})
    assert not any(rows(store, *CONTENT).values())
    assert (store.message_body(message_id), store.delivery_body(delivery_id)) == (b"", b"")
    assert (store.delivery_answer(delivery_id), store.message_ack(message_id)) == (b"", b"")
    assert store.delivery(delivery_id).state is DeliveryState.DELIVERED
    for find in (Find(patient="MRN1"), Find(control_id="C1"), Find(control_id="O1"), Find(state="routed")):
        assert [item.message_id for item in store.find(find)] == [message_id]
    await store.close()
    assert backup.verify(store.folder, {1: KEY}) == []
    assert NAME not in b"".join(path.read_bytes() for path in store.folder.iterdir() if path.is_file())


@pytest.mark.parametrize("state", sorted(set(DeliveryState) - {DeliveryState.DELIVERED, DeliveryState.DISCARDED}))
async def test_an_unfinished_message_is_passed_by_and_comes_when_it_is_finished(sqlite, samples, state):
    message_id, delivery_id = await delivered(sqlite, samples)
    change(sqlite, "UPDATE delivery SET state = ? WHERE id = ?", state.value, delivery_id)
    assert await remove(sqlite) == 0
    assert sqlite.message_body(message_id) == b"MSH|" + NAME
    assert sqlite.delivery_body(delivery_id) == b"out " + NAME
    (left,) = sqlite.retained.bodies_left(0, 10)
    assert (left.message_id, left.finished_at) == (message_id, None)
    change(sqlite, "UPDATE delivery SET state = 'delivered' WHERE id = ?", delivery_id)
    (left,) = sqlite.retained.bodies_left(0, 10)
    assert left == LeftRow(message_id, "siu", MessageState.ROUTED, sqlite.message(message_id).received_at, left.size)
    assert left.size > 60
    await sqlite.submit(RemoveBodies((message_id,), MessageState.ROUTED, LATER, AT))
    assert (sqlite.message_body(message_id), sqlite.retained.bodies_left(0, 10)) == (b"", [])


async def test_a_message_stays_whole_while_an_idempotency_key_stands_for_it(sqlite, samples):
    message_id, delivery_id = await delivered(sqlite, samples)
    await sqlite.submit(OpenKey("siu|portal", "k", b"h", "siu", message_id, delivery_id, LATER))
    assert await remove(sqlite) == 0
    assert sqlite.message_body(message_id) == b"MSH|" + NAME
    (left,) = sqlite.retained.bodies_left(0, 10)
    assert left.finished_at is None


async def test_what_may_still_become_finished_is_noted_when_others_pass_it(sqlite, samples):
    """A failed message, sent again later, is behind the cursor of delivered ones by then."""
    failed, received = samples.accept(sqlite), samples.accept(sqlite)
    await sqlite.submit(failed, samples.route(failed, state=MessageState.FAILED), received)
    await delivered(sqlite, samples)
    assert await remove(sqlite) == 1
    assert [row.message_id for row in sqlite.retained.bodies_left(0, 10)] == [failed.message_id, received.message_id]
    await sqlite.submit(Reopen(failed.message_id))
    for accept in (failed, received):
        await sqlite.submit(samples.route(accept, state=MessageState.FILTERED))
    for row in sqlite.retained.bodies_left(0, 10):
        await sqlite.submit(RemoveBodies((row.message_id,), row.state, LATER, AT))
    assert not any(rows(sqlite, *CONTENT, "body_left").values())


async def test_a_run_looks_at_nothing_that_an_earlier_one_has_done(sqlite, samples):
    for _ in range(5):
        await delivered(sqlite, samples)
    assert await remove(sqlite, lot=2) == 5
    after = sqlite.retained.bodies_after("siu", MessageState.ROUTED)
    assert sqlite.retained.messages("siu", MessageState.ROUTED, LATER, after, 10, SIZE).up_to == 0
    young, _ = await delivered(sqlite, samples, received_at=LATER + 1)
    old, _ = await delivered(sqlite, samples)
    assert await remove(sqlite, lot=3) == 1, "a clock that was set back hides nothing in the same lot"
    assert sqlite.message_body(old) == b""
    assert [row.message_id for row in sqlite.retained.bodies_left(0, 10)] == [young]


async def test_nothing_is_sent_again_without_its_content(sqlite, samples):
    message_id, delivery_id = await delivered(sqlite, samples)
    failed = samples.accept(sqlite)
    await sqlite.submit(failed, samples.route(failed, state=MessageState.FAILED))
    await remove(sqlite)
    await remove(sqlite, MessageState.FAILED)
    for operation in (Requeue(delivery_id, 1.0), Requeue(delivery_id, 1.0, b"body"), Reopen(failed.message_id)):
        with pytest.raises(StoreError, match="may not be"):
            await sqlite.submit(operation)
    assert sqlite.message(message_id).state is MessageState.ROUTED


async def test_what_was_sent_again_in_the_meantime_keeps_its_content(sqlite, samples):
    message_id, delivery_id = await delivered(sqlite, samples)
    found = sqlite.retained.messages("siu", MessageState.ROUTED, LATER, 0, 10, SIZE)
    await sqlite.submit(Requeue(delivery_id, 6.0))
    await sqlite.submit(
        RemoveBodies(found.ids, MessageState.ROUTED, LATER, AT), PassBodies("siu", MessageState.ROUTED, found.up_to)
    )
    assert sqlite.delivery_body(delivery_id) == b"out " + NAME
    assert [row.message_id for row in sqlite.retained.bodies_left(0, 10)] == [message_id]


async def test_a_lot_is_bounded_in_bytes(sqlite, samples):
    for _ in range(5):
        accept = samples.accept(sqlite, body=bytes(1000))
        await sqlite.submit(accept, samples.route(accept, state=MessageState.FILTERED))
    found = sqlite.retained.messages("siu", MessageState.FILTERED, LATER, 0, 10, 1500)
    assert (len(found.ids), 2000 < found.size < 2200, found.ended) == (2, True, False)


@pytest.mark.parametrize("whole", [True, False], ids=["the messages", "their contents"])
@pytest.mark.parametrize("encrypt", [True, False])
async def test_large_bodies_are_removed_in_small_units_and_their_disk_comes_back(tmp_path, samples, whole, encrypt):
    store = SqliteStore(tmp_path / "data", KEY, encrypt=encrypt)
    await store.open()
    data = NAME + bytes(20 * LARGE)
    ids = []
    for _ in range(3):
        bulk = Bulk(data)
        bulk.place = (await store.keep(Pieces([Slice(bulk, 0, len(bulk))]))).place
        accept = samples.accept(store, body=Pieces([Slice(bulk, 0, len(bulk))]))
        delivery = samples.delivery(store, body=Pieces([b"new head", Slice(bulk, 9, len(bulk))]))
        await store.submit(accept, samples.route(accept, delivery))
        await store.submit(Settle(delivery.delivery_id, DeliveryState.DELIVERED, 5.0, 1))
        ids.append(accept.message_id)
    connection = store._opened.group._transaction._connection
    changed, largest = _changed(connection), 0
    if whole:
        await store.submit(Prune(tuple(ids), MessageState.ROUTED, LATER))
    else:
        found = store.retained.messages("siu", MessageState.ROUTED, LATER, 0, 10, SIZE)
        await store.submit(RemoveBodies(found.ids, MessageState.ROUTED, LATER, AT))
    assert _changed(connection) - changed < 60, "no part goes in the unit of its message"
    parts = rows(store, "body_part")["body_part"]
    while (size := store.retained.dropped_parts(PARTS)) is not None:
        largest = max(largest, size)
        await sweep_once(store)
        assert parts - rows(store, "body_part")["body_part"] <= PARTS
        parts = rows(store, "body_part")["body_part"]
    assert 0 < largest <= PARTS * (512 * 1024 + 64)
    assert not any(rows(store, *CONTENT, "dropped_run").values())
    assert rows(store, "message")["message"] == (0 if whole else 3)
    while (pages := store.retained.spare_pages()) > 0:
        await give_back(store, pages)
    await store.close()
    assert (store.folder / "engine.db").stat().st_size < 4 * LARGE
    assert NAME not in (store.folder / "engine.db").read_bytes()
    assert backup.verify(store.folder, {1: KEY}) == []


async def sweep_once(store: Any) -> None:
    from engine.store.pruning import SweepParts

    await store.submit(SweepParts(PARTS))


async def give_back(store: Any, pages: int) -> None:
    from engine.store.pruning import Shrink

    await store.submit(Shrink(min(pages, 1000)))


def _changed(connection: sqlite3.Connection) -> int:
    return connection.total_changes


def change(store: SqliteStore, statement: str, *parameters: Any) -> None:
    store._opened.group._transaction._connection.execute(statement, parameters)
