"""The HTTP connection of listeners: however a stream is cut, the same requests come out, and another reader agrees.

The other reader is h11, which has nothing in common with llhttp: what both take they must read in the same way, else
a request could be hidden in another one (smuggling). Input: a cut, then the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast
from urllib.parse import unquote

import h11
import structlog
import uvicorn
from uvicorn.server import ServerState

from engine.sources.base import HttpRequest
from engine.sources.serving.accepting import Place, Places
from engine.sources.serving.http_connection import PIPELINE, Begin, HttpConnection, Respond
from engine.sources.serving.http_head import Limits
from engine.sources.serving.telling import Telling
from fuzz.data import Input

#: Method, path, query and body.
Request = tuple[str, str, str, bytes]
_LOOP = asyncio.new_event_loop()


def seeds() -> list[bytes]:
    """Requests as they come, and as they must not."""
    post = b"POST /a HTTP/1.1\r\nHost: x\r\n"
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    streams = [
        b"GET /a?b=%00 HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
        b"GET /a? HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a?b=c?&d= HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nX-Y: a  b\r\n\r\n" * 3,
        (post + b"Content-Length: 05\r\n\r\nabcde") * 2,
        post + b"Content-Length: 5\r\n\r\nabcdeGET /b HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
        chunked + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        post + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        post + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        post + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
        b"GET http://x/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\nHEAD /a HTTP/1.1\r\nHost: x\r\n\r\nCONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x0bMSH|^~\\&|\x1c\r",
        post + b"X: y\r\n z\r\nContent-Length: 1\n\na",
        b"\r\n\r\n"
        + post
        + b"Content-Length: 0\r\n\r\n\r\n"
        + post
        + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ]
    return [bytes([cut]) + stream for stream in streams for cut in (0, 6)]


def check(data: bytes) -> None:
    """Whole, byte by byte and in pieces give the same requests and answers, which h11 reads alike."""
    given = Input(data)
    cut, stream = given.byte() + 1, given.rest()
    sizes = (len(stream) + 1, 1, cut)
    by_task = [_heard(stream, size, at_once=False) for size in sizes]
    assert by_task[1] == by_task[0], "byte by byte"
    assert by_task[2] == by_task[0], f"in pieces of {cut}"
    assert len(by_task[0][0]) <= PIPELINE + 1
    # Taken at once, it depends on the pieces how many are answered of those in front of a fault; never which.
    heard = [*by_task, *(_heard(stream, size, at_once=True) for size in sizes)]
    longest = max((requests for requests, _ in heard), key=len)
    for requests, statuses in heard:
        assert requests == longest[: len(requests)], "taken at once"
        assert statuses[: len(requests)] == [b"200"] * len(requests), "a request was not answered, or not in its place"
        assert len(statuses) <= len(requests) + 1
    for mine, other in zip(longest, _h11(stream), strict=False):
        assert mine == other, "two servers read this differently"


class _Wire:
    """A transport in memory."""

    def __init__(self) -> None:
        self.written, self.closing = b"", False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name in ("peername", "sockname") else default

    def write(self, data: bytes) -> None:
        self.written += b"" if self.closing else data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def write_eof(self) -> None:
        """Nothing follows."""

    pause_reading = resume_reading = write_eof


def _heard(stream: bytes, size: int, *, at_once: bool) -> tuple[list[Request], list[bytes]]:
    return _LOOP.run_until_complete(_serve(stream, size, at_once=at_once))


async def _serve(stream: bytes, size: int, *, at_once: bool) -> tuple[list[Request], list[bytes]]:
    requests: list[Request] = []

    async def app(scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message["body"], message["more_body"]
        requests.append(_request(scope, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def take(request: HttpRequest) -> Begin:
        def begin(respond: Respond) -> None:
            requests.append((request.method, request.path, request.raw_query, request.body))
            respond(200, b"content-length: 0\r\n", b"")

        return begin

    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none", server_header=False)
    config.load()
    config.loaded_app = app
    telling = Telling(structlog.wrap_logger(structlog.ReturnLogger()), "http", {})
    place = cast("Place", Places(telling, 1, 1).take("127.0.0.1:5"))
    state, wire = ServerState(), _Wire()
    taken = take if at_once else None
    connection = HttpConnection(
        config=config, server_state=state, app_state={}, limits=Limits(), place=place, telling=telling, take=taken
    )
    connection.connection_made(cast("asyncio.Transport", wire))
    for at in range(0, len(stream), size):
        if not wire.closing:
            connection.data_received(stream[at : at + size])
    for _ in range(2):  # whoever has all of its body answers, also in front of one that waits for the rest of its own
        await asyncio.sleep(0)
    while state.tasks and not _all_wait(state):  # noqa: ASYNC110 - turns of a loop that has nothing else to do
        await asyncio.sleep(0)
    connection.connection_lost(None)
    while state.tasks:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not faults, faults
    return requests, [part[:3] for part in wire.written.split(b"HTTP/1.1 ")[1:] if not part.startswith(b"100")]


def _request(scope: Mapping[str, Any], body: bytes) -> Request:
    return scope["method"], scope["path"], scope["query_string"].decode("latin-1"), body


def _all_wait(state: ServerState) -> bool:
    """Whether every request that is being served waits for more of its body."""
    connections = cast("set[HttpConnection]", state.connections)
    return all(
        connection.cycle.more_body and not connection.cycle.message_event.is_set() and not connection.pipeline
        for connection in connections
    )


def _h11(stream: bytes) -> list[Request]:
    """The requests that h11 reads before anything stops it."""
    reader, found = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), list[Request]()
    reader.receive_data(stream)
    try:
        while True:
            head, body = reader.next_event(), b""
            if not isinstance(head, h11.Request):
                return found
            while not isinstance(event := reader.next_event(), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    return found
                body += bytes(event.data)
            found.append((head.method.decode(), *_address(head.target.decode("latin-1")), body))
            reader.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            reader.send(h11.EndOfMessage())
            reader.start_next_cycle()
    except h11.ProtocolError:
        return found


def _address(target: str) -> tuple[str, str]:
    """Path and query."""
    if not target.startswith(("/", "*")):
        rest = target.partition("://")[2]
        slash = rest.find("/")
        target = rest[slash:] if slash >= 0 else ""
    path, _, query = target.partition("#")[0].partition("?")
    return unquote(path), query
