"""What is written for many units at once is what each of them would have written alone."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from engine.delivery import DeliveryState
from engine.errors import Evidence, StoreError
from engine.store import SqliteStore, writer
from engine.store.base import AckSent, Requeue, Sending, Settle

from .conftest import KEY

DELIVERED = DeliveryState.DELIVERED
EVIDENCE = [
    Evidence("AA"),
    Evidence("\udce9"),
    Evidence("AA", condition=""),
    Evidence("CA", condition="0", location="PID-3", application_error="NONE"),
    None,
]
ENDS = [
    Settle(0, DELIVERED, 10.0, 1, evidence=Evidence("AA"), answer=b"answer", sent_at=9.0),
    *(Settle(0, DELIVERED, 10.0, 1, evidence=evidence, answer=b"MSA|AA", sent_at=9.0) for evidence in EVIDENCE),
    *(Settle(0, DELIVERED, 10.0, 1, evidence=Evidence("AA"), answer=b"x" * size, sent_at=9.0) for size in (0, 5000)),
    *(Settle(0, DELIVERED, 10.0, attempts, evidence=Evidence("AA"), sent_at=9.0) for attempts in (0, 2)),
    Settle(0, DELIVERED, 10.0, 1, "by hand", evidence=Evidence("AA"), sent_at=9.0),
    Settle(0, DELIVERED, 10.0, 1, next_at=3.0, evidence=Evidence("AA"), sent_at=9.0),
    Settle(0, DELIVERED, 10.0, 1, evidence=Evidence("AA"), may_be_duplicated=True, sent_at=9.0),
    Settle(0, DELIVERED, 10.0, 1, evidence=Evidence("AA"), body=b"another", sent_at=9.0),
    Settle(0, DELIVERED, 10.0, 1, evidence=Evidence("AA"), sent_at=None),
    Settle(0, DeliveryState.PARKED, 10.0, 1, "rejected", evidence=Evidence("AE"), sent_at=9.0),
]
#: What happened to the delivery before.
BEFORE = {
    "new": [],
    "sending": [Sending(0, 5.0, 1)],
    "failed": [Settle(0, DeliveryState.QUEUED, 5.0, 1, "unanswered", 7.0, Evidence("AE", "207"), b"no", True)],
    "unknown": [Settle(0, DeliveryState.UNKNOWN, 5.0, 1, "unanswered"), Requeue(0, 6.0)],
    "long answer": [Settle(0, DeliveryState.PARKED, 5.0, 1, "x", 0, Evidence("AE"), b"n" * 5000), Requeue(0, 6.0)],
}


def of(delivery_id, operation):
    changed = type(operation)(**{name: getattr(operation, name) for name in operation.__slots__})
    changed.delivery_id = delivery_id
    return changed


def row(store, delivery_id):
    """Everything that is stored of a delivery, opened."""
    cursor = store._opened.reader.execute("SELECT * FROM delivery WHERE id = ?", (delivery_id,))
    names = [name for name, *_ in cursor.description]
    found = dict(zip(names, cursor.fetchone(), strict=True))
    for name in ("id", "message_id", "created_at", "answer"):
        del found[name]
    apart = store._opened.reader.execute("SELECT 1 FROM delivery_answer WHERE delivery_id = ?", (delivery_id,))
    return found, store.delivery_answer(delivery_id), store.delivery_body(delivery_id), apart.fetchone()


@pytest.mark.parametrize("encrypt", [True, False])
@pytest.mark.parametrize("before", BEFORE)
async def test_a_delivery_ends_the_same_in_whichever_way_that_is_written(
    tmp_path, samples, monkeypatch, before, encrypt
):
    store = SqliteStore(tmp_path / "data", KEY, encrypt=encrypt)
    await store.open()
    taken = []
    for end in ENDS:
        found = []
        for way in (DELIVERED, object()):
            monkeypatch.setattr(writer, "_DELIVERED", way)
            delivery_id = await samples.owed(store)
            for operation in BEFORE[before]:
                await store.submit(of(delivery_id, operation))
            await store.submit(of(delivery_id, end))
            found.append(row(store, delivery_id))
        assert found[0] == found[1]
        taken.append(found[0][0]["state"])
    assert "delivered" in taken
    await store.close()


async def test_of_many_that_are_written_together_the_one_that_does_not_fit_fails_alone(sqlite, samples):
    ids = [await samples.owed(sqlite) for _ in range(6)]
    ended = of(ids[2], ENDS[0])
    await sqlite.submit(ended)
    units = [of(delivery_id, ENDS[0]) for delivery_id in ids]
    accepts = [samples.accept(sqlite) for _ in range(3)]
    told = [sqlite.submit(*unit) for unit in itertools.chain(zip(units), zip(accepts))]
    results = await asyncio.gather(*told, return_exceptions=True)
    assert [str(result) for result in results if result is not None] == [
        f"not committed: Settle: delivery {ids[2]} may not become delivered"
    ]
    assert {sqlite.delivery(delivery_id).state for delivery_id in ids} == {DELIVERED}
    assert all(sqlite.message(accept.message_id) for accept in accepts)


async def test_one_message_twice_in_a_batch_is_written_once(sqlite, samples):
    accept = samples.accept(sqlite)
    first, again = sqlite.submit(accept), sqlite.submit(accept)
    results = await asyncio.gather(first, again, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], StoreError)


async def test_what_is_gathered_is_written_before_what_depends_on_it(sqlite, samples):
    accept = samples.accept(sqlite)
    route = samples.route(accept, samples.delivery(sqlite))
    (delivery,) = route.deliveries
    sending, end = Sending(delivery.delivery_id, 5.0, 1), of(delivery.delivery_id, ENDS[0])
    await asyncio.gather(*(sqlite.submit(operation) for operation in (accept, route, sending, end)))
    assert sqlite.delivery(delivery.delivery_id).state is DELIVERED
    assert sqlite.delivery(delivery.delivery_id).sent_at == 9.0


async def test_nothing_of_a_batch_that_was_rolled_back_is_written_with_the_next(sqlite, samples, monkeypatch):
    transaction, lost = sqlite._opened.group._transaction, samples.accept(sqlite)

    def fail(operation):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setitem(transaction._handlers, Sending, fail)
        results = await asyncio.gather(sqlite.submit(lost), sqlite.submit(Sending(1, 1.0, 1)), return_exceptions=True)
    assert [str(result) for result in results] == ["not committed: MemoryError"] * 2
    await samples.message(sqlite)
    assert sqlite.message(lost.message_id) is None


async def test_what_does_not_fit_is_told_of_the_operation_that_it_lies_in(sqlite, samples):
    message_id = await samples.message(sqlite)
    with pytest.raises(StoreError, match=r"^not committed: Settle: delivery 1000000 may not become delivered$"):
        await sqlite.submit(of(1_000_000, ENDS[0]), AckSent(message_id, "AA"))
    assert sqlite.message(message_id).ack == ""
