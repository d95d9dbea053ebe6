"""The REST destination against real servers: what is sent, and how every ending is classified."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs

from engine.destinations.base import Building, DestinationContext
from engine.destinations.rest import RestDestination, RestDestinationConfig
from engine.errors import Rejected, SpecError, Unanswered, Unavailable
from engine.tls import ensure_certificates, server_context


class Webhook:
    """An HTTP server that answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any, bytes]] = []
        self.status, self.body = 200, b'{"ok": true}'
        self.headers: dict[str, str] = {}
        self.port = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._runner = web.ServerRunner(web.Server(self.answer))

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.requests.append((request.method, request.path_qs, request.headers, await request.read()))
        await self.gate.wait()
        return web.Response(status=self.status, body=self.body, headers=self.headers)

    async def start(self, **options: Any) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, **options).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.gate.set()
        await self._runner.cleanup()


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    made = Webhook()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def make(building: Building, webhook: Webhook) -> AsyncIterator[Callable[..., Awaitable[RestDestination]]]:
    made: list[RestDestination] = []

    async def begin(**config: Any) -> RestDestination:
        model = RestDestinationConfig.model_validate({"url": f"http://127.0.0.1:{webhook.port}/hook", **config})
        made.append(RestDestination(model, building))
        await made[-1].start(DestinationContext(lambda *_: pytest.fail("nothing is handed over")))
        return made[-1]

    yield begin
    for destination in made:
        await destination.stop()


async def outcome(destination: RestDestination, outgoing: Any) -> str:
    """How a send ended, in one word."""
    try:
        response = await destination.send(outgoing)
    except (Unavailable, Unanswered) as error:
        return f"{type(error).__name__} {error.reason}"
    except Rejected as error:
        return f"Rejected {error.evidence.ack}"
    return response.evidence.ack


async def raw_server(answer: bytes, *, close: bool = True) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if close:
            writer.close()
        else:
            await reader.read(-1)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


# -- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_message_is_sent_as_it_is(make: Any, webhook: Webhook, outgoing: Any) -> None:
    destination = await make(headers={"X-Own": "yes"}, auth={"bearer": "t0ken"})
    response = await destination.send(outgoing("OUT1", body=b'{"a": "\xc3\xa9"}', content_type="application/json"))
    assert (response.evidence.ack, response.body) == ("200", b'{"ok": true}')
    ((method, path, headers, body),) = webhook.requests
    assert (method, path, body) == ("POST", "/hook", b'{"a": "\xc3\xa9"}')
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Correlation-ID"] == "corr-1"
    assert headers["Idempotency-Key"] == "OUT1"
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["X-Own"] == "yes"


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"basic": {"username": "u", "password": "p"}}, "Authorization", "Basic dTpw"),
        ({"api_key": {"key": "k"}}, "X-API-Key", "k"),
        ({"api_key": {"header": "X-Own", "key": "k"}}, "X-Own", "k"),
    ],
)
async def test_kinds_of_credentials(
    make: Any, webhook: Webhook, outgoing: Any, auth: Any, header: str, value: str
) -> None:
    await (await make(auth=auth)).send(outgoing())
    assert webhook.requests[0][2][header] == value


async def test_the_key_of_a_message_without_control_id_is_its_delivery(
    make: Any, webhook: Webhook, outgoing: Any
) -> None:
    await (await make()).send(outgoing("", body=b"{}", delivery_id=42))
    assert webhook.requests[0][2]["Idempotency-Key"] == "42"


async def test_a_connection_is_kept(make: Any, webhook: Webhook, outgoing: Any) -> None:
    destination = await make()
    for _ in range(3):
        await destination.send(outgoing())
    assert len(webhook.requests) == 3


# -- endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_2xx_is_a_response(make: Any, webhook: Webhook, outgoing: Any, status: int) -> None:
    webhook.status = status
    assert await outcome(await make(), outgoing()) == str(status)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 408, 409, 422, 425, 429, 500, 502, 503])
async def test_every_other_status_is_a_definite_no(make: Any, webhook: Webhook, outgoing: Any, status: int) -> None:
    webhook.status, webhook.body, webhook.headers = (
        status,
        b"PLANTED",
        {"Location": f"http://127.0.0.1:{webhook.port}/"},
    )
    with pytest.raises(Rejected) as rejected:
        await (await make()).send(outgoing())
    assert (rejected.value.evidence.ack, rejected.value.evidence.body) == (str(status), b"PLANTED")
    assert "PLANTED" not in repr(rejected.value) + str(rejected.value)
    assert len(webhook.requests) == 1


async def test_nobody_there_is_unavailable(make: Any, webhook: Webhook, outgoing: Any) -> None:
    await webhook.stop()
    destination = await make()
    assert await outcome(destination, outgoing()) == "Unavailable refused"
    with pytest.raises(Unavailable, match="refused"):
        await destination.probe()


async def test_a_name_that_does_not_exist_is_unavailable(make: Any, outgoing: Any) -> None:
    destination = await make(url="http://no-such-partner.invalid/", connect_timeout="20s")
    assert await outcome(destination, outgoing()) == "Unavailable dns"
    with pytest.raises(Unavailable, match="dns"):
        await destination.probe()


async def test_a_connect_that_takes_too_long_is_unavailable(make: Any, outgoing: Any) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        destination = await make(url=f"http://127.0.0.1:{full.getsockname()[1]}/", connect_timeout="100ms")
        assert await outcome(destination, outgoing()) == "Unavailable timeout"
        for one in waiting:
            one.close()


async def test_no_answer_in_time_is_unanswered(make: Any, webhook: Webhook, outgoing: Any) -> None:
    webhook.gate.clear()
    assert await outcome(await make(timeout="100ms"), outgoing()) == "Unanswered timeout"
    assert len(webhook.requests) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "Unanswered lost"),
        (b"HTTP/1.1 200", "Unanswered lost"),
        (b"\x0bMSH|garbage\x1c\r", "Unanswered malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "200"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf", "Rejected 500"),
    ],
)
async def test_a_connection_that_ends_early(make: Any, outgoing: Any, answer: bytes, expected: str) -> None:
    server, port = await raw_server(answer)
    assert await outcome(await make(url=f"http://127.0.0.1:{port}/"), outgoing()) == expected
    server.close()


async def test_a_body_that_stops_coming_does_not_undo_the_status(make: Any, outgoing: Any) -> None:
    server, port = await raw_server(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf", close=False)
    destination = await make(url=f"http://127.0.0.1:{port}/", timeout="200ms")
    response = await destination.send(outgoing())
    assert (response.evidence.ack, response.body) == ("201", b"half")
    server.close()


async def test_an_answer_is_bounded(make: Any, webhook: Webhook, outgoing: Any) -> None:
    webhook.body = b"x" * 1_000_000
    response = await (await make(max_size="1KiB")).send(outgoing())
    assert response.body == b"x" * 1024


async def test_a_probe_sends_nothing(make: Any, webhook: Webhook) -> None:
    await (await make()).probe()
    assert not webhook.requests


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def secure(building: Building) -> AsyncIterator[tuple[Path, int]]:
    folder = building.data / "tls"
    ensure_certificates(folder)
    server = Webhook()
    await server.start(ssl_context=server_context(folder / "server.pem", folder / "server.key"))
    yield folder, server.port
    await server.stop()


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"ca": "data/tls/ca.pem"}, "200"),
        ({"verify": False}, "200"),
        (None, "Unavailable tls"),
        ({"ca": "data/tls/ca.pem", "server_name": "other.example.org"}, "Unavailable tls"),
        ({"ca": "data/not-yet.pem"}, "Unavailable tls"),
    ],
)
async def test_https(make: Any, outgoing: Any, secure: tuple[Path, int], tls: Any, expected: str) -> None:
    destination = await make(url=f"https://127.0.0.1:{secure[1]}/", tls=tls)
    with capture_logs() as logs:
        assert await outcome(destination, outgoing()) == expected
    assert [entry["event"] for entry in logs] == (["rest.tls_failed"] if expected == "Unavailable tls" else [])
    assert all(entry["reason"] for entry in logs)


# -- secrets and the file --------------------------------------------------------------------------------------------


async def test_secrets_are_shown_nowhere(building: Building, webhook: Webhook, outgoing: Any) -> None:
    webhook.status = 401
    config = RestDestinationConfig.model_validate(
        {
            "url": f"http://127.0.0.1:{webhook.port}/hook?token=PLANTED1",
            "headers": {"X-Own": "PLANTED2"},
            "auth": {"bearer": "PLANTED3"},
        }
    )
    destination = RestDestination(config, building)
    with capture_logs() as logs, pytest.raises(Rejected) as rejected:
        await destination.send(outgoing())
    await webhook.stop()
    with capture_logs() as more, pytest.raises((Unavailable, Unanswered)) as unavailable:
        await destination.send(outgoing())
    await destination.stop()
    shown = repr((rejected.value, unavailable.value, logs, more, config.auth, config.headers, destination.address))
    assert "PLANTED" not in shown
    assert destination.address == f"http://127.0.0.1:{webhook.port}/hook"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": "ftp://example.org/"},
        {"url": "example.org"},
        {"url": "http://user:secret@example.org/"},
        {"url": "http://example.org:99999/"},
        {"url": "http://example.org/", "method": "FETCH"},
        {"url": "http://example.org/", "auth": {}},
        {"url": "http://example.org/", "auth": {"bearer": "a", "api_key": {"key": "b"}}},
    ],
)
def test_a_wrong_key_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RestDestinationConfig.model_validate(config)


@pytest.mark.parametrize(
    ("config", "at"),
    [
        ({"headers": {"X": "a\r\nY: b"}}, ("headers",)),
        ({"headers": {"X Y": "a"}}, ("headers",)),
        ({"auth": {"bearer": "a\nb"}}, ("headers",)),
        ({"tls": True}, ("url",)),
    ],
)
def test_what_the_model_cannot_see_is_a_spec_error(building: Building, config: Any, at: tuple[str, ...]) -> None:
    model = RestDestinationConfig.model_validate({"url": "http://example.org/", **config})
    with pytest.raises(SpecError) as error:
        RestDestination(model, building)
    assert error.value.at == at


async def test_members_of_the_body_stand_in_the_address_and_the_rest_is_a_form(
    make: Any, webhook: Webhook, outgoing: Any
) -> None:
    url = f"http://127.0.0.1:{webhook.port}/v1/appointments/{{appointmentid}}{{/action}}"
    destination = await make(url=url, format="form", method="PUT")
    body = b'{"appointmentid": "7 8", "action": "cancel", "patientid": "MRN1", "reason": null}'
    assert await outcome(destination, outgoing(body=body, content_type="application/json")) == "200"
    ((method, path, headers, sent),) = webhook.requests
    assert (method, path, sent) == ("PUT", "/v1/appointments/7%208/cancel", b"patientid=MRN1")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert destination.address == f"http://127.0.0.1:{webhook.port}/v1/appointments/"
    assert await outcome(destination, outgoing(body=b'{"patientid": "MRN1"}')) == "Rejected unaddressed"
    assert await outcome(destination, outgoing()) == "Rejected unaddressed", "no JSON object"
    assert len(webhook.requests) == 1


async def test_a_template_without_a_form_leaves_the_rest_as_json(make: Any, webhook: Webhook, outgoing: Any) -> None:
    destination = await make(url=f"http://127.0.0.1:{webhook.port}/x/{{id}}")
    await destination.send(outgoing(body=b'{"id": 7, "a": "b"}', content_type="application/json"))
    await destination.send(outgoing(body=b'{"id": 7}', content_type="application/json"))
    assert [(path, sent) for _, path, _, sent in webhook.requests] == [("/x/7", b'{"a": "b"}'), ("/x/7", b"")]


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Fri, 31 Jan 2027 08:00:00 GMT", None), ("-1", None)])
async def test_how_long_the_partner_asks_to_wait_is_kept(
    header: str, seconds: float | None, make: Any, webhook: Webhook, outgoing: Any
) -> None:
    webhook.status, webhook.headers = 429, {"Retry-After": header}
    destination = await make()
    with pytest.raises(Rejected) as rejected:
        await destination.send(outgoing())
    assert rejected.value.evidence.retry_after == seconds
