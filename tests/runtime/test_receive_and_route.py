"""Commit 1 and commit 2: which ack waits for what, and what becomes of messages that cannot be routed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from engine.cache import CachePut
from engine.config.plan import Order, Patients
from engine.envelope import Envelope, Origin
from engine.errors import Evidence, Rejected, StepFailed, Unavailable
from engine.hl7.message import Message
from engine.hl7.path import Path as HL7Path
from engine.runtime.pressure import Pressure
from engine.store.base import Accept, Operation, Route
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Context, Verdict

from .conftest import WHO, Bench, Scripted, in_turn, refuse, siu, steps, to


class Where:
    """``where: {$emr: NAME}``."""

    def __init__(self, name: str) -> None:
        self.name, self.variables, self.opens = name, {"emr": frozenset({name})}, True

    def __call__(self, envelope: Envelope, context: Context) -> bool:
        return self.name in envelope.variables.get("emr", [])


def look_up(*emrs: str) -> Any:
    def run(envelope: Envelope, context: Context) -> None:
        envelope.variables["emr"] = list(emrs)
        context.looked_up.add("emr")

    return run


async def test_a_sender_hears_once_of_all_its_messages_in_one_commit(bench: Bench) -> None:
    async with bench.running(to(Scripted())):
        receive, heard = bench.source.context.receive, list[list[bool]]()
        receipts = [receive(siu(f"M{number}"), Origin("hand")) for number in range(3)]

        def hear() -> None:
            heard.append([receipt.answered is not None for receipt in receipts])

        for receipt in receipts:
            receipt.listener = hear
        await receipts[-1].answer
        assert heard in ([], [[True] * 3])
        await asyncio.sleep(0)
        assert heard == [[True] * 3]


async def test_a_message_goes_to_every_destination_its_lookup_names(bench: Bench) -> None:
    epic, generic, athena = Scripted(), Scripted(), Scripted()
    plans = [to(epic, "epic", where=Where("epic")), to(generic, "generic", where=Where("generic"))]
    async with bench.running(
        *plans, to(athena, "athena", where=Where("athena")), transform=steps(look_up("epic", "generic"))
    ):
        await bench.source.send(siu("M0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
    assert (epic.ids, generic.ids, athena.ids) == (["M0"], ["M0"], [])


async def test_a_looked_up_value_that_no_destination_takes_fails_the_message(bench: Bench) -> None:
    epic = Scripted()
    async with bench.running(to(epic, "epic", where=Where("epic")), transform=steps(look_up("epic", "cerner"))):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: bench.messages()[0].state == "failed")
        assert bench.messages()[0].cause == "step where: unroutable emr"
        assert not epic.sent


async def test_a_dropped_message_is_filtered_and_answered_positively(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), transform=steps(lambda envelope, context: Verdict.DROP), ack="routed"):
        assert (await bench.source.send(siu("M0"))).positive
        assert [row.state for row in bench.messages()] == ["filtered"]


async def test_what_is_no_message_is_recorded_and_answered_negatively(bench: Bench) -> None:
    async with bench.running(to(Scripted())) as supervisor:
        receiver = supervisor._channels["bench"].running.receiver  # type: ignore[union-attr]
        receipt = receiver(b"GET / HTTP/1.1", Origin("mllp"))
        assert (await receipt.committed).outcome == "reject"
        assert (await receipt.answer).outcome == "reject"  # type: ignore[union-attr]
        await bench.until(lambda: [(row.state, row.cause) for row in bench.messages()] == [("refused", "malformed")])


async def test_a_failed_step_answers_ae_when_the_ack_waits_for_routing(bench: Bench) -> None:
    def fail(envelope: Envelope, context: Context) -> None:
        raise StepFailed("lookup", "lookup_missing", "facility_emr")

    async with bench.running(to(Scripted()), transform=steps(fail), ack="routed"):
        ack = await bench.source.send(siu("M0"))
        assert (ack.outcome, ack.cause) == ("error", "step_failed")
        (row,) = bench.messages()
        assert (row.state, row.cause) == ("failed", "step lookup: lookup_missing facility_emr")


async def test_a_failed_message_that_holds_blocks_its_lane_until_it_is_routed_again(bench: Bench) -> None:
    mended = False

    def fail(envelope: Envelope, context: Context) -> None:
        if not mended and envelope.body.control_id == "M0":
            raise StepFailed("lookup", "lookup_missing", "facility_emr")

    emr = Scripted()
    async with bench.running(to(emr), transform=steps(fail), on_error="hold") as supervisor:
        await bench.source.send(siu("M0"))
        await bench.source.send(siu("M1"))
        await bench.until(lambda: len(bench.deliveries("held")) == 1 and len(bench.deliveries("queued")) == 1)
        assert not emr.sent
        mended = True
        with pytest.raises(ValueError, match="its message failed"):  # it would be owed twice when that is sent again
            await supervisor.resend_delivery(bench.deliveries("held")[0].delivery_id, WHO)
        assert await supervisor.resend_message(bench.messages()[0].message_id, WHO) == "routed again"
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert sorted(emr.ids) == ["M0", "M1"]


async def test_ack_delivered_waits_for_the_partner(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr), ack="delivered"):
        sending = asyncio.ensure_future(bench.source.send(siu("M0")))
        await bench.until(lambda: emr.under_way == 1)
        assert not sending.done()
        emr.gate.set()
        assert (await sending).positive


async def test_ack_delivered_is_negative_when_a_partner_says_no(bench: Bench) -> None:
    async with bench.running(to(Scripted([Rejected(Evidence("AE"))])), ack="delivered"):
        ack = await bench.source.send(siu("M0"))
        assert (ack.outcome, ack.cause) == ("error", "not_delivered")


async def test_ack_delivered_is_negative_at_the_deadline_while_delivery_goes_on(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr), ack="delivered", ack_deadline=0.05):
        ack = await bench.source.send(siu("M0"))
        assert ack.cause == "not_delivered_in_time"
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)


async def test_a_message_that_cannot_be_stored_is_never_acknowledged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = Scripted()
    async with bench.running(to(emr)):
        refuse(monkeypatch, SqliteStore, lambda unit: any(isinstance(operation, Accept) for operation in unit))
        ack = await bench.source.send(siu("M0"))
        assert (ack.outcome, ack.cause) == ("reject", "store_unavailable")
        monkeypatch.undo()
        assert (await bench.source.send(siu("M1"))).positive
        await bench.until(lambda: emr.ids == ["M1"])


async def test_a_route_that_cannot_be_stored_is_tried_again_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.route.RETRY", 0.01)
    failures = 3

    def fails(unit: Sequence[Operation]) -> bool:
        nonlocal failures
        failed = failures > 0 and any(isinstance(operation, Route) for operation in unit)
        failures -= failed
        return failed

    refuse(monkeypatch, SqliteStore, fails)
    emr = Scripted()
    async with bench.running(to(emr), transform=in_turn()):
        for number in range(5):
            assert (await bench.source.send(siu(f"M{number}"))).positive
        await bench.until(lambda: len(emr.sent) == 5)
        assert emr.ids == [f"M{number}" for number in range(5)]
        assert failures == 0


async def test_received_messages_are_routed_after_a_restart(bench: Bench) -> None:
    stuck = asyncio.Event()

    def no_router(self: object) -> Any:
        return stuck.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.runtime.route.Router.run", no_router)
        patch.setattr("engine.runtime.route.Router.drained", lambda self: asyncio.sleep(0))
        async with bench.running(to(Scripted()), transform=in_turn()):
            for number in range(3):
                assert (await bench.source.send(siu(f"M{number}"))).positive
    emr = Scripted()
    async with bench.running(to(emr)):
        await bench.until(lambda: emr.ids == ["M0", "M1", "M2"])


async def test_what_a_step_remembers_is_committed_with_its_message(bench: Bench) -> None:
    def remember(envelope: Envelope, context: Context) -> None:
        context.effects.append(CachePut("orders", "O1", b"value", bench.clock.at + 60))
        assert context.cache_get("orders", "O1") == b"value"

    async with bench.running(to(Scripted()), transform=steps(remember), ack="routed"):
        await bench.source.send(siu("M0"))
        assert bench.store.cache_get("orders", "O1", bench.clock.at) == b"value"


async def test_a_fault_in_a_site_s_python_fails_the_message_and_not_the_channel(
    bench: Bench, logged: list[dict[str, Any]]
) -> None:
    def broken(envelope: Envelope, context: Context) -> None:
        if envelope.body.control_id == "M0":
            raise RuntimeError("Doe^John is not a number")

    emr = Scripted()
    async with bench.running(to(emr), transform=steps(broken)):
        await bench.source.send(siu("M0"))
        await bench.source.send(siu("M1"))
        await bench.until(lambda: emr.ids == ["M1"])
        assert bench.messages()[0].cause == "internal RuntimeError"
    assert "Doe" not in str(logged)
    assert any(line.get("at", "").startswith("test_receive_and_route.py:") for line in logged)


async def test_a_channel_that_cannot_start_is_tried_again_and_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.supervised.RESTART", (0.05,))
    bench.source.start_error = OSError(98, "Address already in use")
    async with bench.running(to(Scripted())) as supervisor:
        (status,) = supervisor.channels()
        assert (status.state, status.error) == ("failed", "cannot start: Address already in use")
        bench.source.start_error = None
        await bench.until(lambda: supervisor.channels()[0].state == "running")


async def test_a_channel_whose_worker_dies_is_started_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.supervised.RESTART", (0.01,))
    emr = Scripted([Unavailable("refused")])
    async with bench.running(to(emr), transform=in_turn()) as supervisor:
        first = supervisor._channels["bench"].running
        assert first is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.runtime.route.Router._commit", lambda self, batch: (_ for _ in ()).throw(MemoryError))
            await bench.source.send(siu("M0"))
            await bench.until(first.failed.done)
        await bench.until(lambda: supervisor._channels["bench"].running not in (None, first))
        bench.clock.at += 10
        await bench.until(lambda: emr.ids[:1] == ["M0"])


async def test_a_worker_that_is_cancelled_by_its_own_work_is_a_dead_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step lets through that something it waited for was cancelled; asyncio ends the task without a word."""
    monkeypatch.setattr("engine.runtime.supervised.RESTART", (0.01,))
    cancelled = iter([True])

    def cancel(envelope: Envelope, context: Context) -> None:
        if next(cancelled, False):
            raise asyncio.CancelledError

    emr = Scripted()
    async with bench.running(to(emr), transform=steps(cancel)):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: emr.ids == ["M0"])


async def test_a_stopped_channel_can_be_started_again(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr)) as supervisor:
        await supervisor.stop_channel("bench", WHO)
        assert supervisor.channels()[0].state == "stopped"
        await supervisor.start_channel("bench", WHO)
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: emr.ids == ["M0"])


async def test_senders_feel_it_when_routing_falls_behind_but_not_for_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("route", "pressure"):
        monkeypatch.setattr(f"engine.runtime.{module}.CROWDED", 2)
    monkeypatch.setattr("engine.runtime.pressure.PATIENCE", 0.02)
    waits: list[float] = []
    wait = Pressure.wait

    def watched(pressure: Pressure) -> float:
        waits.append(wait(pressure))
        return waits[-1]

    monkeypatch.setattr(Pressure, "wait", watched)
    emr = Scripted()
    async with bench.running(to(emr), transform=in_turn()):
        acks = await asyncio.gather(*(bench.source.send(siu(f"M{number}")) for number in range(30)))
        assert all(ack.positive for ack in acks)
        await bench.until(lambda: len(emr.sent) == 30)
    assert waits[0] == 0.0
    assert max(waits) == 0.02


async def test_where_all_steps_are_pure_one_commit_receives_and_routes(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr), ack="routed"):
        before = bench.store.commits
        assert (await bench.source.send(siu("M0"))).positive
        assert bench.store.commits - before == (1 if bench.straight else 2)
        assert (str(bench.messages()[0].state), len(bench.deliveries("queued"))) == ("routed", 1)
        emr.gate.set()


async def test_a_message_that_is_asked_for_nothing_is_not_split_and_not_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    split: list[Message] = []
    monkeypatch.setattr(Message, "_split", lambda message: split.append(message))
    place = HL7Path.parse("PID-3.1")
    order = Order("key", (place,), (), (HL7Path.parse("MRG-1.1"),))
    patients = Patients(((place, HL7Path.parse("PID-3")),))
    async with bench.running(to(Scripted()), order=order, patients=patients):
        assert bench.source.context is not None
        receipt = bench.source.context.receive(siu("M0"), Origin("hand"))
        assert not bench.straight or getattr(receipt, "body", None) is None
        assert (await receipt.answer).positive  # type: ignore[union-attr]
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert not split


async def test_what_could_go_straight_does_not_overtake_what_waits_for_its_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large message is written before it is received, and routed in its turn; what comes behind it waits."""
    monkeypatch.setattr("engine.runtime.receive.LARGE", 2000)
    emr = Scripted()
    async with bench.running(to(emr)):
        bodies = [
            siu(f"M{number}") + (b"NTE|1||" + b"x" * 3000 + b"\r" if number % 3 == 0 else b"") for number in range(9)
        ]
        acks = []
        for body in bodies:
            acks.append(asyncio.ensure_future(bench.source.send(body)))
            await asyncio.sleep(0)
        assert all(ack.positive for ack in await asyncio.gather(*acks))
        await bench.until(lambda: len(emr.sent) == 9)
    places = [outgoing.message_id for outgoing in emr.sent]
    assert places == sorted(places)


async def test_a_pure_step_that_lets_a_cancellation_through_is_tried_again_in_its_turn(bench: Bench) -> None:
    cancelled = iter([True])

    def cancel(envelope: Envelope, context: Context) -> None:
        if next(cancelled, False):
            raise asyncio.CancelledError

    chain = steps(cancel)
    chain.pure = True
    emr = Scripted()
    async with bench.running(to(emr), transform=chain):
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: emr.ids == ["M0"])


async def test_what_a_person_reopens_does_not_overtake_what_was_routed_as_it_came(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While acks wait, commit 1 of what comes waits as well, for a commit to share: it stays before the next one."""
    monkeypatch.setattr("engine.runtime.pressure.GATHER", 60.0)
    monkeypatch.setattr("engine.store.group_commit._MAX_UNITS", 1)
    failing = iter([True])

    def fail(_envelope: Envelope, _context: Context) -> None:
        if next(failing, False):
            raise StepFailed("keep", "failed")

    chain = steps(fail)
    chain.pure = True
    emr = Scripted()
    async with bench.running(to(emr), transform=chain) as supervisor:
        assert (await bench.source.send(siu("M0"))).positive
        await bench.until(lambda: bench.messages()[0].state == "failed")
        pressure: Pressure = supervisor._channels["bench"].running.router.pressure  # type: ignore[union-attr]
        pressure.later(60.0, lambda: None)
        second = asyncio.ensure_future(bench.source.send(siu("M1")))
        await asyncio.sleep(0)
        await supervisor.resend_message(bench.messages()[0].message_id, WHO)
        await bench.until(lambda: len(emr.sent) == 2)
        assert (await second).positive
    assert emr.ids == ["M1", "M0"]
