"""Requests that are read at once are those that the parser reads; addresses and queries."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import parse_qsl

import pytest
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from engine.errors import Refused
from engine.sources.base import HttpRequest
from engine.sources.serving.accepting import Place, Places
from engine.sources.serving.http_connection import Begin, HttpConnection
from engine.sources.serving.http_head import Limits
from engine.sources.serving.http_request import MAX_FIELDS, PlainRequests, parse_query
from engine.sources.serving.telling import Telling

PEER = "127.0.0.1:5"
USUAL = b"GET /api/slots?location=DTI&day=2027-01-31 HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\n\r\n"


class Wire:
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name in ("peername", "sockname") else default

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def parsed(data: bytes) -> tuple[list[HttpRequest], bool]:
    """The requests that a connection reads with its parser, and whether it stays open."""
    requests: list[HttpRequest] = []

    def take(request: HttpRequest) -> Begin:
        requests.append(request)
        return lambda respond: respond(200, b"content-length: 0\r\n", b"")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """What is not taken is not answered."""

    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none")  # type: ignore[arg-type]
    telling = Telling(structlog.wrap_logger(structlog.ReturnLogger()), "http", {})
    place, wire = cast("Place", Places(telling, 1, 1).take(PEER)), Wire()
    config.load()
    config.loaded_app = app
    connection = HttpConnection(
        config=config,
        server_state=ServerState(),
        app_state={},
        limits=Limits(),
        place=place,
        telling=telling,
        take=take,
    )
    connection.connection_made(cast("asyncio.Transport", wire))
    connection.data_received(data)
    is_open = not wire.closing
    connection.connection_lost(None)
    return requests, is_open


def mostly(plain: tuple[str, ...], strange: tuple[str, ...], letters: str = "?") -> st.SearchStrategy[str]:
    """What most requests have, and what few or none have."""
    return st.integers(0, 20).flatmap(
        lambda drawn: (
            st.text(letters, max_size=8) if drawn == 19 else st.sampled_from(strange if drawn == 20 else plain)
        )
    )


targets = mostly(
    ("/a", "/a/b.c?d=e&f", "/a?b?c=%20+", "/a/b?"), ("/", "//a", "/a#b", "/a?b#c", "*", "/é"), '/a?#%"<>\\|'
)
names = mostly(("X-Y", "Accept"), ("Connection", "host", "Content-Length", "Transfer-Encoding", "Expect"), "a_é: ")
values = mostly(("x", "a  b", "keep-alive", "x:y"), ("close", "", "3", "03", "chunked", "3 ", "é"), "\t 3a:,;=")
heads = st.tuples(
    mostly(("GET", "POST", "PUT"), ("HEAD", "OPTIONS", "get", "CONNECT")),
    targets,
    mostly(("HTTP/1.1",), ("HTTP/1.0", "HTTP/2.0", "http/1.1")),
    st.lists(st.tuples(names, mostly((": ",), (":", " : ", ":  ")), values), max_size=3),
    mostly(("",), ("abc", "\r\n", "GET /b HTTP/1.1\r\nHost: x\r\n\r\n")),
)


@given(heads)
def test_what_is_read_at_once_is_what_the_parser_reads(head: tuple[str, str, str, list[tuple[str, ...]], str]) -> None:
    method, target, version, headers, body = head
    lines = [f"{method} {target} {version}", "Host: x", *("".join(header) for header in headers)]
    data = ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1", "replace")
    plain = PlainRequests(PEER, "").read(data)
    if plain is not None:
        assert asyncio.run(parsed(data)) == ([plain], True)


@given(st.lists(heads, min_size=2, max_size=4))
def test_a_request_is_read_alike_whatever_came_before_it(
    several: list[tuple[str, str, str, list[tuple[str, ...]], str]],
) -> None:
    connection = PlainRequests(PEER, "")
    for method, target, version, headers, body in [*several, *several[::-1]]:
        lines = [f"{method} {target} {version}", "Host: x", *("".join(header) for header in headers)]
        data = ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1", "replace")
        assert connection.read(data) == PlainRequests(PEER, "").read(data)


def test_headers_that_come_again_are_not_read_again() -> None:
    connection = PlainRequests(PEER, "")
    first, other = connection.read(USUAL), connection.read(USUAL.replace(b"DTI", b"MAIN"))
    assert first is not None
    assert other is not None
    assert other.headers is first.headers
    assert other.raw_query == first.raw_query.replace("DTI", "MAIN")
    assert connection.read(b"GET /a HTTP/1.1\r\n") is None
    long = connection.read(USUAL.replace(b"Key: k", b"Key: " + b"k" * 4000))
    assert long is not None
    assert len(long.headers["x-api-key"]) == 4000
    again = connection.read(USUAL)
    assert again == first


@given(data=st.data())
def test_a_usual_request_with_one_byte_changed_is_read_alike_or_not_at_once(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(USUAL) - 1))
    changed = bytearray(USUAL)
    changed[at] = data.draw(st.integers(0, 255))
    plain = PlainRequests(PEER, "").read(bytes(changed))
    if plain is not None:
        assert asyncio.run(parsed(bytes(changed))) == ([plain], True)


@pytest.mark.parametrize(
    "data",
    [
        USUAL,
        USUAL.replace(b"X-API-Key: k", b"Connection: Keep-Alive\r\nX-API-Key: k"),
        b"POST /a HTTP/1.1\r\nHost: x:80\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n\xff{}",
        b"DELETE /a/b HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_usual_requests_are_read_at_once(data: bytes) -> None:
    assert asyncio.run(parsed(data)) == ([PlainRequests(PEER, "").read(data)], True)


@pytest.mark.parametrize("size", [b"-1", b"+3", b"3 ", b"0x3", b"2", b"4", b"9" * 5000, b"0" * 5000 + b"3"])
def test_a_body_of_another_length_is_the_parsers(size: bytes) -> None:
    data = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\nabc" % size
    assert PlainRequests(PEER, "").read(data) is None


@given(st.lists(st.tuples(st.text("ab%=+ &é", max_size=3), st.text("ab%=+ &é", max_size=3)), max_size=4))
def test_a_query_is_what_the_standard_library_reads(pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(f"{name}={value}" for name, value in pairs)
    try:
        expected = parse_qsl(raw.encode("ascii").decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        with pytest.raises(Refused):
            parse_query(raw)
        return
    found = parse_query(raw)
    assert [(name, value) for name in found for value in found[name]] == sorted(
        expected, key=lambda pair: list(dict(expected)).index(pair[0])
    )


def test_a_query_has_so_many_names_at_most() -> None:
    assert len(parse_query("&".join(f"n{number}" for number in range(MAX_FIELDS)))) == MAX_FIELDS
    with pytest.raises(Refused):
        parse_query("&".join(f"n{number}" for number in range(MAX_FIELDS + 1)))
