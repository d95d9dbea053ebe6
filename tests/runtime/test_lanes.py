"""Lanes: order, what blocks what, back-off, restarts, and what a person does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from engine.config.plan import Order, Retry
from engine.destinations.base import Response
from engine.errors import DoesNotOpen, Evidence, Rejected, StepFailed, StoreError, Unanswered, Unavailable
from engine.promise import Promise
from engine.runtime import attempt
from engine.runtime.deliver import KEPT_BYTES
from engine.sources.base import SourceContext
from engine.store import SqliteStore
from engine.store.base import Operation, Sending
from engine.transforms.base import Chain

from .conftest import WHO, Bench, Scripted, by, merging, siu, steps, to


def steps_for(name: str) -> Chain:
    """Steps that write the destination's name into PID-5."""
    return steps(lambda envelope, _context: envelope.body.set("PID-5", name))


NO_WAIT = Retry(backoff=(0.0,))
#: Makes a body too large to be kept in memory while it waits.
LONG = b"NTE|1||" + b"x" * KEPT_BYTES + b"\r"


async def test_messages_arrive_in_the_order_they_were_acknowledged(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr)):
        for number in range(50):
            ack = await bench.source.send(siu(f"M{number}"))
            assert ack.positive
        await bench.until(lambda: len(emr.sent) == 50)
        assert emr.ids == [f"M{number}" for number in range(50)]
        assert emr.most_under_way == 1
        await bench.until(lambda: len(bench.deliveries("delivered")) == 50)


async def test_a_head_that_waits_out_its_backoff_is_not_overtaken(bench: Bench) -> None:
    emr = Scripted([Unavailable("refused"), Unavailable("refused")])
    async with bench.running(to(emr, retry=NO_WAIT)):
        for number in range(3):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(emr.sent) == 5)
        assert emr.ids == ["M0", "M0", "M0", "M1", "M2"]


async def test_a_disk_that_does_not_give_the_bytes_keeps_its_lane_waiting_and_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "RETRY", 0.0)
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)):
        for number in range(3):
            await bench.source.send(siu(f"M{number}") + LONG)
        await bench.until(lambda: emr.under_way == 1)
        read, failing = bench.store.delivery_chunks, 2

        def fails_twice(delivery_id: int) -> Iterator[bytes]:
            nonlocal failing
            failing -= 1
            if failing >= 0:
                raise StoreError("cannot read: SQLITE_IOERR_READ")
            return read(delivery_id)

        monkeypatch.setattr(bench.store, "delivery_chunks", fails_twice)
        emr.gate.set()
        await bench.until(lambda: len(emr.sent) == 3)
        assert failing < 0
        assert emr.ids == ["M0", "M1", "M2"]
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        assert [row.attempts for row in bench.deliveries("delivered")] == [1, 1, 1], "a read is no attempt"


async def test_bytes_that_are_damaged_are_parked_and_later_ones_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)):
        for number in range(3):
            await bench.source.send(siu(f"M{number}") + LONG)
        await bench.until(lambda: emr.under_way == 1)
        read = bench.store.delivery_chunks
        second = sorted(row.delivery_id for row in bench.deliveries("queued"))[1]

        def damaged(delivery_id: int) -> Iterator[bytes]:
            if delivery_id == second:
                raise DoesNotOpen("a sealed value does not open: wrong store key, or changed")
            return read(delivery_id)

        monkeypatch.setattr(bench.store, "delivery_chunks", damaged)
        emr.gate.set()
        await bench.until(lambda: len(emr.sent) == 2)
        assert emr.ids == ["M0", "M2"]
        await bench.until(lambda: bench.deliveries("parked"))
        assert [(row.delivery_id, row.cause) for row in bench.deliveries("parked")] == [(second, "unreadable")]


async def test_a_delivery_tells_when_its_last_attempt_left(bench: Bench) -> None:
    emr = Scripted([Unavailable("refused"), Unanswered("timeout")])
    async with bench.running(to(emr, retry=Retry(backoff=(0.0, 60.0)))):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(emr.sent) == 2 and bench.deliveries("queued")[0].attempts == 2)
        (waiting,) = bench.deliveries("queued")
        assert waiting.sent_at == bench.clock.at, "nothing left in the first attempt, the second had no answer"


async def test_keys_run_in_parallel_and_each_in_order(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr, connections=3, order=by("PID-3.1")), order=by("PID-3.1")):
        for number, patient in enumerate(["A", "A", "B", "C", "B", "A"]):
            await bench.source.send(siu(f"M{number}", patient))
        await bench.until(lambda: emr.under_way == 3)
        assert emr.ids == ["M0", "M2", "M3"]
        emr.gate.set()
        await bench.until(lambda: len(emr.sent) == 6)
        assert [control_id for control_id in emr.ids if control_id in ("M0", "M1", "M5")] == ["M0", "M1", "M5"]
        assert emr.ids.index("M2") < emr.ids.index("M4")


async def test_a_merge_waits_for_both_patients_and_both_wait_for_it_also_across_a_restart(bench: Bench) -> None:
    order = merging("PID-3.1", "MRG-1.1")
    dead, emr = Scripted(), Scripted()
    dead.gate.clear()
    async with bench.running(to(dead, connections=4, order=order), order=order) as supervisor:
        for number, (patient, prior) in enumerate([("A", ""), ("B", ""), ("A", "B"), ("B", ""), ("A", ""), ("C", "")]):
            await bench.source.send(siu(f"M{number}", patient) + (f"MRG|{prior}\r".encode() if prior else b""))
        await bench.until(lambda: dead.under_way == 3)
        assert dead.ids == ["M0", "M1", "M5"], "the merge waits for both, and what is behind it waits for the merge"
        dead.script = [Unavailable("lost")] * 3
        dead.gate.set()
        await bench.until(lambda: [row.attempts for row in bench.deliveries()] == [1, 1, 0, 0, 0, 1])
        assert supervisor.ready
    bench.clock.at += 60
    async with bench.running(to(emr, connections=4, order=order), order=order):
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
    assert max(emr.ids.index("M0"), emr.ids.index("M1")) < emr.ids.index("M2")
    assert emr.ids.index("M2") < min(emr.ids.index("M3"), emr.ids.index("M4"))


async def test_a_held_merge_holds_its_two_patients_and_nobody_else(bench: Bench) -> None:
    order = merging("PID-3.1", "MRG-1.1")
    emr = Scripted([Rejected(Evidence("AR", "203"))])
    async with bench.running(to(emr, connections=2, order=order), order=order) as supervisor:
        await bench.source.send(siu("M0", "A") + b"MRG|B\r")
        for number, patient in enumerate("ABC", 1):
            await bench.source.send(siu(f"M{number}", patient))
        await bench.until(lambda: [row.control_id for row in bench.deliveries("delivered")] == ["M3"])
        (held,) = bench.deliveries("held")
        await supervisor.discard_delivery(held.delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)


async def test_a_message_that_names_too_many_patients_fails_visibly(bench: Bench) -> None:
    order = merging("PID-3.1", "MRG-1.1")
    emr = Scripted()
    async with bench.running(to(emr, order=order), order=order):
        await bench.source.send(siu("M0", "A") + b"MRG|" + b"~".join(b"P%d" % n for n in range(101)) + b"\r")
        await bench.source.send(siu("M1", "A"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert [(row.state, row.cause) for row in bench.messages()] == [
            ("failed", "step order: too_many_keys"),
            ("routed", ""),
        ]


async def test_all_lanes_rest_while_the_partner_is_away(bench: Bench) -> None:
    emr = Scripted([Unavailable("refused")] * 2)
    retry = Retry(backoff=(0.05, 60.0))
    async with bench.running(to(emr, order=Order("none"), connections=1, retry=retry), order=Order("none")):
        for number in range(30):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(emr.sent) == 2)
        await bench.until(lambda: len(bench.deliveries("queued")) == 30)
        await bench.until(lambda: sum(row.attempts for row in bench.deliveries()) == 2)
        assert len(emr.sent) == 2, "nobody else tries in vain"


async def test_a_parked_delivery_lets_later_ones_of_its_key_pass(bench: Bench) -> None:
    emr = Scripted([Rejected(Evidence("AE", "204", "PID-3"))])
    async with bench.running(to(emr)):
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        (parked,) = bench.deliveries("parked")
        assert (parked.control_id, parked.cause) == ("M0", "rejected AE 204 PID-3")


async def test_a_held_delivery_blocks_its_key_alone_until_a_person_sends_it_again(bench: Bench) -> None:
    emr = Scripted([Rejected(Evidence("AR", "203"))])
    async with bench.running(to(emr, connections=2, order=by("PID-3.1")), order=by("PID-3.1")) as supervisor:
        for number, patient in enumerate(["A", "A", "B"]):
            await bench.source.send(siu(f"M{number}", patient))
        await bench.until(lambda: len(bench.deliveries("held")) == 1 and len(bench.deliveries("delivered")) == 1)
        assert sorted(emr.ids) == ["M0", "M2"]
        (held,) = bench.deliveries("held")
        await supervisor.resend_delivery(held.delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        assert [control_id for control_id in emr.ids if control_id != "M2"] == ["M0", "M0", "M1"]


async def test_discarding_a_held_delivery_lets_the_lane_go_on(bench: Bench) -> None:
    emr = Scripted([Unanswered("timeout")])
    async with bench.running(to(emr, on_unanswered="hold")) as supervisor:
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("held")) == 1)
        (held,) = bench.deliveries("held")
        assert held.may_be_duplicated
        await supervisor.discard_delivery(held.delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert [row.cause for row in bench.deliveries("discarded")] == ["by hand"]


async def test_an_unanswered_message_is_repeated_with_the_same_bytes_and_marked(bench: Bench) -> None:
    emr = Scripted([Unanswered("timeout")])
    async with bench.running(to(emr, retry=NO_WAIT)):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert emr.sent[0].body == emr.sent[1].body
        assert [outgoing.attempt for outgoing in emr.sent] == [1, 2]
        (delivered,) = bench.deliveries()
        assert delivered.may_be_duplicated
        assert delivered.attempts == 2


async def test_backoff_survives_a_restart(bench: Bench) -> None:
    dead, alive = Scripted([Unavailable("refused")]), Scripted()
    async with bench.running(to(dead)):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: [row.attempts for row in bench.deliveries()] == [1])
    async with bench.running(to(alive)):
        (waiting,) = bench.deliveries("queued")
        assert waiting.next_at == pytest.approx(bench.clock.at + 1.0)
        assert not alive.sent
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert alive.sent[0].attempt == 2


async def test_what_is_about_to_leave_when_its_channel_fails_to_start_waits_for_the_next_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = Scripted([Unavailable("refused")] * 1000), Scripted()
    options: dict[str, Any] = {"on_unanswered": "hold", "retry": Retry(backoff=(0.05,))}
    async with bench.running(to(dead, **options)):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: any(row.attempts for row in bench.deliveries()))
    submit, committed = SqliteStore.submit, asyncio.Event()

    def told_late(store: SqliteStore, *operations: Operation) -> Promise[None]:
        real = submit(store, *operations)
        if not isinstance(operations[0], Sending):
            return real
        told: Promise[None] = Promise()
        real.add_done_callback(lambda _: committed.set())
        real.add_done_callback(lambda _: asyncio.get_running_loop().call_later(0.1, told.end, None))
        return told

    async def start(_context: SourceContext) -> None:
        await committed.wait()
        raise OSError(98, "the port is taken")

    monkeypatch.setattr(SqliteStore, "submit", told_late)
    monkeypatch.setattr(bench.source, "start", start)
    async with bench.running(to(alive, **options)):
        (waiting,) = bench.deliveries()
        assert waiting.state == "queued", "not a byte had left"
        assert not waiting.may_be_duplicated
        monkeypatch.undo()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
    assert [outgoing.attempt for outgoing in alive.sent] == [waiting.attempts + 1]


async def test_no_channel_waits_to_end_for_a_commit_of_which_nothing_becomes_known(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "TOLD", 0.01)
    submit, begun = SqliteStore.submit, asyncio.Event()

    def never_told(store: SqliteStore, *operations: Operation) -> Promise[None]:
        if not isinstance(operations[0], Sending):
            return submit(store, *operations)
        begun.set()
        return Promise()

    monkeypatch.setattr(SqliteStore, "submit", never_told)
    emr = Scripted()
    async with asyncio.timeout(30), bench.running(to(emr, on_unanswered="hold")):
        await bench.source.send(siu("M0"))
        await begun.wait()
        await bench.supervisor._channels["bench"].running.stop(0.01)  # type: ignore[union-attr]
    assert not emr.sent


async def test_order_survives_a_restart(bench: Bench) -> None:
    stuck, alive = Scripted(), Scripted()
    stuck.gate.clear()
    async with bench.running(to(stuck)):
        for number in range(30):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: stuck.under_way == 1)
        stuck.script = [Unavailable("lost")]
        stuck.gate.set()
        await bench.until(lambda: bench.deliveries()[0].attempts == 1)
    async with bench.running(to(alive)):
        await bench.until(lambda: bool(alive.sent) and not bench.deliveries("queued"))
        numbers = [int(control_id[1:]) for control_id in alive.ids]
        assert numbers == sorted(numbers)


async def test_after_a_crash_the_heads_of_lanes_are_marked_for_they_may_have_arrived(bench: Bench) -> None:
    stuck, alive = Scripted(), Scripted()
    stuck.gate.clear()
    after_crash = Bench(bench.folder / "crashed", bench.clock)
    async with bench.running(to(stuck, connections=2, order=by("PID-3.1")), order=by("PID-3.1")):
        for number, patient in enumerate(["A", "A", "B"]):
            await bench.source.send(siu(f"M{number}", patient))
        await bench.until(lambda: stuck.under_way == 2)
        shutil.copytree(bench.folder / "data", after_crash.folder / "data")  # what a kill would leave
        stuck.gate.set()
    async with after_crash.running(to(alive, connections=2, order=by("PID-3.1")), order=by("PID-3.1")):
        await after_crash.until(lambda: len(after_crash.deliveries("delivered")) == 3)
        marks = {row.control_id: row.may_be_duplicated for row in after_crash.deliveries()}
    assert marks == {"M0": True, "M1": False, "M2": True}


async def test_the_mark_of_a_crash_outlives_a_run_that_sends_nothing_and_ends_in_order(bench: Bench) -> None:
    stuck, idle, alive = Scripted(), Scripted(), Scripted()
    stuck.gate.clear()
    after_crash = Bench(bench.folder / "crashed", bench.clock)
    async with bench.running(to(stuck)) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: stuck.under_way == 1)
        await supervisor.pause_destination("bench", "emr", WHO)
        shutil.copytree(bench.folder / "data", after_crash.folder / "data")  # what a kill would leave
        stuck.gate.set()
    async with after_crash.running(to(idle)):
        await after_crash.source.send(siu("M1"))
        await after_crash.until(lambda: len(after_crash.deliveries("queued")) == 2)
    async with after_crash.running(to(alive)) as supervisor:
        await supervisor.resume_destination("bench", "emr", WHO)
        await after_crash.until(lambda: len(after_crash.deliveries("delivered")) == 2)
        marks = {row.control_id: row.may_be_duplicated for row in after_crash.deliveries()}
    assert (idle.sent, marks) == ([], {"M0": True, "M1": False})


async def test_what_was_on_its_way_at_a_crash_is_marked_also_behind_one_that_a_person_sends_again(bench: Bench) -> None:
    stuck, alive = Scripted([Rejected(Evidence("AE"))]), Scripted()
    after_crash = Bench(bench.folder / "crashed", bench.clock)
    async with bench.running(to(stuck)) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("parked")) == 1)
        stuck.gate.clear()
        for number in (1, 2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: stuck.under_way == 1)
        await supervisor.resend_delivery(bench.deliveries("parked")[0].delivery_id, WHO)
        shutil.copytree(bench.folder / "data", after_crash.folder / "data")  # what a kill would leave
        stuck.gate.set()
    async with after_crash.running(to(alive)):
        await after_crash.until(lambda: len(after_crash.deliveries("delivered")) == 3)
        marks = {row.control_id: row.may_be_duplicated for row in after_crash.deliveries()}
    assert alive.ids == ["M0", "M1", "M2"]
    assert (marks["M1"], marks["M2"]) == (True, False)


async def test_what_a_stop_interrupts_is_marked_and_sent_again(bench: Bench) -> None:
    stuck, alive = Scripted(), Scripted()
    stuck.gate.clear()
    async with bench.running(to(stuck)) as supervisor:
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: stuck.under_way == 1)
        await supervisor.stop(0.1)
        assert [(row.state, row.may_be_duplicated) for row in bench.deliveries()] == [
            ("queued", True),
            ("queued", False),
        ]
    async with bench.running(to(alive)):
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert alive.ids == ["M0", "M1"]
        assert [row.may_be_duplicated for row in bench.deliveries()] == [True, False]


async def test_what_waits_belongs_to_a_destination_s_name_wherever_it_stands_in_the_file(bench: Bench) -> None:
    dead = [Scripted(), Scripted()]
    for destination in dead:
        destination.gate.clear()
        destination.script = [Unavailable("lost")]
    only_b = steps_for("B")
    async with bench.running(to(dead[0], "a"), to(dead[1], "b", transform=only_b)):
        for number in range(3):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: dead[0].under_way == dead[1].under_way == 1)
        for destination in dead:
            destination.gate.set()
        await bench.until(lambda: sum(row.attempts for row in bench.deliveries()) == 2)
    bench.clock.at += 60
    a, b = Scripted(), Scripted()
    async with bench.running(to(b, "b", transform=only_b), to(Scripted(), "c"), to(a, "a")):
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
        assert a.ids == b.ids == ["M0", "M1", "M2"]
        assert [outgoing.body.count(b"|B\r") for outgoing in (*a.sent, *b.sent)] == [0, 0, 0, 1, 1, 1]


async def test_what_a_person_sends_again_takes_its_place_among_what_waits(bench: Bench) -> None:
    emr = Scripted([Rejected(Evidence("AE"))])
    async with bench.running(to(emr)) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("parked")) == 1)
        emr.gate.clear()
        for number in range(1, 4):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: emr.under_way == 1 and len(bench.deliveries("queued")) == 3)
        await supervisor.resend_delivery(bench.deliveries("parked")[0].delivery_id, WHO)
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 4)
        assert emr.ids == ["M0", "M1", "M0", "M2", "M3"]


async def test_a_stop_with_work_left_ends_and_loses_nothing(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr, connections=2, order=by("PID-3.1")), order=by("PID-3.1")) as supervisor:
        for number in range(20):
            await bench.source.send(siu(f"M{number}", f"P{number}"))
        await bench.until(lambda: emr.under_way == 2)
        stopping = asyncio.ensure_future(supervisor.stop(5.0))
        await asyncio.sleep(0)
        emr.gate.set()
        async with asyncio.timeout(5):
            await stopping
        assert len(bench.deliveries("delivered")) + len(bench.deliveries("queued")) == 20


async def test_unordered_deliveries_do_not_wait_for_each_other(bench: Bench) -> None:
    emr = Scripted([Unanswered("timeout")])
    unordered = Order("none")
    async with bench.running(to(emr, order=unordered), order=unordered):
        for number in range(3):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert [row.control_id for row in bench.deliveries("queued")] == ["M0"]


async def test_a_connector_that_breaks_does_not_stop_the_lane(bench: Bench) -> None:
    class Broken(Scripted):
        async def send(self, outgoing: object) -> Response:
            if not self.sent:
                self.sent.append(outgoing)  # type: ignore[arg-type]
                raise ZeroDivisionError
            return await super().send(outgoing)  # type: ignore[arg-type]

    emr = Broken()
    async with bench.running(to(emr, retry=NO_WAIT)):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert bench.deliveries()[0].may_be_duplicated


async def test_a_delivery_whose_own_transform_failed_is_parked_and_can_be_transformed_again(bench: Bench) -> None:
    mended = False

    def fail(envelope: object, context: object) -> None:
        if not mended:
            raise StepFailed("build", "required_missing", "SCH-6")

    emr, other = Scripted(), Scripted()
    async with bench.running(to(emr, transform=steps(fail)), to(other, "other")) as supervisor:
        ack = await bench.source.send(siu("M0"))
        assert ack.positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        (parked,) = bench.deliveries("parked")
        assert (parked.destination, parked.cause) == ("emr", "step build: required_missing SCH-6")
        with pytest.raises(ValueError, match="fails still"):
            await supervisor.resend_delivery(parked.delivery_id, WHO)
        mended = True
        await supervisor.resend_delivery(parked.delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert emr.sent[0].body == siu("M0")


async def test_the_phone_of_a_delivered_webhook_is_kept_as_a_hash_only(bench: Bench) -> None:
    def webhook(envelope: object, context: object) -> None:
        envelope.body = {"orderId": "O1", "phone": "+12175550111"}  # type: ignore[attr-defined]

    hook = Scripted()
    hook.gate.clear()
    async with bench.running(to(hook, transform=steps(webhook), secret=("phone",))):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: hook.under_way == 1)
        assert b"+12175550111" in hook.sent[0].body
        assert all(b"5550111" not in file.read_bytes() for file in (bench.folder / "data").iterdir() if file.is_file())
        hook.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        (delivered,) = bench.deliveries()
        assert b"5550111" not in bench.store.delivery_body(delivered.delivery_id)
