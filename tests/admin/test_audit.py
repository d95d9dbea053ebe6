"""Acts and views by the admin API leave entries, and the trail is read and checked there."""

import os
import re
from typing import Any

import pytest

from engine.admin import api, keeping
from engine.store.audit import Act, Who

from .conftest import BODY, NAME

Call = Any

#: What each POST does is written by the supervisor (tests/runtime/test_auditor.py), by its own code, or is not an act.
ACTS = {
    *("/api/channels/{name}/start", "/api/channels/{name}/stop", "/api/channels/{name}/discard"),
    *("/api/channels/{name}/rename-destination", "/api/messages/{message_id}/resend", "/api/ask/{channel}"),
    *("/api/deliveries/{delivery_id}/resend", "/api/deliveries/{delivery_id}/discard"),
}


def routes() -> list[Any]:
    return [route for router in (api.router, keeping.router) for route in router.routes]


def test_every_route_that_does_something_says_who_does_it() -> None:
    for route in routes():
        if route.methods & {"POST", "PUT", "DELETE", "PATCH"}:
            assert "who" in {parameter.name for parameter in route.dependant.dependencies}, route.path


async def test_content_is_shown_after_its_view_is_written(call: Call, supervisor: Any) -> None:
    answer = await call("GET", "/api/messages/1?bodies=1")
    assert NAME in answer.body["message"]["body"]
    (viewed,) = [entry for entry in supervisor.store.audited if entry.act is Act.BODIES_VIEWED]
    assert (viewed.who, viewed.channel, viewed.message_id) == (Who.unknown(), "siu", 1)
    assert NAME not in repr(supervisor.store.audited)
    assert "MRN1" not in repr(supervisor.store.audited)


async def test_content_is_not_shown_when_its_view_cannot_be_written(call: Call, supervisor: Any) -> None:
    supervisor.store.full = True
    answer = await call("GET", "/api/messages/1?bodies=1")
    assert (answer.status, answer.error["code"]) == (503, "store_unavailable")
    assert NAME not in answer.text
    assert BODY.decode() not in answer.text
    assert (await call("GET", "/api/messages/1")).status == 200


async def test_the_user_at_the_other_end_of_the_local_socket_is_known(knock: Call, supervisor: Any) -> None:
    await knock("/api/messages/1?bodies=1", local=True)
    login, viewed = supervisor.store.audited
    assert (login.act, login.who, login.peer) == (Act.LOGIN, Who.local(os.getuid()), "")
    assert viewed.who == Who.local(os.getuid())


async def test_a_caller_of_the_port_is_its_key_and_address(knock: Call, supervisor: Any) -> None:
    await knock("/api/messages/1?bodies=1", "k" * 43)
    login, viewed = supervisor.store.audited
    assert (login.act, login.who, login.peer) == (Act.LOGIN, Who.api_key("admin"), "127.0.0.1")
    assert viewed.who == Who.api_key("admin")


async def test_a_wrong_key_is_written_and_health_is_not(knock: Call, supervisor: Any) -> None:
    for key in ("wrong", None):
        await knock("/api/status", key)
    await knock("/health")
    (refused,) = supervisor.store.audited
    assert (refused.act, refused.who, refused.peer) == (Act.LOGIN_REFUSED, Who.unknown(), "127.0.0.1")


async def test_entries_are_found_by_every_filter(call: Call, supervisor: Any) -> None:
    answer = await call(
        "GET",
        "/api/audit?act=delivery.resent&who=API%20key%20admin&channel=siu&message=1&since=1000&until=2000&before=9&limit=1",
    )
    (entry,) = answer.body["entries"]
    assert answer.body["next"] == 7
    assert entry == {
        "id": 7,
        "time": "1970-01-01T00:16:40.000Z",
        "act": "delivery.resent",
        "who": "API key admin",
        "channel": "siu",
        "message_id": 1,
        "delivery_id": 2,
        "destination": "epic",
        "hash": "ab" * 32,
    }
    (find,) = supervisor.store.found_audit
    assert (find.act, find.who, find.channel, find.message_id) == ("delivery.resent", "API key admin", "siu", 1)
    assert (find.since, find.until, find.before_id, find.limit) == (1000.0, 2000.0, 9, 1)


@pytest.mark.parametrize("query", ["act=Planted", "limit=501", "message=0"])
async def test_a_filter_that_is_none_is_400(call: Call, query: str) -> None:
    assert (await call("GET", f"/api/audit?{query}")).status == 400


async def test_the_trail_is_checked_against_a_head(call: Call) -> None:
    assert (await call("GET", "/api/audit/verify")).body["fault"] == ""
    head = "1:" + "cd" * 32
    assert (await call("GET", f"/api/audit/verify?head={head}")).body["fault"] == f"asked for {head}"
    assert (await call("GET", "/api/audit/verify?head=Planted")).status == 400


def test_the_page_of_the_commands_lists_every_act() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    section = text.partition("## Audit trail")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([a-z]+(?:\.[a-z]+)?)`", section.partition("Who is")[0]))
    assert listed - {"audit.keep"} == {str(act) for act in Act}
