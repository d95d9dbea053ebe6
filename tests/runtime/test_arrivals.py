"""What waits to be routed: in order, with bounded memory, and whose ack is undecided stays so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.runtime.arrivals import Arrival, Arrivals


def test_more_than_memory_keeps_is_read_from_the_store_in_order_and_senders_stay_undecided() -> None:
    stored: list[int] = []

    def read(after: int, limit: int) -> list[Any]:
        found = [number for number in stored if number > after][:limit]
        return [SimpleNamespace(message_id=number, correlation_id="", key="", ack="") for number in found]

    arrivals = Arrivals(read, room=4, page=3)
    assert arrivals.next() is None
    for number in range(1, 21):
        stored.append(number)
        arrivals.push(Arrival(number, "", "", None, undecided=True))
        assert len(arrivals) <= 4
    routed = []
    while not arrivals.empty:
        arrival = arrivals.next()
        assert arrival is not None
        assert len(arrivals) <= 4
        stored.remove(arrival.message_id)
        routed.append(arrival.message_id)
        assert arrival.undecided
        if len(routed) == 10:
            stored.append(21)
            arrivals.push(Arrival(21, "", "", None, undecided=True))
    assert routed == list(range(1, 22))


def test_what_was_read_before_it_is_pushed_comes_once() -> None:
    stored = [1, 2]
    arrivals = Arrivals(
        lambda after, limit: [
            SimpleNamespace(message_id=n, correlation_id="", key="", ack="") for n in stored if n > after
        ]  # type: ignore[misc]
    )
    first = arrivals.next()
    assert first is not None
    arrivals.push(Arrival(2, "", "", None, undecided=True))
    second = arrivals.next()
    assert second is not None
    assert (first.message_id, second.message_id, second.undecided) == (1, 2, True)
    assert arrivals.next() is None
