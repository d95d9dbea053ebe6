"""The REST source: declared parameters, checked bodies, and how answers become HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from engine.envelope import Ack, Origin, Reply
from engine.errors import ErrorRow, Refused, SpecError
from engine.sources.base import Building, HttpRequest
from engine.sources.rest import RestSource, RestSourceConfig
from engine.sources.serving.json_body import Schema, parse_json
from engine.sources.serving.listener import RestListener
from engine.sources.serving.parameters import Parameter, Parameters

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["orderId", "patient", "start"],
    "properties": {
        "orderId": {"type": "string", "minLength": 1, "maxLength": 22},
        "start": {"type": "string", "format": "date-time"},
        "modality": {"enum": ["CR", "CT"], "x-error": "unknown_modality"},
        "patient": {"$ref": "#/$defs/patient"},
        "codes": {"type": "array", "items": {"type": "string"}},
    },
    "$defs": {"patient": {"type": "object", "required": ["mrn"], "properties": {"mrn": {"type": "string"}}}},
}
BOOKING = {"orderId": "ORDER1", "start": "2027-01-16T09:00:00-06:00", "patient": {"mrn": "MRN1"}, "extra": 1}
KEY = {"X-API-Key": "s3cret"}


class Route:
    def __init__(self, source: RestSource, listener: RestListener, session: aiohttp.ClientSession) -> None:
        self.source, self.listener, self.session = source, listener, session

    async def ask(self, path: str = "", *, headers: Any = None, **options: Any) -> tuple[int, Any, Any]:
        url = self.listener.address + (path or self.source.config.path)
        method = self.source.config.method
        async with self.session.request(method, url, headers={**KEY, **(headers or {})}, **options) as response:
            text = await response.read()
            return response.status, json.loads(text) if text else None, response.headers


@pytest.fixture
def site(building: Building) -> Building:
    folder = building.site / "transforms" / "ris"
    folder.mkdir(parents=True)
    (folder / "booking.json").write_text(json.dumps(SCHEMA))
    (folder / "broken.json").write_text("{")
    (folder / "wrong.json").write_text('{"type": "strange"}')
    (folder / "dangling.json").write_text('{"$ref": "#/$defs/nowhere"}')
    (folder / "outside.json").write_text('{"$ref": "https://example.org/x.json"}')
    return building


@pytest.fixture
async def make(site: Building, receive: Any, make_context: Any) -> AsyncIterator[Callable[..., Awaitable[Route]]]:
    listener = RestListener("127.0.0.1", 0, {"radscheduler": ("s3cret", frozenset({"test-channel"}))})
    await listener.start()
    session = aiohttp.ClientSession()

    async def begin(**config: Any) -> Route:
        source = RestSource(RestSourceConfig.model_validate({"path": "/a", **config}), site)
        await source.start(make_context(receive, listener, late_row=ErrorRow("late_row", 418, "Own row.")))
        return Route(source, listener, session)

    yield begin
    await session.close()
    await listener.stop()


# -- what is handed over ---------------------------------------------------------------------------------------------


async def test_a_get_is_handed_over_with_its_declared_parameters(make: Any, receive: Any) -> None:
    route = await make(query={"location": {"required": True}, "size": {"default": "10"}, "zone": {}})
    receive.answer = Reply(200, {"slots": []})
    headers = {"X-Correlation-ID": "corr-1", "Cookie": "c=1", "Authorization": "Bearer x", "X-Own": "yes"}
    status, body, answered = await route.ask("/a?location=DTI&unknown=1&zone=", headers=headers)
    assert (status, body, answered["X-Correlation-ID"]) == (200, {"slots": []}, "corr-1")
    (taken,) = receive.taken
    assert taken.body == b""
    assert dict(taken.origin.query) == {"location": "DTI", "size": "10"}
    assert (taken.origin.source, taken.origin.api_key, taken.origin.correlation_id) == (
        "rest",
        "radscheduler",
        "corr-1",
    )
    assert taken.origin.headers["x-own"] == "yes"
    assert not {"x-api-key", "cookie", "authorization"} & set(taken.origin.headers)


async def test_a_post_is_handed_over_as_it_came(make: Any, receive: Any) -> None:
    route = await make(method="POST", body={"schema": "ris/booking"})
    receive.answer = Reply(201, {"confirmation": "C1"}, {"Idempotent-Replayed": "true"})
    text = json.dumps(BOOKING, indent=1).encode()
    status, body, headers = await route.ask(data=text, headers={"Content-Type": "application/json; charset=UTF-8"})
    assert (status, body, headers["Idempotent-Replayed"]) == (201, {"confirmation": "C1"}, "true")
    assert receive.bodies == [text]


# -- acks as answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ack", "status", "code"),
    [
        (Ack("accept"), 202, None),
        (Ack("reject", cause="malformed"), 400, "invalid_body"),
        (Ack("reject", cause="store_unavailable"), 503, "store_unavailable"),
        (Ack("reject", cause="channel_stopped"), 503, "channel_stopped"),
        (Ack("error", cause="not_delivered_in_time"), 504, "destination_timeout"),
        (Ack("error", cause="not_delivered"), 503, "destination_unavailable"),
        (Ack("error", cause="step_failed"), 500, "internal_error"),
    ],
)
async def test_an_ack_becomes_a_status(make: Any, receive: Any, ack: Ack, status: int, code: str | None) -> None:
    receive.answer = ack
    found, body, headers = await (await make()).ask(headers={"X-Correlation-ID": "c1"})
    assert found == status
    if code is None:
        assert body == {"status": "accepted", "correlationId": "c1"}
    else:
        assert (body["error"]["code"], body["error"]["correlationId"]) == (code, "c1")
    assert headers.get("Retry-After") == ("10" if status == 503 else None)


async def test_a_caller_is_answered_in_time_and_the_message_goes_on(make: Any, receive: Any) -> None:
    receive.hold = True
    status, body, _ = await (await make(timeout="50ms")).ask()
    assert (status, body["error"]["code"]) == (504, "destination_timeout")
    assert "outcome" not in body["error"]
    assert not receive.taken[0].receipt.answer.done()
    _, body, _ = await (await make(method="POST", path="/b", timeout="50ms")).ask()
    assert body["error"]["outcome"] == "unknown"


async def test_one_timer_waits_for_all_callers_also_when_one_begins_while_others_are_told(
    make: Any, receive: Any
) -> None:
    receive.hold = True
    source: RestSource = (await make(timeout="10s")).source
    now, timers, told = 0.0, list[float](), list[str]()
    source._loop = SimpleNamespace(  # type: ignore[assignment]
        time=lambda: now, call_at=lambda when, _look: timers.append(when) or SimpleNamespace(cancel=lambda: None)
    )

    def ask(name: str, then: Callable[[], object] = lambda: None) -> None:
        def answer(_reply: Reply) -> None:
            told.append(name)
            then()

        source._begin(HttpRequest("GET", "/a", "", {}, b"", "192.0.2.1:1", ""), answer)

    ask("A", lambda: ask("C"))
    now = 1.0
    ask("B")
    now = 10.0
    source._look()
    assert (told, timers) == (["A"], [10.0, 11.0])
    now = 20.0
    source._look()
    assert told == ["A", "B", "C"]
    for taken in receive.taken:
        taken.receipt.finish(Reply(200, None))


async def test_stop_answers_what_is_under_way_and_then_503(make: Any, receive: Any) -> None:
    receive.hold = True
    route = await make()
    calling = asyncio.create_task(route.ask())
    await receive.wait_for(1)
    stopping = asyncio.create_task(route.source.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    assert (await route.ask())[1]["error"]["code"] == "channel_stopped"
    receive.taken[0].receipt.finish(Reply(200, {}))
    assert (await calling)[0] == 200
    await stopping


async def test_a_source_that_was_stopped_starts_again(make: Any, receive: Any, make_context: Any) -> None:
    route = await make()
    await route.source.stop()
    await route.source.start(make_context(receive, route.listener))
    assert (await route.ask())[0] == 202


async def test_a_caller_who_hangs_up_cancels_nothing(make: Any, receive: Any) -> None:
    receive.hold = True
    route = await make()
    calling = asyncio.create_task(route.ask())
    await receive.wait_for(1)
    calling.cancel()
    await asyncio.wait({calling})
    receipt = receive.taken[0].receipt
    assert (await route.ask("/nothing"))[0] == 404  # by now the listener has seen the end of the connection
    assert receipt.answered is None
    receipt.finish(Reply(200, {}))


# -- parameters ------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

DECLARED = {
    "name": {"max_length": 5, "pattern": "[A-Z]+[0-9]?"},
    "modality": {"required": True, "one_of": ["CR", "CT"], "error": "unknown_modality"},
    "kind": {"one_of": ["a", "b"]},
    "date": {"format": "date", "from": "today", "to": "180d"},
    "day": {"format": "date", "from": "-1d", "to": "today", "zone": "America/Chicago"},
    "since": {"format": "date", "from": "2026-01-31", "to": date(2026, 2, 28), "error": "invalid_parameter"},
}


def parameters(**declared: Any) -> Parameters:
    return Parameters(
        {name: Parameter.model_validate(value) for name, value in (declared or DECLARED).items()}, now=NOON.timestamp
    )


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({}, "missing_parameter", "modality"),
        ({"modality": [""]}, "missing_parameter", "modality"),
        ({"modality": ["  "]}, "missing_parameter", "modality"),
        ({"modality": ["ZZ"]}, "unknown_modality", "modality"),
        ({"modality": ["cr"]}, "unknown_modality", "modality"),
        ({"modality": ["CR", "CT"]}, "invalid_parameter", "modality"),
        ({"kind": ["c"]}, "invalid_parameter", "kind"),
        ({"name": ["ABCDEF"]}, "invalid_parameter", "name"),
        ({"name": ["A12"]}, "invalid_parameter", "name"),
        ({"name": ["A\r"]}, "invalid_parameter", "name"),
        ({"date": ["20261121"]}, "invalid_date", "date"),
        ({"date": ["2026-02-30"]}, "invalid_date", "date"),
        ({"date": ["2026-W47-5"]}, "invalid_date", "date"),
        ({"date": ["2026-11-18"]}, "invalid_date", "date"),
        ({"date": ["2027-05-21"]}, "invalid_date", "date"),
        ({"date": ["\u0662026-11-21"]}, "invalid_date", "date"),
        ({"day": ["2026-11-18"]}, "invalid_date", "day"),
        ({"day": ["2026-11-21"]}, "invalid_date", "day"),
        ({"since": ["2026-01-30"]}, "invalid_parameter", "since"),
        ({"since": ["2026-03-01"]}, "invalid_parameter", "since"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(query: dict[str, list[str]], code: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        parameters().check({"modality": ["CR"], **query} if query else query)
    assert (refused.value.code, refused.value.field) == (code, field)


@pytest.mark.parametrize(
    "query",
    [
        {"date": "2026-11-20"},
        {"date": "2027-05-19"},
        {"day": "2026-11-19"},
        {"day": "2026-11-20"},
        {"since": "2026-02-28"},
        {"name": "ABC1"},
        {"kind": "b"},
    ],
)
def test_a_right_parameter_passes(query: dict[str, str]) -> None:
    found = parameters().check({"modality": ("CR",), **{name: (value,) for name, value in query.items()}})
    assert found == {"modality": "CR", **query}


def test_no_day_is_refused_that_is_today_somewhere() -> None:
    """At 23:30 UTC it is tomorrow in Auckland; at 00:30 UTC it is yesterday in Honolulu."""
    declared = {"date": Parameter.model_validate({"format": "date", "from": "today", "to": "today"})}
    late = Parameters(declared, now=datetime(2026, 11, 20, 23, 30, tzinfo=UTC).timestamp)
    assert late.check({"date": ("2026-11-21",)})
    early = Parameters(declared, now=datetime(2026, 11, 20, 0, 30, tzinfo=UTC).timestamp)
    assert early.check({"date": ("2026-11-19",)})
    with pytest.raises(Refused):
        late.check({"date": ("2026-11-22",)})


async def test_a_pattern_that_takes_others_years_is_refused_at_once(make: Any, receive: Any) -> None:
    route = await make(query={"x": {"pattern": "(a+)+b", "max_length": 5000}})
    status, body, _ = await route.ask("/a?x=" + "a" * 4000)
    assert (status, body["error"]["code"]) == (400, "invalid_parameter")
    assert (await route.ask("/a?x=" + "a" * 4000 + "b"))[0] == 202


async def test_a_refusal_is_recorded_and_names_no_value(make: Any, receive: Any) -> None:
    route = await make(query={"date": {"required": True, "format": "date"}})
    status, body, _ = await route.ask("/a?date=PLANTED")
    assert (status, body["error"]["code"], body["error"]["field"]) == (400, "invalid_date", "date")
    assert "PLANTED" not in json.dumps(body)
    assert [(code, content) for code, content, _ in receive.refused] == [("invalid_date", b"")]
    assert "PLANTED" not in repr(receive.refused)
    assert not receive.taken


async def test_a_code_of_the_site_is_answered_with_its_row(make: Any) -> None:
    route = await make(query={"x": {"one_of": ["1"], "error": "late_row"}})
    status, body, _ = await route.ask("/a?x=2")
    assert (status, body["error"]["message"]) == (418, "Own row.")


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"orderId": None}, "missing_parameter", "orderId"),
        ({"orderId": ""}, "missing_parameter", "orderId"),
        ({"patient": {}}, "missing_parameter", "patient.mrn"),
        ({"patient": {}, "orderId": 5}, "missing_parameter", "patient.mrn"),
        ({"orderId": 5}, "invalid_body", "orderId"),
        ({"orderId": "x" * 23}, "invalid_body", "orderId"),
        ({"start": "2027-01-16T09:00:00"}, "invalid_date", "start"),
        ({"start": "2027-02-30T09:00:00Z"}, "invalid_date", "start"),
        ({"start": "soon"}, "invalid_date", "start"),
        ({"modality": "ZZ"}, "unknown_modality", "modality"),
        ({"codes": ["a", 1]}, "invalid_body", "codes.1"),
    ],
)
async def test_a_body_against_its_schema(make: Any, receive: Any, change: Any, code: str, field: str) -> None:
    route = await make(method="POST", body={"schema": "ris/booking"})
    _, body, _ = await route.ask(json={**BOOKING, **change})
    assert (body["error"]["code"], body["error"]["field"]) == (code, field)
    assert [code for code, _, _ in receive.refused] == [code]
    assert not receive.taken


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"1" * 10_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/json; charset=latin-1", 415),
        (json.dumps(BOOKING).encode(), "application/vnd.own+json", 202),
    ],
)
async def test_what_is_no_json_is_refused(make: Any, data: bytes, content_type: str, status: int) -> None:
    route = await make(method="POST", body={"schema": "ris/booking"})
    assert (await route.ask(data=data, headers={"Content-Type": content_type}))[0] == status


async def test_a_body_that_is_too_large_is_413(make: Any, receive: Any) -> None:
    route = await make(method="POST", body={"max_size": "1KiB"})
    assert (await route.ask(json="x" * 2000))[0] == 413
    assert not receive.taken


async def test_without_a_declared_body_any_json_passes_or_none(make: Any, receive: Any) -> None:
    route = await make(method="POST")
    assert [(await route.ask(**options))[0] for options in ({"json": [1]}, {})] == [202, 202]
    assert receive.bodies == [b"[1]", b""]


def test_a_member_that_is_no_name_is_not_repeated() -> None:
    schema = Schema({"additionalProperties": {"type": "string"}})
    with pytest.raises(Refused) as refused:
        schema.check({"Jane Doe": 1})
    assert (refused.value.code, refused.value.field) == ("invalid_body", None)


def test_a_body_wrong_in_many_places_is_refused_soon() -> None:
    with pytest.raises(Refused):
        Schema({"items": {"type": "string"}}).check([1] * 100_000)


def test_json_is_read_strictly() -> None:
    assert parse_json(b'{"a": "\\u00e9"}', "application/json") == {"a": "é"}
    with pytest.raises(Refused, match="unsupported_media_type"):
        parse_json(b"{}", "")


# -- ask -------------------------------------------------------------------------------------------------------------


def test_ask_is_checked_in_the_same_way(site: Building) -> None:
    get = RestSource(RestSourceConfig.model_validate({"path": "/a", "query": {"x": {"required": True}}}), site)
    get.check(Origin("ask", query={"x": "1"}), b"")
    with pytest.raises(Refused, match="missing_parameter"):
        get.check(Origin("ask"), b"")
    config = {"path": "/a", "method": "POST", "body": {"schema": "ris/booking"}}
    post = RestSource(RestSourceConfig.model_validate(config), site)
    post.check(Origin("ask"), json.dumps(BOOKING).encode())
    with pytest.raises(Refused, match="missing_parameter"):
        post.check(Origin("ask"), b"{}")


# -- the file --------------------------------------------------------------------------------------------------------


def test_the_route_is_claimed_and_shown_and_its_codes_are_known(site: Building) -> None:
    config = {"path": "/a", "method": "POST", "query": DECLARED, "body": {"schema": "ris/booking"}, "rate": "300/m"}
    source = RestSource(RestSourceConfig.model_validate(config), site)
    assert source.claims() == ("http:POST /a",)
    assert source.address == "POST /a"
    assert source.error_codes == {"unknown_modality", "invalid_parameter"}
    assert source.config.rate == 5.0


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"path": "a"},
        {"path": "/a?x"},
        {"path": "/a/{id}"},
        {"path": "/a", "method": "FETCH"},
        {"path": "/a", "rate": "5/y"},
        {"path": "/a", "rate": 0},
        {"path": "/a", "query": {"x": {"pattern": "("}}},
        {"path": "/a", "query": {"x": {"pattern": "(?=a)b"}}},
        {"path": "/a", "query": {"x": {"pattern": 5}}},
        {"path": "/a", "query": {"x": {"from": "soon"}}},
        {"path": "/a", "auth": "maybe"},
    ],
)
def test_a_wrong_key_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RestSourceConfig.model_validate(config)


@pytest.mark.parametrize(
    ("config", "at"),
    [
        ({"method": "GET", "body": {}}, ("body",)),
        ({"query": {"x": {"from": "today"}}}, ("query", "x", "format")),
        ({"query": {"x": {"zone": "Mars/Olympus"}}}, ("query", "x", "zone")),
        ({"query": {"x": {"one_of": ["a"], "default": "b"}}}, ("query", "x", "default")),
        *(
            ({"method": "POST", "body": {"schema": name}}, ("body", "schema"))
            for name in ("ris/missing", "../x", "ris/broken", "ris/wrong", "ris/dangling", "ris/outside")
        ),
    ],
)
def test_what_the_model_cannot_see_is_a_spec_error(site: Building, config: dict[str, Any], at: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as error:
        RestSource(RestSourceConfig.model_validate({"path": "/a", **config}), site)
    assert error.value.at == at
