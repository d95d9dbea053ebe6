"""The REST listener over real sockets: routes, keys, rates, sizes, correlation ids, the one error shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from engine.envelope import Reply
from engine.errors import Refused
from engine.sources.base import Building, HttpRequest, HttpRoute
from engine.sources.serving.http_head import Limits
from engine.sources.serving.listener import RestListener
from engine.sources.serving.rendering import render, wire
from engine.tls import client_context, ensure_certificates
from engine.tls_settings import ServerTls
from tests.certificates import issue

KEYS = {
    "radscheduler": ("s3cret", frozenset({"one"})),
    "other": ("0ther", frozenset({"two"})),
    "unset": ("", frozenset({"one"})),
}
KEY = {"X-API-Key": "s3cret"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A listener, a client, and the requests that reached the handler."""

    def __init__(self, listener: RestListener, session: aiohttp.ClientSession, clock: Clock, begin_of: Any) -> None:
        self.listener, self.session, self.clock, self.begin_of = listener, session, clock, begin_of
        self.requests: list[HttpRequest] = []
        self.reply: Reply | Exception = Reply(200, {"ok": "jäa"})
        self.entered, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.finished = 0

    def route(self, method: str = "GET", path: str = "/a", channel: str = "one", **options: Any) -> HttpRoute:
        route = HttpRoute(method, path, channel, self.handle, self.begin_of(self.handle, self.gate), **options)
        self.listener.add(route)
        return route

    async def handle(self, request: HttpRequest) -> Reply:
        self.requests.append(request)
        self.entered.set()
        await self.gate.wait()
        self.finished += 1
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        async with self.session.request(method, self.listener.address + path, **options) as response:
            text = await response.read()
            return response.status, json.loads(text) if text else None, response.headers

    async def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes until the listener closes; nothing when it resets the connection."""
        reader, writer = await asyncio.open_connection(self.listener.host, self.listener.port)
        try:
            writer.write(data)
            async with asyncio.timeout(5):
                return await reader.read(-1)
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


@pytest.fixture
async def make_site(begin_of: Any) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    made: list[Site] = []

    async def make(**options: Any) -> Site:
        clock = Clock()
        listener = RestListener("127.0.0.1", 0, KEYS, monotonic=clock, **options)
        await listener.start()
        made.append(Site(listener, aiohttp.ClientSession(), clock, begin_of))
        return made[-1]

    yield make
    for site in made:
        await site.session.close()
        await site.listener.stop()


@pytest.fixture
async def site(make_site: Any) -> Site:
    made: Site = await make_site()
    return made


# -- routes and answers ----------------------------------------------------------------------------------------------


async def test_a_request_reaches_its_handler_whole(site: Site) -> None:
    site.route("POST", "/a/b")
    status, body, headers = await site.ask("POST", "/a/b?x=1&y=&x=2", data=b"\x00\xff", headers=KEY)
    assert (status, body) == (200, {"ok": "jäa"})
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert "Server" not in headers
    (request,) = site.requests
    assert (request.method, request.path, request.body) == ("POST", "/a/b", b"\x00\xff")
    assert request.query == {"x": ("1", "2"), "y": ("",)}
    assert request.api_key == "radscheduler"
    assert request.peer.startswith("127.0.0.1:")


async def test_where_a_channel_has_yet_to_start_the_answer_is_503_and_not_404(site: Site) -> None:
    site.listener.expect(["http:POST /later", "tcp:2575"])
    status, body, _ = await site.ask("POST", "/later", headers=KEY)
    assert (status, body["error"]["code"], body["error"]["retryable"]) == (503, "channel_stopped", True)
    site.route("POST", "/later")
    assert (await site.ask("POST", "/later", headers=KEY))[0] == 200


async def test_an_unknown_path_is_404_and_not_logged(site: Site) -> None:
    site.route()
    with capture_logs() as logs:
        status, body, headers = await site.ask("GET", "/PLANTED", headers=KEY)
    assert status == 404
    assert body["error"] == {
        "code": "not_found",
        "message": "There is nothing at this address.",
        "retryable": False,
        "correlationId": headers["X-Correlation-ID"],
    }
    assert "PLANTED" not in repr(logs)


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
async def test_a_wrong_method_is_405_with_allow(site: Site, method: str) -> None:
    site.route("GET")
    site.route("PUT")
    status, _, headers = await site.ask(method, "/a", headers=KEY)
    assert status == 405
    assert headers["Allow"] == "GET, OPTIONS, PUT"


async def test_options_tells_the_methods(site: Site) -> None:
    site.route("GET")
    status, body, headers = await site.ask("OPTIONS", "/a")
    assert (status, body, headers["Allow"]) == (204, None, "GET, OPTIONS")


async def test_a_removed_route_is_503_and_can_come_back(site: Site) -> None:
    route = site.route()
    site.listener.remove(route)
    status, body, headers = await site.ask("GET", "/a", headers=KEY)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "channel_stopped", "10")
    site.listener.add(route)
    assert (await site.ask("GET", "/a", headers=KEY))[0] == 200


async def test_a_route_belongs_to_one_channel(site: Site) -> None:
    site.route()
    with pytest.raises(ValueError, match="belongs to channel one"):
        site.route(channel="two")


async def test_a_refusal_of_the_handler_becomes_its_row(site: Site) -> None:
    site.route()
    site.reply = Refused("invalid_date", field="date", extra={"outcome": "unknown", "code": "cannot be replaced"})
    status, body, _ = await site.ask("GET", "/a", headers=KEY)
    assert status == 400
    assert body["error"]["code"] == "invalid_date"
    assert (body["error"]["field"], body["error"]["outcome"]) == ("date", "unknown")


@pytest.mark.parametrize("fault", [RuntimeError("PLANTED"), Reply(200, object()), Reply(200, {}, {"x": "a\udc80"})])
async def test_a_fault_is_500_and_tells_only_its_type(site: Site, fault: Any) -> None:
    site.route()
    site.reply = fault
    with capture_logs() as logs:
        status, body, _ = await site.ask("GET", "/a", headers=KEY)
    assert (status, body["error"]["code"], body["error"]["retryable"]) == (500, "internal_error", True)
    assert [entry["event"] for entry in logs] == ["rest.internal_error"]
    assert "PLANTED" not in repr(logs) + repr(body)


async def test_text_that_is_no_unicode_is_still_answered(site: Site) -> None:
    site.route()
    site.reply = Reply(200, {"x": "\ud800"})
    assert (await site.ask("GET", "/a", headers=KEY))[1] == {"x": "\ud800"}


async def test_headers_of_the_reply_are_sent(site: Site) -> None:
    site.route()
    site.reply = Reply(201, {}, {"Idempotent-Replayed": "true"})
    status, _, headers = await site.ask("GET", "/a", headers=KEY)
    assert (status, headers["Idempotent-Replayed"]) == (201, "true")


# -- correlation ids -------------------------------------------------------------------------------------------------


async def test_a_good_correlation_id_is_used_everywhere(site: Site) -> None:
    site.route()
    given = {"X-Correlation-ID": "Abc.1_2-3"}
    for headers in ({**KEY, **given}, given):
        _, _, answered = await site.ask("GET", "/a", headers=headers)
        assert answered["X-Correlation-ID"] == "Abc.1_2-3"
    assert site.requests[0].correlation_id == "Abc.1_2-3"


@pytest.mark.parametrize("given", ["with space", "x" * 65, "quote'", "a\tb", "", "é"])
async def test_a_bad_correlation_id_is_replaced(site: Site, given: str) -> None:
    site.route()
    _, _, headers = await site.ask("GET", "/a", headers={**KEY, "X-Correlation-ID": given})
    assert len(headers["X-Correlation-ID"]) == 36
    assert site.requests[0].correlation_id == headers["X-Correlation-ID"]


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "", "wrong", "s3cre", "s3cret ", "S3CRET", "é"])
async def test_without_a_known_key_it_is_401(site: Site, key: str | None) -> None:
    site.route()
    headers = {} if key is None else {"X-API-Key": key}
    # A space at the end of a header is not part of its value (RFC 9110 §5.5).
    expected = 200 if key == "s3cret " else 401
    status, body, answered = await site.ask("GET", "/a", headers=headers)
    assert status == expected
    if expected == 401:
        assert body["error"]["code"] == "unauthorized"
        assert answered["WWW-Authenticate"] == "X-API-Key"
        assert not site.requests


async def test_two_keys_at_once_are_none(site: Site) -> None:
    site.route()
    status, _, _ = await site.ask("GET", "/a", headers=[("X-API-Key", "s3cret"), ("X-API-Key", "0ther")])
    assert status == 401


async def test_a_key_without_the_right_is_403(site: Site) -> None:
    site.route()
    with capture_logs() as logs:
        status, body, _ = await site.ask("GET", "/a", headers={"X-API-Key": "0ther"})
    assert (status, body["error"]["code"]) == (403, "forbidden")
    assert [(entry["code"], entry["api_key"], entry["channel"]) for entry in logs] == [("forbidden", "other", "one")]
    assert "0ther" not in repr(logs)


async def test_a_route_may_let_everybody_in(site: Site) -> None:
    site.route(auth=False)
    assert (await site.ask("GET", "/a"))[0] == 200
    assert site.requests[0].api_key == ""


# -- limits ----------------------------------------------------------------------------------------------------------


async def test_the_rate_is_per_key_and_route(site: Site) -> None:
    site.route(rate=0.5, burst=2)
    site.route(path="/b", rate=0.5, burst=2)
    statuses = [(await site.ask("GET", "/a", headers=KEY))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]
    status, body, headers = await site.ask("GET", "/a", headers=KEY)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (429, "rate_limited", "2")
    assert (await site.ask("GET", "/b", headers=KEY))[0] == 200
    site.clock.now += 2
    assert (await site.ask("GET", "/a", headers=KEY))[0] == 200
    assert (await site.ask("GET", "/a", headers=KEY))[0] == 429


def test_a_request_for_which_there_is_no_room_at_once_counts_once() -> None:
    listener = RestListener("127.0.0.1", 0, {}, limits=Limits(memory=4))

    async def handle(_request: HttpRequest) -> Reply:
        return Reply(200, None)

    def begin(_request: HttpRequest, _answer: Callable[[Reply], object]) -> None:
        """Nobody is told."""

    listener.add(HttpRoute("POST", "/a", "one", handle, begin, auth=False, rate=0.001, burst=1))
    assert listener.take(HttpRequest("POST", "/a", "", {}, b"12345", "192.0.2.1:1", "")) is None
    assert listener.take(HttpRequest("POST", "/a", "", {}, b"1234", "192.0.2.1:1", "")) is not None
    assert listener.take(HttpRequest("POST", "/a", "", {}, b"", "192.0.2.1:1", "")) is None
    assert listener.summary()["held_bytes"] == 4


async def test_a_body_at_the_limit_passes_and_one_byte_more_is_413(site: Site) -> None:
    site.route("POST", max_body=100_000)
    assert (await site.ask("POST", "/a", data=b"x" * 100_000, headers=KEY))[0] == 200
    status, body, _ = await site.ask("POST", "/a", data=b"x" * 100_001, headers=KEY)
    assert (status, body["error"]["code"]) == (413, "body_too_large")


async def test_a_chunked_body_is_measured_while_it_streams(site: Site) -> None:
    site.route("POST", max_body=100_000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    status, body, _ = await site.ask("POST", "/a", data=chunks(), headers=KEY)
    assert (status, body["error"]["code"]) == (413, "body_too_large")
    assert not site.requests


async def test_who_asks_first_is_refused_before_sending(site: Site) -> None:
    site.route("POST", max_body=10)
    answer = await site.raw(
        b"POST /a HTTP/1.1\r\nHost: x\r\nX-API-Key: s3cret\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_come_is_408(make_site: Any) -> None:
    site = await make_site(limits=Limits(body_timeout=0.1))
    site.route("POST")
    answer = await site.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nX-API-Key: s3cret\r\nContent-Length: 10\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer
    assert not site.requests


@pytest.mark.parametrize("begun", [b"", b"GET /a HTTP/1.1\r\nHost", b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\r\n"])
async def test_a_head_that_does_not_end_is_closed(make_site: Any, begun: bytes) -> None:
    site = await make_site(limits=Limits(head_timeout=0.1))
    site.route()
    assert await site.raw(begun) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000,
    ],
)
async def test_a_head_that_is_too_large_is_431(site: Site, head: bytes) -> None:
    site.route()
    assert (await site.raw(head)).startswith(b"HTTP/1.1 431 ")


async def test_too_many_connections_are_dropped(make_site: Any) -> None:
    site = await make_site(limits=Limits(connections=1))
    site.route()
    assert (await site.ask("GET", "/a", headers=KEY))[0] == 200
    assert await site.raw(b"GET /a HTTP/1.1\r\n") == b""


# -- what is no proper HTTP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/a?x=%ff", 400),
        (b"/a?x=%c3%28", 400),
        (b"/a?" + b"&".join(b"x%d=1" % number for number in range(200)), 400),
        (b"/a?x=\xff", 400),
        (b"/%ff", 404),
        (b"/a%00", 404),
        (b"/a?x=%", 200),
    ],
)
async def test_what_is_no_text_is_400_and_never_500(site: Site, target: bytes, status: int) -> None:
    site.route()
    answer = await site.raw(
        b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nX-API-Key: s3cret\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    "data",
    [
        b"\x0bMSH|^~\\&|A\x1c\r",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nabcde",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nabcde",
    ],
)
async def test_what_is_no_http_is_400_in_json(site: Site, data: bytes) -> None:
    site.route("POST", auth=False)
    answer = await site.raw(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"bad_request"' in answer
    assert not site.requests


# -- hanging up, stopping, TLS ---------------------------------------------------------------------------------------


async def test_a_caller_who_hangs_up_cancels_nothing(site: Site, eventually: Any) -> None:
    site.route()
    site.gate.clear()
    calling = asyncio.create_task(site.ask("GET", "/a", headers=KEY))
    await site.entered.wait()
    calling.cancel()
    await asyncio.wait({calling})
    site.gate.set()
    await eventually(lambda: site.finished == 1)


async def test_stop_answers_what_is_under_way(site: Site) -> None:
    site.route()
    site.gate.clear()
    calling = asyncio.create_task(site.ask("GET", "/a", headers=KEY))
    await site.entered.wait()
    stopping = asyncio.create_task(site.listener.stop())
    await asyncio.sleep(0)
    site.gate.set()
    assert (await calling)[0] == 200
    await stopping
    with pytest.raises(aiohttp.ClientConnectorError):
        await site.ask("GET", "/a", headers=KEY)


async def test_a_stop_that_is_cancelled_ends_at_once(site: Site) -> None:
    site.route()
    site.gate.clear()
    calling = asyncio.create_task(site.ask("GET", "/a", headers=KEY))
    await site.entered.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await site.listener.stop()
    with pytest.raises(aiohttp.ClientError):
        await calling
    site.gate.set()


async def test_a_port_that_is_taken_is_an_oserror(site: Site) -> None:
    second = RestListener("127.0.0.1", site.listener.port, KEYS)
    with pytest.raises(OSError):
        await second.start()


async def test_it_speaks_tls(building: Building) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    listener = RestListener("127.0.0.1", 0, KEYS, ServerTls().contexts(building.site, building.data))
    await listener.start()
    async with aiohttp.ClientSession() as session:
        url = f"{listener.address}/nothing"
        assert url.startswith("https://")
        async with session.get(url, ssl=client_context(folder / "ca.pem")) as response:
            assert response.status == 404
    await listener.stop()


async def test_the_subject_of_a_callers_certificate_is_told_to_its_channel(building: Building, begin_of: Any) -> None:
    folder = building.data / "tls"
    ensure_certificates(folder)
    contexts = ServerTls.model_validate({"client_ca": "data/tls/ca.pem"}).contexts(building.site, building.data)
    listener, seen = RestListener("127.0.0.1", 0, KEYS, contexts), list[HttpRequest]()

    async def handle(request: HttpRequest) -> Reply:
        seen.append(request)
        return Reply(200, {})

    gate = asyncio.Event()
    gate.set()
    listener.add(HttpRoute("GET", "/a", "one", handle, begin_of(handle, gate)))
    await listener.start()
    context = client_context(folder / "ca.pem", *issue(folder, "portal"))
    url = f"{listener.address}/a"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context, headers=KEY) as response:
        assert response.status == 200
    await listener.stop()
    assert [(request.api_key, request.identity) for request in seen] == [("radscheduler", "CN=portal")]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"a": ["jäa", "\udc80"]}),
        Reply(503, {"error": {}}, {"Retry-After": "10"}),
        Reply(204, None, {"Allow": "GET, OPTIONS"}),
        Reply(204, None),
    ],
)
def test_an_answer_on_the_wire_is_that_of_an_asgi_server(reply: Reply) -> None:
    head, body = wire(reply, "corr-1")
    start, same = render(reply, "corr-1")
    assert body == same
    assert head == b"".join(name + b": " + value + b"\r\n" for name, value in start["headers"])
