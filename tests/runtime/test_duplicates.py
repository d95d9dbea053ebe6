"""Messages that come again: the ack of the first one, delivered once; other bytes under the same MSH-10; crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.config.plan import Duplicates, Retry
from engine.envelope import Origin
from engine.errors import Evidence, Rejected, StepFailed, StoreError, Unavailable
from engine.hl7.header import header_of
from engine.runtime.coming import Coming
from engine.runtime.duplicates import Seen
from engine.store.base import Accept, AckSent, Operation
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Context

from .conftest import WHO, Bench, Scripted, refuse, siu, steps, to

DAY = Duplicates(window=86400.0)


async def test_the_same_bytes_are_acknowledged_again_and_delivered_once(bench: Bench, logged: list[Any]) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY) as supervisor:
        for _ in range(3):
            assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: len(bench.messages()) == 3 and bool(bench.deliveries("delivered")))
        first, *again = bench.messages()
        assert (first.state, first.ack) == ("routed", "AA")
        assert [(row.state, row.cause, row.ack) for row in again] == [
            ("filtered", f"duplicate {first.message_id}", "AA")
        ] * 2
        assert {row.correlation_id for row in again} == {first.correlation_id}
        (status,) = supervisor.channels()
        assert (status.received_since_start, status.duplicates_since_start) == (1, 2)
    assert emr.ids == ["M0"]
    assert [line["first"] for line in logged if line["event"] == "message.duplicate"] == [first.message_id] * 2


async def test_two_equal_messages_in_one_batch_of_commits_are_one(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        acks = await asyncio.gather(*(bench.source.send(siu("M0")) for _ in range(20)))
        assert all(ack.positive for ack in acks)
        await bench.until(lambda: len(bench.messages()) == 20 and bool(bench.deliveries("delivered")))
        assert len(bench.deliveries()) == 1
    assert emr.ids == ["M0"]


async def test_without_duplicates_every_message_is_a_new_one(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr)):
        await bench.source.send(siu("M0"))
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
    assert emr.ids == ["M0", "M0"]


async def test_after_the_window_it_is_a_new_message(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=Duplicates(window=60.0)):
        await bench.source.send(siu("M0"))
        bench.clock.at += 59
        await bench.source.send(siu("M0"))
        bench.clock.at += 2
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
    assert emr.ids == ["M0", "M0"]


async def test_messages_without_a_number_are_never_taken_for_each_other(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        await bench.source.send(siu(""))
        await bench.source.send(siu(""))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)


async def test_another_channel_takes_the_same_message_as_its_own(bench: Bench) -> None:
    """Nobody else's traffic counts: the lookup is by channel."""
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        other = Accept(bench.store.new_id(), "other", "c", bench.clock.at, siu("M0"), control_id="M0", ack="AA")
        await bench.store.submit(other)
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)


# -- the second one waits for the first ----------------------------------------------------------------------------


async def test_the_second_waits_while_the_first_is_pending(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr), ack="delivered", duplicates=DAY):
        first = asyncio.ensure_future(bench.source.send(siu("M0")))
        await bench.until(lambda: emr.under_way == 1)
        second = asyncio.ensure_future(bench.source.send(siu("M0")))
        await asyncio.sleep(0)
        assert not first.done()
        assert not second.done()
        came = bench.clock.at
        bench.clock.at += 20
        third = asyncio.ensure_future(bench.source.send(siu("M1", patient="P2")))
        await asyncio.sleep(0)
        emr.gate.set()
        assert (await first).positive
        assert (await second).positive
        assert (await third).positive
        await bench.until(lambda: len(bench.messages()) == 3)
        times = sorted((row.message_id, row.received_at) for row in bench.messages())
        assert [at for _, at in times] == [came, came, came + 20], (
            "searches by time count on it that ids rise with times"
        )
    assert emr.ids == ["M0", "M1"]


async def test_what_could_not_be_stored_is_negative_for_both(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        refuse(monkeypatch, bench.store, lambda unit: any(isinstance(operation, Accept) for operation in unit))
        acks = await asyncio.gather(bench.source.send(siu("M0")), bench.source.send(siu("M0")))
        assert [ack.cause for ack in acks] == ["store_unavailable"] * 2
        monkeypatch.undo()
        assert (await bench.source.send(siu("M0"))).positive, "it was never taken"
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    assert emr.ids == ["M0"]


# -- crash and restart ---------------------------------------------------------------------------------------------


async def test_what_was_acknowledged_before_a_restart_is_not_delivered_twice(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    async with bench.running(to(emr), duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: len(bench.messages()) == 2)
    assert emr.ids == ["M0"]


@pytest.mark.parametrize("ack", ["received", "routed", "delivered"])
async def test_a_crash_between_commit_1_and_the_ack_costs_no_message_and_makes_no_second(
    bench: Bench, ack: str
) -> None:
    """The store as such a crash leaves it: received, its ack decided for `received` and for nobody else."""
    emr = Scripted()
    bench.store = SqliteStore(bench.folder / "data", bytes(range(32)), now=bench.clock.time)
    await bench.store.open()
    word = "AA" if ack == "received" else ""
    accept = Accept(
        bench.store.new_id(), "bench", "c", bench.clock.at, siu("M0"), control_id="M0", message_type="SIU^S12", ack=word
    )
    await bench.store.submit(accept)
    await bench.store.close()
    async with bench.running(to(emr), ack=ack, duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: len(bench.messages()) == 2 and len(bench.deliveries("delivered")) == 1)
        assert [(row.state, row.ack) for row in bench.messages()] == [("routed", "AA"), ("filtered", "AA")]
    assert emr.ids == ["M0"]


async def test_a_restart_between_routing_and_delivery_leaves_the_ack_to_the_delivery(bench: Bench) -> None:
    emr = Scripted([Unavailable("refused")])
    plan = to(emr, retry=Retry(backoff=(3600.0,)))
    async with bench.running(plan, ack="delivered", duplicates=DAY):
        first = asyncio.ensure_future(bench.source.send(siu("M0")))
        await bench.until(lambda: bool(bench.deliveries("queued")) and bench.deliveries()[0].attempts == 1)
    assert (await first).cause == "not_delivered_in_time", "its channel stopped"
    bench.clock.at += 3600
    emr.gate.clear()
    async with bench.running(plan, ack="delivered", duplicates=DAY):
        second = asyncio.ensure_future(bench.source.send(siu("M0")))
        await bench.until(lambda: emr.under_way == 1)
        assert not second.done()
        emr.gate.set()
        assert (await second).positive
        assert bench.messages()[0].ack == "AA"
    assert emr.ids == ["M0", "M0"]


# -- answered negatively -------------------------------------------------------------------------------------------


async def test_a_message_whose_step_failed_is_taken_when_it_comes_again(bench: Bench) -> None:
    emr, broken = Scripted(), True

    def step(envelope: Any, context: Context) -> None:
        if broken:
            raise StepFailed("lookup", "lookup_missing", "facility_emr")

    async with bench.running(to(emr), ack="routed", transform=steps(step), duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).outcome == "error"
        assert (await bench.source.send(siu("M0"))).outcome == "error"
        broken = False
        assert (await bench.source.send(siu("M0"))).positive
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: len(bench.messages()) == 4)
        assert [row.state for row in bench.messages()] == ["failed", "failed", "routed", "filtered"]
    assert emr.ids == ["M0"]


async def test_a_message_that_failed_after_its_positive_ack_is_not_taken_again(bench: Bench) -> None:
    """`ack: received` said AA: the failed one is kept and a person acts on it."""

    def fail(envelope: Any, context: Context) -> None:
        raise StepFailed("lookup", "lookup_missing", "facility_emr")

    async with bench.running(to(Scripted()), transform=steps(fail), duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: bench.messages()[0].state == "failed")
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: [row.state for row in bench.messages()] == ["failed", "filtered"])


async def test_a_message_that_its_destination_refused_is_taken_when_it_comes_again(bench: Bench) -> None:
    emr = Scripted([Rejected(Evidence("AE", "204"))])
    async with bench.running(to(emr), ack="delivered", duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).outcome == "error"
        assert (await bench.source.send(siu("M0"))).positive
    assert emr.ids == ["M0", "M0"]


async def test_the_negative_ack_of_the_deadline_is_given_again_while_delivery_goes_on(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr), ack="delivered", ack_deadline=0.02, duplicates=DAY):
        assert (await bench.source.send(siu("M0"))).cause == "not_delivered_in_time"
        assert (await bench.source.send(siu("M0"))).outcome == "error"
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        again = await bench.source.send(siu("M0"))
        assert (again.outcome, again.condition) == ("error", 207), "nothing is acknowledged twice differently"
        assert bench.messages()[0].ack == "AE"
    assert emr.ids == ["M0"]


async def test_a_held_delivery_is_still_owed_so_its_message_is_a_duplicate(bench: Bench) -> None:
    emr = Scripted([Rejected(Evidence("AR"))])
    async with bench.running(to(emr), ack="delivered", duplicates=DAY) as supervisor:
        assert (await bench.source.send(siu("M0"))).outcome == "error"
        assert (await bench.source.send(siu("M0"))).outcome == "error"
        await supervisor.resend_delivery(bench.deliveries("held")[0].delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    assert emr.ids == ["M0", "M0"], "once refused, once by hand"


async def test_an_ack_is_recorded_before_its_sender_hears_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    emr = Scripted()
    async with bench.running(to(emr), ack="delivered", duplicates=DAY):
        commit, answered, at_commit = bench.store.commit, asyncio.Event(), []

        def watched(operations: Sequence[Operation], told: Callable[[StoreError | None], object]) -> None:
            def noted(error: StoreError | None) -> None:
                at_commit.append(answered.is_set())
                told(error)

            commit(operations, noted if any(isinstance(operation, AckSent) for operation in operations) else told)

        monkeypatch.setattr(bench.store, "commit", watched)
        assert (await bench.source.send(siu("M0"))).positive
        answered.set()
        assert at_commit == [False]
        assert bench.messages()[0].ack == "AA"


async def test_an_ack_that_cannot_be_recorded_is_not_positive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    emr = Scripted()
    async with bench.running(to(emr), ack="delivered", duplicates=DAY):
        refuse(monkeypatch, bench.store, lambda unit: any(isinstance(operation, AckSent) for operation in unit))
        assert (await bench.source.send(siu("M0"))).cause == "store_unavailable"
        monkeypatch.undo()
        assert (await bench.source.send(siu("M0"))).positive, "what is recorded then is what it comes to"
    assert emr.ids == ["M0"]


# -- the same number, other bytes ----------------------------------------------------------------------------------


async def test_a_sender_that_begins_its_numbers_anew_loses_nothing(bench: Bench, logged: list[Any]) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY) as supervisor:
        assert (await bench.source.send(siu("M0", "P1"))).positive
        assert (await bench.source.send(siu("M0", "P2"))).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        (status,) = supervisor.channels()
        assert (status.duplicates_since_start, status.control_ids_reused_since_start) == (0, 1)
        # Both are known from now on.
        assert (await bench.source.send(siu("M0", "P1"))).positive
        assert (await bench.source.send(siu("M0", "P2"))).positive
        await bench.until(lambda: len(bench.messages()) == 4)
    assert emr.ids == ["M0", "M0"]
    (line,) = [line for line in logged if line["event"] == "message.control_id_reused"]
    assert line["handled"] == "deliver"


async def test_other_bytes_in_the_same_batch_are_seen(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=Duplicates(changed="refuse")):
        acks = await asyncio.gather(*(bench.source.send(siu("M0", patient)) for patient in ("P1", "P2", "P1")))
        assert [ack.outcome for ack in acks] == ["accept", "error", "accept"]
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    assert emr.ids == ["M0"]


async def test_refuse_answers_205_and_records(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=Duplicates(changed="refuse")):
        await bench.source.send(siu("M0", "P1"))
        for _ in range(20):  # more than are compared: refusals do not hide the first
            ack = await bench.source.send(siu("M0", "P2"))
            assert (ack.outcome, ack.condition, ack.location) == ("error", 205, "MSH^1^10")
        await bench.until(lambda: len(bench.messages()) == 21)
        row = bench.messages()[-1]
        assert (row.state, row.cause, row.ack) == ("refused", "control_id_reused", "AE")
        assert bench.store.message_body(row.message_id) == siu("M0", "P2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    assert emr.ids == ["M0"]


@pytest.mark.parametrize(("ack", "outcome"), [("received", "accept"), ("routed", "error")])
async def test_park_keeps_it_until_a_person_routes_it(bench: Bench, ack: str, outcome: str) -> None:
    emr = Scripted()
    async with bench.running(to(emr), ack=ack, duplicates=Duplicates(changed="park")) as supervisor:
        await bench.source.send(siu("M0", "P1"))
        assert (await bench.source.send(siu("M0", "P2"))).outcome == outcome
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        row = bench.messages()[1]
        assert (row.state, row.cause) == ("failed", "control_id_reused")
        await supervisor.resend_message(row.message_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert bench.messages()[1].ack == ("AA" if outcome == "accept" else "AE"), "acknowledged once"
    assert emr.ids == ["M0", "M0"]


async def test_another_sender_may_have_the_same_number(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=Duplicates(changed="refuse")):
        assert (await bench.source.send(siu("M0"))).positive
        assert (await bench.source.send(siu("M0").replace(b"|RIS|DTI|", b"|LAB|DTI|"))).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)


async def test_repetitions_do_not_hide_the_first(bench: Bench) -> None:
    """More repetitions than messages are compared with."""
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        for _ in range(40):
            await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.messages()) == 40)
        assert len(bench.deliveries()) == 1


async def test_json_has_no_number_and_is_taken_every_time(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), duplicates=DAY):
        assert bench.source.context is not None
        for _ in range(2):
            receipt = bench.source.context.receive(b'{"a": 1}', Origin("hand"))
            assert (await receipt.answer).positive  # type: ignore[union-attr]
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)


async def test_a_large_one_is_known_again_though_the_first_is_committed_while_another_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.runtime.duplicates.STRETCH", 16)
    store = SimpleNamespace(same_control_id=lambda *_: ())
    seen = Seen(DAY, "bench", cast("Any", SimpleNamespace(store=store)))

    def coming(body: bytes) -> Coming:
        one = Coming("", body, Origin("hand"), "bench")
        one.control_id, one.header = "M0", header_of(body)
        seen.look(one)
        return one

    first, _other, again = coming(siu("M0")), coming(siu("M0", "P2")), coming(siu("M0"))
    looking = asyncio.ensure_future(seen.find_large(again))
    await asyncio.sleep(0)
    seen.end(first)
    first.entry = cast("Any", None)
    first.let_go()
    found = await looking
    assert found is not None
    assert (found.same, found.receipt) == (True, first)
