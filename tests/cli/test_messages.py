"""``messages``, ``message``, ``trace``, ``resend``, ``discard``: what they ask for and what they show."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.cli.exits import Exit
from engine.cli.messages import moment

Api = Any
Command = Any

MESSAGE = {
    "id": 7,
    "channel": "siu",
    "correlation_id": "corr-1",
    "control_id": "IN1",
    "type": "SIU^S12",
    "state": "failed",
    "bodies_removed_at": None,
    "cause": "step lookup failed: lookup_missing",
    "received_at": "2026-11-20T09:30:00.125Z",
    "routed_at": None,
    "ack": "AE",
    "source": "mllp",
    "peer": "10.0.0.9:4000",
    "api_key": "",
    "deliveries": [{"id": 8, "destination": "epic", "state": "parked"}],
}
DELIVERY = {
    "id": 8,
    "message_id": 7,
    "destination": "epic",
    "state": "parked",
    "cause": "rejected AE 204 PID-3",
    "attempts": 2,
    "next_at": "2026-11-20T09:31:00.000Z",
    "control_id": "OUT1",
    "may_be_duplicated": False,
}
HOPS = [
    {
        "time": "2026-11-20T09:30:00.125Z",
        "ms": 0.0,
        "channel": "siu",
        "what": "received",
        "message_id": 7,
        "peer": "p:1",
    },
    {
        "time": "2026-11-20T09:30:01.125Z",
        "ms": 1000.0,
        "channel": "siu",
        "what": "parked",
        "message_id": 7,
        "destination": "epic",
        "attempts": 2,
        "codes": {"ack": "AE", "condition": "204"},
    },
]


def test_messages_are_a_table_with_causes_and_deliveries(invoke: Command, api: Api) -> None:
    api.answer("GET", "/api/messages", {"messages": [MESSAGE], "next": 7})
    result = invoke("messages")
    assert result.exit_code == Exit.OK
    for text in ("SIU^S12", "IN1", "failed (step lookup failed: lookup_missing)", "epic parked", "--before 7"):
        assert text in result.stdout


def test_every_filter_is_passed_on(invoke: Command, api: Api) -> None:
    api.answer("GET", "/api/messages", {"messages": [], "next": None})
    words = "--channel siu --state failed --delivery-state held --correlation-id c --control-id m --limit 5 --before 9"
    invoke("messages", *words.split(), "--until", "2026-11-20T09:30")
    query = {name: value for name, [value] in parse_qs(urlsplit(api.asked[0][1]).query).items()}
    assert query == {
        "channel": "siu",
        "state": "failed",
        "delivery_state": "held",
        "correlation_id": "c",
        "control_id": "m",
        "limit": "5",
        "before": "9",
        "until": "2026-11-20T09:30",
    }


@pytest.mark.parametrize(("text", "ago"), [("15m", 900), ("2h", 7200), ("1 d", 86400), ("30s", 30)])
def test_how_long_ago_becomes_a_time(text: str, ago: int) -> None:
    given = moment(text)
    assert given is not None
    passed = datetime.now(UTC) - datetime.fromisoformat(given)
    assert timedelta(seconds=ago) <= passed < timedelta(seconds=ago + 10)


def test_a_message_shows_deliveries_hops_and_no_content(invoke: Command, api: Api) -> None:
    api.answer("GET", "/api/messages/7", {"message": MESSAGE, "deliveries": [DELIVERY], "hops": HOPS})
    result = invoke("message", "7")
    for text in ("corr-1", "10.0.0.9:4000", "rejected AE 204 PID-3", "parked (attempt 2)", "AE 204", "1000.0"):
        assert text in result.stdout
    assert "next attempt" in result.stdout
    assert "09:31" not in result.stdout  # a parked delivery has no next attempt
    assert api.asked[0][1] == "/api/messages/7"


def test_bodies_are_shown_a_segment_per_line_and_cannot_steer_the_terminal(invoke: Command, api: Api) -> None:
    shown = {
        "message": {**MESSAGE, "body": "MSH|1\rPID|\x1b[31mred\rZZZ|[bold]\r"},
        "deliveries": [{**DELIVERY, "body": "MSH|2\r", "answer": ""}],
        "hops": HOPS,
    }
    api.answer("GET", "/api/messages/7", shown)
    result = invoke("message", "7", "--bodies")
    assert "received:\n  MSH|1\n  PID|\\x1b[31mred\n  ZZZ|[bold]\n" in result.stdout
    assert "delivery 8 to epic:\n  MSH|2\n" in result.stdout
    assert "answer of" not in result.stdout
    assert api.asked[0][1] == "/api/messages/7?bodies=1"


def test_a_partners_text_in_a_table_cannot_steer_the_terminal(invoke: Command, api: Api) -> None:
    api.answer("GET", "/api/messages", {"messages": [{**MESSAGE, "control_id": "\x1b[2J[red]X"}], "next": None})
    assert "\\x1b[2J[red]X" in invoke("messages").stdout


def test_a_trace_is_a_table_of_hops(invoke: Command, api: Api) -> None:
    api.answer("GET", "/api/trace/corr-1", {"correlation_id": "corr-1", "hops": HOPS})
    result = invoke("trace", "corr-1")
    assert result.stdout.index("received") < result.stdout.index("parked")


@pytest.mark.parametrize(
    ("words", "target", "answer"),
    [
        (("messages",), "/api/messages", {"messages": [], "next": None}),
        (("message", "7"), "/api/messages/7", {"message": MESSAGE, "deliveries": [], "hops": []}),
        (("trace", "c"), "/api/trace/c", {"correlation_id": "c", "hops": HOPS}),
    ],
)
def test_machines_get_what_the_api_said(
    invoke: Command, api: Api, words: tuple[str, ...], target: str, answer: Any
) -> None:
    api.answer("GET", target, answer)
    assert json.loads(invoke(*words, "--json").stdout) == answer


def test_resend_takes_a_message_or_a_delivery(invoke: Command, api: Api) -> None:
    api.answer("POST", "/api/messages/7/resend", {"message_id": 7, "done": "1 delivery sent again"})
    api.answer("POST", "/api/deliveries/8/resend", {"delivery": {**DELIVERY, "state": "queued"}})
    assert invoke("resend", "7").stdout == "1 delivery sent again\n"
    assert "queued" in invoke("resend", "--delivery", "8").stdout
    for words in (("resend",), ("resend", "7", "--delivery", "8")):
        assert invoke(*words).exit_code == Exit.USAGE
    assert len(api.asked) == 2


def test_discard_wants_a_delivery(invoke: Command, api: Api) -> None:
    api.answer("POST", "/api/deliveries/8/discard", {"delivery": {**DELIVERY, "state": "discarded"}})
    assert "discarded" in invoke("discard", "--delivery", "8").stdout
    assert invoke("discard").exit_code == Exit.USAGE


def test_discard_takes_everything_that_waits_for_a_destination(invoke: Command, api: Api) -> None:
    api.answer("POST", "/api/channels/siu/discard", {"channel": "siu", "destination": "epic", "discarded": 3})
    assert "3 discarded" in invoke("discard", "--channel", "siu", "--destination", "epic", "--state", "parked").stdout
    assert api.asked[-1][2] == {"destination": "epic", "states": ["parked"]}
    assert json.loads(invoke("discard", "--channel", "siu", "--json").stdout)["discarded"] == 3
    assert api.asked[-1][2] == {"destination": None, "states": []}
    for words in (("--destination", "epic"), ("--delivery", "8", "--channel", "siu"), ("--state", "held")):
        assert invoke("discard", *words).exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--state", "faild"], "--state is one of received, routed, filtered, failed, refused; did you mean failed?"),
        (["--delivery-state", "x"], "--delivery-state is one of queued, sending, delivered"),
        (["--since", "yesterday"], "is no time: write 2027-01-31T09:30, or how long ago: 15m, 2h, 1d"),
        (["--until", "9:30"], "is no time"),
    ],
)
def test_a_filter_that_is_none_is_told_with_what_would_be_one(invoke: Command, words: list[str], told: str) -> None:
    done = invoke("messages", *words)
    assert done.exit_code == Exit.USAGE
    assert told in " ".join(done.output.replace("│", " ").split())
