"""Partners that mean harm or know no better, over real sockets: a send ends in its time, is classed, costs little."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine import keepalive
from engine.destinations.base import Building, Destination, DestinationContext
from engine.destinations.mllp import MllpDestination, MllpDestinationConfig
from engine.destinations.rest import RestDestination, RestDestinationConfig
from engine.errors import Rejected, Unanswered, Unavailable

#: What a partner does with one connection.
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
#: More than the system takes into the buffers of a connection.
LARGE = 32 * 1024 * 1024


class Partner:
    """A server that follows a script; ``good`` is one that answers."""

    def __init__(self, script: Script) -> None:
        self.script, self.port, self.connections = script, 0, 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> Partner:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def http(answer: bytes, then: bytes = b"", every: float = 0.0) -> Script:
    """Read a request, send ``answer``, then ``then`` again and again (at once, or all so many seconds)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        while then:
            writer.write(then)
            await writer.drain()
            await asyncio.sleep(every)
        await asyncio.sleep(0.05)
        await reader.read(65536)
        await asyncio.Event().wait()

    return serve


def mllp(answer: bytes, then: bytes = b"", every: float = 0.0, *, before: bool = False) -> Script:
    """The same with an MLLP message; ``before``: answer without having read anything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not before:
            await reader.readuntil(b"\x1c\r")
        writer.write(answer)
        while then:
            writer.write(then)
            await writer.drain()
            await asyncio.sleep(every)
        await asyncio.Event().wait()

    return serve


Begin = Callable[[Script], Awaitable[Partner]]


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    made: list[Partner] = []

    async def start(script: Script) -> Partner:
        made.append(await Partner(script).start())
        return made[-1]

    yield start
    for partner in made:
        await partner.stop()


@pytest.fixture
async def make(building: Building) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    made: list[Destination] = []

    async def build(kind: str, port: int, **config: Any) -> Destination:
        destination: Destination
        if kind == "rest":
            rest = RestDestinationConfig.model_validate({"url": f"http://127.0.0.1:{port}/", **config})
            destination = RestDestination(rest, building)
        else:
            sending = MllpDestinationConfig.model_validate({"host": "127.0.0.1", "port": port, **config})
            destination = MllpDestination(sending, building)
        await destination.start(DestinationContext(lambda *_: pytest.fail("nothing is handed over")))
        made.append(destination)
        return destination

    yield build
    for destination in made:
        await destination.stop()


async def outcome(destination: Any, outgoing: Any) -> str:
    async with asyncio.timeout(20):
        try:
            response = await destination.send(outgoing)
        except (Unavailable, Unanswered) as error:
            return f"{type(error).__name__} {error.reason}"
        except Rejected as error:
            return f"Rejected {error.evidence.ack}"
    return str(response.evidence.ack)


async def good_is_served(begin: Begin, make: Any, outgoing: Any) -> None:
    """Another partner is served while this one does what it does."""
    partner = await begin(http(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"))
    assert await outcome(await make("rest", partner.port, timeout="15s"), outgoing("GOOD")) == "201"


# -- HTTP ------------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
TWO_LENGTHS = OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(silent, "Unanswered timeout", id="says nothing"),
        pytest.param(http(OK, b"X: y\r\n", 0.02), "Unanswered timeout", id="headers one by one"),
        pytest.param(http(b"", b"H", 0.02), "Unanswered malformed", id="a letter at a time that is no HTTP"),
        pytest.param(http(OK + b"X: ", b"y" * 65536), "Unanswered malformed", id="a header without end"),
        pytest.param(http(OK, b"X: y\r\n" * 1000), "Unanswered malformed", id="headers without end"),
        pytest.param(http(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.02), "Unanswered timeout", id="1xx for ever"),
        pytest.param(http(OK + b"Content-Length: 99\r\n\r\n", b"x", 0.02), "200", id="a body byte by byte"),
        pytest.param(http(OK + b"Content-Length: 999999999999\r\n\r\n", b"x" * 65536), "200", id="a huge body"),
        pytest.param(
            http(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000), "200", id="chunks without end"
        ),
        pytest.param(
            http(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536), "200", id="an extension without end"
        ),
        pytest.param(http(OK + b"Content-Length: -1\r\n\r\n"), "Unanswered malformed", id="a negative length"),
        pytest.param(http(TWO_LENGTHS), "Unanswered malformed", id="two lengths"),
        pytest.param(http(MOVED), "Rejected 302", id="redirect"),
        pytest.param(http(SWITCHED), "Rejected 101", id="another protocol"),
    ],
)  # fmt: skip
async def test_a_webhook_that_misbehaves(begin: Begin, make: Any, outgoing: Any, script: Script, expected: str) -> None:
    partner = await begin(script)
    destination = await make("rest", partner.port, timeout="500ms", max_size="64KiB")
    sending = asyncio.create_task(outcome(destination, outgoing()))
    await good_is_served(begin, make, outgoing)
    assert await sending == expected
    assert partner.connections == 1


async def test_a_compressed_answer_is_bounded_by_what_it_becomes(begin: Begin, make: Any, outgoing: Any) -> None:
    bomb = gzip.compress(b"\0" * 200_000_000, 9)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    destination = await make("rest", (await begin(http(head + bomb))).port, max_size="64KiB", timeout="15s")
    with capture_logs() as logs:
        tracemalloc.start()
        try:
            response = await destination.send(outgoing())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert response.body == b"\0" * 65536
    assert peak < 8_000_000
    assert [entry["event"] for entry in logs] == ["rest.answer_cut"]


@pytest.mark.parametrize("late", [0.0, 0.1])
async def test_an_answer_that_nobody_asked_for_is_never_that_of_the_next_message(
    begin: Begin, make: Any, outgoing: Any, eventually: Any, late: float
) -> None:
    """HTTP has no ids: what comes before the request left cannot be its answer."""
    sent = asyncio.Event()

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(late)
        writer.write(answer)
        await writer.drain()
        sent.set()
        await asyncio.Event().wait()

    partner = await begin(twice)
    destination = await make("rest", partner.port, timeout="500ms", method="GET")
    assert await outcome(destination, outgoing("A", body=b"")) == "200"
    await sent.wait()
    await asyncio.sleep(0.05)
    partner.script = http(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
    assert await outcome(destination, outgoing("B", body=b"")) == "Rejected 409"
    assert partner.connections == 2


# -- MLLP ------------------------------------------------------------------------------------------------------------

ACK = b"MSH|^~\\&|EMR|THERE|ENGINE|HERE|20261120080001||ACK|A1|P|2.3\rMSA|AA|%s\r"
FOREIGN = b"\x0b" + ACK % b"OTHER" + b"\x1c\r"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(silent, "Unanswered timeout", id="says nothing"),
        pytest.param(mllp(b"\x0b" + ACK % b"OUT1"), "Unanswered timeout", id="an ack without FS"),
        pytest.param(mllp(b"\x0bMSH|", b"A", 0.02), "Unanswered timeout", id="an ack that never ends, slowly"),
        pytest.param(mllp(b"\x0bMSH|", b"A" * 65536), "Unanswered malformed", id="an ack that never ends, fast"),
        pytest.param(mllp(b"", b"A" * 65536), "Unanswered timeout", id="bytes outside of any frame"),
        pytest.param(mllp(b"", FOREIGN * 100), "Unanswered mismatch", id="acks without end"),
        pytest.param(mllp(FOREIGN, before=True), "Unanswered mismatch", id="answers first"),
        pytest.param(mllp(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "Unanswered malformed", id="speaks HTTP"),
        pytest.param(mllp(b"\x15\x03\x03\x00\x02\x02\x0a"), "Unanswered malformed", id="speaks TLS"),
    ],
)  # fmt: skip
async def test_an_emr_that_misbehaves(begin: Begin, make: Any, outgoing: Any, script: Script, expected: str) -> None:
    partner = await begin(script)
    destination = await make("mllp", partner.port, timeout="700ms", max_size="64KiB")
    sending = asyncio.create_task(outcome(destination, outgoing("OUT1")))
    await good_is_served(begin, make, outgoing)
    assert await sending == expected
    assert destination.summary() == {"connections": 0, "idle": 0}


async def test_an_emr_that_closes_after_each_byte(begin: Begin, make: Any, outgoing: Any, eventually: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"\x0b")
        await writer.drain()

    partner = await begin(serve)
    destination = await make("mllp", partner.port, timeout="5s")
    assert [await outcome(destination, outgoing(f"M{number}")) for number in range(20)] == ["Unanswered lost"] * 20
    await eventually(lambda: destination.summary() == {"connections": 0, "idle": 0})
    assert partner.connections == 20


@pytest.mark.parametrize("kind", ["mllp", "rest"])
async def test_a_partner_that_never_reads_costs_one_message_and_its_time(
    begin: Begin, make: Any, outgoing: Any, kind: str
) -> None:
    partner = await begin(silent)
    destination = await make(kind, partner.port, timeout="300ms")
    body = b"MSH|^~\\&|A|B|C|D|20261120||ORU^R01|OUT1|P|2.3\rOBX|1|ED|" + b"A" * LARGE + b"\r"
    tracemalloc.start()
    try:
        for _ in range(3):
            sending = asyncio.create_task(outcome(destination, outgoing("OUT1", body=body)))
            assert await sending == "Unanswered timeout"
        await good_is_served(begin, make, outgoing)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < LARGE / 8, "nothing of it stays behind"
    assert peak < 3 * LARGE


# -- partners that vanish --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mllp", "rest"])
async def test_a_partner_that_vanished_will_be_found(
    begin: Begin, make: Any, outgoing: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What a sending connection asks of the system; that the partner is missed then is the system's promise."""
    asked: list[tuple[int, int]] = []
    real = keepalive.keep_alive

    def seen(connected: socket.socket) -> None:
        real(connected)
        idle = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        asked.append((connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), idle))

    monkeypatch.setattr("engine.destinations.connections.http.keep_alive", seen)
    monkeypatch.setattr("engine.destinations.connections.mllp.keep_alive", seen)
    answer = b"\x0b" + ACK % b"OUT1" + b"\x1c\r" if kind == "mllp" else OK + b"Content-Length: 0\r\n\r\n"
    partner = await begin(mllp(answer) if kind == "mllp" else http(answer))
    assert await outcome(await make(kind, partner.port), outgoing("OUT1")) in ("AA", "200")
    assert asked == [(1, keepalive.KEEPALIVE_IDLE)]
