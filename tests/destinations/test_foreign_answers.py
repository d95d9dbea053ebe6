"""No answer ever counts for another message: whatever a partner sends, each delivery ends by its own answer alone.

Two messages go to one partner through the lanes of a channel, over real sockets. The partner answers the first as the
row says; the second it always takes. What the first came to is in the store; the second must be delivered by an answer
that names it, whatever still lay on the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config.plan import DestinationPlan, Retry
from engine.destinations.base import Building
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.hl7.mllp import frame
from engine.runtime.clock import SystemClock
from engine.runtime.deliver import Lanes
from engine.store.base import Accept, DeliveryRow, NewDelivery, Route
from engine.store.sqlite import SqliteStore

Answer = Callable[[Any, bytes], bytes]


def named(code: str, control_id: str = "OUT1", kind: str = "ACK", more: str = "") -> Answer:
    return lambda partner, body: partner.ack(code, body, control_id=control_id, kind=kind, more=more)


def lines(partner: Any, body: bytes) -> bytes:
    return bytes(partner.ack("AA", body)).replace(b"\r", b"\n")


def doubled(partner: Any, body: bytes) -> bytes:
    return bytes(partner.ack("AA", body)) * 2


def ahead(partner: Any, body: bytes) -> bytes:
    """An answer for this message, and at once one for the message that is to come."""
    return bytes(partner.ack("AA", body)) + bytes(partner.ack("AE", body, control_id="OUT2"))


#: What comes for OUT1 → state and cause of OUT1; the second attempt of OUT1, where there is one, is taken.
ANSWERS: dict[str, tuple[Answer, str, str]] = {
    "its own": (named("AA"), "delivered", ""),
    "segments end in LF": (lines, "delivered", ""),
    "twice": (doubled, "delivered", ""),
    "its own, and a refusal of the next": (ahead, "delivered", ""),
    "a query's answer that names it": (named("AA", kind="DSR^Q01", more="DSP|1||x\r"), "delivered", ""),
    "an ORR that refuses it": (named("AE", kind="ORR^O02"), "parked", "rejected AE"),
    "the next one's": (named("AA", "OUT2"), "delivered", "again"),
    "an older one's": (named("AA", "OUT0"), "delivered", "again"),
    "a refusal of another": (named("AR", "OUT0"), "delivered", "again"),
    "nobody's": (named("AA", ""), "delivered", "again"),
    "an ORR of another": (named("AA", "OUT0", kind="ORR^O02"), "delivered", "again"),
    "MCF without MSA": (lambda _partner, _body: frame(b"MSH|^~\\&|A|B|C|D|1||MCF^Q02|1|P|2.3\r"), "delivered", "again"),
    "a query": (
        lambda _partner, _body: frame(b"MSH|^~\\&|A|B|C|D|1||QRY^A19|OUT1|P|2.3\rQRD|1\r"),
        "delivered",
        "again",
    ),
    "an empty frame": (lambda _partner, _body: frame(b""), "delivered", "again"),
    "binary": (lambda _partner, _body: frame(bytes(range(28))[:11] + bytes(range(128, 256))), "delivered", "again"),
    "an unknown code": (named("OK"), "parked", "unexpected OK"),
    "CA unasked": (named("CA"), "parked", "unexpected CA"),
    "AA with an error": (named("AA", more="ERR|PID^1^3^204&Unknown key\r"), "parked", "answered AA 204 PID-3"),
}


async def deliver(folder: Path, building: Building, partner: Any) -> tuple[list[DeliveryRow], Lanes]:
    """Send OUT1 and OUT2 through lanes until both have settled."""
    store = SqliteStore(folder, bytes(32))
    await store.open()
    config = MllpDestinationConfig(host="127.0.0.1", port=partner.port, timeout=5.0)
    to = MllpDestination(config, building)
    lanes = Lanes("test", DestinationPlan("partner", to, retry=Retry((0.0,))), store, SystemClock())
    lanes.recover()
    settled = asyncio.Semaphore(0)
    lanes.settled = lambda _delivery_id, _delivered: settled.release()
    worker = asyncio.create_task(lanes.work())
    try:
        for number in (1, 2):
            body = f"MSH|^~\\&|E|H|EMR|T|20261120080000||ADT^A08|OUT{number}|P|2.3\rPID|1||P1\r".encode()
            message_id = store.new_id()
            new = NewDelivery(store.new_id(), "partner", "", body, f"OUT{number}")
            route = Route(message_id, "test", "c", "routed", 0.0, deliveries=(new,))  # type: ignore[arg-type]
            await store.submit(Accept(message_id, "test", "c", 0.0, body), route)
            lanes.push(new, route)
        async with asyncio.timeout(10):
            await settled.acquire()
            await settled.acquire()
        return list(store.trace("c")[1]), lanes
    finally:
        worker.cancel()
        await asyncio.wait([worker])
        lanes.close()
        await to.stop()
        await store.close()


@pytest.mark.parametrize("pieces", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_each_message_ends_by_its_own_answer_alone(
    tmp_path: Path, building: Building, partner: Any, name: str, pieces: str
) -> None:
    make, state, cause = ANSWERS[name]

    async def answer(writer: asyncio.StreamWriter, body: bytes) -> None:
        data = make(partner, body)
        for piece in [data] if pieces == "whole" else [data[at : at + 1] for at in range(len(data))]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    partner.script = [answer]
    (first, second), lanes = await deliver(tmp_path / "store", building, partner)
    repeated = cause == "again"
    assert (str(first.state), first.cause) == (state, "" if repeated else cause)
    assert (str(second.state), second.attempts) == ("delivered", 1)
    assert second.evidence is not None
    assert second.evidence.ack == "AA"
    sent = [body.split(b"|")[9] for body in partner.received]
    assert sent == ([b"OUT1", b"OUT1", b"OUT2"] if repeated else [b"OUT1", b"OUT2"])
    doubtful = repeated or cause.startswith(("unexpected", "answered"))
    assert (first.may_be_duplicated, second.may_be_duplicated) == (doubtful, False)
    counts = lanes.counts
    assert (counts.unanswered, counts.repeated) == (int(repeated or cause.startswith("unexpected")), int(repeated))
    assert counts.may_be_duplicated == int(doubtful)
