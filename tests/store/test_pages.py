"""What a commit writes, counted and not timed: pages in the log, for messages that come and are delivered in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from engine.delivery import DeliveryState, MessageState
from engine.envelope import new_correlation_id
from engine.errors import Evidence
from engine.store import SqliteStore, checkpoint
from engine.store.base import Accept, AckSent, CloseKey, NewDelivery, OpenKey, Settle

COMMITS = 100
RECEIVED = b"MSH|^~\\&|SCHED|HOSPITAL|OIE|RADIOLOGY|20260105101500||SIU^S12|M000001|P|2.5.1\r" * 6
SENT = RECEIVED.replace(b"2.5.1", b"2.3.1")
#: Pages of a booking: one for each index of what is written first, six for its outcome.
BOOKING = 17
ANSWER = b"MSH|^~\\&|EMR|SITEB|||20260105101500||ACK|1|P|2.3.1\rMSA|CA|M000001\r"


class Traffic:
    """Messages of one sender for some destinations; each commit takes several, and what became of those before."""

    def __init__(self, store: SqliteStore, destinations: int) -> None:
        self.store, self.destinations = store, destinations
        self.number, self.sent = 0, ()

    async def commit(self, messages: int) -> None:
        settled = [self._settle(delivery_id) for delivery_id in self.sent]
        accepted = [self._accept() for _ in range(messages)]
        self.sent = tuple(delivery.delivery_id for accept in accepted for delivery in accept.deliveries)
        await asyncio.gather(*(self.store.submit(operation).wait() for operation in (*accepted, *settled)))

    def _accept(self) -> Accept:
        self.number += 1
        message_id, now = self.store.new_id(), time.time()
        deliveries = tuple(
            NewDelivery(self.store.new_id(), f"sink {number}", "", SENT, f"M{self.number:06}")
            for number in range(self.destinations)
        )
        return Accept(
            message_id,
            "bench",
            new_correlation_id(message_id),
            now,
            RECEIVED,
            f"M{self.number:06}",
            "SIU^S12",
            state=MessageState.ROUTED,
            ack="AA",
            origin={"source": "mllp", "peer": "127.0.0.1"},
            at=now,
            deliveries=deliveries,
        )

    def _settle(self, delivery_id: int) -> Settle:
        now = time.time()
        return Settle(
            delivery_id, DeliveryState.DELIVERED, now, 1, evidence=Evidence("CA"), answer=ANSWER, sent_at=now - 0.001
        )


#: Messages in a commit, destinations → pages of the log for a commit. What is added here every message of every site
#: pays for; what is saved may be taken off.
@pytest.mark.parametrize(("messages", "destinations", "pages"), [(1, 1, 8), (7, 1, 15), (50, 1, 40), (7, 5, 20)])
async def test_a_commit_writes_so_many_pages_and_no_more(tmp_path, monkeypatch, messages, destinations, pages):
    monkeypatch.setattr(checkpoint, "PAGES", 10**9)
    store = SqliteStore(tmp_path / "data", bytes(32))
    await store.open()
    traffic = Traffic(store, destinations)
    commits, written = await counted(store, lambda: traffic.commit(messages))
    await store.close()
    assert commits <= COMMITS + 5
    assert written / commits <= pages


async def counted(store: SqliteStore, work: Callable[[], Awaitable[None]]) -> tuple[int, int]:
    """Commits, and pages of the log, of ``work`` done a hundred times; as often before it counts."""
    writer = store._opened.group._transaction._connection
    for _ in range(COMMITS):
        await work()
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    commits = store.commits
    for _ in range(COMMITS):
        await work()
    _, written, _ = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return store.commits - commits, written


async def test_a_booking_writes_so_many_pages_with_its_intent_and_its_outcome(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAGES", 10**9)
    store = SqliteStore(tmp_path / "data", bytes(32))
    await store.open()
    traffic = Traffic(store, 1)

    async def book() -> None:
        accept = traffic._accept()
        (delivery,) = accept.deliveries
        of, name = (accept.message_id, delivery.delivery_id), f"{traffic.number * 7919 % 10**6}"
        key = OpenKey("booking|portal", name, bytes(32), "booking", *of, time.time() + 9e5, {"body.orderId": name})
        await store.submit(accept, key)
        settle = traffic._settle(delivery.delivery_id)
        await store.submit(settle, AckSent(accept.message_id, "201"), CloseKey(key.scope, name, 201, None, SENT))

    commits, written = await counted(store, book)
    await store.close()
    assert commits <= 2 * COMMITS + 5
    assert written / COMMITS <= BOOKING


async def test_a_delivery_keeps_room_for_what_it_is_settled_with_and_gives_it_up_then(tmp_path):
    store = SqliteStore(tmp_path / "data", bytes(32))
    await store.open()
    traffic = Traffic(store, 1)
    for _ in range(3):
        await traffic.commit(1)
    look, last = store._opened.reader.execute, traffic.sent[0]
    first, kept = look("SELECT room, length(answer) FROM delivery WHERE id < ? LIMIT 1", (last,)).fetchone()
    (room,) = look("SELECT length(room) FROM delivery WHERE id = ?", (last,)).fetchone()
    assert (first, kept) == (None, 28 + len(ANSWER)), "the nonce and the tag of a sealed value"
    assert room == kept + 21
    traffic.sent = (last,)
    await traffic.commit(0)
    assert look("SELECT count(*) FROM delivery WHERE room IS NOT NULL").fetchone() == (0,)
    await store.close()


async def test_an_answer_that_is_long_leaves_no_room_as_long_behind_it(tmp_path):
    store = SqliteStore(tmp_path / "data", bytes(32))
    await store.open()
    traffic = Traffic(store, 1)
    await traffic.commit(1)
    settle = traffic._settle(traffic.sent[0])
    settle.answer = bytes(1900)
    await store.submit(settle)
    traffic.sent = ()
    await traffic.commit(1)
    ((room,),) = store._opened.reader.execute("SELECT max(length(room)) FROM delivery").fetchall()
    await store.close()
    assert room == 256 + 21
