"""What is removed, what never is, and that nothing of it is left behind."""

from __future__ import annotations

import pytest

from engine.delivery import DeliveryState, MessageState
from engine.store.base import Accept, AckSent, DropKey, OpenKey, Requeue, Settle
from engine.store.late import IndexMessages
from engine.store.pruning import Prune, Shrink, SweepPatients
from engine.store.retained import Lot

from .conftest import sweep

#: Everything that belongs to a message.
TABLES = (
    "message",
    "message_body",
    "delivery",
    "delivery_body",
    "delivery_answer",
    "patient",
    "large_body",
    "body_part",
)
LATER = 9e9


def rows(sqlite) -> dict[str, int]:
    """How many rows each table has."""
    writer = sqlite._state.group._transaction._connection
    return {table: writer.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def found(store, state: MessageState = MessageState.ROUTED, before: float = LATER, channel: str = "siu") -> Lot:
    """What may be removed, in one lot."""
    return store.retained.messages(channel, state, before, 0, 1000, 1 << 40)


async def prune(store, state: MessageState = MessageState.ROUTED, before: float = LATER, channel: str = "siu") -> int:
    ids = found(store, state, before, channel).ids
    await store.submit(Prune(ids, state, before))
    await sweep(store)
    return len(ids)


async def test_a_delivered_message_goes_with_all_that_belongs_to_it(sqlite, samples):
    accept = samples.accept(sqlite, patients=("MRN1",))
    delivery = samples.delivery(sqlite)
    await sqlite.submit(accept, samples.route(accept, delivery), IndexMessages(1))
    await sqlite.submit(Settle(delivery.delivery_id, DeliveryState.DELIVERED, 5.0, 1, answer=bytes(5000)))
    assert {name: number for name, number in rows(sqlite).items() if number} == {
        **dict.fromkeys(("message", "message_body", "delivery", "delivery_body", "delivery_answer", "patient"), 1)
    }
    assert await prune(sqlite) == 1
    assert not any(rows(sqlite).values())
    assert sqlite.stored_channels() == []


@pytest.mark.parametrize("state", sorted(set(DeliveryState) - {DeliveryState.DELIVERED, DeliveryState.DISCARDED}))
async def test_a_message_with_an_unfinished_delivery_stays_whatever_its_age(sqlite, samples, state):
    accept = samples.accept(sqlite)
    done, open_one = samples.delivery(sqlite), samples.delivery(sqlite, destination="generic")
    await sqlite.submit(accept, samples.route(accept, done, open_one))
    await sqlite.submit(Settle(done.delivery_id, DeliveryState.DELIVERED, 5.0, 1))
    sqlite._state.group._transaction._connection.execute(
        "UPDATE delivery SET state = ? WHERE id = ?", (state.value, open_one.delivery_id)
    )
    before = rows(sqlite)
    assert await prune(sqlite) == 0
    await sqlite.submit(Prune((accept.message_id,), MessageState.ROUTED, LATER))  # not even when told
    assert rows(sqlite) == before


async def test_what_is_received_or_failed_is_not_taken_for_another_state(sqlite, samples):
    received = await samples.message(sqlite)
    for state in MessageState:
        if state is not MessageState.RECEIVED:
            await sqlite.submit(Prune((received,), state, LATER))
    assert rows(sqlite)["message"] == 1
    assert await prune(sqlite, MessageState.FAILED) == 0


@pytest.mark.parametrize("state", [MessageState.FILTERED, MessageState.FAILED])
async def test_messages_without_deliveries_go_by_their_age(sqlite, samples, state):
    for received_at in (100.0, 200.0, 300.0):
        accept = samples.accept(sqlite, received_at=received_at)
        await sqlite.submit(accept, samples.route(accept, state=state))
    assert await prune(sqlite, state, before=200.0) == 1
    assert await prune(sqlite, state, before=201.0) == 1
    assert rows(sqlite)["message"] == 1


async def test_the_age_of_a_message_is_that_of_its_last_settlement(sqlite, samples):
    delivery_id = await samples.owed(sqlite, received_at=100.0)
    await sqlite.submit(Settle(delivery_id, DeliveryState.DELIVERED, 5000.0, 1))
    assert await prune(sqlite, before=5000.0) == 0
    assert await prune(sqlite, before=5000.1) == 1


async def test_a_message_stays_while_its_ack_is_owed(sqlite, samples):
    """Its deliveries are finished, and the ack that follows from them is not decided: an engine died in between."""
    accept = samples.accept(sqlite, ack="owed")
    delivery = samples.delivery(sqlite)
    await sqlite.submit(accept, samples.route(accept, delivery))
    await sqlite.submit(Settle(delivery.delivery_id, DeliveryState.DELIVERED, 5.0, 1))
    assert await prune(sqlite) == 0
    await sqlite.submit(Prune((accept.message_id,), MessageState.ROUTED, LATER))
    assert rows(sqlite)["message"] == 1
    await sqlite.submit(AckSent(accept.message_id, "AA"))
    assert await prune(sqlite) == 1


async def test_a_message_that_is_sent_again_after_it_was_found_stays(sqlite, samples):
    delivery_id = await samples.owed(sqlite)
    await sqlite.submit(Settle(delivery_id, DeliveryState.DELIVERED, 5.0, 1))
    ids = found(sqlite).ids
    await sqlite.submit(Requeue(delivery_id, 6.0))
    await sqlite.submit(Prune(ids, MessageState.ROUTED, LATER))
    assert sqlite.delivery(delivery_id).state is DeliveryState.QUEUED
    assert sqlite.delivery_body(delivery_id) == b"MSH|out"


async def test_a_message_stays_while_an_idempotency_key_stands_for_it(sqlite, samples):
    """Without its delivery a resolved booking would be sent anew."""
    delivery_id = await samples.owed(sqlite)
    message_id = sqlite.delivery(delivery_id).message_id
    await sqlite.submit(Settle(delivery_id, DeliveryState.DELIVERED, 5.0, 1))
    await sqlite.submit(OpenKey("siu|portal", "k", b"h", "siu", message_id, delivery_id, LATER))
    assert await prune(sqlite) == 0


async def test_each_of_several_keys_of_a_message_keeps_it(sqlite, samples):
    accept = samples.accept(sqlite)
    await sqlite.submit(accept, samples.route(accept, state=MessageState.FILTERED))
    keys = [OpenKey("siu|portal", name, b"h", "siu", accept.message_id, 0, LATER, {"body.id": "7"}) for name in "ab"]
    for turn in (keys, keys[::-1]):
        await sqlite.submit(*turn)
        for key in turn:
            assert await prune(sqlite, MessageState.FILTERED) == 0
            assert len(sqlite.find_keys("siu", "body.id", "7", 1.0)) == len(turn) - turn.index(key)
            await sqlite.submit(DropKey(key.scope, key.key))
    assert await prune(sqlite, MessageState.FILTERED) == 1


async def test_a_search_in_lots_ends_at_the_first_that_is_too_young(sqlite, samples):
    for received_at in (1.0, 2.0, 3.0, 90.0, 91.0, 92.0):
        accept = samples.accept(sqlite, received_at=received_at)
        await sqlite.submit(accept, samples.route(accept, state=MessageState.FILTERED))
    first = sqlite.retained.messages("siu", MessageState.FILTERED, 50.0, 0, 2, 1 << 40)
    second = sqlite.retained.messages("siu", MessageState.FILTERED, 50.0, first.up_to, 2, 1 << 40)
    assert (len(first.ids), first.ended, len(second.ids), second.ended) == (2, False, 1, True)


async def test_hashes_that_a_kill_left_behind_are_swept_later(sqlite, samples, clock):
    accept = samples.accept(sqlite, patients=("MRN1",))
    await sqlite.submit(accept, samples.route(accept, state=MessageState.FILTERED), IndexMessages(1))
    await sqlite.submit(Prune((accept.message_id,), MessageState.FILTERED, LATER))
    await sqlite.close()
    await sqlite.open()
    assert rows(sqlite)["patient"] == 1
    assert sqlite.retained.orphaned_hashes()
    await sqlite.submit(SweepPatients(100))
    assert (rows(sqlite)["patient"], sqlite.retained.orphaned_hashes()) == (0, False)


async def test_the_disk_space_comes_back_and_the_log_stays_small(sqlite, samples):
    for _ in range(40):
        accepts: list[Accept] = [samples.accept(sqlite, body=b"x" * 8000) for _ in range(100)]
        await sqlite.submit(*accepts, *(samples.route(a, state=MessageState.FILTERED) for a in accepts))
    path = sqlite.folder / "engine.db"
    writer = sqlite._state.group._transaction._connection
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    while await prune(sqlite, MessageState.FILTERED):
        pass
    largest = units = 0
    spare = sqlite.retained.spare_pages()
    while sqlite.retained.spare_pages() > 0:
        await sqlite.submit(Shrink(100))
        units += 1
        largest = max(largest, (sqlite.folder / "engine.db-wal").stat().st_size)
    assert writer.execute("PRAGMA page_count").fetchone()[0] < pages / 4
    assert largest < 64 * 1024 * 1024
    # Each unit is an fsync, which those who send meanwhile wait for.
    assert units <= spare / 100 + 2
    await sqlite.close()
    assert path.stat().st_size < pages * 4096 / 4
    await sqlite.open()
    assert writer is not sqlite._state.group._transaction._connection
    assert sqlite._state.group._transaction._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
