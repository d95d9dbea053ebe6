"""Which lanes a message stands in."""

from __future__ import annotations

import pytest

from engine.config.plan import Order
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.runtime import lane_keys

MSH = "MSH|^~\\&|ADT|H|E|S|20260101120000||ADT^A40|1|P|2.5.1\r"
ORDER = Order("key", (Path.parse("PID-3.1"),), (), (Path.parse("MRG-1.1"),))


def keys(segments: str, order: Order = ORDER) -> tuple[str, ...]:
    return lane_keys.keys_of(lane_keys.key_of(order, Message.parse((MSH + segments).encode()), str))


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ("PID|1||P1\r", ("P1",)),
        ("PID|1||P1^^^H~P2^^^N\r", ("P1",)),
        ("PID|1\r", ("",)),
        ("PID|1||P1\rMRG|P2^^^H~P3^^^N\r", ("P1", "P2", "P3")),
        ("PID|1||P1\rMRG|P1\r", ("P1",)),
        ("PID|1||P1\rMRG|\r", ("P1",)),
        ("PID|1\rMRG|P2\r", ("", "P2")),
        ("PID|1||P1\rMRG|P2\rPID|1||P3\rMRG|P4\r", ("P1", "P3", "P2", "P4")),
    ],
)
def test_a_merge_has_the_keys_of_everybody_it_names(segments: str, expected: tuple[str, ...]) -> None:
    assert keys(segments) == expected


def test_without_a_place_for_merges_they_have_one_key() -> None:
    assert keys("PID|1||P1\rMRG|P2\r", Order("key", ORDER.paths)) == ("P1",)


def test_the_first_place_of_a_list_that_is_not_empty_counts() -> None:
    order = Order(
        "key", (Path.parse("PID-18"), Path.parse("PID-3.1")), (), (Path.parse("MRG-3"), Path.parse("MRG-1.1"))
    )
    assert keys("PID|1||P1\rMRG|P2\r", order) == ("P1", "P2")


def test_of_json_it_is_a_member() -> None:
    assert lane_keys.ordering_keys(Order("key", (), ("order.id",)), {"order": {"id": 7}}) == ["7"]
    assert lane_keys.ordering_keys(Order("key", (), ("order.id",)), [1]) == [""]


def test_more_keys_than_one_message_may_have_are_noticed_in_bounded_time() -> None:
    many = "~".join(f"M{number}" for number in range(9000))
    key = lane_keys.key_of(ORDER, Message.parse(f"{MSH}PID|1||P1\rMRG|{many}\r".encode()), str)
    assert lane_keys.too_many(key)
    assert len(lane_keys.keys_of(key)) < 2 * lane_keys.MOST
    fits = "~".join(f"M{number}" for number in range(99))
    assert not lane_keys.too_many(lane_keys.key_of(ORDER, Message.parse(f"{MSH}PID|1||P1\rMRG|{fits}\r".encode()), str))


def test_a_separator_in_a_value_makes_no_second_key() -> None:
    assert lane_keys.keys_of(lane_keys.joined(["a\x1eb", "c"])) == ("a b", "c")
