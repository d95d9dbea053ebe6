"""Rows of the store → hops: which there are, their order, their times."""

from dataclasses import replace
from typing import Any

from engine.admin.trace import hops
from engine.delivery import DeliveryState, MessageState
from engine.errors import Evidence
from engine.store.base import DeliveryRow, MessageRow

MESSAGE = MessageRow(
    1, "siu", "c", "IN1", "SIU^S12", "", MessageState.ROUTED, "", 1000.0, 1000.25, "", {"source": "mllp", "peer": "p:1"}
)
DELIVERY = DeliveryRow(
    2, 1, "siu", "epic", "c", "", DeliveryState.DELIVERED, "", 1, 0.0, "OUT1", "application/hl7-v2",
    1000.25, 1000.5, 1001.0, Evidence("AA"), False, 1000.0,
)  # fmt: skip


def words(found: list[dict[str, Any]]) -> list[str]:
    return [hop["what"] for hop in found]


def test_a_delivered_message_has_four_hops_in_order() -> None:
    found = hops([MESSAGE], [DELIVERY], {"siu": "received"})
    assert words(found) == ["received", "routed", "sent", "delivered"]
    assert [hop["ms"] for hop in found] == [0.0, 250.0, 500.0, 1000.0]
    assert found[0] == {
        "time": "1970-01-01T00:16:40.000Z",
        "ms": 0.0,
        "channel": "siu",
        "what": "received",
        "message_id": 1,
        "source": "mllp",
        "peer": "p:1",
        "control_id_in": "IN1",
        "type": "SIU^S12",
    }
    assert found[3] == {
        "time": "1970-01-01T00:16:41.000Z",
        "ms": 1000.0,
        "channel": "siu",
        "what": "delivered",
        "message_id": 1,
        "delivery_id": 2,
        "destination": "epic",
        "control_id_out": "OUT1",
        "codes": {"ack": "AA"},
        "attempts": 1,
    }


def test_the_answer_stands_at_the_commit_it_waited_for() -> None:
    answered = replace(MESSAGE, ack="AA")
    assert words(hops([answered], [DELIVERY], {"siu": "routed"})) == [
        "received",
        "routed",
        "acknowledged",
        "sent",
        "delivered",
    ]
    assert words(hops([answered], [DELIVERY], {"siu": "delivered"}))[-2:] == ["delivered", "acknowledged"]
    assert words(hops([replace(MESSAGE, ack="201")], [DELIVERY], {"siu": "reply"}))[-1] == "acknowledged"
    assert words(hops([answered], [DELIVERY], {}))[-1] == "acknowledged"


def test_what_one_commit_holds_is_told_in_its_own_order() -> None:
    direct = replace(DELIVERY, sent_at=1000.2499)
    found = hops([MESSAGE], [direct], {})
    assert words(found) == ["received", "routed", "sent", "delivered"]
    assert [hop["ms"] for hop in found[:3]] == [0.0, 250.0, 249.9]
    found = hops([replace(MESSAGE, routed_at=MESSAGE.received_at - 1e-6)], [], {})
    assert [str(hop["ms"]) for hop in found] == ["0.0", "0.0"]


def test_a_refused_message_says_why_and_how_it_was_answered() -> None:
    refused = replace(MESSAGE, state=MessageState.REFUSED, cause="malformed", routed_at=None, ack="AR")
    found = hops([refused], [], {"siu": "received"})
    assert words(found) == ["refused", "acknowledged"]
    assert (found[0]["cause"], found[1]["codes"]) == ("malformed", {"ack": "AR"})


def test_a_message_that_waits_for_its_transforms_has_one_hop() -> None:
    assert words(hops([replace(MESSAGE, state=MessageState.RECEIVED, routed_at=None)], [], {})) == ["received"]


def test_a_failed_message_names_the_step() -> None:
    failed = replace(MESSAGE, state=MessageState.FAILED, cause="step lookup failed: lookup_missing at PID-3")
    assert hops([failed], [], {})[1]["cause"] == failed.cause


def test_a_delivery_that_waits_says_when_it_goes_again() -> None:
    waiting = replace(
        DELIVERY, state=DeliveryState.QUEUED, attempts=3, cause="unavailable refused", next_at=1060.0, evidence=None
    )
    found = hops([MESSAGE], [waiting], {"siu": "received"})
    assert words(found)[2:] == ["sent", "queued"]
    assert (found[-1]["next_at"], found[-1]["attempts"]) == ("1970-01-01T00:17:40.000Z", 3)


def test_a_delivery_never_sent_stands_where_it_was_made() -> None:
    new = replace(DELIVERY, state=DeliveryState.QUEUED, attempts=0, sent_at=None, settled_at=None, evidence=None)
    assert [(hop["what"], hop["ms"]) for hop in hops([MESSAGE], [new], {})] == [
        ("received", 0.0),
        ("routed", 250.0),
        ("queued", 250.0),
    ]


def test_a_delivery_under_way_is_sent_and_nothing_more() -> None:
    sending = replace(DELIVERY, state=DeliveryState.SENDING, settled_at=None, evidence=None)
    assert words(hops([MESSAGE], [sending], {}))[2:] == ["sent"]


def test_hops_of_several_channels_are_one_story() -> None:
    caused = replace(MESSAGE, message_id=9, channel="orders", received_at=1000.3, routed_at=1000.4)
    found = hops([MESSAGE, caused], [DELIVERY], {})
    assert [(hop["channel"], hop["what"]) for hop in found] == [
        ("siu", "received"),
        ("siu", "routed"),
        ("orders", "received"),
        ("orders", "routed"),
        ("siu", "sent"),
        ("siu", "delivered"),
    ]


def test_no_rows_are_no_hops() -> None:
    assert hops([], [], {}) == []
