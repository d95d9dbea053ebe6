"""Bodies that stand in one row read, and are replaced and removed, as those that stand in rows of their own."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.delivery import DeliveryState, MessageState
from engine.envelope import new_correlation_id
from engine.errors import Evidence
from engine.hl7.bulk import Pieces
from engine.store import SqliteStore, backup, bodies
from engine.store.base import Accept, Find, NewDelivery, Requeue, Route, Settle
from engine.store.bodies import APART, together
from engine.store.crypto import row_place
from engine.store.pruning import RemoveBodies

from .conftest import KEY

LATER = 9e9
YES, NO = Evidence("AA"), Evidence("AE", "204")


def delivery(number: int, body: bytes | Pieces, *, sealed: bool = False) -> NewDelivery:
    return NewDelivery(number, f"to {number}", "", body, sealed=sealed)


#: Few and short, so that many are equal, or the beginning of another; some are too long for the others.
SOME = st.one_of(st.binary(max_size=2), st.sampled_from([b"MSH|", b"MSH|A", bytes(40_000), bytes(70_000)]))


@given(SOME, st.lists(st.tuples(SOME, st.booleans()), max_size=6))
def test_what_is_laid_together_is_read_in_stretches(received, wanted):
    deliveries = [delivery(number, body, sealed=sealed) for number, (body, sealed) in enumerate(wanted)]
    row, stretches = together(received, deliveries)
    assert row[: len(received)] == received
    for one, stretch in zip(deliveries, stretches, strict=True):
        if stretch is APART:
            assert one.sealed or not one.body or len(row) + len(one.body) > bodies._TOGETHER
        else:
            start, length = stretch
            assert row[start : start + length] == one.body
    assert len(row) <= max(len(received), bodies._TOGETHER)
    different = {one.body for one, stretch in zip(deliveries, stretches, strict=True) if stretch is not APART}
    assert len(row) == len(received) + sum(len(body) for body in different - {received}), "each once"


def test_what_was_received_in_parts_stands_alone():
    received = Pieces([b"MSH|", b"A"])
    assert together(received, [delivery(1, b"MSH|A")]) == (received, [APART])


@settings(max_examples=25, deadline=None)
@given(SOME, st.lists(st.tuples(SOME, st.booleans()), max_size=4), st.booleans())
async def test_what_is_written_in_one_commit_or_in_two_reads_the_same(received, wanted, encrypt):
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder), KEY, encrypt=encrypt)
        await store.open()
        for at_once in (True, False):
            message_id = store.new_id()
            deliveries = tuple(delivery(store.new_id(), body, sealed=sealed) for body, sealed in wanted)
            accept = Accept(message_id, "siu", "c", 1.0, received)
            if at_once:
                await store.submit(replace(accept, state=MessageState.ROUTED, at=1.0, deliveries=deliveries))
            else:
                await store.submit(accept)
                await store.submit(Route(message_id, "siu", "c", MessageState.ROUTED, 1.0, deliveries=deliveries))
            assert store.message_body(message_id) == b"".join(store.message_chunks(message_id)) == received
            for one in deliveries:
                read = b"".join(store.delivery_chunks(one.delivery_id))
                assert store.delivery_body(one.delivery_id) == read == one.body
        await store.close()
        assert backup.verify(Path(folder), {1: KEY}) == []


async def routed(store: SqliteStore, *sent: bytes) -> tuple[int, list[int]]:
    """A message that was routed as it came, and its deliveries."""
    deliveries = tuple(delivery(store.new_id(), body) for body in sent)
    message_id = deliveries[0].delivery_id - 1 if deliveries else store.new_id()
    accept = Accept(message_id, "siu", "c", 1.0, b"MSH|", state=MessageState.ROUTED, at=1.0, deliveries=deliveries)
    await store.submit(accept)
    return message_id, [one.delivery_id for one in deliveries]


async def test_one_body_is_replaced_and_the_others_stay(sqlite):
    sqlite.new_id()
    message_id, (first, second) = await routed(sqlite, b"same", b"same")
    await sqlite.submit(Settle(first, DeliveryState.DELIVERED, 2.0, 1, body=b"hashed"))
    assert (sqlite.delivery_body(first), sqlite.delivery_body(second)) == (b"hashed", b"same")
    await sqlite.submit(Settle(second, DeliveryState.PARKED, 2.0, 1))
    await sqlite.submit(Requeue(second, 3.0, b"made anew", "M2", "text/plain"))
    assert (sqlite.delivery_body(first), sqlite.delivery_body(second)) == (b"hashed", b"made anew")
    assert sqlite.message_body(message_id) == b"MSH|"


@pytest.mark.parametrize("encrypt", [True, False])
async def test_what_is_replaced_stays_in_no_row_once_nobody_else_holds_it(tmp_path, encrypt):
    store = SqliteStore(tmp_path / "data", KEY, encrypt=encrypt)
    await store.open()
    store.new_id()
    message_id, sent = await routed(store, b"5550111", b"other", b"5550111", b"MSH|")

    async def replaced(delivery_id: int) -> bytes:
        await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, 2.0, 1, evidence=YES, body=b"hashed"))
        ((number, body),) = store._opened.reader.execute("SELECT sealed, body FROM message_body").fetchall()
        return store._crypto.open(number, body, row_place("message_body", message_id))

    assert await replaced(sent[0]) == b"MSH|5550111other"
    assert await replaced(sent[2]) == b"MSH|" + bytes(7) + b"other"
    assert await replaced(sent[3]) == b"MSH|" + bytes(7) + b"other", "it is what was received"
    assert store.message_body(message_id) == b"MSH|"
    assert [store.delivery_body(each) for each in sent] == [b"hashed", b"other", b"hashed", b"hashed"]
    await store.close()
    assert backup.verify(store.folder, {1: KEY}) == []


async def test_contents_go_and_what_is_known_stays(sqlite):
    sqlite.new_id()
    message_id, sent = await routed(sqlite, b"one", b"two")
    await sqlite.submit(Settle(sent[0], DeliveryState.DELIVERED, 2.0, 1, evidence=YES, answer=b"MSA|AA"))
    await sqlite.submit(Settle(sent[1], DeliveryState.DELIVERED, 2.0, 1, evidence=YES, answer=bytes(5000)))
    assert sqlite.retained.messages("siu", MessageState.ROUTED, LATER, 0, 10, 1 << 40).size > 5000
    await sqlite.submit(RemoveBodies((message_id,), MessageState.ROUTED, LATER, 3.0))
    assert {sqlite.message_body(message_id), *map(sqlite.delivery_body, sent), *map(sqlite.delivery_answer, sent)} == {
        b""
    }
    assert [row.evidence for row in sqlite.deliveries_of(message_id)] == [YES, YES]
    assert sqlite.retained.messages("siu", MessageState.ROUTED, LATER, 0, 10, 1 << 40).size == 0
    await sqlite.close()
    assert backup.verify(sqlite.folder, {1: KEY}) == []


@pytest.mark.parametrize("answers", list(itertools.permutations((b"MSA|AE", bytes(5000), b""))))
async def test_an_answer_is_that_of_the_last_attempt_whatever_its_length(sqlite, answers):
    _, (delivery_id,) = await routed(sqlite, b"out")
    for attempt, answer in enumerate(answers, 1):
        state = DeliveryState.QUEUED
        await sqlite.submit(Settle(delivery_id, state, 2.0, attempt, evidence=NO, answer=answer))
        assert sqlite.delivery_answer(delivery_id) == answer
        await sqlite.submit(Settle(delivery_id, state, 2.0, attempt))
        assert sqlite.delivery_answer(delivery_id) == answer, "nothing was said of it"
    await sqlite.submit(Settle(delivery_id, DeliveryState.DELIVERED, 3.0, 3, "resolved", answer=b"by another"))
    assert sqlite.delivery_answer(delivery_id) == b"by another"
    assert sqlite.delivery(delivery_id).evidence == NO


async def test_a_delivery_that_is_written_at_its_end_holds_its_answer(sqlite):
    for answer in (b"MSA|AA", bytes(5000)):
        delivery_id = sqlite.new_id()
        ended = Settle(delivery_id, DeliveryState.DELIVERED, 2.0, 1, evidence=YES, answer=answer)
        accept = Accept(sqlite.new_id(), "siu", "c", 1.0, b"", state=MessageState.ROUTED, at=1.0)
        await sqlite.submit(replace(accept, deliveries=(replace(delivery(delivery_id, b"out"), settled=ended),)))
        assert (sqlite.delivery_body(delivery_id), sqlite.delivery_answer(delivery_id)) == (b"out", answer)


# -- correlation ids -----------------------------------------------------------------------------------------------


async def test_a_correlation_id_is_found_whether_it_was_made_for_its_message_or_not(sqlite, samples):
    own = sqlite.new_id() + 1
    made = new_correlation_id(own)
    mine = await samples.message(sqlite, correlation_id=made)
    assert mine == own
    hop = await samples.message(sqlite, correlation_id=made)
    given = await samples.message(sqlite, correlation_id=f"{own:012}")
    upper = await samples.message(sqlite, correlation_id="7up")
    assert [row.message_id for row in sqlite.find(Find(correlation_id=made))] == [hop, mine]
    assert [row.message_id for row in sqlite.find(Find(correlation_id=made, limit=1))] == [hop]
    assert [row.message_id for row in sqlite.find(Find(correlation_id=made, before_id=hop))] == [mine]
    assert [row.message_id for row in sqlite.trace(made)[0]] == [mine, hop]
    for message_id, correlation_id in ((given, f"{own:012}"), (upper, "7up")):
        assert [row.message_id for row in sqlite.trace(correlation_id)[0]] == [message_id]
        assert [row.message_id for row in sqlite.find(Find(correlation_id=correlation_id))] == [message_id]
    writer = sqlite._opened.group._transaction._connection
    (indexed,) = writer.execute(
        "SELECT count(*) FROM message INDEXED BY message_correlation_id"
        " WHERE CAST(substr(correlation_id, -12) AS INTEGER) <> id"
    ).fetchone()
    assert indexed == 3, "all but the one that it was made for"
