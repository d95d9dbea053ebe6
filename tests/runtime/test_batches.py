"""Batches that come in: every message by itself, one answer for all, counts, broken ones, crashes and repetitions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config.plan import BatchPlan, Duplicates, Order
from engine.destinations.base import Response
from engine.envelope import Ack, Origin
from engine.errors import Evidence, Rejected, StepFailed
from engine.hl7.answer import read_ack
from engine.hl7.batch import join, split
from engine.hl7.batch_answers import read_answer
from engine.runtime import batches
from engine.store.base import Accept, Operation
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Context

from .conftest import WHO, Bench, Scripted, refuse, siu, steps, to

BHS = b"BHS|^~\\&|RIS|DTI|ENGINE|SITE|20260101120000||||B1"
FHS = b"FHS|^~\\&|RIS|DTI|ENGINE|SITE|20260101120000||||F1"
BROKEN = b"MSH|^~\\&&\rPID|1||P9\r"
ALL = BatchPlan()
DAY = Duplicates(window=86400.0)


def batch(number: int, file: bytes = b"", **broken: bytes) -> bytes:
    """Messages M0, M1, …; ``m3=…`` replaces one."""
    return join([broken.get(f"m{at}", siu(f"M{at}")) for at in range(number)], BHS, file)


async def send(bench: Bench, body: bytes) -> Ack:
    answer = await bench.source.send(body)
    assert isinstance(answer, Ack)
    return answer


def codes(ack: Ack) -> list[tuple[str, str]]:
    """MSA-2 and MSA-1 of each message of an answer that is a batch."""
    raw = ack.rendered
    found = [read_ack(raw[start:stop]) for start, stop in split(raw).members]
    assert split(raw).wrong == ()
    return [(each.control_id, each.code.value) for each in found]


def outcome(bench: Bench) -> list[tuple[str, str, str, str]]:
    return [(row.control_id, row.state, row.cause, row.ack) for row in bench.messages()]


async def test_each_message_is_received_by_itself_and_answered_in_one_batch(bench: Bench, logged: list[Any]) -> None:
    emr = Scripted()
    async with bench.running(to(emr), batch=ALL):
        ack = await send(bench, batch(3, FHS))
        assert ack.positive
        assert codes(ack) == [("M0", "AA"), ("M1", "AA"), ("M2", "AA")]
        answered = read_answer(ack.rendered)
        assert answered is not None
        assert answered.references == {"F1", "B1"}
        await bench.until(lambda: len(bench.messages()) == 4 and len(bench.deliveries("delivered")) == 3)
        *members, whole = bench.messages()
        assert [bench.store.message_body(row.message_id) for row in members] == [siu(f"M{at}") for at in range(3)]
        assert len({row.correlation_id for row in (*members, whole)}) == 4
        assert [row.origin["batch"] for row in members] == [
            {"id": "B1", "file": "F1", "number": str(at), "correlation_id": whole.correlation_id} for at in (1, 2, 3)
        ]
        assert (whole.state, whole.cause, whole.control_id, whole.message_type, whole.ack) == (
            "filtered",
            "batch of 3",
            "B1",
            "FHS",
            "AA",
        )
        assert bench.store.message_body(whole.message_id) == FHS + b"\r" + BHS + b"\rBTS|3\rFTS|1\r"
        assert bench.supervisor.channels()[0].received_since_start == 3
    assert emr.ids == ["M0", "M1", "M2"]
    assert not any("P1" in str(line) for line in logged)


async def test_a_broken_message_is_kept_as_failed_and_the_others_go_on(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), batch=ALL):
        ack = await send(bench, batch(4, m2=BROKEN))
        assert [code for _, code in codes(ack)] == ["AA", "AA", "AR", "AA"]
        assert ack.outcome == "reject"
        await bench.until(lambda: len(bench.messages()) == 5 and len(bench.deliveries("delivered")) == 3)
        failed = bench.messages()[2]
        assert (failed.state, failed.cause, failed.ack) == ("failed", "malformed", "AR")
        assert bench.store.message_body(failed.message_id) == BROKEN
        assert failed.origin["batch"]["number"] == "3"
        assert bench.messages()[-1].cause == "batch of 4, 1 not taken"
        # A person may have it routed again: it still cannot be read, and says so.
        await bench.supervisor.resend_message(failed.message_id, WHO)
        await bench.until(lambda: bench.messages()[2].state == "failed")
    assert emr.ids == ["M0", "M1", "M3"]


async def test_nothing_is_lost_when_the_seven_thousandth_is_broken(tmp_path: Path) -> None:
    bench, emr = Bench(tmp_path), Scripted()
    async with bench.running(to(emr, connections=64, order=Order("none")), batch=BatchPlan(answer="errors")):
        ack = await send(bench, batch(7_002, m6999=BROKEN))
        assert [code for _, code in codes(ack)] == ["AR"]
        await bench.until(lambda: len(emr.sent) == 7_001)
        assert bench.store.open_counts()["bench", "", "failed"] == 1
    assert set(emr.ids) == {f"M{at}" for at in range(7_002)} - {"M6999"}


@pytest.mark.parametrize(
    ("policy", "body", "expected"),
    [
        (BatchPlan("errors"), batch(2), []),
        (BatchPlan("errors"), batch(2, m0=BROKEN), ["AR"]),
        (BatchPlan("all"), BHS + b"\rBTS|0\r", []),
        (BatchPlan("all"), BHS + b"\r" + siu("M0"), ["AA"]),
    ],
)
async def test_the_answer_is_a_batch_of_what_is_asked_for(
    bench: Bench, policy: BatchPlan, body: bytes, expected: list[str]
) -> None:
    async with bench.running(to(Scripted()), batch=policy):
        assert [code for _, code in codes(await send(bench, body))] == expected


@pytest.mark.parametrize(("broken", "code"), [({}, "AA"), ({"m1": BROKEN}, "AR")])
async def test_or_one_ack_that_names_the_batch(bench: Bench, broken: dict[str, bytes], code: str) -> None:
    async with bench.running(to(Scripted()), batch=BatchPlan("one")):
        read = read_ack((await send(bench, batch(3, **broken))).rendered)
        assert (read.code, read.control_id) == (code, "B1")


@pytest.mark.parametrize("answer", ["all", "one"])
async def test_a_count_that_does_not_match_is_refused_whole(bench: Bench, answer: Any, logged: list[Any]) -> None:
    body = batch(3).replace(b"BTS|3", b"BTS|4")
    async with bench.running(to(Scripted()), batch=BatchPlan(answer)):
        ack = await send(bench, body)
        raw = ack.rendered
        read = read_ack(raw if answer == "one" else raw[slice(*next(split(raw).members))])
        assert (read.code, read.control_id, read.condition, read.location) == ("AR", "B1", "100", "BTS-1")
        await bench.until(lambda: len(bench.messages()) == 1)
        (row,) = bench.messages()
        assert (row.state, row.cause) == ("refused", "batch_count BTS-1 says 4 of 3")
        assert bench.store.message_body(row.message_id) == body
    assert [(line["said"], line["found"]) for line in logged if line["event"] == "batch.count_differs"] == [(4, 3)]


async def test_or_reported_and_goes_on(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), batch=BatchPlan(on_count="report")):
        assert (await send(bench, batch(2).replace(b"BTS|2", b"BTS|x"))).positive
        await bench.until(lambda: len(bench.messages()) == 3 and len(bench.deliveries("delivered")) == 2)
        assert bench.messages()[-1].cause == "batch of 2, BTS-1 says no number of 2"


@pytest.mark.parametrize(
    ("body", "most"),
    [(batch(4), 3), (BHS + b"\rMSH" * 4, 3), (BHS + b"\rFHS" * 100, 3), (BHS + b"\rBTS" * 100, 3)],
)
async def test_one_of_too_many_messages_is_refused_whole(bench: Bench, body: bytes, most: int) -> None:
    async with bench.running(to(Scripted()), batch=BatchPlan("one", "report", most)):
        ack = await send(bench, body)
        assert (ack.outcome, ack.cause) == ("reject", "batch_too_large")
        assert read_ack(ack.rendered).code == "AR"
        await bench.until(lambda: len(bench.messages()) == 1)
        assert (bench.messages()[0].state, bench.messages()[0].cause) == ("refused", "batch_too_large")
        assert (await send(bench, batch(most))).positive


async def test_the_same_message_twice_in_one_batch_is_delivered_once(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), batch=ALL, duplicates=DAY):
        ack = await send(bench, join([siu("M0"), siu("M1"), siu("M0")], BHS))
        assert codes(ack) == [("M0", "AA"), ("M1", "AA"), ("M0", "AA")]
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
    assert emr.ids == ["M0", "M1"]


async def test_without_the_setting_a_batch_is_no_message(bench: Bench) -> None:
    async with bench.running(to(Scripted())):
        assert bench.source.context is not None
        ack = await bench.source.context.receive(batch(2), Origin("mllp")).answer
        assert isinstance(ack, Ack)
        assert (ack.outcome, ack.cause) == ("reject", "malformed")


# -- when the ack waits for more ----------------------------------------------------------------------------------


async def test_a_failed_step_is_told_of_its_message_alone(bench: Bench) -> None:
    def refuse_m1(envelope: Any, _context: Context) -> None:
        if envelope.body.control_id == "M1":
            raise StepFailed("test", "no")

    async with bench.running(to(Scripted()), batch=ALL, ack="routed", transform=steps(refuse_m1)):
        ack = await send(bench, batch(3))
        assert codes(ack) == [("M0", "AA"), ("M1", "AE"), ("M2", "AA")]
        assert ack.outcome == "error"
        # The records of a positive answer are there before it.
        assert [row.ack for row in bench.messages()[:3]] == ["AA", "AE", "AA"]


async def test_the_answer_waits_until_all_are_delivered(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr), batch=ALL, ack="delivered"):
        answer = asyncio.ensure_future(send(bench, batch(2)))
        await bench.until(lambda: emr.under_way == 1)
        assert not answer.done()
        emr.gate.set()
        assert codes(await answer) == [("M0", "AA"), ("M1", "AA")]
        assert len(bench.deliveries("delivered")) == 2


async def test_in_enhanced_mode_each_message_gets_the_ack_it_asks_for(bench: Bench) -> None:
    def asking(control_id: str, modes: bytes) -> bytes:
        return siu(control_id).replace(b"|P|2.3\r", b"|P|2.3|||" + modes + b"\r", 1)

    asked = [asking("M0", b"AL|NE"), asking("M1", b"NE|NE"), asking("M2", b"NE|AL"), asking("M3", b"AL|ER")]
    async with bench.running(to(Scripted()), batch=ALL):
        assert bench.source.context is not None
        ack = await bench.source.context.receive(join(asked, BHS), Origin("mllp")).answer
        assert isinstance(ack, Ack)
        assert codes(ack) == [("M0", "CA"), ("M2", "AA"), ("M3", "CA")]


# -- repetition and crashes ----------------------------------------------------------------------------------------


async def test_a_batch_that_comes_again_gets_the_same_answer_and_nothing_is_doubled(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), batch=ALL, duplicates=DAY):
        first = codes(await send(bench, batch(3, m1=BROKEN)))
        assert codes(await send(bench, batch(3, m1=BROKEN))) == first
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert len(bench.deliveries()) == 2
    assert emr.ids == ["M0", "M2"]


@pytest.mark.parametrize("taken", [0, 1, 16, 20])
async def test_what_a_crash_left_half_done_is_made_whole_by_the_repetition(
    bench: Bench, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store stops taking messages in the middle, as for a process that is killed there: no answer is positive."""
    accepted = 0
    monkeypatch.setattr(batches, "PIECE", 16)

    def is_behind(unit: Sequence[Operation]) -> bool:
        nonlocal accepted
        accepts = any(isinstance(operation, Accept) for operation in unit)
        accepted += accepts
        return accepts and accepted > taken

    emr = Scripted()
    body = batch(40)
    async with bench.running(to(emr), batch=BatchPlan("one"), duplicates=DAY):
        with pytest.MonkeyPatch.context() as patch:
            refuse(patch, SqliteStore, is_behind)
            read = read_ack((await send(bench, body)).rendered)
        assert (read.code, read.condition) == ("AR", "207")
    async with bench.running(to(emr), batch=BatchPlan("one"), duplicates=DAY):
        assert read_ack((await send(bench, body)).rendered).code == "AA"
        await bench.until(lambda: len(bench.deliveries("delivered")) == 40)
    assert emr.ids == [f"M{at}" for at in range(40)]


async def test_what_its_sender_sends_next_comes_after_it(bench: Bench) -> None:
    """The connection waits for the commit of the whole (``Receipt.batch``)."""
    async with bench.running(to(Scripted()), batch=ALL):
        assert bench.source.context is not None
        receipt = bench.source.context.receive(batch(200), Origin("hand"))
        assert receipt.batch
        assert (await receipt.committed).positive
        assert len(bench.messages()) >= 200


async def test_a_channel_that_stops_answers_a_batch_first(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr), batch=ALL):
        answer = asyncio.ensure_future(send(bench, batch(300)))
        await asyncio.sleep(0)
    told = dict(codes(await answer))
    async with bench.running(to(emr), batch=ALL):
        await bench.until(lambda: len(bench.deliveries("delivered")) == list(told.values()).count("AA"))
    assert set(emr.ids) == {name for name, code in told.items() if code == "AA"}


async def test_a_fault_of_ours_is_answered_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    def fail(*_arguments: Any) -> Any:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(batches, "_numbered", fail)
    async with bench.running(to(Scripted()), batch=ALL):
        ack = await send(bench, batch(2))
        assert (ack.outcome, ack.cause) == ("reject", "internal")
        assert codes(ack) == [("B1", "AR")]
    assert [line["error"] for line in logged if line["event"] == "batch.internal_error"] == ["RuntimeError"]


async def test_a_partners_own_answer_is_passed_on_for_each_message(bench: Bench) -> None:
    def answered(control_id: str, code: str) -> Response:
        raw = f"MSH|^~\\&|EMR|X|RIS|DTI|20260101||ACK|E1|P|2.3\rMSA|{code}|{control_id}|as the partner says\r"
        return Response(raw.encode(), Evidence(code, body=raw.encode()))

    refused = answered("M1", "AE")
    emr = Scripted([answered("M0", "AA"), Rejected(replace(refused.evidence, body=refused.body)), answered("M2", "AA")])
    async with bench.running(to(emr), batch=ALL, ack="delivered", ack_from="emr"):
        ack = await send(bench, batch(3))
        assert codes(ack) == [("M0", "AA"), ("M1", "AE"), ("M2", "AA")]
        assert ack.rendered.count(b"as the partner says") == 3
