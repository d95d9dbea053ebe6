"""Callers of the REST listener that mean harm, or know no better: each in its bounds, told, and nobody else harmed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from engine.envelope import Reply
from engine.sources.base import Building, HttpRequest, HttpRoute
from engine.sources.serving import http_connection
from engine.sources.serving.http_connection import PIPELINE
from engine.sources.serving.http_head import Limits
from engine.sources.serving.listener import RestListener
from engine.tls import client_context, ensure_certificates
from engine.tls_settings import ServerTls

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
#: Times short enough for a test, long enough for a busy machine to serve who behaves.
QUICK = Limits(head_timeout=0.3, body_timeout=0.3, answer_timeout=0.3, keep_alive=1)


class Served:
    """A listener with one open route, ``/a``, and what reached it."""

    def __init__(self, listener: RestListener) -> None:
        self.listener = listener
        self.requests: list[HttpRequest] = []
        self.reply = Reply(200, {"ok": True})
        self.gate = asyncio.Event()
        self.gate.set()
        self._writers: list[asyncio.StreamWriter] = []

    async def handle(self, request: HttpRequest) -> Reply:
        self.requests.append(request)
        await self.gate.wait()
        return self.reply

    async def connect(self, address: str = "127.0.0.1", **options: Any) -> Peer:
        opened = await asyncio.open_connection(
            self.listener.host, self.listener.port, local_addr=(address, 0), **options
        )
        self._writers.append(opened[1])
        return Peer(*opened)

    async def raw(self, data: bytes) -> bytes:
        """What a peer that sends ``data`` hears until the listener ends the connection."""
        peer = await self.connect()
        peer.send(data)
        return await peer.rest()

    async def serves(self) -> bool:
        """Whether somebody who behaves, at another address, is served."""
        peer = await self.connect("127.0.0.2")
        peer.send(b"GET /good HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b'{"good":true}' in await peer.rest()

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.listener.summary()["since_start"])

    async def ends(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self.gate.set()
        await self.listener.stop()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the end; a reset is an end too."""
        heard = b""
        async with asyncio.timeout(10):
            try:
                while data := await self.reader.read(65536):
                    heard += data
            except ConnectionError:
                return heard
        return heard

    async def answer(self) -> bytes:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head + await self.reader.readexactly(length)

    async def drip(self, data: bytes, every: float) -> bytes:
        """Send ``data`` again and again until the listener ends the connection: what was heard."""

        async def send() -> None:
            while True:
                self.send(data)
                await asyncio.sleep(every)

        sending = asyncio.create_task(send())
        try:
            return await self.rest()
        finally:
            sending.cancel()


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(begin_of: Any) -> AsyncIterator[Serve]:
    made: list[Served] = []

    async def begin(limits: Limits = QUICK, contexts: Any = None, **route: Any) -> Served:
        served = Served(RestListener("127.0.0.1", 0, {}, contexts, limits=limits))
        await served.listener.start()
        for method in ("GET", "POST"):
            begin_a = begin_of(served.handle, served.gate)
            served.listener.add(HttpRoute(method, "/a", "one", served.handle, begin_a, auth=False, **route))

        async def good(_: HttpRequest) -> Reply:
            return Reply(200, {"good": True})

        served.listener.add(HttpRoute("GET", "/good", "one", good, auth=False))
        made.append(served)
        return served

    yield begin
    for served in made:
        await served.ends()


def statuses(heard: bytes) -> list[int]:
    return [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]]


def events(logs: list[Any]) -> set[str]:
    return {entry["event"] for entry in logs if entry["log_level"] != "info"}


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "drop", "event"),
    [
        (b"GET /a HTTP/1.1\r\n", b"X: y\r\n", "rest.head_timeout"),
        (b"GET /", b"a", "rest.head_timeout"),
        (b"POST /nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x", "rest.body_timeout"),
        (CHUNKED.replace(b"/a", b"/nobody"), b"1\r\nx\r\n", "rest.body_timeout"),
    ],
)
async def test_what_comes_a_few_bytes_at_a_time_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, begun: bytes, drop: bytes, event: str
) -> None:
    monkeypatch.setattr(http_connection, "AFTER_BODY", 0.1)
    served = await serve()
    with capture_logs() as logs:
        peer = await served.connect()
        peer.send(begun)
        dripping = asyncio.create_task(peer.drip(drop, 0.02))
        assert await served.serves()
        await dripping
    assert event in events(logs)
    assert served.counts[event.partition(".")[2]] == 1


async def test_line_breaks_between_requests_keep_no_connection(serve: Serve) -> None:
    served = await serve()
    peer = await served.connect()
    peer.send(GET)
    assert b" 200 " in await peer.answer()
    assert await peer.drip(b"\r\n", 0.02) == b""
    assert await served.serves()


async def test_an_idle_connection_is_closed(serve: Serve) -> None:
    peer = await (await serve()).connect()
    peer.send(GET)
    assert b" 200 " in await peer.answer()
    assert await peer.rest() == b""


async def test_who_does_not_send_what_it_was_asked_for_is_given_up(serve: Serve) -> None:
    served = await serve()
    heard = await served.raw(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert statuses(heard) == [100, 408]
    assert not served.requests
    assert await served.serves()


async def test_who_does_not_read_its_answers_is_dropped(serve: Serve, eventually: Any) -> None:
    served = await serve()
    served.reply = Reply(200, {"x": "x" * 500_000})
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    with small, capture_logs() as logs:
        await asyncio.get_running_loop().sock_connect(small, (served.listener.host, served.listener.port))
        await asyncio.get_running_loop().sock_sendall(small, GET * PIPELINE)
        assert await served.serves()
        await eventually(lambda: served.counts["peer_does_not_read"] == 1)
        await eventually(lambda: served.listener.summary()["connections"] == 0)
    assert len(served.requests) < PIPELINE, "nothing more is done for a peer that does not read"
    assert "rest.peer_does_not_read" in events(logs)


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /a?" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, id="huge query"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, id="huge header"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000, 431, id="headers without end"),
        pytest.param(CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nx", 400, id="chunk larger than any number"),
        pytest.param(CHUNKED + b"1;" + b"a=b;" * 40_000, 400, id="chunk extension without end"),
        pytest.param(CHUNKED + b"1;a=b;" + b"c" * 400 * 200 + b"\r\nx\r\n", 400, id="large extension"),
        pytest.param(CHUNKED + (b"1;" + b"a" * 500 + b"\r\nx\r\n") * 1000, 400, id="extension for each byte"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 30_000, 400, id="trailers without end"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\nX: " + b"y" * 100_000, 400, id="huge trailer"),
    ],
)
async def test_what_is_too_large_is_refused(serve: Serve, data: bytes, status: int) -> None:
    served = await serve(Limits())
    assert statuses(await served.raw(data)) == [status]
    assert not served.requests
    assert served.counts["headers_too_large" if status == 431 else "bad_request"] == 1
    assert await served.serves()


@pytest.mark.parametrize("head", [CHUNKED, POST + b"Content-Length: 300000\r\n\r\n"])
async def test_a_large_body_in_small_pieces_is_still_taken(serve: Serve, head: bytes) -> None:
    served = await serve(Limits())
    body = b"x" * 300_000
    sent = b"".join(b"10\r\n%s\r\n" % body[at : at + 16] for at in range(0, len(body), 16)) + b"0\r\nX: y\r\n\r\n"
    peer = await served.connect()
    peer.send(head + (sent if head is CHUNKED else body))
    assert b" 200 " in await peer.answer()
    assert [request.body for request in served.requests] == [body]


async def test_bodies_of_all_callers_have_one_bound_and_the_largest_is_given_up(serve: Serve, eventually: Any) -> None:
    served = await serve(Limits(memory=100_000))
    small = await served.connect()
    small.send(POST + b"Content-Length: 6\r\n\r\nabc")
    with capture_logs() as logs:
        hogs = [await served.connect() for _ in range(3)]
        for hog in hogs:
            hog.send(POST + b"Content-Length: 90000\r\n\r\n" + b"x" * 45_000)
        heard = await asyncio.wait_for(next(asyncio.as_completed([hog.answer() for hog in hogs])), 10)
        assert statuses(heard) == [503]
        assert b'"listener_full"' in heard
        assert served.listener.summary()["held_bytes"] <= 100_000
        small.send(b"def")
        assert b" 200 " in await small.answer()
    assert [request.body for request in served.requests] == [b"abcdef"]
    assert "rest.memory_full" in events(logs)
    assert await served.serves()


async def test_a_body_counts_until_its_request_is_answered(serve: Serve, eventually: Any) -> None:
    served = await serve(Limits(memory=100_000))
    served.gate.clear()
    first = await served.connect()
    first.send(POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000)
    await eventually(lambda: len(served.requests) == 1)
    second = await served.connect()
    second.send(POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000)
    assert statuses(await second.answer()) == [503]
    served.gate.set()
    assert statuses(await first.answer()) == [200]
    await eventually(lambda: served.listener.summary()["held_bytes"] == 0)


async def test_a_body_whose_answer_was_given_is_not_read_without_end(serve: Serve) -> None:
    served = await serve(Limits())
    peer = await served.connect()
    peer.send(b"POST /nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
    assert statuses(await peer.answer()) == [404]
    assert await peer.drip(b"x" * 65536, 0.001) == b""
    assert await served.serves()


async def test_many_connections_hold_little(serve: Serve) -> None:
    """Heads and bodies of 40 peers, each as large as may wait: what is held is what came, and not a multiple of it."""
    served = await serve(Limits(memory=4_000_000))
    peers = [await served.connect() for _ in range(40)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for peer in peers:
            peer.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        for peer in peers:
            with contextlib.suppress(ConnectionError):  # those who were given up
                await asyncio.wait_for(peer.writer.drain(), 10)
        assert await served.serves()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # The peers live in this process too: what they could not send yet is theirs.
    unsent = sum(peer.writer.transport.get_write_buffer_size() for peer in peers)
    assert served.listener.summary()["held_bytes"] <= 4_000_000
    assert held - unsent < 4_000_000 + 40 * 2 * 256 * 1024


# -- framing ---------------------------------------------------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
TWO_READINGS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "a signed length": POST + b"Content-Length: +5\r\n\r\nabcde",
    "a negative length": POST + b"Content-Length: -5\r\n\r\nabcde",
    "a hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\nabcde",
    "an empty length": POST + b"Content-Length: \r\n\r\nabcde",
    "a length beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\nabcde",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked is not the last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": POST.replace(b"\r\n", b"\n") + b"Content-Length: 5\n\nabcde",
    "bare LF in one header": POST + b"X: y\nContent-Length: 5\r\n\r\nabcde",
    "bare CR": POST + b"X: y\rContent-Length: 5\r\n\r\nabcde",
    "a folded line": POST + b"X: y\r\n z\r\nContent-Length: 5\r\n\r\nabcde",
    "a NUL": POST + b"X: y\0z\r\nContent-Length: 5\r\n\r\nabcde",
    "chunks with LF": CHUNKED + b"5\nabcde\n0\n\n",
    "LF in an extension": CHUNKED + b"5;a\nb\r\nabcde\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n",
    "no host": GET.replace(b"Host: x\r\n", b""),
    "two hosts": GET.replace(b"Host: x\r\n", b"Host: x\r\nHost: y\r\n"),
    "HTTP/0.9": b"GET /a\r\n\r\n",
    "a version nobody knows": GET.replace(b"1.1", b"3.7"),
}


@pytest.mark.parametrize("data", TWO_READINGS.values(), ids=TWO_READINGS.keys())
async def test_what_two_servers_could_read_differently_is_refused_and_hides_nothing(serve: Serve, data: bytes) -> None:
    served = await serve(Limits())
    with capture_logs() as logs:
        assert statuses(await served.raw(data + SMUGGLED)) == [400]
    assert not served.requests
    assert events(logs) == {"rest.bad_request"}
    assert "smuggled" not in repr(logs)
    assert await served.serves()


async def test_trailers_are_no_headers(serve: Serve) -> None:
    served = await serve(Limits())
    peer = await served.connect()
    peer.send(CHUNKED + b"1\r\nx\r\n0\r\nX-API-Key: s3cret\r\nX-Correlation-ID: mine\r\n\r\n")
    answer = await peer.answer()
    assert statuses(answer) == [200]
    assert b"mine" not in answer
    assert not {"x-api-key", "x-correlation-id"} & set(served.requests[0].headers)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HEAD /a", 405),
        (b"OPTIONS /a", 204),
        (b"OPTIONS *", 404),
        (b"TRACE /a", 405),
        (b"CONNECT example.org:443", 400),
        (b"PROPFIND /a", 405),
        (b"FETCH /a", 400),
        (b"GET http://elsewhere.example/a", 200),
        (b"GET http://elsewhere.example/b", 404),
        (b"GET ftp://u:p@elsewhere.example:99999/a", 400),
        (b"GET /b/../a", 404),
        (b"GET /%2e%2e/a", 404),
        (b"GET //a", 404),
        (b"GET /a%00", 404),
        (b"GET /a%0d%0aX:%20y", 404),
        (b"GET /a/", 404),
        (b"GET /a?%00=%0d%0a", 200),
        (b"GET /a;x", 404),
        (b"GET " + b"/.." * 5000, 404),
        (b"GET /a?" + b"&".join(b"x%d" % number for number in range(101)), 400),
    ],
)
async def test_methods_and_addresses(serve: Serve, line: bytes, status: int) -> None:
    served = await serve(Limits())
    peer = await served.connect()
    peer.send(line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    heard = await peer.rest()
    assert statuses(heard) == [status]
    assert b"elsewhere" not in heard
    assert len(served.requests) == (status == 200)


async def test_an_offer_of_another_protocol_is_passed_over_and_its_body_read(serve: Serve) -> None:
    """What the HTTP client of Java sends unless it is told not to; the body was once lost."""
    served = await serve(Limits())
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    for head, body in (
        (b"Content-Length: 5\r\n\r\n", b"abcde"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n"),
    ):
        whole = POST + offer + head + body
        for cut in (len(whole), len(POST + offer), len(whole) - 3, len(whole) - len(body)):
            peer = await served.connect()
            peer.send(whole[:cut])
            await peer.writer.drain()
            await asyncio.sleep(0.01)
            peer.send(whole[cut:] + GET)
            assert statuses(await peer.answer()) == [200]
            assert statuses(await peer.answer()) == [200], "the connection goes on"
    assert [request.body for request in served.requests] == [b"abcde", b""] * 8


# -- one after the other ---------------------------------------------------------------------------------------------


async def test_requests_in_one_piece_are_answered_in_order(serve: Serve) -> None:
    served = await serve(Limits())
    peer = await served.connect()
    peer.send(b"".join(GET.replace(b"/a", b"/a?n=%d" % number) for number in range(PIPELINE)))
    for _ in range(PIPELINE):
        assert statuses(await peer.answer()) == [200]
    assert [request.query["n"][0] for request in served.requests] == [str(number) for number in range(PIPELINE)]


async def test_requests_without_end_are_cut_off_and_those_before_are_answered(serve: Serve) -> None:
    served = await serve(Limits())
    with capture_logs() as logs:
        assert statuses(await served.raw(GET * 9000)) == [200] * (PIPELINE + 1)
    assert "rest.too_many_pipelined" in events(logs)
    assert len(served.requests) == PIPELINE + 1
    assert await served.serves()


@pytest.mark.parametrize(
    "after",
    [
        b"\x0bMSH|^~\\&|\x1c\r",
        b"GET /a HTTP/1.1\r\nX: " + b"y" * 60_000,
        CHUNKED + b"-1\r\n",
        b"A" * 100_000,
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_garbage_behind_a_request_never_takes_the_place_of_its_answer(
    serve: Serve, eventually: Any, after: bytes
) -> None:
    """The caller would take a refusal for the answer to what is being done."""
    served = await serve(Limits())
    served.gate.clear()
    peer = await served.connect()
    peer.send(POST + b"Content-Length: 5\r\n\r\nabcde" + after)
    await eventually(lambda: len(served.requests) == 1)
    await peer.writer.drain()
    await asyncio.sleep(0.05)
    served.gate.set()
    heard = await peer.rest()
    assert statuses(heard) == [200]
    assert b"connection: close" in heard
    assert len(served.requests) == 1
    assert await served.serves()


async def test_who_closes_its_side_after_a_request_still_hears_the_answer(serve: Serve, eventually: Any) -> None:
    served = await serve(Limits())
    served.gate.clear()
    peer = await served.connect()
    peer.send(GET)
    peer.writer.write_eof()
    await eventually(lambda: len(served.requests) == 1)
    served.gate.set()
    assert statuses(await peer.rest()) == [200]


async def test_a_request_that_is_cut_off_is_told_and_does_nothing(serve: Serve) -> None:
    served = await serve(Limits())
    with capture_logs() as logs:
        for half in (GET[:20], POST + b"Content-Length: 5\r\n\r\nab", CHUNKED + b"5\r\nab"):
            peer = await served.connect()
            peer.send(half)
            peer.writer.write_eof()
            assert await peer.rest() == b""
    assert served.counts["request_cut"] == 3
    assert "rest.request_cut" in events(logs)
    assert not served.requests


# -- other protocols -------------------------------------------------------------------------------------------------


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    shaking = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x0bMSH|^~\\&|RIS|DTI|ENGINE|HERE|20261120||SIU^S12|1|P|2.3\r\x1c\r", "mllp"),
        (client_hello(), "tls"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0", "http/2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ssh"),
    ],
)
async def test_the_protocol_that_was_met_is_named(serve: Serve, data: bytes, name: str) -> None:
    served = await serve(Limits())
    with capture_logs() as logs:
        heard = await served.raw(data)
    assert statuses(heard) == [400]
    told = [entry for entry in logs if entry["event"] == "rest.wrong_protocol"]
    assert [(entry["looks_like"], entry["peer"].partition(":")[0]) for entry in told] == [(name, "127.0.0.1")]
    assert await served.serves()


async def test_http_on_a_tls_port_is_told_and_others_are_served(serve: Serve, building: Building) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    served = await serve(Limits(), ServerTls().contexts(building.site, building.data))
    with capture_logs() as logs:
        assert b"HTTP" not in await served.raw(GET)
        peer = await served.connect("127.0.0.2", ssl=client_context(folder / "ca.pem"))
        peer.send(GET)
        assert statuses(await peer.answer()) == [200]
    assert [entry["reason"] for entry in logs if entry["event"] == "rest.tls_failed"] == ["http request"]


# -- many ------------------------------------------------------------------------------------------------------------


async def test_a_flood_from_one_address_is_bounded_and_told_in_few_lines(serve: Serve) -> None:
    served = await serve(Limits(connections=12, per_address=8))
    with capture_logs() as logs:
        flood = [await served.connect() for _ in range(100)]
        for peer in flood[8:]:
            assert await peer.rest() == b""
        assert await served.serves()
    assert served.counts["too_many_of_one_address"] == 92
    assert len([entry for entry in logs if entry["event"] == "rest.too_many_of_one_address"]) < 30


async def test_idle_connections_give_their_places_to_who_has_something_to_ask(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.sources.serving.server.QUIET_FOR", 0.0)
    served = await serve(Limits(connections=3))
    served.gate.clear()
    busy = await served.connect()
    busy.send(GET)
    idle = [await served.connect() for _ in range(2)]
    with capture_logs() as logs:
        assert await served.serves()
        assert await idle[0].rest() == b""
    assert served.counts["displaced"] == 1
    assert "rest.displaced" in events(logs)
    served.gate.set()
    assert statuses(await busy.answer()) == [200]


async def test_refusals_in_a_flood_are_told_in_few_lines(serve: Serve) -> None:
    served = await serve(Limits())
    with capture_logs() as logs:
        peer = await served.connect()
        for _ in range(300):
            peer.send(GET.replace(b"/a", b"/nobody"))
            assert statuses(await peer.answer()) == [404]
    assert served.counts["refused"] == 300
    assert len([entry for entry in logs if entry["event"] == "rest.refused"]) < 100


# -- the loop that the engine runs on --------------------------------------------------------------------------------


def test_the_same_holds_on_uvloop(begin_of: Any) -> None:
    async def run() -> list[Any]:
        served = Served(RestListener("127.0.0.1", 0, {}, limits=Limits()))
        await served.listener.start()
        for method in ("GET", "POST"):
            begin_a = begin_of(served.handle, served.gate)
            served.listener.add(HttpRoute(method, "/a", "one", served.handle, begin_a, auth=False))
        offer = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nabcde"
        endless = CHUNKED + b"1;" + b"a" * 200_000
        streams = (GET * 9000, GET + b"\x0bMSH|\x1c\r", TWO_READINGS["length and chunks"], endless, client_hello())
        found: list[Any] = [statuses(await served.raw(stream)) for stream in streams]
        for half in (GET, offer):
            peer = await served.connect()
            peer.send(half)
            peer.writer.write_eof()
            found.append(statuses(await peer.rest()))
        found.append(served.requests[-1].body)
        await served.ends()
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == [[200] * (PIPELINE + 1), [200], [400], [400], [400], [200], [200], b"abcde"]
