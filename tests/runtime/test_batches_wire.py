"""Batches over real sockets: a raw sender, and one engine that joins for another that splits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.config.plan import BatchPlan, Duplicates, JoinPlan, Retry
from engine.destinations.base import Building as DestinationBuilding
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.hl7.answer import read_ack
from engine.hl7.batch import join, split
from engine.hl7.mllp import Framer, frame
from engine.sources.base import Building
from engine.sources.mllp import MllpSource, MllpSourceConfig

from .conftest import Bench, Scripted, siu, to

BHS = b"BHS|^~\\&|RIS|DTI|ENGINE|SITE|20260101120000||||B1"


def listening(folder: Path) -> tuple[Bench, MllpSource]:
    """A bench with a real port."""
    bench = Bench(folder)
    config = MllpSourceConfig(port=0)  # type: ignore[call-arg]
    source = MllpSource(config, Building("bench", folder, folder))
    bench.source = source  # type: ignore[assignment]
    return bench, source


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamWriter, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    framer, frames = Framer(), list[bytes]()

    async def next_frame() -> bytes:
        async with asyncio.timeout(10):
            while not frames:
                data = await reader.read(65536)
                assert data, "the engine has closed the connection"
                frames.extend(map(bytes, framer.feed(data)))
        return frames.pop(0)

    try:
        yield writer, next_frame
    finally:
        writer.close()
        await writer.wait_closed()


def told(raw: bytes) -> list[tuple[str, str]]:
    acks = [read_ack(raw[start:stop]) for start, stop in split(raw).members]
    return [(ack.control_id, ack.code.value) for ack in acks]


async def test_a_batch_and_what_its_sender_sends_ahead_are_answered_in_order(tmp_path: Path) -> None:
    bench, source = listening(tmp_path)
    emr = Scripted()
    body = join([siu(f"M{at}") for at in range(200)], BHS)
    async with bench.running(to(emr), batch=BatchPlan()), connected(source.port) as (writer, next_frame):
        writer.write(frame(siu("A")) + frame(body) + frame(siu("Z")))
        assert read_ack(await next_frame()).control_id == "A"
        assert told(await next_frame()) == [(f"M{at}", "AA") for at in range(200)]
        assert read_ack(await next_frame()).control_id == "Z"
        await bench.until(lambda: len(emr.sent) == 202)
        assert emr.ids == ["A", *(f"M{at}" for at in range(200)), "Z"]


async def test_others_are_answered_while_a_large_batch_is_taken(tmp_path: Path) -> None:
    bench, source = listening(tmp_path)
    body = join([siu(f"M{at}") for at in range(1_000)], BHS)
    async with (
        bench.running(to(Scripted()), batch=BatchPlan("one")),
        connected(source.port) as (writer, answer),
        connected(source.port) as (other, other_answer),
    ):
        writer.write(frame(body))
        await bench.until(lambda: bool(bench.messages()))
        other.write(frame(siu("A")))
        assert read_ack(await other_answer()).control_id == "A"
        assert not bench.store.same_control_id("bench", "M999", 1), "the other one waited for all of the batch"
        assert read_ack(await answer()).control_id == "B1"


async def test_a_wrong_count_a_broken_end_and_a_batch_of_acks(tmp_path: Path) -> None:
    bench, source = listening(tmp_path)
    async with bench.running(to(Scripted()), batch=BatchPlan("one")), connected(source.port) as (writer, answer):
        writer.write(frame(join([siu("M0")], BHS).replace(b"BTS|1", b"BTS|2")))
        refused = read_ack(await answer())
        assert (refused.code, refused.control_id, refused.location) == ("AR", "B1", "BTS-1")
        ack = b"MSH|^~\\&|A|B|C|D|20260101||ACK|X|P|2.3\rMSA|AA|Y\r"
        writer.write(frame(join([ack], BHS)) + frame(siu("M1")))
        assert read_ack(await answer()).control_id == "M1"
        await bench.until(lambda: len(bench.messages()) == 3)
        assert {row.cause for row in bench.messages() if row.state == "refused"} == {
            "batch_count BTS-1 says 2 of 1",
            "unexpected_ack",
        }


@pytest.mark.parametrize("answer", ["all", "errors", "one"])
@pytest.mark.parametrize("file", [False, True])
async def test_one_engine_joins_and_another_splits(tmp_path: Path, answer: Any, file: bool) -> None:
    theirs, source = listening(tmp_path / "theirs")
    ours, emr = Bench(tmp_path / "ours"), Scripted()
    async with theirs.running(to(emr), batch=BatchPlan(answer), duplicates=Duplicates()):
        config = MllpDestinationConfig(host="127.0.0.1", port=source.port)  # type: ignore[call-arg]
        target = MllpDestination(config, DestinationBuilding("bench", "emr", tmp_path, tmp_path))
        joining = JoinPlan(10, 0.05, file, "errors" if answer == "errors" else "all")
        async with ours.running(to(target, batch=joining, retry=Retry(backoff=(0.01,)))):
            for at in range(25):
                await ours.source.send(siu(f"M{at}"))
            await ours.until(lambda: len(ours.deliveries("delivered")) == 25)
            await theirs.until(lambda: len(emr.sent) == 25)
    assert emr.ids == [f"M{at}" for at in range(25)]


async def test_an_answer_for_another_batch_drops_the_connection_and_all_go_again(tmp_path: Path) -> None:
    ours = Bench(tmp_path)
    frames: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer()
        while data := await reader.read(65536):
            for raw in map(bytes, framer.feed(data)):
                frames.append(raw)
                header = split(raw).files[0].batches[0].header
                control_id = header.split(b"|")[10] if len(frames) > 1 else b"OTHER"
                writer.write(frame(join([], b"BHS|^~\\&|||||||||X|" + control_id)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        config = MllpDestinationConfig(host="127.0.0.1", port=server.sockets[0].getsockname()[1])  # type: ignore[call-arg]
        target = MllpDestination(config, DestinationBuilding("bench", "emr", tmp_path, tmp_path))
        joining = JoinPlan(2, 60.0, answer="errors")
        async with ours.running(to(target, batch=joining, retry=Retry(backoff=(0.01,)))):
            await ours.source.send(siu("M0"))
            await ours.source.send(siu("M1"))
            await ours.until(lambda: len(ours.deliveries("delivered")) == 2)
            assert all(row.may_be_duplicated for row in ours.deliveries())
    assert len(frames) == 2
    assert frames[0] == frames[1]
