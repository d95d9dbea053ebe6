"""Every route of the admin API, against a supervisor that only remembers."""

import json
from datetime import datetime
from typing import Any

import pytest
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine.envelope import Reply
from engine.errors import Refused, StoreError

Call = Any


async def test_health_is_200_while_all_valid_channels_run_or_were_stopped(call: Call) -> None:
    answer = await call("GET", "/health")
    assert answer.status == 200
    assert answer.body == {
        "status": "ok",
        "store": "ok",
        "disk": "ok",
        "channels": {"siu": "running", "slots": "stopped", "bad": "broken"},
    }


async def test_health_is_503_while_a_channel_has_failed(call: Call, supervisor: Any) -> None:
    supervisor.states["siu"] = "failed"
    answer = await call("GET", "/health")
    assert (answer.status, answer.body["status"]) == (503, "degraded")


async def test_health_is_503_while_the_disk_takes_nothing(call: Call, supervisor: Any) -> None:
    supervisor.store.trouble = "SQLITE_FULL"
    answer = await call("GET", "/health")
    assert (answer.status, answer.body["status"], answer.body["store"]) == (503, "degraded", "SQLITE_FULL")
    assert (await call("GET", "/api/channels")).body["store"] == "SQLITE_FULL"


async def test_a_disk_that_gets_full_is_told_and_is_no_failure_yet(call: Call, supervisor: Any) -> None:
    supervisor.disk.low = True
    answer = await call("GET", "/health")
    assert (answer.status, answer.body["status"], answer.body["disk"]) == (200, "ok", "low")
    told = {"state": "low", "free_bytes": 5, "total_bytes": 100}
    assert [(await call("GET", f"/api/{name}")).body["disk"] for name in ("channels", "status")] == [told, told]
    supervisor.disk.look = lambda: None
    assert (await call("GET", "/api/status")).body["disk"] == {"state": "low"}


async def test_health_is_503_before_the_engine_is_ready(call: Call, supervisor: Any) -> None:
    supervisor.ready = False
    answer = await call("GET", "/health")
    assert (answer.status, answer.body["status"]) == (503, "not_ready")


async def test_status_names_the_engine_and_its_site(call: Call) -> None:
    body = (await call("GET", "/api/status")).body
    assert body["site"] == "/site"
    assert body["started_at"] == "1970-01-01T00:15:00.000Z"
    assert isinstance(body["pid"], int)
    assert body["writing_process"] == {"state": "running", "pid": 4131}
    assert body["rest"] == {"address": "http://127.0.0.1:8080", "held_bytes": 0, "since_start": {}}
    assert body["pruning"] == {"last": None, "next_at": "1970-01-01T01:15:00.000Z"}


async def test_channels_show_state_address_and_what_waits(call: Call) -> None:
    channels = (await call("GET", "/api/channels")).body["channels"]
    assert [channel["name"] for channel in channels] == ["siu", "slots", "bad"]
    assert channels[0]["destinations"][0]["parked"] == 1
    assert (await call("GET", "/api/channels/siu")).body["channel"] == channels[0]


@pytest.mark.parametrize(("verb", "state"), [("start", "running"), ("stop", "stopped")])
async def test_a_channel_is_started_and_stopped(call: Call, supervisor: Any, verb: str, state: str) -> None:
    answer = await call("POST", f"/api/channels/slots/{verb}")
    assert answer.status == 200
    assert answer.body["channel"]["state"] == state
    assert supervisor.calls == [(verb, "slots")]


async def test_a_destination_is_paused_and_resumed(call: Call, supervisor: Any) -> None:
    paused = (await call("POST", "/api/channels/siu/destinations/epic/pause")).body["channel"]["destinations"][0]
    assert paused["paused_since"] == "1970-01-01T00:16:00.500Z"
    resumed = (await call("POST", "/api/channels/siu/destinations/epic/resume")).body["channel"]["destinations"][0]
    assert resumed["paused_since"] is None
    assert supervisor.calls == [("pause", "siu", "epic"), ("resume", "siu", "epic")]
    supervisor.trouble = ValueError("channel siu has no destination lost")
    refused = await call("POST", "/api/channels/siu/destinations/lost/pause")
    assert (refused.status, refused.error["message"]) == (409, "channel siu has no destination lost")
    assert (await call("POST", "/api/channels/bad/destinations/epic/pause")).status == 409


async def test_a_broken_channel_cannot_be_started(call: Call, supervisor: Any) -> None:
    answer = await call("POST", "/api/channels/bad/start")
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert supervisor.calls == []


async def test_what_waits_is_told_and_discarded_or_renamed_on_purpose(call: Call, supervisor: Any) -> None:
    assert (await call("GET", "/api/waiting")).body["waiting"] == [
        {"channel": "siu", "destination": "", "state": "failed", "number": 2},
        {"channel": "siu", "destination": "epic", "state": "parked", "number": 1},
    ]
    answer = await call("POST", "/api/channels/siu/discard", {"destination": "epic", "states": ["parked"]})
    assert answer.body == {"channel": "siu", "destination": "epic", "discarded": 3}
    answer = await call("POST", "/api/channels/siu/rename", {"from": "epic", "to": "epic2"})
    assert (answer.body["channel"]["name"], answer.body["moved"]) == ("siu", 3)
    await call("POST", "/api/channels/bad/discard", {})
    assert supervisor.calls == [
        ("discard waiting", "siu", "epic", "parked"),
        ("rename", "siu", "epic", "epic2"),
        ("discard waiting", "bad", None),
    ]


async def test_a_reload_tells_what_became_of_each_channel(call: Call, supervisor: Any) -> None:
    answer = await call("POST", "/api/reload", {"channels": ["siu"]})
    assert answer.body == {
        "channels": [{"name": "siu", "what": "kept", "problems": ["channels/siu.yaml:3: ack: `x` is not known here"]}],
        "notes": [],
    }
    await call("POST", "/api/reload", {})
    assert supervisor.calls == [("reload", "siu"), ("reload",)]
    for wrong in ("siu", [7]):
        assert (await call("POST", "/api/reload", {"channels": wrong})).status == 400


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("discard", {"destination": 7}),
        ("discard", {"destination": "epic", "states": ["delivered"]}),
        ("discard", {"destination": "epic", "states": "held"}),
        ("rename", {"from": "epic"}),
        ("rename", {"to": "epic"}),
    ],
)
async def test_an_order_that_cannot_be_meant_is_refused(call: Call, supervisor: Any, verb: str, body: Any) -> None:
    answer = await call("POST", f"/api/channels/siu/{verb}", body)
    assert (answer.status, answer.error["code"], supervisor.calls) == (400, "invalid_body", [])


@pytest.mark.parametrize(("state", "why"), [("broken", "is not valid"), ("removed", "is gone")])
async def test_a_channel_without_a_valid_file_takes_no_new_name(
    call: Call, supervisor: Any, state: str, why: str
) -> None:
    supervisor.states["bad"] = state
    answer = await call("POST", "/api/channels/bad/rename", {"from": "a", "to": "b"})
    assert (answer.status, why in answer.error["message"], supervisor.calls) == (409, True, [])


async def test_health_is_503_while_a_channel_is_refused(call: Call, supervisor: Any) -> None:
    supervisor.states["siu"] = "refused"
    assert (await call("GET", "/health")).status == 503


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/channels/none"),
        ("POST", "/api/channels/none/discard"),
        ("POST", "/api/channels/none/rename"),
        ("POST", "/api/channels/none/start"),
        ("POST", "/api/ask/none"),
        ("GET", "/api/messages/77"),
        ("POST", "/api/messages/77/resend"),
        ("POST", "/api/deliveries/77/resend"),
        ("POST", "/api/deliveries/77/discard"),
        ("GET", "/api/trace/none"),
        ("GET", "/api/nothing"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
async def test_what_does_not_exist_is_404_in_the_one_shape(call: Call, method: str, target: str) -> None:
    answer = await call(method, target, {} if method == "POST" else None)
    assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/api/messages/77", "There is no message 77."),
        ("/api/trace/none", "Nothing has this correlation id."),
        ("/api/channels/none", "There is no channel of this name."),
    ],
)
async def test_what_does_not_exist_is_named(call: Call, target: str, message: str) -> None:
    assert (await call("GET", target)).error["message"] == message


async def test_a_channel_that_was_slightly_missed_is_told_with_the_nearest(call: Call) -> None:
    [first, *_] = (await call("GET", "/api/channels")).body["channels"]
    told = (await call("GET", f"/api/channels/{first['name']}x")).error["message"]
    assert told == f"There is no channel of this name. Did you mean {first['name']}?"


async def test_messages_come_newest_first_with_their_deliveries(call: Call) -> None:
    body = (await call("GET", "/api/messages")).body
    assert [row["id"] for row in body["messages"]] == [5, 1]
    assert body["next"] is None
    assert body["messages"][1]["deliveries"] == [
        {"id": 2, "destination": "epic", "state": "parked"},
        {"id": 3, "destination": "generic", "state": "queued"},
    ]


async def test_every_filter_reaches_the_store(call: Call, supervisor: Any) -> None:
    answer = await call(
        "GET",
        "/api/messages?channel=siu&state=routed&delivery_state=held&correlation_id=c&control_id=m&since=2026-11-20T09:30:00Z"
        "&until=1000.5&limit=1&before=9",
    )
    [find] = supervisor.store.asked
    assert answer.body["next"] == 5
    assert (find.channel, find.state, find.delivery_state) == ("siu", "routed", "held")
    assert (find.correlation_id, find.control_id, find.limit, find.before_id) == ("c", "m", 1, 9)
    assert (find.since, find.until) == (datetime.fromisoformat("2026-11-20T09:30:00Z").timestamp(), 1000.5)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=Planted", "state"),
        ("delivery_state=Planted", "delivery_state"),
        ("since=Planted", "since"),
        ("limit=501", "limit"),
        ("before=Planted", "before"),
    ],
)
async def test_an_invalid_filter_is_named_and_never_repeated(call: Call, query: str, field: str) -> None:
    answer = await call("GET", f"/api/messages?{query}")
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, "invalid_parameter", field)
    assert "Planted" not in answer.text


async def test_an_id_that_no_store_can_hold_is_invalid(call: Call) -> None:
    assert (await call("GET", f"/api/messages/{2**63}")).error["field"] == "message_id"


async def test_a_message_is_shown_without_content(call: Call) -> None:
    answer = await call("GET", "/api/messages/1")
    assert answer.body["message"]["peer"] == "10.0.0.9:4000"
    assert answer.body["deliveries"][0]["codes"] == {"ack": "AE", "condition": "204", "location": "PID-3"}
    assert [hop["what"] for hop in answer.body["hops"]] == [
        "received",
        "acknowledged",
        "routed",
        "queued",
        "sent",
        "parked",
    ]
    for content in ("Planted", "MRN1"):
        assert content not in answer.text


async def test_bodies_are_shown_on_request_and_the_view_is_logged(call: Call) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await call("GET", "/api/messages/1?bodies=1")
    assert "Doe^Planted" in answer.body["message"]["body"]
    assert "|2.5.1\r" in answer.body["deliveries"][0]["body"]
    assert "MSA|AE|OUT1" in answer.body["deliveries"][0]["answer"]
    [line] = [line for line in logged if line["event"] == "admin.bodies_viewed"]
    assert line["message_id"] == 1
    assert "Planted" not in json.dumps(logged)


async def test_a_trace_lists_the_hops_of_one_id(call: Call) -> None:
    body = (await call("GET", "/api/trace/corr-1")).body
    assert {hop["message_id"] for hop in body["hops"]} == {1}
    assert body["hops"][0]["ms"] == 0.0


async def test_a_message_is_resent(call: Call, supervisor: Any) -> None:
    answer = await call("POST", "/api/messages/1/resend")
    assert answer.body == {"message_id": 1, "done": "1 delivery sent again"}
    assert supervisor.calls == [("resend message", 1)]


@pytest.mark.parametrize(("verb", "state"), [("resend", "queued"), ("discard", "discarded")])
async def test_a_delivery_is_resent_and_discarded(call: Call, supervisor: Any, verb: str, state: str) -> None:
    answer = await call("POST", f"/api/deliveries/2/{verb}")
    assert answer.body["delivery"]["state"] == state
    assert supervisor.calls == [(f"{verb} delivery", 2)]


async def test_ask_gives_the_reply_with_its_status_inside(call: Call, supervisor: Any) -> None:
    supervisor.reply = Reply(409, {"error": {"code": "slot_taken"}}, {"X-Correlation-ID": "c1"}, "slot_taken")
    answer = await call("POST", "/api/ask/slots", {"location": "DTI"}, headers={"X-Correlation-ID": "c1"})
    assert answer.status == 200
    assert answer.body == {
        "status": 409,
        "code": "slot_taken",
        "headers": {"X-Correlation-ID": "c1"},
        "body": {"error": {"code": "slot_taken"}},
    }
    assert supervisor.calls == [("ask", "slots", {"location": "DTI"}, "c1")]


async def test_a_malformed_correlation_id_is_not_used(call: Call, supervisor: Any) -> None:
    await call("POST", "/api/ask/slots", {}, headers={"X-Correlation-ID": "no good"})
    assert supervisor.calls == [("ask", "slots", {}, None)]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"\xff"])
async def test_a_body_that_is_no_json_object_is_refused(call: Call, supervisor: Any, body: bytes) -> None:
    answer = await call("POST", "/api/ask/slots", body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_body")
    assert supervisor.calls == []


async def test_a_body_over_a_megabyte_is_refused(call: Call) -> None:
    assert (await call("POST", "/api/ask/slots", b" " * (1024 * 1024 + 1))).status == 413


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [
        (ValueError("message 1 is routed: nothing to send again"), 409, "conflict"),
        (OSError(98, "Address already in use"), 409, "conflict"),
        (StoreError("disk full"), 503, "store_unavailable"),
        (Refused("channel_stopped"), 503, "channel_stopped"),
        (KeyError("Planted"), 500, "internal_error"),
        (UnicodeDecodeError("utf-8", b"Planted\xff", 7, 8, "Planted"), 500, "internal_error"),
    ],
)
async def test_what_the_supervisor_refuses_is_an_answer(
    call: Call, supervisor: Any, trouble: Exception, status: int, code: str
) -> None:
    supervisor.trouble = trouble
    with structlog.testing.capture_logs() as logged:
        answer = await call("POST", "/api/messages/1/resend")
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "Planted" not in answer.text + json.dumps(logged)
    assert any(line["event"] == "admin.fault" for line in logged) is (status == 500)


async def test_the_reason_of_a_conflict_is_told(call: Call, supervisor: Any) -> None:
    supervisor.trouble = ValueError("message 1 is routed: nothing to send again")
    assert (await call("POST", "/api/messages/1/resend")).error["message"] == str(supervisor.trouble)


async def test_a_body_that_cannot_be_received_is_a_bad_request(call: Call, supervisor: Any) -> None:
    supervisor.trouble = HTTPException(400, "Planted")
    answer = await call("POST", "/api/messages/1/resend")
    assert (answer.status, answer.error["code"]) == (400, "bad_request")
    assert "Planted" not in answer.text


async def test_a_caller_who_hangs_up_is_no_fault(call: Call, supervisor: Any) -> None:
    supervisor.trouble = ClientDisconnect()
    with structlog.testing.capture_logs() as logged, pytest.raises(IndexError):
        await call("POST", "/api/messages/1/resend")  # nothing was answered
    assert logged == []


async def test_a_wrong_method_is_405(call: Call) -> None:
    assert (await call("DELETE", "/api/messages/1")).error["code"] == "method_not_allowed"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_old_messages_are_removed_or_only_counted(call: Call, supervisor: Any, dry_run: bool) -> None:
    answer = await call("POST", "/api/prune", {"dry_run": dry_run})
    assert answer.body == {
        "dry_run": dry_run,
        "began_at": "1970-01-01T00:15:00.000Z",
        "ended_at": "1970-01-01T00:15:01.000Z",
        "pruned": [{"channel": "siu", "kept_as": "delivered", "number": 3}],
        "bodies": [{"channel": "siu", "kept_as": "failed", "number": 1}],
        "bytes": 77,
        "bytes_given_back": 8192,
    }
    assert supervisor.calls == [("prune", dry_run)]
