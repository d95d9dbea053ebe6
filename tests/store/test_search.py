"""Search: every combination of filters, patients in many buckets, and a clock that was set back."""

from __future__ import annotations

import itertools
import random
import sqlite3
from dataclasses import replace

import pytest

from engine.delivery import DeliveryState, MessageState
from engine.errors import StoreError
from engine.store import SqliteStore, keeping, queries
from engine.store.base import Find, Requeue, Settle
from engine.store.late import IndexMessages
from engine.store.reader import Reader
from engine.store.stored import bucket_of

from .conftest import KEY
from .test_group_commit import DiskOfATest

NOW = 1_000_000.0


@pytest.fixture(params=[0, 25, 60], ids="{} of the messages indexed".format)
async def history(request, sqlite, samples):
    """Sixty messages of all kinds, and what a plain look at them says is found."""
    chance, facts = random.Random(3), []
    for number in range(60):
        if number == request.param:
            await sqlite.submit(IndexMessages(1))
        accept = samples.accept(
            sqlite,
            channel=chance.choice(["a", "b"]),
            correlation_id=chance.choice(["one", "two"]),
            control_id=chance.choice(["C1", "C2"]),
            received_at=NOW + number,
            patients=tuple(chance.sample(["P1", "P2"], chance.randrange(3))),
            state=chance.choice([MessageState.RECEIVED, MessageState.REFUSED]),
        )
        state, deliveries, together = accept.state, [], chance.random() < 0.5
        if not together:
            await sqlite.submit(accept)
        if state is MessageState.RECEIVED and chance.random() < 0.8:
            state = chance.choice([MessageState.ROUTED, MessageState.FILTERED, MessageState.FAILED])
            if state is MessageState.ROUTED:
                deliveries = [
                    samples.delivery(sqlite, control_id=chance.choice(["C1", "D1"])) for _ in range(chance.randrange(3))
                ]
            if together:
                accept = replace(accept, state=state, at=NOW, deliveries=tuple(deliveries))
            else:
                await sqlite.submit(samples.route(accept, *deliveries, state=state))
        if together:
            await sqlite.submit(accept)
        states = []
        for delivery in deliveries:
            states.append(chance.choice([DeliveryState.QUEUED, DeliveryState.DELIVERED, DeliveryState.PARKED]))
            if states[-1] is not DeliveryState.QUEUED:
                await sqlite.submit(Settle(delivery.delivery_id, states[-1], NOW, 1))
        facts.append((accept, state, states, {accept.control_id, *(item.control_id for item in deliveries)}))
    if request.param == len(facts):
        await sqlite.submit(IndexMessages(1))
    return facts


def expected(facts, find: Find) -> list[int]:
    """What ``find`` means."""
    return [
        accept.message_id
        for accept, state, states, control_ids in reversed(facts)
        if find.channel in (None, accept.channel)
        and find.state in (None, str(state))
        and find.correlation_id in (None, accept.correlation_id)
        and (find.control_id is None or find.control_id in control_ids)
        and (find.patient is None or find.patient in accept.patients)
        and (find.delivery_state is None or find.delivery_state in map(str, states))
        and (find.since is None or accept.received_at >= find.since)
        and (find.until is None or accept.received_at <= find.until)
        and (find.before_id is None or accept.message_id < find.before_id)
    ][: find.limit]


async def test_every_combination_of_filters_finds_what_it_means(sqlite, history):
    middle = history[30][0].message_id
    choices = {
        "channel": (None, "a", "c"),
        "state": (None, "routed", "failed", "filtered"),
        "correlation_id": (None, "one"),
        "control_id": (None, "C1"),
        "patient": (None, "P1"),
        "delivery_state": (None, "delivered", "parked"),
        "since": (None, NOW + 10),
        "until": (None, NOW + 40),
        "before_id": (None, middle),
        "limit": (5, 500),
    }
    for values in itertools.product(*choices.values()):
        find = Find(**dict(zip(choices, values, strict=True)))
        assert [row.message_id for row in sqlite.find(find)] == expected(history, find), find


@pytest.mark.parametrize("indexed", [0, 1, 4, 6])
async def test_a_patient_is_found_in_every_bucket_newest_first_and_in_pages(sqlite, samples, indexed):
    made = []
    for step in range(6):
        if step == indexed:
            await sqlite.submit(IndexMessages(1))
        sqlite._last_id = (step << 15) + 7
        made.append(await samples.message(sqlite, patients=("P1", "P2")))
        await samples.message(sqlite, patients=("P2",))
    if indexed == len(made):
        await sqlite.submit(IndexMessages(1))
    assert len({bucket_of(message_id) for message_id in made}) == 6
    newest = made[::-1]
    assert [row.message_id for row in sqlite.find(Find(patient="P1"))] == newest
    page = [row.message_id for row in sqlite.find(Find(patient="P1", limit=2))]
    assert page == newest[:2]
    assert [row.message_id for row in sqlite.find(Find(patient="P1", before_id=page[-1], limit=2))] == newest[2:4]
    assert sqlite.find(Find(patient="p1")) == []


@pytest.mark.parametrize("moment", [keeping.INDEXED_UP_TO, queries.FIND_BY_LATE_PATIENT, queries.PATIENT_BUCKETS])
async def test_a_page_is_as_long_as_it_can_be_while_patients_are_sorted_in(sqlite, samples, monkeypatch, moment):
    made = []
    for step in range(3):
        sqlite._last_id = (step << 15) + 7
        made += [await samples.message(sqlite, patients=("P1",)) for _ in range(2)]
        if step == 0:
            await sqlite.submit(IndexMessages(1))
    read, other = Reader.rows, sqlite3.connect(sqlite.folder / "engine.db")

    def rows(reader, query, *parameters):
        found = read(reader, query, *parameters)
        if query == moment:
            with other:
                other.execute(keeping.INDEX_PATIENTS, (made[1], made[-1]))
                other.execute(keeping.NOTE_INDEXED, (made[-1],))
        return found

    monkeypatch.setattr(Reader, "rows", rows)
    for limit in range(1, 7):
        with other:
            other.execute("DELETE FROM patient WHERE message_id > ?", (made[1],))
            other.execute(keeping.NOTE_INDEXED, (made[1],))
        assert [row.message_id for row in sqlite.find(Find(patient="P1", limit=limit))] == made[::-1][:limit]
    other.close()


async def test_messages_are_found_by_time_on_both_sides_of_a_clock_that_was_set_back(tmp_path, clock, samples):
    store = SqliteStore(tmp_path / "data", KEY, now=clock)
    await store.open()

    async def message() -> int:
        return await samples.message(store, message_id=store.new_id(), received_at=clock.at)

    clock.at = NOW + 500
    wrong = [await message() for _ in range(3)]  # the clock is ahead
    clock.at = NOW
    right = [await message() for _ in range(3)]
    await store.close()
    clock.at = NOW - 500  # set back while nothing ran
    await store.open()
    earlier = [await message() for _ in range(3)]
    for at, ids in ((NOW + 500, wrong), (NOW, right), (NOW - 500, earlier)):
        assert [row.message_id for row in store.find(Find(since=at - 1, until=at + 1))] == ids[::-1]
    assert len(store.find(Find(since=NOW - 1))) == 6
    assert len(store.find(Find(until=NOW + 1))) == 6
    await store.close()


async def test_a_clock_set_back_while_the_disk_fails_is_noted_with_the_next_message(tmp_path, clock, samples):
    store = DiskOfATest(tmp_path / "data", KEY, now=clock)
    await store.open()
    clock.at = NOW + 500
    ahead = await samples.message(store, message_id=store.new_id(), received_at=clock.at)
    clock.at, store.instead = NOW, fail
    with pytest.raises(StoreError):
        await samples.message(store, message_id=store.new_id(), received_at=clock.at)
    store.instead = None
    back = await samples.message(store, message_id=store.new_id(), received_at=clock.at)
    assert [row.message_id for row in store.find(Find(since=NOW - 1, until=NOW + 1))] == [back]
    assert [row.message_id for row in store.find(Find(since=NOW + 499))] == [ahead]
    await store.close()


def fail() -> None:
    raise OSError(5, "the disk fails")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("received", ["A1", "", "Ä\udcff"])
async def test_a_delivery_is_told_and_found_by_the_control_id_it_goes_out_under(sqlite, samples, received, together):
    for sent in ("A1", "B2", "Ä\udcff", received):
        accept = samples.accept(sqlite, control_id=received)
        delivery = samples.delivery(sqlite, control_id=sent)
        if together:
            await sqlite.submit(replace(accept, state=MessageState.ROUTED, at=NOW, deliveries=(delivery,)))
        else:
            await sqlite.submit(accept, samples.route(accept, delivery))
        assert sqlite.delivery(delivery.delivery_id).control_id == sent
        assert sqlite.queued(accept.channel, delivery.destination, accept.message_id, 1)[0].control_id == sent
        assert sqlite.deliveries_of(accept.message_id)[0].control_id == sent
        for control_id in filter(None, (received, sent)):
            assert accept.message_id in [row.message_id for row in sqlite.find(Find(control_id=control_id))]


async def test_a_delivery_that_is_made_anew_has_its_new_control_id(sqlite, samples):
    accept = samples.accept(sqlite, control_id="A1", state=MessageState.ROUTED, at=NOW)
    delivery = samples.delivery(sqlite, control_id="A1", state=DeliveryState.PARKED)
    await sqlite.submit(replace(accept, deliveries=(delivery,)))
    await sqlite.submit(Requeue(delivery.delivery_id, NOW, b"MSH|new", "B2", "application/hl7-v2"))
    assert sqlite.delivery(delivery.delivery_id).control_id == "B2"
    assert [row.message_id for row in sqlite.find(Find(control_id="B2"))] == [accept.message_id]
