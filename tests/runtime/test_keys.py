"""Keys are found by what their requests said: at once by what steps name, else by a look at all without it."""

from __future__ import annotations

import json
from typing import Any, cast

from engine.runtime.keys import KeyFinder
from engine.store.base import KeyRow, Store

REQUESTS = [{"orderId": "O1", "start": "2026-01-16T09:00:00-06:00"}, {"orderId": "O2"}, {"orderId": "O1"}]


class Keys:
    """A store of keys, each opened with some members of its request."""

    def __init__(self) -> None:
        self.opened: list[dict[str, str]] = []
        self.looks = 0

    def open(self, *members: dict[str, str]) -> None:
        self.opened += members

    def _row(self, number: int) -> KeyRow:
        return KeyRow("scope", str(number), b"", "book", number, number, 9.0, None, None, b"")

    def find_keys(self, channel: str, member: str, value: str, now: float) -> list[KeyRow]:
        return [self._row(number) for number, members in enumerate(self.opened) if members.get(member) == value]

    def keys_without(self, channel: str, member: str, now: float) -> list[KeyRow]:
        self.looks += 1
        return [self._row(number) for number, members in enumerate(self.opened) if member not in members]

    def message_body(self, message_id: int) -> bytes:
        return json.dumps(REQUESTS[message_id]).encode()


def finder(keys: Keys, *members: str) -> KeyFinder:
    return KeyFinder(cast(Store, keys), "book", members)


def found(by: KeyFinder, **match: Any) -> list[int]:
    wanted = {f"body.{name}": (value,) for name, value in match.items()}
    return [row.message_id for row in by.matching(wanted, 1.0)]


def test_a_key_is_found_at_once_by_what_steps_name() -> None:
    keys = Keys()
    by = finder(keys, "body.orderId")
    keys.open(*(by.members_of(request) for request in REQUESTS))
    assert keys.opened[0] == {"body.orderId": "O1"}
    assert found(by, orderId="O1") == [0, 2]
    assert found(by, orderId="O1", start="2026-01-16T15:00:00+00:00") == [0]
    assert found(by, orderId="") == []
    assert keys.looks == 1, "whether there are any that were opened without it"


def test_a_key_that_was_opened_without_a_member_is_found_by_it() -> None:
    keys = Keys()
    keys.open({}, {"body.orderId": "O2"})
    by = finder(keys, "body.orderId")
    keys.open(by.members_of(REQUESTS[2]))
    assert found(by, orderId="O1") == [2, 0]
    keys.opened[0] = by.members_of(REQUESTS[0])  # it has expired, and another was opened
    assert found(by, orderId="O1") == found(by, orderId="O1") == [0, 2]
    assert keys.looks == 2


def test_keys_are_opened_with_a_member_once_it_was_asked_for() -> None:
    keys = Keys()
    by = finder(keys)
    keys.open(by.members_of(REQUESTS[0]))
    assert keys.opened == [{}]
    assert found(by, orderId="O1") == [0]
    keys.open(*(by.members_of(request) for request in REQUESTS[1:]))
    assert keys.opened[1:] == [{"body.orderId": "O2"}, {"body.orderId": "O1"}]
    assert found(by, orderId="O1") == [2, 0]
    keys.opened[0] = {"body.orderId": "O1"}
    assert found(by, orderId="O1") == [0, 2]
    assert keys.looks == 3, "what was being written may be without it"
