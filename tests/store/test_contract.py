"""What every store promises (``engine/store/base.py``), asked through the interface only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from engine.cache import CacheForget, CachePut
from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence, StoreError
from engine.store.base import (
    AckSent,
    CloseKey,
    DropKey,
    Find,
    OpenKey,
    Pause,
    Readdress,
    Reopen,
    Requeue,
    Resume,
    Sending,
    Settle,
)

NOW = 1_000_000.0


# -- messages ------------------------------------------------------------------------------------------------------


async def test_an_accepted_message_reads_back_as_it_was_received(store, samples):
    accept = samples.accept(
        store,
        body=b"MSH|^~\\&|\xff\x00",
        control_id="C1",
        message_type="SIU^S12",
        key="P1",
        origin={"source": "mllp", "peer": "127.0.0.1:1", "headers": {"x": "y"}},
    )
    await store.submit(accept)
    row = store.message(accept.message_id)
    assert (row.channel, row.correlation_id, row.control_id) == ("siu", accept.correlation_id, "C1")
    assert (row.message_type, row.key, row.state, row.cause) == (
        "SIU^S12",
        store.lane_key("P1"),
        MessageState.RECEIVED,
        "",
    )
    assert (row.received_at, row.routed_at, row.ack) == (accept.received_at, None, "")
    assert row.origin == {"source": "mllp", "peer": "127.0.0.1:1", "headers": {"x": "y"}}
    assert store.message_body(accept.message_id) == b"MSH|^~\\&|\xff\x00"


async def test_text_with_bytes_outside_its_charset_reads_back_and_is_found(store, samples):
    broken = b"M\xfcller".decode("ascii", "surrogateescape")
    message_id = await samples.message(store, control_id=broken, key=broken, message_type=broken)
    row = store.message(message_id)
    assert (row.control_id, row.key, row.message_type) == (broken, store.lane_key(broken), broken)
    assert [found.message_id for found in store.find(Find(control_id=broken))] == [message_id]


async def test_an_empty_body_is_empty_and_an_unknown_message_is_a_key_error(store, samples):
    message_id = await samples.message(store, body=b"", state=MessageState.REFUSED, cause="malformed")
    assert store.message_body(message_id) == b""
    assert store.message(message_id + 1000) is None
    for read in (store.message_body, store.delivery_body, store.delivery_answer):
        with pytest.raises(KeyError):
            read(message_id + 1000)


async def test_unrouted_messages_come_oldest_first_and_in_pages(store, samples):
    ids = [await samples.message(store) for _ in range(5)]
    await samples.message(store, channel="other")
    await samples.owed(store)
    await samples.message(store, state=MessageState.REFUSED)
    assert [row.message_id for row in store.unrouted("siu", 0, 3)] == ids[:3]
    assert [row.message_id for row in store.unrouted("siu", ids[2], 3)] == ids[3:]


async def test_the_ack_that_follows_from_commit_1_is_recorded_with_it(store, samples):
    message_id = await samples.message(store, ack="AR", state=MessageState.REFUSED)
    assert store.message(message_id).ack == "AR"


async def test_the_ack_of_a_message_is_a_fact_beside_its_state(store, samples):
    message_id = await samples.message(store)
    await store.submit(AckSent(message_id, "AA"))
    row = store.message(message_id)
    assert (row.ack, row.state) == ("AA", MessageState.RECEIVED)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("first", "second"), [(b"", b"MSA|AA"), (b"MSA|AE", b"MSA|AA"), (b"MSA|AE", b"")])
async def test_of_two_acks_of_a_message_the_first_stays_whole(store, samples, first, second, together):
    message_id = await samples.message(store)
    acks = AckSent(message_id, "AE", first), AckSent(message_id, "AA", second)
    for unit in [acks] if together else [(ack,) for ack in acks]:
        await store.submit(*unit)
    assert (store.message(message_id).ack, store.message_ack(message_id)) == ("AE", first)


# -- deliveries ----------------------------------------------------------------------------------------------------


async def test_a_routed_message_has_its_deliveries(store, samples):
    accept = samples.accept(store)
    first = samples.delivery(store, destination="epic", key="P1", body=b"one", control_id="D1")
    second = samples.delivery(
        store,
        destination="athena",
        body=b"two",
        state=DeliveryState.PARKED,
        cause="step lookup failed",
        content_type="application/json",
    )
    await store.submit(accept)
    await store.submit(samples.route(accept, first, second, at=NOW + 7))
    message = store.message(accept.message_id)
    assert (message.state, message.routed_at) == (MessageState.ROUTED, NOW + 7)
    rows = store.deliveries_of(accept.message_id)
    assert [(row.delivery_id, row.destination, row.state) for row in rows] == [
        (first.delivery_id, "epic", DeliveryState.QUEUED),
        (second.delivery_id, "athena", DeliveryState.PARKED),
    ]
    assert (rows[0].message_id, rows[0].channel, rows[0].key) == (accept.message_id, "siu", store.lane_key("P1"))
    assert (rows[0].correlation_id, rows[0].received_at) == (accept.correlation_id, accept.received_at)
    assert (rows[0].control_id, rows[0].attempts, rows[0].next_at) == ("D1", 0, 0.0)
    assert (rows[0].created_at, rows[0].sent_at, rows[0].settled_at) == (NOW + 7, None, None)
    assert (rows[0].evidence, rows[0].may_be_duplicated) == (None, False)
    assert (rows[1].cause, rows[1].content_type) == ("step lookup failed", "application/json")
    assert store.delivery(first.delivery_id) == rows[0]
    assert [store.delivery_body(row.delivery_id) for row in rows] == [b"one", b"two"]
    assert store.delivery_answer(first.delivery_id) == b""


async def test_settling_keeps_codes_answer_and_times(store, samples):
    delivery_id = await samples.owed(store)
    created_at = store.delivery(delivery_id).created_at
    await store.submit(Sending(delivery_id, NOW + 2, 1))
    sending = store.delivery(delivery_id)
    assert (sending.state, sending.sent_at, sending.attempts) == (DeliveryState.SENDING, NOW + 2, 1)
    evidence = Evidence("AE", "204", "PID-3", "UNKNOWN", body=b"MSA|AE", text="Doe^John is not known")
    await store.submit(
        Settle(
            delivery_id,
            DeliveryState.PARKED,
            NOW + 3,
            1,
            cause="rejected AE 204 PID-3",
            evidence=evidence,
            answer=b"MSA|AE",
        )
    )
    row = store.delivery(delivery_id)
    assert (row.state, row.cause, row.attempts) == (DeliveryState.PARKED, "rejected AE 204 PID-3", 1)
    assert (row.created_at, row.sent_at, row.settled_at) == (created_at, NOW + 2, NOW + 3)
    assert row.evidence == Evidence("AE", "204", "PID-3", "UNKNOWN")
    assert store.delivery_answer(delivery_id) == b"MSA|AE"


@pytest.mark.parametrize("is_sent", [True, False])
@pytest.mark.parametrize(
    ("state", "evidence", "answer"),
    [
        (DeliveryState.DELIVERED, Evidence("AA"), b"MSA|AA"),
        (DeliveryState.DISCARDED, Evidence("AE", "204", "PID-3", "UNKNOWN"), b"MSA|AE"),
        (DeliveryState.UNKNOWN, None, b""),
        (DeliveryState.QUEUED, None, b""),
        (None, None, b""),
    ],
)
async def test_what_is_known_when_a_delivery_is_written_is_written_with_it(
    store, samples, is_sent, state, evidence, answer
):
    """One operation writes what an Accept, a Route, a Sending, a Settle and an AckSent do."""
    rows = []
    for folded in (True, False):
        accept, plain = samples.accept(store, body=b"{}"), samples.delivery(store, key="P1", control_id="D1")
        sending = Sending(plain.delivery_id, NOW + 2, 1) if is_sent else None
        settled = None
        if state is not None:
            settled = Settle(plain.delivery_id, state, NOW + 3, 1, "why", 9.0, evidence, answer, bool(is_sent))
        route = samples.route(accept, plain, at=NOW + 1)
        if folded:
            on_its_way = DeliveryState.SENDING if is_sent else DeliveryState.QUEUED
            delivery = replace(plain, state=on_its_way, sending=sending, settled=settled)
            await store.submit(replace(accept, ack="200", state=route.state, at=route.at, deliveries=(delivery,)))
        else:
            after = [operation for operation in (sending, settled) if operation is not None]
            await store.submit(accept, route, *after, AckSent(accept.message_id, "200"))
        message, row = store.message(accept.message_id), store.delivery(plain.delivery_id)
        texts = (store.delivery_body(row.delivery_id), store.delivery_answer(row.delivery_id))
        same = {"message_id": 0, "correlation_id": "", "received_at": NOW}
        rows.append((replace(message, **same), replace(row, delivery_id=0, **same), texts))
    assert rows[0] == rows[1]


async def test_settling_can_say_when_an_attempt_began_of_which_nothing_was_written(store, samples):
    delivery_id = await samples.owed(store)
    await store.submit(Settle(delivery_id, DeliveryState.QUEUED, NOW + 1, 1, cause="unavailable refused"))
    assert store.delivery(delivery_id).sent_at is None
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, NOW + 3, 2, sent_at=NOW + 2))
    row = store.delivery(delivery_id)
    assert (row.sent_at, row.settled_at) == (NOW + 2, NOW + 3)


async def test_a_failed_attempt_waits_and_later_evidence_takes_the_place_of_earlier(store, samples):
    delivery_id = await samples.owed(store)
    await store.submit(
        Settle(
            delivery_id,
            DeliveryState.QUEUED,
            NOW,
            1,
            "rejected AE 207",
            NOW + 5,
            Evidence("AE", "207"),
            answer=b"first",
        )
    )
    row = store.delivery(delivery_id)
    assert (row.state, row.attempts, row.next_at, row.settled_at) == (DeliveryState.QUEUED, 1, NOW + 5, None)
    await store.submit(Settle(delivery_id, DeliveryState.QUEUED, NOW + 5, 2, "unavailable refused", NOW + 10))
    row = store.delivery(delivery_id)
    assert (row.cause, row.evidence, store.delivery_answer(delivery_id)) == (
        "unavailable refused",
        Evidence("AE", "207"),
        b"first",
    )
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, NOW + 10, 3, evidence=Evidence("200")))
    row = store.delivery(delivery_id)
    assert (row.evidence, row.settled_at) == (Evidence("200"), NOW + 10)
    assert store.delivery_answer(delivery_id) == b""


async def test_what_may_be_a_duplicate_stays_marked(store, samples):
    delivery_id = await samples.owed(store)
    await store.submit(Settle(delivery_id, DeliveryState.QUEUED, NOW, 1, may_be_duplicated=True))
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, NOW, 2))
    assert store.delivery(delivery_id).may_be_duplicated


async def test_settling_can_replace_the_body(store, samples):
    delivery_id = await samples.owed(store, body=b"secret", sealed=True)
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, NOW, 1, body=b"hash"))
    assert store.delivery_body(delivery_id) == b"hash"


async def test_a_sealed_body_reads_back(store, samples):
    delivery_id = await samples.owed(store, body=b"secret", sealed=True)
    assert store.delivery_body(delivery_id) == b"secret"
    empty = await samples.owed(store, body=b"", sealed=True)
    assert store.delivery_body(empty) == b""


async def test_a_lane_holds_queued_and_held_deliveries_in_order_and_in_pages(store, samples):
    states = [DeliveryState.HELD, DeliveryState.QUEUED, DeliveryState.HELD, DeliveryState.QUEUED]
    ids = [await samples.owed(store, state=state) for state in states]
    await samples.owed(store, destination="athena")
    await samples.owed(store, state=DeliveryState.PARKED)
    done = await samples.owed(store)
    await store.submit(Settle(done, DeliveryState.DELIVERED, NOW, 1))
    assert [row.delivery_id for row in store.queued("siu", "epic", 0, 3)] == ids[:3]
    assert [row.delivery_id for row in store.queued("siu", "epic", ids[2], 3)] == ids[3:]


@pytest.mark.parametrize(
    ("before", "may_be_duplicated"),
    [
        (DeliveryState.HELD, False),
        (DeliveryState.PARKED, False),
        (DeliveryState.DISCARDED, False),
        (DeliveryState.UNKNOWN, True),
        (DeliveryState.DELIVERED, True),
    ],
)
async def test_a_person_sends_a_delivery_again(store, samples, before, may_be_duplicated):
    delivery_id = await samples.owed(store, body=b"the same bytes", control_id="D1")
    await store.submit(Settle(delivery_id, before, NOW, 3, "by hand", next_at=NOW + 60))
    await store.submit(Requeue(delivery_id, NOW + 1, cause="asked again"))
    row = store.delivery(delivery_id)
    assert (row.state, row.cause, row.attempts, row.next_at) == (DeliveryState.QUEUED, "asked again", 3, 0.0)
    assert (row.may_be_duplicated, row.settled_at, row.control_id) == (may_be_duplicated, None, "D1")
    assert store.delivery_body(delivery_id) == b"the same bytes"


async def test_a_delivery_whose_transform_had_failed_gets_its_bytes_when_it_is_sent_again(store, samples):
    delivery_id = await samples.owed(store, body=b"", state=DeliveryState.PARKED, cause="step lookup failed")
    await store.submit(Requeue(delivery_id, NOW, b"made now", "D1", "application/json"))
    row = store.delivery(delivery_id)
    assert (row.state, row.control_id, row.content_type) == (DeliveryState.QUEUED, "D1", "application/json")
    assert store.delivery_body(delivery_id) == b"made now"
    assert [found.message_id for found in store.find(Find(control_id="D1"))] == [row.message_id]


async def test_an_open_delivery_moves_to_another_destination_and_keeps_its_place(store, samples):
    first, second = await samples.owed(store), await samples.owed(store)
    await store.submit(Readdress(first, "epic2"), Readdress(second, "epic2"))
    assert [row.delivery_id for row in store.open_of("siu", "epic2", "queued", 0, 9)] == [first, second]
    assert [row.delivery_id for row in store.open_of("siu", "epic2", "queued", first, 1)] == [second]
    assert store.open_of("siu", "epic", "queued", 0, 9) == []
    await store.submit(Settle(first, DeliveryState.DELIVERED, NOW, 1))
    with pytest.raises(StoreError, match="is finished"):
        await store.submit(Readdress(first, "epic"))


async def test_a_failed_message_is_given_up(store, samples):
    accept = samples.accept(store)
    await store.submit(accept)
    await store.submit(samples.route(accept, state=MessageState.FAILED))
    await store.submit(samples.route(accept, state=MessageState.FILTERED, cause="discarded by hand"))
    assert (store.message(accept.message_id).state, store.open_counts()) == ("filtered", {})


async def test_a_failed_message_is_routed_again_without_its_place_holders(store, samples):
    accept = samples.accept(store)
    place_holder = samples.delivery(store, state=DeliveryState.HELD, body=b"", cause="step lookup failed")
    given_up = samples.delivery(
        store, state=DeliveryState.HELD, body=b"", cause="step lookup failed", destination="epic"
    )
    real = samples.delivery(store, state=DeliveryState.HELD, body=b"MSH|", destination="athena")
    failed = samples.route(accept, place_holder, given_up, real, state=MessageState.FAILED, cause="step lookup failed")
    await store.submit(accept, failed)
    await store.submit(Settle(given_up.delivery_id, DeliveryState.DISCARDED, NOW, 0, "by hand"))
    assert store.message(accept.message_id).cause == "step lookup failed"
    await store.submit(Reopen(accept.message_id))
    row = store.message(accept.message_id)
    assert (row.state, row.cause, row.routed_at) == (MessageState.RECEIVED, "", None)
    assert [left.delivery_id for left in store.deliveries_of(accept.message_id)] == [real.delivery_id]
    await store.submit(samples.route(accept, state=MessageState.FILTERED))
    assert store.message(accept.message_id).state is MessageState.FILTERED


@pytest.mark.parametrize(
    "wrong",
    [
        lambda message_id, delivery_id: Settle(delivery_id + 1000, DeliveryState.DELIVERED, NOW, 1),
        lambda message_id, delivery_id: Settle(delivery_id, DeliveryState.DELIVERED, NOW, 1),
        lambda message_id, delivery_id: Sending(delivery_id, NOW, 1),
        lambda message_id, delivery_id: Requeue(delivery_id + 1000, NOW),
        lambda message_id, delivery_id: Reopen(message_id),
        lambda message_id, delivery_id: AckSent(message_id + 1000, "AA"),
    ],
    ids=["settle unknown", "deliver twice", "send delivered", "requeue unknown", "reopen routed", "ack unknown"],
)
async def test_a_move_that_the_states_do_not_have_is_refused(store, samples, wrong):
    delivery_id = await samples.owed(store)
    await store.submit(Settle(delivery_id, DeliveryState.DELIVERED, NOW, 1))
    before = store.delivery(delivery_id)
    message_id = before.message_id
    with pytest.raises(StoreError):
        await store.submit(wrong(message_id, delivery_id))
    assert store.delivery(delivery_id) == before
    assert store.message(message_id).state is MessageState.ROUTED


async def test_what_is_being_sent_is_not_sent_again_by_a_person(store, samples):
    delivery_id = await samples.owed(store)
    await store.submit(Sending(delivery_id, NOW, 1))
    with pytest.raises(StoreError):
        await store.submit(Requeue(delivery_id, NOW))
    await store.submit(Sending(delivery_id, NOW + 1, 2))
    assert store.delivery(delivery_id).attempts == 2


async def test_one_unit_receives_a_message_and_routes_it(store, samples):
    accept = samples.accept(store)
    delivery = samples.delivery(store)
    route = samples.route(accept, delivery, cause="step lookup failed", state=MessageState.FAILED)
    await store.submit(replace(accept, state=route.state, cause=route.cause, at=route.at, deliveries=(delivery,)))
    apart = samples.accept(store)
    await store.submit(apart, samples.route(apart, cause="step lookup failed", state=MessageState.FAILED))
    one, other = store.message(accept.message_id), store.message(apart.message_id)
    same = ("message_id", "correlation_id", "received_at", "routed_at")
    assert replace(one, **{name: getattr(other, name) for name in same}) == other
    assert one.routed_at == route.at
    assert [row.delivery_id for row in store.deliveries_of(accept.message_id)] == [delivery.delivery_id]
    with pytest.raises(StoreError):
        await store.submit(samples.route(accept, state=MessageState.ROUTED))


async def test_a_message_is_routed_once(store, samples):
    accept = samples.accept(store)
    await store.submit(accept, samples.route(accept))
    with pytest.raises(StoreError):
        await store.submit(samples.route(accept, samples.delivery(store)))
    assert store.deliveries_of(accept.message_id) == []


# -- units ---------------------------------------------------------------------------------------------------------


async def test_a_unit_is_committed_whole_or_not_at_all(store, samples):
    accept = samples.accept(store)
    with pytest.raises(StoreError):
        await store.submit(accept, AckSent(accept.message_id + 1000, "AA"))
    assert store.message(accept.message_id) is None


async def test_a_unit_that_fails_takes_no_other_with_it(store, samples):
    taken = await samples.message(store)
    units = [samples.accept(store) for _ in range(20)]
    units[7] = samples.accept(store, message_id=taken)
    units[12] = samples.accept(store, received_at=None)
    futures = [store.submit(unit) for unit in units]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [index for index, result in enumerate(results) if result is not None] == [7, 12]
    assert all(isinstance(results[index], StoreError) for index in (7, 12))
    kept = {row.message_id for row in store.find(Find(limit=100))}
    assert kept == {taken, *(unit.message_id for index, unit in enumerate(units) if index not in (7, 12))}


async def test_a_failure_tells_no_content(store, samples):
    class Odd:
        def __repr__(self) -> str:
            return "Doe^John"

    with pytest.raises(StoreError) as caught:
        await store.submit(samples.accept(store, origin={"peer": Odd()}))
    assert "Doe" not in str(caught.value)
    assert "Accept: TypeError" in str(caught.value)
    assert caught.value.__cause__ is None


async def test_units_are_executed_in_the_order_of_the_calls(store):
    order: list[int] = []
    futures = [store.submit(CachePut("c", "k", b"%d" % turn, NOW + 9)) for turn in range(50)]
    for turn, future in enumerate(futures):
        future.add_done_callback(lambda _, turn=turn: order.append(turn))
    await asyncio.gather(*futures)
    assert store.cache_get("c", "k", NOW) == b"49"
    assert order == list(range(50))


async def test_a_read_sees_what_a_future_has_promised_and_nothing_earlier(store, samples):
    accept = samples.accept(store)
    future = store.submit(accept)
    assert store.message(accept.message_id) is None
    await future
    assert store.message(accept.message_id) is not None


async def test_a_cancelled_waiter_does_not_undo_its_unit(store, samples):
    accept = samples.accept(store)
    waiter = asyncio.ensure_future(store.submit(accept))
    await asyncio.sleep(0)
    waiter.cancel()
    await store.submit(samples.accept(store))
    assert store.message(accept.message_id) is not None


async def test_ids_rise_with_every_call_and_over_restarts(new_store, samples):
    last = 0
    for _ in range(3):
        store = new_store()
        await store.open()
        ids = [store.new_id() for _ in range(9)]
        assert ids[-1] + 1 == store.new_ids(3)
        ids.append(store.new_id())
        assert ids[-1] == ids[-2] + 4
        assert ids == sorted(set(ids))
        assert ids[0] > last
        last = ids[-1]
        await samples.message(store, message_id=ids[4])
        await store.close()


async def test_close_commits_what_was_submitted(new_store, samples):
    store = new_store()
    await store.open()
    accepts = [samples.accept(store) for _ in range(300)]
    futures = [store.submit(accept) for accept in accepts]
    await store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    again = new_store()
    assert (await again.open()).received == 300


async def test_a_store_that_is_not_open_says_so(new_store, samples):
    store = new_store()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        store.open_counts()
    with pytest.raises(StoreError, match="not open"):
        await store.submit(CacheForget("c", "k"))
    await store.open()
    with pytest.raises(StoreError, match="already open"):
        await store.open()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        store.message(1)
    with pytest.raises(StoreError, match="not open"):
        await store.submit(CacheForget("c", "k"))


# -- at start ------------------------------------------------------------------------------------------------------


async def test_every_state_is_found_again_after_a_restart(new_store, samples, clock):
    store = new_store()
    await store.open()
    received = await samples.message(store)
    waiting = await samples.owed(store)
    await store.submit(Settle(waiting, DeliveryState.QUEUED, NOW, 4, "unavailable refused", next_at=NOW + 60))
    sending = {
        outcome: await samples.owed(store, interrupted=outcome)
        for outcome in (DeliveryState.QUEUED, DeliveryState.HELD, DeliveryState.UNKNOWN)
    }
    for delivery_id in sending.values():
        await store.submit(Sending(delivery_id, NOW, 1))
    settled = {state: await samples.owed(store) for state in (DeliveryState.PARKED, DeliveryState.DELIVERED)}
    for state, delivery_id in settled.items():
        await store.submit(Settle(delivery_id, state, NOW, 1))
    await store.close()

    clock.at = NOW + 100
    again = new_store()
    recovered = await again.open()
    assert (recovered.received, recovered.queued) == (1, 2)
    assert recovered.interrupted == {"queued": 1, "held": 1, "unknown": 1}
    assert again.message(received).state is MessageState.RECEIVED
    row = again.delivery(waiting)
    assert (row.state, row.attempts, row.next_at) == (DeliveryState.QUEUED, 4, NOW + 60)
    assert (row.cause, row.may_be_duplicated) == ("unavailable refused", False)
    for outcome, delivery_id in sending.items():
        row = again.delivery(delivery_id)
        assert (row.state, row.cause, row.attempts, row.sent_at) == (outcome, "interrupted", 1, NOW)
        assert row.may_be_duplicated
        assert row.settled_at == (None if outcome is DeliveryState.QUEUED else NOW + 100)
    for state, delivery_id in settled.items():
        assert (again.delivery(delivery_id).state, again.delivery(delivery_id).cause) == (state, "")


# -- search --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def history(store, samples) -> dict[str, int]:
    """Six messages, a second apart, by name."""
    ids: dict[str, int] = {}
    accept = samples.accept(store, received_at=NOW, control_id="IN1", correlation_id="one")
    delivery = samples.delivery(store, control_id="OUT1")
    await store.submit(accept, samples.route(accept, delivery))
    await store.submit(Settle(delivery.delivery_id, DeliveryState.DELIVERED, NOW, 1))
    ids["delivered"] = accept.message_id

    async def add(name: str, **members: Any) -> None:
        ids[name] = await samples.message(store, received_at=NOW + len(ids), **members)

    await add("other", channel="orders", correlation_id="one")
    accept = samples.accept(store, received_at=NOW + 2, control_id="IN2")
    parked = [samples.delivery(store, state=DeliveryState.PARKED) for _ in range(2)]
    await store.submit(accept, samples.route(accept, *parked))
    ids["parked"] = accept.message_id
    await add("refused", state=MessageState.REFUSED)
    await add("refused too", state=MessageState.REFUSED, channel="orders")
    await add("received", control_id="IN1")
    return ids


@pytest.mark.parametrize(
    ("find", "names"),
    [
        (Find(), ["received", "refused too", "refused", "parked", "other", "delivered"]),
        (Find(limit=2), ["received", "refused too"]),
        (Find(channel="siu"), ["received", "refused", "parked", "delivered"]),
        (Find(channel="siu", limit=3), ["received", "refused", "parked"]),
        (Find(state="refused"), ["refused too", "refused"]),
        (Find(state="refused", limit=1), ["refused too"]),
        (Find(channel="orders", state="refused"), ["refused too"]),
        (Find(correlation_id="one"), ["other", "delivered"]),
        (Find(correlation_id="one", channel="orders"), ["other"]),
        (Find(control_id="IN1"), ["received", "delivered"]),
        (Find(control_id="IN1", state="received"), ["received"]),
        (Find(control_id="OUT1"), ["delivered"]),
        (Find(control_id=""), []),
        (Find(delivery_state="parked"), ["parked"]),
        (Find(delivery_state="parked", channel="orders"), []),
        (Find(delivery_state="delivered"), ["delivered"]),
        (Find(delivery_state="delivered", channel="siu", state="routed"), ["delivered"]),
        (Find(since=NOW + 2), ["received", "refused too", "refused", "parked"]),
        (Find(since=NOW + 2, until=NOW + 3), ["refused", "parked"]),
        (Find(channel="siu", until=NOW + 2), ["parked", "delivered"]),
        (Find(since=NOW + 100), []),
        (Find(channel="nothing"), []),
    ],
    ids=str,
)
async def test_find(store, history, find, names):
    by_id = {message_id: name for name, message_id in history.items()}
    assert [by_id[row.message_id] for row in store.find(find)] == names


async def test_a_search_goes_on_where_the_last_page_ended(store, history):
    whole = [row.message_id for row in store.find(Find(channel="siu"))]
    page = store.find(Find(channel="siu", before_id=whole[1], limit=1))
    assert [row.message_id for row in page] == [whole[2]]


async def test_a_search_in_an_empty_store_finds_nothing(store):
    assert store.find(Find(since=NOW)) == []
    assert store.find(Find(state="failed")) == []


async def test_a_trace_has_everything_of_one_correlation_id_oldest_first(store, history):
    messages, deliveries = store.trace("one")
    assert [row.message_id for row in messages] == [history["delivered"], history["other"]]
    assert [(row.message_id, row.control_id) for row in deliveries] == [(history["delivered"], "OUT1")]
    assert store.trace("nothing") == ([], [])


async def test_open_counts_tell_what_is_unfinished_or_waits_for_a_person(store, samples, history):
    failed = samples.accept(store)
    await store.submit(failed, samples.route(failed, state=MessageState.FAILED))
    await samples.owed(store, destination="athena")
    sending = await samples.owed(store)
    await store.submit(Sending(sending, NOW, 1))
    unknown = await samples.owed(store)
    await store.submit(Settle(unknown, DeliveryState.UNKNOWN, NOW, 1))
    discarded = await samples.owed(store)
    await store.submit(Settle(discarded, DeliveryState.DISCARDED, NOW, 1))
    assert store.open_counts() == {
        ("orders", "", "received"): 1,
        ("siu", "", "failed"): 1,
        ("siu", "", "received"): 1,
        ("siu", "athena", "queued"): 1,
        ("siu", "epic", "parked"): 2,
        ("siu", "epic", "sending"): 1,
        ("siu", "epic", "unknown"): 1,
    }


# -- caches and idempotency keys -----------------------------------------------------------------------------------


async def test_a_cache_entry_is_there_until_it_expires(store):
    await store.submit(CachePut("orders", "P1", b"value", NOW + 10))
    assert store.cache_get("orders", "P1", NOW + 9.9) == b"value"
    assert store.cache_get("orders", "P1", NOW + 10) is None
    assert store.cache_get("other", "P1", NOW) is None
    assert store.cache_get("orders", "P2", NOW) is None


async def test_a_cache_entry_is_replaced_and_forgotten(store):
    await store.submit(CachePut("orders", "P1", b"one", NOW + 10))
    await store.submit(CachePut("orders", "P1", b"", NOW + 20))
    assert store.cache_get("orders", "P1", NOW + 15) == b""
    await store.submit(CacheForget("orders", "P1"))
    assert store.cache_get("orders", "P1", NOW) is None
    await store.submit(CacheForget("orders", "P1"))


async def test_expired_entries_are_removed_while_others_are_written(store, clock):
    for turn in range(30):
        await store.submit(CachePut("orders", f"P{turn}", b"value", NOW + 1))
        await store.submit(_key(f"K{turn}", expires_at=NOW + 1))
    clock.at = NOW + 2
    for _ in range(500):
        await store.submit(CachePut("orders", "another", b"value", NOW + 100))
    assert store.cache_get("orders", "P1", NOW) is None
    assert store.find_key("booking|radscheduler", "K1", NOW) is None
    assert store.cache_get("orders", "another", NOW) == b"value"


def _key(key: str, **members: Any) -> OpenKey:
    defaults = {
        "scope": "booking|radscheduler",
        "body_hash": b"hash",
        "channel": "booking",
        "message_id": 1,
        "delivery_id": 2,
        "expires_at": NOW + 10,
        "members": {"body.orderId": "O1", "body.start": "2026"},
    }
    return OpenKey(key=key, **{**defaults, **members})


async def test_a_key_is_open_then_closed_and_replayed(store):
    await store.submit(_key("K1"))
    row = store.find_key("booking|radscheduler", "K1", NOW)
    assert (row.scope, row.key, row.body_hash, row.channel) == ("booking|radscheduler", "K1", b"hash", "booking")
    assert (row.message_id, row.delivery_id, row.expires_at) == (1, 2, NOW + 10)
    assert (row.status, row.code, row.answer) == (None, None, b"")
    await store.submit(CloseKey("booking|radscheduler", "K1", 409, "slot_taken", b'{"error"}'))
    row = store.find_key("booking|radscheduler", "K1", NOW)
    assert (row.status, row.code, row.answer) == (409, "slot_taken", b'{"error"}')


async def test_a_key_belongs_to_its_scope_and_expires(store):
    await store.submit(_key("K1"))
    assert store.find_key("booking|other", "K1", NOW) is None
    assert store.find_key("booking|radscheduler", "K2", NOW) is None
    assert store.find_key("booking|radscheduler", "K1", NOW + 10) is None
    assert store.find_keys("booking", "body.orderId", "O1", NOW + 10) == []


async def test_keys_are_found_by_a_member_of_their_request(store):
    await store.submit(_key("K1"))
    await store.submit(_key("K2", delivery_id=3, members={"body.orderId": "O1"}))
    await store.submit(_key("K3", members={"body.orderId": "O2"}))
    found = store.find_keys("booking", "body.orderId", "O1", NOW)
    assert [row.delivery_id for row in found] == [2, 3]
    assert {row.key for row in found}.isdisjoint({"K1", "K2"})
    assert [row.delivery_id for row in store.find_keys("booking", "body.start", "2026", NOW)] == [2]
    assert store.find_keys("other", "body.orderId", "O1", NOW) == []
    assert store.find_keys("booking", "body.id", "O1", NOW) == []


async def test_keys_that_were_opened_without_a_member_are_found_too(store):
    await store.submit(_key("K1"), _key("K2", members={"body.orderId": ""}), _key("K3", members={}))
    await store.submit(_key("K4", channel="other", members={}))
    found = [store.keys_without("booking", member, NOW) for member in ("body.orderId", "body.start", "body.order")]
    assert [len(rows) for rows in found] == [1, 2, 3]
    assert [row.key for row in found[0]] == [row.key for row in found[1]][1:]
    assert store.keys_without("booking", "body.order", NOW + 10) == []
    assert store.find_keys("booking", "body.orderId", "", NOW) == []


async def test_a_paused_destination_stays_paused_until_it_is_resumed(store):
    assert store.paused("siu") == {}
    await store.submit(Pause("siu", "epic", NOW), Pause("siu", "athena", NOW), Pause("other", "epic", NOW))
    await store.submit(Pause("siu", "epic", NOW + 60))
    assert store.paused("siu") == {"athena": NOW, "epic": NOW}
    await store.submit(Resume("siu", "epic"), Resume("siu", "nobody"))
    assert store.paused("siu") == {"athena": NOW}
    assert store.paused("other") == {"epic": NOW}


async def test_keys_found_by_a_member_can_be_closed_and_dropped(store):
    await store.submit(_key("K1"))
    (row,) = store.find_keys("booking", "body.orderId", "O1", NOW)
    await store.submit(CloseKey(row.scope, row.key, 201, None, b"booked"))
    assert store.find_key("booking|radscheduler", "K1", NOW).answer == b"booked"
    await store.submit(DropKey(row.scope, row.key))
    assert store.find_key("booking|radscheduler", "K1", NOW) is None


async def test_opening_a_key_again_starts_anew(store):
    await store.submit(_key("K1"))
    await store.submit(CloseKey("booking|radscheduler", "K1", 201, None, b"old"))
    await store.submit(_key("K1", body_hash=b"other", members={"body.orderId": "O9"}))
    row = store.find_key("booking|radscheduler", "K1", NOW)
    assert (row.body_hash, row.status, row.answer) == (b"other", None, b"")
    assert store.find_keys("booking", "body.orderId", "O1", NOW) == []
    assert len(store.find_keys("booking", "body.orderId", "O9", NOW)) == 1


async def test_a_dropped_key_is_gone_and_closing_it_later_is_no_fault(store, samples):
    await store.submit(_key("K1"))
    await store.submit(DropKey("booking|radscheduler", "K1"))
    assert store.find_key("booking|radscheduler", "K1", NOW) is None
    accept = samples.accept(store)
    await store.submit(
        accept, CloseKey("booking|radscheduler", "K1", 201, None, b""), DropKey("booking|radscheduler", "K1")
    )
    assert store.message(accept.message_id) is not None
