"""Deliveries that go out as one batch: when it goes, who is in it, what each member comes to, crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config.plan import BatchPlan, DestinationPlan, JoinPlan, Order, Retry
from engine.destinations.base import Building, Outgoing, Response
from engine.destinations.file import FileConfig, FileDestination
from engine.envelope import Origin
from engine.errors import DoesNotFit, Evidence, Rejected, StoreError, Unanswered, Unavailable
from engine.hl7.ack import AckCode, make_ack
from engine.hl7.batch import join, split
from engine.hl7.header import Header, header_of
from engine.runtime.pressure import Told
from engine.store.base import Operation, Sending, Settle
from engine.store.sqlite import SqliteStore

from .conftest import WHO, Bench, HeldClock, Scripted, by, siu, to

#: So long that only the count makes a batch go, in tests about that.
NEVER = 3600.0
FAST = Retry(backoff=(0.01,))


def joined(outgoing: Outgoing) -> list[str]:
    """MSH-10 of each message of a batch; its trailers are right."""
    found = split(outgoing.body)
    assert found.wrong == ()
    headers = [header_of(outgoing.body[start:stop]) for start, stop in found.members]
    ids = [header.control_id for header in headers if header is not None]
    assert tuple(ids) == outgoing.members
    return ids


def emr_plan(emr: Any, count: int = 3, seconds: float = NEVER, **options: Any) -> DestinationPlan:
    answer = options.pop("answer", "all")
    file = options.pop("file", False)
    return to(emr, batch=JoinPlan(count, seconds, file, answer), retry=options.pop("retry", FAST), **options)


async def send(bench: Bench, *control_ids: str, patient: str = "P1") -> None:
    for control_id in control_ids:
        await bench.source.send(siu(control_id, patient))


async def test_so_many_make_a_batch_and_none_goes_before(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "M1")
        await bench.until(lambda: len(bench.deliveries("queued")) == 2)
        assert emr.sent == []
        await send(bench, "M2", "M3")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        assert [joined(each) for each in emr.sent] == [["M0", "M1", "M2"]]
        assert len(bench.deliveries("queued")) == 1
    (outgoing,) = emr.sent
    assert outgoing.body.startswith(
        b"BHS|^~\\&|RIS|DTI|ENGINE|SITE|20260101120000+0000||||" + outgoing.control_id.encode()
    )
    assert outgoing.body.endswith(b"BTS|3\r")
    assert len(outgoing.control_id) == 20


async def test_or_the_time_that_the_first_of_them_waited(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr, 100, 0.05, file=True)) as supervisor:
        await supervisor.pause_destination("bench", "emr", WHO)
        await send(bench, "M0", "M1")
        await bench.until(lambda: len(bench.deliveries("queued")) == 2)
        await supervisor.resume_destination("bench", "emr", WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        await send(bench, "M2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert [joined(each) for each in emr.sent] == [["M0", "M1"], ["M2"]]
    assert emr.sent[0].body.startswith(b"FHS|")
    assert emr.sent[0].body.endswith(b"BTS|2\rFTS|1\r")


async def test_a_batch_takes_from_all_lanes_and_keeps_the_order_of_each(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr, 4, order=by("PID-3.1"), connections=2)):
        for number in range(8):
            await send(bench, f"M{number}", patient=f"P{number % 2}")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 8)
    order = [control_id for each in emr.sent for control_id in joined(each)]
    assert order == [f"M{number}" for number in range(8)]


async def test_two_batches_at_once_are_never_of_one_lane(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(emr_plan(emr, 2, order=by("PID-3.1"), connections=2)):
        await send(bench, "A0", "A1", "A2", "A3", patient="PA")
        await send(bench, "B0", "B1", patient="PB")
        await bench.until(lambda: emr.under_way == 2)
        assert sorted(map(joined, emr.sent)) == [["A0", "A1"], ["B0", "B1"]]
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
    assert sorted(map(joined, emr.sent)) == [["A0", "A1"], ["A2", "A3"], ["B0", "B1"]]


@pytest.mark.parametrize("error", [Unavailable("refused"), Unanswered("timeout")])
async def test_without_an_answer_all_go_again_as_the_same_batch(bench: Bench, error: Any) -> None:
    emr = Scripted([error])
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        marked = {row.may_be_duplicated for row in bench.deliveries()}
    first, second = emr.sent
    assert first.body == second.body
    assert (first.attempt, second.attempt) == (1, 2)
    assert marked == {isinstance(error, Unanswered)}


async def test_a_refusal_of_the_whole_is_one_of_each(bench: Bench) -> None:
    emr = Scripted([Rejected(Evidence("AE", "207")), Rejected(Evidence("AE", "101"))])
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries("parked")) == 3)
        assert {row.cause for row in bench.deliveries()} == {"rejected AE 101"}
        # A person sends one again: it waits for a batch as any other.
        await bench.supervisor.resend_delivery(bench.deliveries()[1].delivery_id, WHO)
        await send(bench, "M3", "M4")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert joined(emr.sent[-1]) == ["M1", "M3", "M4"]


# -- answers that tell of each member ------------------------------------------------------------------------------


class Answering(Scripted):
    """Answers a batch with a batch: codes by MSH-10; what has none is not named."""

    def __init__(self, codes: dict[str, str], reference: bool = True) -> None:
        super().__init__()
        self.codes, self.reference = codes, reference

    async def send(self, outgoing: Outgoing) -> Response:
        await super().send(outgoing)
        acks = []
        for start, stop in split(outgoing.body).members:
            header = header_of(outgoing.body[start:stop]) or Header.empty()
            if header.control_id in self.codes:
                code = AckCode(self.codes[header.control_id])
                acks.append(make_ack(header, code, "A", HeldClock().now(), condition=None if code.positive else 101))
        reference = outgoing.control_id if self.reference else ""
        return Response(join(acks, f"BHS|^~\\&|||||||||X1|{reference}".encode()), Evidence(""))


async def test_each_member_comes_to_what_its_own_ack_says(bench: Bench) -> None:
    emr = Answering({"M0": "AA", "M1": "AE", "M2": "AA"})
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries("queued")) == 0)
        assert [(row.control_id, row.state, row.cause) for row in bench.deliveries()] == [
            ("M0", "delivered", ""),
            ("M1", "parked", "rejected AE 101"),
            ("M2", "delivered", ""),
        ]
        assert b"MSA|AA|M2\r" in bench.store.delivery_answer(bench.deliveries()[2].delivery_id)


@pytest.mark.parametrize(("code", "state"), [("AA", "delivered"), ("AE", "parked")])
async def test_a_member_without_a_number_comes_to_what_the_ack_without_one_says(
    bench: Bench, code: str, state: str
) -> None:
    """Else it would go again without end, each time among others that are not to blame."""
    emr = Answering({"M0": "AA", "": code, "M2": "AA"})
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "", "M2")
        await bench.until(lambda: len(bench.deliveries("queued")) == 0)
        assert [row.state for row in bench.deliveries()] == ["delivered", state, "delivered"]
    assert [joined(each) for each in emr.sent] == [["M0", "", "M2"]]


async def test_of_acks_without_a_number_a_negative_one_counts_for_all(bench: Bench) -> None:
    class Half(Answering):
        async def send(self, outgoing: Outgoing) -> Response:
            response = await super().send(outgoing)
            return replace(response, body=response.body.replace(b"MSA|AA|\r", b"MSA|AE|\r", 1))

    emr = Half({"M0": "AA", "": "AA"})
    async with bench.running(emr_plan(emr)):
        await send(bench, "", "M0", "")
        await bench.until(lambda: len(bench.deliveries("queued")) == 0)
        assert [row.state for row in bench.deliveries()] == ["parked", "delivered", "parked"]


async def test_who_is_not_named_goes_again(bench: Bench) -> None:
    emr = Answering({"M0": "AA", "M2": "AA", "M3": "AA", "M4": "AA"})
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        emr.codes["M1"] = "AA"
        await send(bench, "M3", "M4")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
        assert bench.deliveries()[1].may_be_duplicated
    assert [joined(each) for each in emr.sent] == [["M0", "M1", "M2"], ["M1", "M3", "M4"]]


@pytest.mark.parametrize(("reference", "state"), [(True, "delivered"), (False, "held")])
async def test_silence_says_yes_where_the_file_says_so_and_the_answer_names_the_batch(
    bench: Bench, reference: bool, state: str
) -> None:
    emr = Answering({}, reference)
    async with bench.running(emr_plan(emr, answer="errors", on_unanswered="hold")):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries(state)) == 3)


# -- what cannot be joined -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [b"\rBTS|9\r", b"\x1c\rZZZ|1\r", b"\rMSH|^~\\&|X\r"])
async def test_what_would_break_the_batch_is_parked_alone(bench: Bench, poison: bytes) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr)):
        await bench.source.send(siu("M0"))
        await bench.source.send(siu("M1")[:-1] + poison)
        await bench.source.send(siu("M2"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert bench.deliveries()[1].cause == "batch not_joinable"
    assert joined(emr.sent[0]) == ["M0", "M2"]


async def test_what_is_large_goes_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.joining.MOST", 150)
    emr = Scripted()
    async with bench.running(emr_plan(emr, 3, 0.05)):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert [joined(each) for each in emr.sent] == [["M0"], ["M1"], ["M2"]]


# -- people, stops and crashes -------------------------------------------------------------------------------------


async def test_while_it_waits_it_can_be_discarded_and_paused(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr)) as supervisor:
        await send(bench, "M0", "M1")
        await bench.until(lambda: len(bench.deliveries("queued")) == 2)
        await supervisor.discard_delivery(bench.deliveries()[0].delivery_id, WHO)
        await supervisor.pause_destination("bench", "emr", WHO)
        await send(bench, "M2", "M3", "M4")
        await bench.until(lambda: len(bench.deliveries("queued")) == 4)
        assert emr.sent == []
        await supervisor.resume_destination("bench", "emr", WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert joined(emr.sent[0]) == ["M1", "M2", "M3"]


async def test_a_destination_that_is_to_go_does_not_wait_for_its_batch(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr)) as supervisor:
        await send(bench, "M0", "M1")
        await bench.until(lambda: len(bench.deliveries("queued")) == 2)
        running = supervisor._channels["bench"].running
        assert running is not None
        await running.stop(20.0, ["emr"])
        assert len(bench.deliveries("delivered")) == 2
    assert [joined(each) for each in emr.sent] == [["M0", "M1"]]


async def test_what_waits_at_the_stop_goes_with_the_next_run(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(emr_plan(emr)):
        await send(bench, "M0", "M1")
    assert emr.sent == []
    async with bench.running(emr_plan(emr)):
        await send(bench, "M2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert [joined(each) for each in emr.sent] == [["M0", "M1", "M2"]]


@pytest.mark.parametrize("settled", [0, 1, 2])
async def test_after_a_crash_in_the_middle_the_members_go_again(
    bench: Bench, settled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner has the batch, and the outcomes of ``settled`` of its members are stored when the engine dies."""
    real, stored = SqliteStore.commit, 0

    def commit(
        store: SqliteStore, operations: Sequence[Operation], told: Callable[[StoreError | None], object]
    ) -> None:
        nonlocal stored
        if any(isinstance(operation, Settle) for operation in operations):
            stored += 1
            if stored > settled:
                asyncio.get_running_loop().call_soon(told, StoreError("died here"))
                return
        real(store, operations, told)

    emr = Scripted()
    async with bench.running(emr_plan(emr)):
        monkeypatch.setattr(SqliteStore, "commit", commit)
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: stored >= 3)
        await bench.until(lambda: len(bench.deliveries("queued")) == 3 - settled)
        await bench.supervisor.stop(0.1)
        monkeypatch.setattr(SqliteStore, "commit", real)
    async with bench.running(emr_plan(emr, 3 - settled)):
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    first, again = emr.sent
    assert joined(first) == ["M0", "M1", "M2"]
    assert joined(again) == ["M0", "M1", "M2"][settled:]
    assert (first.body == again.body) is (settled == 0)


async def test_a_held_one_keeps_its_key_back_and_nobody_else(bench: Bench) -> None:
    emr = Answering({"A0": "AR", "A1": "AA", "B0": "AA", "A2": "AA", "B1": "AA", "B2": "AA"})
    async with bench.running(emr_plan(emr, 2, order=by("PID-3.1"))):
        await send(bench, "A0", patient="PA")
        await send(bench, "B0", patient="PB")
        await bench.until(lambda: len(bench.deliveries("held")) == 1)
        await send(bench, "A1", "A2", patient="PA")
        await send(bench, "B1", "B2", patient="PB")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        assert [row.control_id for row in bench.deliveries("queued")] == ["A1", "A2"]


async def test_a_file_is_written_once_for_all(bench: Bench) -> None:
    building = Building("bench", "emr", bench.folder, bench.folder)
    target = FileDestination(FileConfig(path="out/{control_id}.hl7"), building)
    async with bench.running(emr_plan(target, 3, file=True)):
        await send(bench, "M0", "M1", "M2")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    (body,) = files(bench.folder / "out")
    assert [body[start:stop] for start, stop in split(body).members] == [siu(f"M{at}") for at in range(3)]


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


async def test_a_batch_that_came_in_can_go_out_as_one(bench: Bench) -> None:
    emr = Scripted()
    body = join([siu(f"M{at}") for at in range(6)], b"BHS|^~\\&|RIS|DTI")
    async with bench.running(emr_plan(emr, order=Order("none")), batch=BatchPlan()):
        assert bench.source.context is not None
        await bench.source.context.receive(body, Origin("hand")).answer
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
    assert [joined(each) for each in emr.sent] == [["M0", "M1", "M2"], ["M3", "M4", "M5"]]


def one_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch, alone: Callable[[int, Told], bool]) -> None:
    """Sends of several in one commit are refused; ``alone`` sees to that of one, given its place among them."""
    real, ids = bench.store.commit, list[int]()

    def commit(operations: Sequence[Operation], told: Told) -> None:
        sendings = [operation.delivery_id for operation in operations if isinstance(operation, Sending)]
        if len(sendings) > 1:
            ids[:] = sendings
            asyncio.get_running_loop().call_soon(told, DoesNotFit("not committed: may not become"))
        elif not sendings or not alone(ids.index(sendings[0]), told):
            real(operations, told)

    monkeypatch.setattr(bench.store, "commit", commit)


async def test_one_that_the_store_does_not_let_go_keeps_no_other_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    def alone(place: int, told: Told) -> bool:
        if place == 1:
            asyncio.get_running_loop().call_soon(told, DoesNotFit("not committed: may not become"))
        return place == 1

    emr = Scripted()
    async with bench.running(emr_plan(emr, on_unanswered="hold", order=by("PID-3.1"))) as supervisor:
        one_by_one(bench, monkeypatch, alone)
        for number in range(3):
            await send(bench, f"M{number}", patient=f"P{number}")
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert [joined(each) for each in emr.sent] == [["M0", "M2"]]
        assert [row.control_id for row in bench.deliveries("queued")] == ["M1"]
        assert supervisor.channels()[0].destinations[0].outcomes_refused_since_start == 1
    (told,) = [line for line in logged if line["event"] == "delivery.outcome_refused"]
    assert (told["control_id"], told["outcome"], told["stored"]) == ("M1", "sending", "queued")


async def test_a_stop_between_their_commits_leaves_all_of_them_to_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = asyncio.Event()

    def alone(place: int, told: Told) -> bool:
        if place == 1:  # the disk takes its time: it is told after the stop
            asyncio.get_running_loop().call_later(0.3, told, None)
            waits.set()
        return place == 1

    emr = Scripted()
    async with bench.running(emr_plan(emr, on_unanswered="hold", order=by("PID-3.1"))) as supervisor:
        one_by_one(bench, monkeypatch, alone)
        for number in range(3):
            await send(bench, f"M{number}", patient=f"P{number}")
        await waits.wait()
        assert [row.control_id for row in bench.deliveries("sending")] == ["M0"]
        await supervisor.stop(0.1)
        assert [(row.state, row.attempts, row.may_be_duplicated) for row in bench.deliveries()] == [
            ("queued", 0, False)
        ] * 3
    assert emr.sent == []
