"""What waits to be routed: in order, with bounded memory, and no sender is forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.runtime.arrivals import Arrival, Arrivals


def test_more_than_memory_keeps_is_read_from_the_store_in_order_and_senders_are_remembered() -> None:
    stored: list[int] = []

    def read(after: int, limit: int) -> list[Any]:
        found = [number for number in stored if number > after][:limit]
        return [SimpleNamespace(message_id=number, correlation_id="", key="") for number in found]

    arrivals = Arrivals(read, room=4, page=3)
    assert arrivals.next() is None
    for number in range(1, 21):
        stored.append(number)
        arrivals.push(Arrival(number, "", "", None, f"sender {number}"))  # type: ignore[arg-type]
        assert len(arrivals) <= 4
    routed = []
    while not arrivals.empty:
        arrival = arrivals.next()
        assert arrival is not None
        assert len(arrivals) <= 4
        stored.remove(arrival.message_id)
        routed.append((arrival.message_id, arrivals.receipt(arrival)))
        if len(routed) == 10:
            stored.append(21)
            arrivals.push(Arrival(21, "", "", None, None))
    assert routed == [*((number, f"sender {number}") for number in range(1, 21)), (21, None)]


def test_what_was_read_before_it_is_pushed_comes_once() -> None:
    stored = [1, 2]
    arrivals = Arrivals(
        lambda after, limit: [SimpleNamespace(message_id=n, correlation_id="", key="") for n in stored if n > after]  # type: ignore[misc]
    )
    first = arrivals.next()
    assert first is not None
    arrivals.push(Arrival(2, "", "", None, "sender"))  # type: ignore[arg-type]
    second = arrivals.next()
    assert second is not None
    assert (first.message_id, second.message_id, arrivals.receipt(second)) == (1, 2, "sender")
    assert arrivals.next() is None
