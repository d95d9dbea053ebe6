"""Twilio's status webhooks through a running site: signed, once each, and no number beyond the engine."""

import hashlib
from collections.abc import Callable
from typing import Any

Site = Any
WaitFor = Callable[..., Any]

#: What Twilio calls; the engine itself is reached at another address, as behind a proxy.
ENV = {"TWILIO_STATUS_URL": "https://hooks.example.org/twilio"}
TO = "(217) 555-0111"


def emit(site: Site, **settings: Any) -> list[int]:
    answers = site.control("POST", "/twilio/emit", {"to": TO, **settings})["answers"]
    return [answer["answer"] for answer in answers]


def statuses(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.control("GET", "/webhook")["statuses"]
    return found


def test_radscheduler_hears_each_status_once_with_the_hash_of_the_number(site: Site, wait_for: WaitFor) -> None:
    sid = "SM" + "0123456789abcdef" * 2
    assert emit(site, messageSid=sid, repeat=3) == [202] * 9
    wait_for(lambda: len(statuses(site)) >= 3, "three statuses")
    assert emit(site, messageSid=sid, statuses=["delivered"]) == [202], "a request that is played back later"
    assert emit(site, statuses=["undelivered"], errorCode="30003") == [202]
    wait_for(lambda: len(statuses(site)) >= 4, "the other message")
    told = statuses(site)
    assert [(each["status"], each["messageSid"] == sid) for each in told] == [
        ("queued", True),
        ("sent", True),
        ("delivered", True),
        ("undelivered", False),
    ]
    assert told[-1]["errorCode"] == "30003"
    salt = site.secret("PHONE_SALT").encode()
    assert {each["phoneHash"] for each in told} == {hashlib.sha256(b"+12175550111" + salt).hexdigest()}
    assert site.control("GET", "/webhook")["refused"] == []
    rows = [row for row in site.messages() if row["channel"] == "twilio-status"]
    assert sorted(row["state"] for row in rows) == ["filtered"] * 7 + ["routed"] * 4


def test_a_wrong_signature_is_answered_403_and_told_in_the_audit_trail(site: Site, wait_for: WaitFor) -> None:
    before = len([row for row in site.messages() if row["channel"] == "twilio-status"])
    assert emit(site, token="another", statuses=["sent"]) == [403]
    unsigned = site.call(
        "REST",
        "POST",
        "/api/webhooks/twilio/status",
        b"MessageSid=SM1",
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (unsigned.status, unsigned.error["code"]) == (403, "wrong_signature")
    assert len([row for row in site.messages() if row["channel"] == "twilio-status"]) == before, "nothing is kept"
    refused = site.log_lines("rest.refused")[-1]
    assert (refused["code"], refused["channel"]) == ("wrong_signature", "twilio-status")
    trail = wait_for(lambda: site.cli("audit", "--json").stdout.count("twilio-status"), "an entry")
    assert trail >= 1
