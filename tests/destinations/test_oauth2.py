"""`auth: {oauth2: …}` of the REST destination, against a token server and an API that count."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs

from engine.destinations.base import Building, DestinationContext
from engine.destinations.connections import oauth2
from engine.destinations.connections.oauth2 import NoToken, OAuth2, Tokens
from engine.destinations.rest import RestDestination, RestDestinationConfig
from engine.errors import Rejected, Unavailable

SECRET = "s3cret/with+signs"
Make = Callable[..., Awaitable[RestDestination]]


class Api:
    """A token server and an API in one; ``tokens`` are those it takes."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, list[str]]]] = []
        self.calls: list[tuple[str, bytes]] = []
        self.tokens: set[str] = set()
        self.answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600}
        self.token_status, self.takes = 200, True
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self.port = 0
        self.runner = web.ServerRunner(web.Server(self.serve))

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/token":
            self.asked.append((request.headers, parse_qs(body.decode())))
            self.reached.set()
            await self.gate.wait()
            if self.token_status != 200:
                return web.json_response(self.answer, status=self.token_status)
            token = f"token-{len(self.asked)}"
            self.tokens.add(token)
            return web.json_response({"access_token": token, **self.answer})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.calls.append((token, body))
        return web.Response(status=200 if self.takes and token in self.tokens else 401)

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.port = self.runner.addresses[0][1]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = Api()
    await made.start()
    yield made
    made.gate.set()
    await made.runner.cleanup()


@pytest.fixture
async def make(building: Building, api: Api) -> AsyncIterator[Make]:
    made: list[RestDestination] = []

    async def begin(**keys: Any) -> RestDestination:
        auth = {"token_url": f"http://127.0.0.1:{api.port}/token", "client_id": "me:too", "client_secret": SECRET}
        config = {"url": f"http://127.0.0.1:{api.port}/x", "auth": {"oauth2": {**auth, **keys}}}
        made.append(RestDestination(RestDestinationConfig.model_validate(config), building))
        await made[-1].start(DestinationContext(lambda *_: pytest.fail("nothing is handed over")))
        return made[-1]

    yield begin
    for destination in made:
        await destination.stop()


async def test_a_token_is_fetched_once_and_serves_every_message(make: Make, api: Api, outgoing: Any) -> None:
    destination = await make(scope="a/b.* c")
    for _ in range(3):
        assert (await destination.send(outgoing())).evidence.ack == "200"
    ((headers, fields),) = api.asked
    assert fields == {"grant_type": ["client_credentials"], "scope": ["a/b.* c"]}
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    # RFC 6749, 2.3.1: each is form-encoded, so that a colon in the id is not the one between them.
    assert b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == "me%3Atoo:s3cret%2Fwith%2Bsigns"
    assert [token for token, _ in api.calls] == ["token-1"] * 3


async def test_id_and_secret_may_stand_in_the_body(make: Make, api: Api, outgoing: Any) -> None:
    await (await make(credentials="body")).send(outgoing())
    ((headers, fields),) = api.asked
    assert "Authorization" not in headers
    assert (fields["client_id"], fields["client_secret"]) == (["me:too"], [SECRET])


async def test_connections_that_need_a_token_at_once_share_one_fetch(make: Make, api: Api, outgoing: Any) -> None:
    destination = await make()
    api.gate.clear()
    sends = [asyncio.create_task(destination.send(outgoing()), name=f"send {number}") for number in range(6)]
    await api.reached.wait()
    api.gate.set()
    assert [(await send).evidence.ack for send in sends] == ["200"] * 6
    assert len(api.asked) == 1


async def test_one_that_gives_up_fetching_leaves_it_to_the_next(make: Make, api: Api, outgoing: Any) -> None:
    destination = await make()
    api.gate.clear()
    first, second = (asyncio.create_task(destination.send(outgoing()), name=name) for name in ("first", "second"))
    await api.reached.wait()
    first.cancel()
    await asyncio.wait({first})
    api.gate.set()
    assert (await second).evidence.ack == "200"
    assert len(api.calls) == 1


async def test_a_token_that_is_no_longer_taken_is_fetched_anew_and_the_message_sent_again(
    make: Make, api: Api, outgoing: Any
) -> None:
    destination = await make()
    await destination.send(outgoing())
    api.tokens.clear()
    sends = [destination.send(outgoing(control_id=f"M{number}")) for number in range(4)]
    assert [response.evidence.ack for response in await asyncio.gather(*sends)] == ["200"] * 4
    assert len(api.asked) == 2, "all of them met the 401, and one fetched for all"
    assert {token for token, _ in api.calls[5:]} <= {"token-1", "token-2"}


async def test_a_partner_that_takes_no_token_has_said_no(make: Make, api: Api, outgoing: Any) -> None:
    destination = await make()
    api.takes = False
    with pytest.raises(Rejected) as rejected:
        await destination.send(outgoing())
    assert rejected.value.evidence.ack == "401"
    assert (len(api.asked), len(api.calls)) == (2, 2), "once more with a new one, and no further"


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (401, {"error": "invalid_client", "error_description": "Doe"}, "invalid_client"),
        (400, {"error": "Doe's client"}, "other"),
        (500, {}, "other"),
        (200, {"access_token": None}, "other"),
        (200, {"access_token": "two words"}, "other"),
        (200, {"access_token": "a\nb"}, "other"),
        (200, {"token_type": "mac"}, "other"),
    ],
)
async def test_without_a_token_nothing_is_sent_and_nothing_secret_is_told(
    status: int, answer: dict[str, Any], told: str, make: Make, api: Api, outgoing: Any
) -> None:
    destination = await make()
    api.token_status, api.answer = status, {**api.answer, **answer}
    with capture_logs() as logs, pytest.raises(Unavailable, match="token"):
        await destination.send(outgoing())
    assert not api.calls
    (line,) = [line for line in logs if line["event"] == "rest.token_refused"]
    assert (line["status"], line["error"]) == (status, told)
    assert not any(secret in str(logs) for secret in (SECRET, "Doe", "token-1", "two words"))
    api.token_status, api.answer = 200, {}
    assert (await destination.send(outgoing())).evidence.ack == "200", "the next attempt asks again"


async def test_a_token_server_that_is_away_is_unavailable(make: Make, outgoing: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        destination = await make(token_url=f"http://127.0.0.1:{closed.getsockname()[1]}/token")
        with capture_logs() as logs, pytest.raises(Unavailable, match="token"):
            await destination.send(outgoing())
    assert [line["reason"] for line in logs if line["event"] == "rest.token_unavailable"] == ["refused"]


# -- when a token ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in", "serves", "ends"),
    [(3600, 3539, 3541), ("3600", 3539, 3541), (100, 89, 91), (None, 269, 271), ("soon", 269, 271), (-5, 269, 271),
     (1e12, 86339, 86341), (float("nan"), 269, 271)],
)  # fmt: skip
async def test_a_token_is_fetched_before_it_ends(expires_in: Any, serves: float, ends: float) -> None:
    now, fetched = 1000.0, 0

    async def ask(url: Any, headers: Any, body: Any) -> tuple[int, bytes]:
        nonlocal fetched
        fetched += 1
        written = "NaN" if expires_in != expires_in else oauth2.json.dumps(expires_in)
        return 200, f'{{"access_token": "t{fetched}", "expires_in": {written}}}'.encode()

    config = OAuth2.model_validate({"token_url": "https://a.example.org/t", "client_id": "a", "client_secret": "b"})
    tokens = Tokens(config, ask, {}, lambda: now)
    assert (await tokens.get()).value == "t1"
    now = 1000.0 + serves
    assert (await tokens.get()).value == "t1"
    now = 1000.0 + ends
    assert (await tokens.get()).value == "t2"


async def test_only_the_token_that_was_refused_is_fetched_anew() -> None:
    values = iter("abc")

    async def ask(url: Any, headers: Any, body: Any) -> tuple[int, bytes]:
        return 200, f'{{"access_token": "{next(values)}"}}'.encode()

    config = OAuth2.model_validate({"token_url": "https://a.example.org/t", "client_id": "a", "client_secret": "b"})
    tokens = Tokens(config, ask, {})
    first = await tokens.get()
    second = await tokens.get(refused=first)
    assert (await tokens.get(refused=first)) is second, "a late 401 of the first says nothing about the second"
    assert "value" not in repr(first), "a token is not shown"


async def test_a_body_that_is_no_json_is_no_token() -> None:
    async def ask(url: Any, headers: Any, body: Any) -> tuple[int, bytes]:
        return 200, b"<html>"

    config = OAuth2.model_validate({"token_url": "https://a.example.org/t", "client_id": "a", "client_secret": "b"})
    with pytest.raises(NoToken):
        await Tokens(config, ask, {}).get()


@pytest.mark.parametrize(
    "keys",
    [
        {"token_url": "http://a.example.org/token"},
        {"token_url": "ftp://127.0.0.1/token"},
        {"token_url": "https://me:too@a.example.org/token"},
        {"client_id": ""},
        {"client_secret": ""},
        {"credentials": "query"},
    ],
)
def test_what_is_wrong_is_told(keys: dict[str, str]) -> None:
    good = {"token_url": "https://a.example.org/t", "client_id": "a", "client_secret": "b"}
    with pytest.raises(ValidationError):
        OAuth2.model_validate({**good, **keys})
