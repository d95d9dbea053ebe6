"""``channels``, ``start``, ``stop``, ``ask``: what they show and how they end."""

import json
from typing import Any

import pytest

from engine.cli.exits import Exit

Api = Any
Command = Any

WELL = {"store": "ok", "disk": {"state": "ok"}}
EPIC = {"name": "epic", "address": "mllps://h:1", "queued": 3, "sending": 0, "held": 1, "parked": 0, "unknown": 0}
SIU = {
    "name": "siu",
    "state": "running",
    "source": "mllp://127.0.0.1:2575",
    "received_since_start": 12,
    "failed": 2,
    "error": "",
    "problems": [],
    "destinations": [{**EPIC, "last_error": "unavailable refused"}, {**EPIC, "name": "athena", "queued": 0, "held": 0}],
}
BROKEN = {
    **SIU,
    "name": "bad",
    "state": "broken",
    "source": "",
    "destinations": [],
    "failed": 0,
    "problems": ["bad.yaml:3"],
}


def test_channels_show_what_waits_and_why(invoke: Command, api: Api) -> None:
    api.answer("GET", "/api/channels", {**WELL, "channels": [SIU, BROKEN]})
    lines = [line.split() for line in invoke("channels").stdout.splitlines() if line.strip()]
    assert "3 queued 1 held 2 failed · unavailable refused" in " ".join(lines[2])
    assert lines[3] == ["athena", "mllps://h:1"]
    assert lines[4] == ["bad", "broken", "12", "bad.yaml:3"]
    assert json.loads(invoke("channels", "--json").stdout) == [SIU, BROKEN]


def test_starting_a_channel_that_then_runs_is_well(invoke: Command, api: Api) -> None:
    api.answer("POST", "/api/channels/siu/start", {"channel": SIU})
    result = invoke("start", "siu")
    assert (result.exit_code, "running" in result.stdout) == (Exit.OK, True)


def test_starting_a_channel_that_then_fails_is_negative(invoke: Command, api: Api) -> None:
    failed = {**SIU, "state": "failed", "error": "cannot start: Address already in use"}
    api.answer("POST", "/api/channels/siu/start", {"channel": failed})
    result = invoke("start", "siu", "--json")
    assert result.exit_code == Exit.NEGATIVE
    assert "Address already in use" in result.stderr
    assert json.loads(result.stdout) == failed


def test_a_reload_shows_what_became_of_each_channel_and_fails_for_one_that_is_not_as_written(
    invoke: Command, api: Api
) -> None:
    done = {"channels": [{"name": "siu", "what": "restarted", "problems": []}], "notes": ["site.yaml: a note"]}
    api.answer("POST", "/api/reload", done)
    result = invoke("reload")
    assert (result.exit_code, "restarted" in result.stdout, "a note" in result.stdout) == (Exit.OK, True, True)
    done["channels"].append({"name": "bad", "what": "kept", "problems": ["channels/bad.yaml:3: wrong"]})
    api.answer("POST", "/api/reload", done)
    result = invoke("reload", "siu", "bad")
    assert (result.exit_code, api.asked[-1][2]) == (Exit.NEGATIVE, {"channels": ["siu", "bad"]})
    assert "channels/bad.yaml:3: wrong" in result.stdout
    assert "not as their files say: bad" in result.stderr
    assert json.loads(invoke("reload", "--json").stdout) == done


@pytest.mark.parametrize(("verb", "since"), [("pause", "2026-01-01T09:00:00.000Z"), ("resume", None)])
def test_a_destination_is_paused_and_resumed(invoke: Command, api: Api, verb: str, since: str | None) -> None:
    epic = {**EPIC, "paused_since": since}
    api.answer("POST", f"/api/channels/siu/destinations/epic/{verb}", {"channel": {**SIU, "destinations": [epic]}})
    result = invoke(verb, "siu/epic")
    assert result.exit_code == Exit.OK
    assert ("since 2026" in result.stdout) == (since is not None)
    assert json.loads(invoke(verb, "siu/epic", "--json").stdout) == epic


def test_a_paused_destination_is_seen_among_the_channels(invoke: Command, api: Api) -> None:
    epic = {**EPIC, "paused_since": "2026-01-01T09:00:00.000Z", "last_error": ""}
    api.answer("GET", "/api/channels", {**WELL, "channels": [{**SIU, "destinations": [epic]}]})
    assert "2 failed · paused" in " ".join(invoke("channels").stdout.split())


@pytest.mark.parametrize("place", ["siu", "siu/", "/epic", "a/b/c"])
def test_what_is_to_be_paused_is_written_channel_slash_destination(invoke: Command, place: str) -> None:
    result = invoke("pause", place)
    assert (result.exit_code, "write it like ris-siu-router/epic" in result.stderr) == (Exit.USAGE, True)


def test_renaming_a_destination_tells_how_many_moved(invoke: Command, api: Api) -> None:
    api.answer("POST", "/api/channels/siu/rename", {"channel": SIU, "moved": 3})
    result = invoke("rename-destination", "siu", "epik", "epic")
    assert (result.exit_code, api.asked[0][2]) == (Exit.OK, {"from": "epik", "to": "epic"})
    assert "3 moved from epik to epic" in result.stdout
    assert json.loads(invoke("rename-destination", "siu", "epik", "epic", "--json").stdout)["moved"] == 3


@pytest.mark.parametrize(
    ("status", "code"), [(200, Exit.OK), (201, Exit.OK), (404, Exit.NEGATIVE), (504, Exit.NEGATIVE)]
)
def test_ask_ends_as_the_reply_did(invoke: Command, api: Api, status: int, code: Exit) -> None:
    reply = {"status": status, "code": None, "headers": {}, "body": {"slots": []}}
    api.answer("POST", "/api/ask/slots", reply)
    result = invoke("ask", "slots", '{"location": "DTI"}', "--correlation-id", "c-1")
    assert (result.exit_code, json.loads(result.stdout)) == (code, reply)
    _, _, body, headers = api.asked[0]
    assert (body, headers["X-Correlation-ID"]) == ({"location": "DTI"}, "c-1")


def test_ask_reads_stdin(invoke: Command, api: Api) -> None:
    api.answer("POST", "/api/ask/slots", {"status": 200})
    invoke("ask", "slots", "-", stdin='{"location": "NSI"}')
    assert api.asked[0][2] == {"location": "NSI"}


@pytest.mark.parametrize("text", ["{", "[1]", "DTI"])
def test_ask_wants_a_json_object(invoke: Command, api: Api, text: str) -> None:
    assert invoke("ask", "slots", text).exit_code == Exit.USAGE
    assert api.asked == []
