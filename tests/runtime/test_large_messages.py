"""Large messages on their way through a channel: their place in the order, what they cost, what becomes of them."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from engine.config.plan import Duplicates
from engine.destinations.base import Outgoing, Response
from engine.envelope import Envelope, Origin
from engine.errors import StepFailed, StoreError, Unavailable
from engine.hl7.bulk import LARGE
from engine.hl7.message import Message
from engine.runtime import duplicates
from engine.runtime.attempt import Sender
from engine.store.sqlite import SqliteStore

from .conftest import WHO, Bench, Scripted, siu, steps, to


def oru(control_id: str, size: int = LARGE) -> bytes:
    head = (
        f"MSH|^~\\&|LAB|A|E|S|20260101||ORU^R01|{control_id}|P|2.5.1\rPID|1||P1\rOBX|1|ED|PDF||^application^pdf^Base64^"
    )
    return head.encode() + b"QUJD" * (size // 4) + b"||||||F\r"


def readdress(envelope: Envelope, *_: Any) -> None:
    envelope.body.set("MSH-5", "ARCHIVE")


class InPieces(Scripted):
    """Takes large bodies in pieces."""

    takes_pieces = True


class Forgetful(InPieces):
    """Keeps nothing of what it was sent."""

    async def send(self, outgoing: Outgoing) -> Response:
        assert outgoing.pieces is not None
        return await super().send(replace(outgoing, pieces=None))


async def test_a_large_message_is_stored_changed_delivered_and_shared(bench: Bench) -> None:
    archive, folder = InPieces(), Scripted()
    async with bench.running(to(archive, "archive"), to(folder, "folder", transform=steps(readdress))):
        assert (await bench.source.send(oru("L1"))).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        (message,) = bench.messages()
        assert (message.control_id, bench.store.message_body(message.message_id)) == ("L1", oru("L1"))
        runs = bench.store._state.reader.execute("SELECT DISTINCT run FROM large_body").fetchall()  # type: ignore[union-attr]
    assert archive.sent[0].pieces is not None
    assert (bytes(archive.sent[0].pieces), archive.sent[0].body) == (oru("L1"), b"")
    assert (folder.sent[0].pieces, folder.sent[0].body) == (None, oru("L1").replace(b"|E|S|", b"|ARCHIVE|S|"))
    assert len(runs) == 1, "the document was written more than once"


async def test_its_place_in_the_order_is_taken_when_it_has_been_written(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr)):
        large = asyncio.ensure_future(bench.source.send(oru("L1")))
        await asyncio.sleep(0)
        assert (await bench.source.send(siu("S1"))).positive
        assert not large.done()
        assert (await large).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        assert [row.control_id for row in bench.messages()] == ["S1", "L1"]
    assert emr.ids == ["S1", "L1"]


async def test_small_messages_are_routed_and_committed_before_a_large_one_is_written(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr, transform=steps(readdress))) as supervisor:
        router = supervisor._channels["bench"].running.router  # type: ignore[union-attr]
        batches: list[list[str]] = []
        commit = router._commit

        async def note(batch: Any) -> None:
            batches.append([delivery.control_id for routed in batch for delivery in routed.route.deliveries])
            await commit(batch)

        router._commit = note  # type: ignore[method-assign]
        await asyncio.gather(
            *(bench.source.send(body) for body in (siu("S1"), siu("S2"))), bench.source.send(oru("L1"))
        )
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert ["L1"] in batches


async def test_what_was_received_before_a_restart_is_routed_from_its_parts(bench: Bench) -> None:
    async with bench.running(to(Scripted())) as supervisor:
        supervisor._channels["bench"].running.router.push = lambda arrival: None  # type: ignore[union-attr,method-assign]
        await bench.source.send(oru("L1"))
    emr = Scripted()
    async with bench.running(to(emr, transform=steps(readdress))):
        await bench.until(lambda: len(emr.sent) == 1)
        runs = bench.store._state.reader.execute("SELECT DISTINCT run FROM large_body").fetchall()  # type: ignore[union-attr]
    assert emr.sent[0].body == oru("L1").replace(b"|E|S|", b"|ARCHIVE|S|")
    assert len(runs) == 1


async def test_a_large_message_that_cannot_be_written_is_answered_negatively(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise StoreError("not committed: SQLITE_FULL")

    async with bench.running(to(Scripted())):
        monkeypatch.setattr(SqliteStore, "keep", fail)
        ack = await bench.source.send(oru("L1"))
        assert (ack.positive, ack.cause) == (False, "store_unavailable")
        assert bench.messages() == []


async def test_large_bytes_that_are_no_message_are_recorded_by_their_beginning(bench: Bench) -> None:
    async with bench.running(to(Scripted())):
        assert bench.source.context is not None
        receipt = bench.source.context.receive(b"x" * (2 * LARGE), Origin("mllp"))
        assert (await receipt.answer).cause == "malformed"  # type: ignore[union-attr]
        await bench.until(lambda: len(bench.messages()) == 1)
        assert bench.store.message_body(bench.messages()[0].message_id) == b"x" * LARGE


async def test_a_delivery_whose_transform_had_failed_is_rebuilt_from_the_parts(bench: Bench) -> None:
    failing = iter([True])

    def once(envelope: Envelope, *_: Any) -> None:
        if next(failing, False):
            raise StepFailed("lookup", "lookup_missing")
        readdress(envelope)

    emr = Scripted()
    async with bench.running(to(emr, transform=steps(once))) as supervisor:
        await bench.source.send(oru("L1"))
        await bench.until(lambda: len(bench.deliveries("parked")) == 1)
        await supervisor.resend_delivery(bench.deliveries()[0].delivery_id, WHO)
        await bench.until(lambda: len(emr.sent) == 1)
    assert emr.sent[0].body == oru("L1").replace(b"|E|S|", b"|ARCHIVE|S|")


async def test_a_large_message_is_parsed_once_and_never_copied_on_its_way_to_its_deliveries(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    honest = Message.parse.__func__  # type: ignore[attr-defined]

    def parse(cls: type[Message], raw: Any, *more: Any) -> Message:
        parsed.append(len(raw))
        return honest(cls, raw, *more)

    monkeypatch.setattr(Message, "parse", classmethod(parse))
    monkeypatch.setattr(Sender, "_body", lambda *_: pytest.fail("what could go at once was read back"))
    size = 8 * LARGE
    async with bench.running(*(to(Forgetful(), f"emr{number}", transform=steps(readdress)) for number in range(5))):
        assert bench.source.context is not None
        body = bytearray(oru("L1", size))
        tracemalloc.start()
        await bench.source.context.receive(body, Origin("mllp")).answer
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert [length for length in parsed if length >= LARGE] == [len(body)]
    assert most < 4 * LARGE, "the body was copied"


async def test_a_large_message_is_let_go_once_it_is_delivered(bench: Bench) -> None:
    async with bench.running(to(Forgetful())):
        assert bench.source.context is not None
        tracemalloc.start()
        receive = bench.source.context.receive
        await receive(bytearray(oru("L1", 8 * LARGE)), Origin("mllp")).answer
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        await bench.until(lambda: gc.collect() >= 0 and tracemalloc.get_traced_memory()[0] < 2 * LARGE)
        tracemalloc.stop()


async def test_a_large_message_that_has_to_wait_is_not_kept_in_memory_and_goes_as_it_was_made(bench: Bench) -> None:
    away, emr = Scripted([Unavailable("refused")] * 2), InPieces()
    async with bench.running(to(away, "away"), to(emr, "emr", transform=steps(readdress))) as supervisor:
        await supervisor.pause_destination("bench", "emr", WHO)
        await bench.source.send(oru("L1"))
        await bench.until(lambda: len(away.sent) == 1 and bench.deliveries("queued") != [])
        lanes = supervisor._channels["bench"].running.lanes  # type: ignore[union-attr]
        waiting = [item for each in lanes.values() for item in each._window.items.values()]
        assert [item.body for item in waiting] == [None, None]
        await supervisor.resume_destination("bench", "emr", WHO)
        await bench.until(lambda: len(emr.sent) == 1)
    assert bytes(emr.sent[0].pieces) == oru("L1").replace(b"|E|S|", b"|ARCHIVE|S|")  # type: ignore[arg-type]


async def test_a_repeated_large_message_is_compared_in_pieces_while_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted are the bytes that one turn of the event loop compares."""
    turn, compared = 0, dict[int, int]()
    honest, stretches = SqliteStore.message_chunks, duplicates._stretches

    def counted(chunks: Any) -> Any:
        for chunk in chunks:
            compared[turn] = compared.get(turn, 0) + len(chunk)
            yield chunk

    monkeypatch.setattr(SqliteStore, "message_chunks", lambda store, row_id: counted(honest(store, row_id)))
    monkeypatch.setattr(duplicates, "_stretches", lambda body: counted(stretches(body)))
    monkeypatch.setattr(SqliteStore, "message_body", lambda *_: pytest.fail("all of it was read at once"))
    ticking = True

    def tick() -> None:
        nonlocal turn
        turn += 1
        if ticking:
            asyncio.get_running_loop().call_soon(tick)

    large, emr = oru("L1", 8 * LARGE), Scripted()
    async with bench.running(to(emr), duplicates=Duplicates()) as supervisor:
        tick()
        both = [asyncio.ensure_future(bench.source.send(large)) for _ in range(2)]
        assert (await bench.source.send(siu("S1"))).positive
        assert [(await one).positive for one in both] == [True, True], "the second finds the first under way"
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)
        under_way = sum(compared.values())
        assert (await bench.source.send(large)).positive
        assert (await bench.source.send(large.replace(b"|F\r", b"|C\r"))).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        assert max(compared.values()) <= duplicates.STRETCH
        assert (await bench.source.send(siu("L1"))).positive, "a small one under the number of a large one"
        await bench.until(lambda: len(bench.deliveries("delivered")) == 4)
        ticking = False
        (status,) = supervisor.channels()
        assert (status.received_since_start, status.duplicates_since_start) == (4, 2)
        assert status.control_ids_reused_since_start == 1
    assert emr.ids == ["S1", "L1", "L1", "L1"]
    assert under_way == len(large)
    assert sum(compared.values()) > 2 * len(large)
    assert max(compared.values()) <= 2 * duplicates.STRETCH, "the small one is compared with the beginning of both"


async def test_a_large_message_that_is_being_compared_is_waited_for_at_a_stop(bench: Bench) -> None:
    large, emr = oru("L1", 4 * LARGE), Scripted()
    async with bench.running(to(emr), duplicates=Duplicates()) as supervisor:
        assert (await bench.source.send(large)).positive
        receipt = bench.source.context.receive(large, Origin("mllp"))  # type: ignore[union-attr]
        await supervisor.stop_channel("bench", WHO)
        assert (await receipt.answer).positive
        await bench.until(lambda: len(bench.messages()) == 2)  # its record is one that nobody waits for
        first, again = bench.messages()
        assert again.cause == f"duplicate {first.message_id}"
