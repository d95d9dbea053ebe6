"""What comes in waits for what goes out: acks go one by one, units share the commit of an outcome, nothing for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from engine.runtime import pressure
from engine.runtime.pressure import CROWDED, PATIENCE, Pressure
from engine.store.base import Store


class Crowd:
    """So many wait where most do; and a store that notes what it is given."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.pressure = Pressure(lambda: self.most, cast("Store", self))
        self.gone: list[str] = []
        self.committed: list[Any] = []
        self.crowds = 0
        self.works: list[Callable[[], object]] = []

    def wait(self, *names: str, seconds: float = 60.0) -> None:
        """So many have come in, and their acks wait."""
        for name in names:
            self.most += 1
            assert self.pressure.wait()
            self.pressure.later(seconds, lambda name=name: self.gone.append(name))  # type: ignore[misc]

    def moved(self, gone: int) -> None:
        """One has moved on, and the crowd is by so many smaller; then a commit is under way."""
        self.most -= gone
        before = list(self.gone)
        self.pressure.moved()
        self.pressure.flush()
        assert self.gone == before, "none goes before a commit is under way"
        works, self.works = self.works, []
        for work in works:
            work()

    def outcome(self, name: str, *, patient: bool = False) -> None:
        self.pressure.outcome(cast("Any", name), lambda _error: None, patient)

    def unit(self, name: str) -> None:
        self.pressure.commit(cast("Any", name), lambda _error: None)

    # -- the store

    def commit(self, operations: Sequence[Any], _told: Any) -> None:
        self.committed.append(operations)

    def crowded(self, change: int) -> None:
        self.crowds += change

    def meanwhile(self, work: Callable[[], object]) -> None:
        self.works.append(work)


async def test_nothing_waits_while_few_wait() -> None:
    crowd = Crowd(CROWDED)
    assert crowd.pressure.wait() == 0.0
    crowd.unit("A")
    assert crowd.committed == ["A"]


async def test_the_more_wait_the_longer_an_ack_may_and_never_for_long() -> None:
    assert 0.0 < Crowd(CROWDED + 1).pressure.wait() < Crowd(CROWDED + 10).pressure.wait() < PATIENCE
    assert Crowd(1_000_000).pressure.wait() == PATIENCE


async def test_one_goes_for_each_that_has_gone_out_in_their_order() -> None:
    crowd = Crowd(300)
    crowd.wait("A", "B", "C")
    crowd.moved(0)
    assert (crowd.gone, crowd.crowds) == ([], 1)
    crowd.moved(1)
    assert (crowd.gone, crowd.crowds) == (["A"], 1)
    crowd.moved(2)
    assert (crowd.gone, crowd.crowds) == (["A", "B", "C"], 0)


async def test_what_moves_where_fewer_wait_or_at_one_of_several_lets_none_go() -> None:
    crowd = Crowd(300)
    crowd.wait("A", "B")
    for _ in range(5):
        crowd.moved(0)
    assert crowd.gone == []
    crowd.moved(1)
    assert crowd.gone == ["A"]


async def test_a_crowd_of_which_is_only_told_when_it_is_one_is_seen_soon() -> None:
    waiting = CROWDED - 4
    crowd = Crowd(0)
    for _ in range(CROWDED):
        crowd.most = waiting if waiting > CROWDED else 0
        if crowd.pressure.wait():
            break
        waiting += 1
    assert CROWDED < waiting <= CROWDED + CROWDED // 8


async def test_what_comes_makes_the_crowd_no_smaller_nor_do_acks_go_for_what_is_read_from_the_store() -> None:
    crowd = Crowd(300)
    crowd.wait("A", "B")
    crowd.wait("C")
    crowd.moved(1)
    assert crowd.gone == ["A"]
    crowd.moved(-200)
    assert crowd.gone == ["A"]
    crowd.moved(1)
    assert crowd.gone == ["A", "B"]


async def test_none_waits_longer_than_it_may() -> None:
    crowd = Crowd(300)
    for name, seconds in (("A", 0.0), ("B", 0.001), ("C", 60.0)):
        crowd.wait(name, seconds=seconds)
    while len(crowd.gone) < 2:  # noqa: ASYNC110 - a timer of this loop ends it
        await asyncio.sleep(0)
    assert crowd.gone == ["A", "B"]
    crowd.moved(1)
    assert crowd.gone == ["A", "B", "C"]
    assert crowd.crowds == 0


async def test_units_share_the_commit_of_the_next_outcome_in_their_order() -> None:
    crowd = Crowd(300)
    crowd.wait("ack")
    for name in "AB":
        crowd.unit(name)
    assert crowd.committed == []
    crowd.outcome("O")
    assert crowd.committed == ["O", "A", "B"]
    crowd.unit("C")
    crowd.most = 10
    crowd.pressure.acks.clear()
    crowd.unit("D")
    assert crowd.committed == ["O", "A", "B", "C", "D"], "D does not pass C"


async def test_an_outcome_for_which_no_send_waits_goes_with_what_comes_next() -> None:
    crowd = Crowd(10)
    crowd.outcome("O", patient=True)
    assert crowd.committed == []
    crowd.unit("A")
    assert crowd.committed == ["O", "A"]
    crowd.outcome("P", patient=True)
    crowd.outcome("Q")
    assert crowd.committed == ["O", "A", "Q", "P"]
    crowd.most = 300
    crowd.wait("ack")
    crowd.unit("B")
    crowd.outcome("R", patient=True)
    assert crowd.committed == ["O", "A", "Q", "P"]
    crowd.outcome("S")
    assert crowd.committed == ["O", "A", "Q", "P", "S", "B", "R"]


async def test_no_outcome_waits_where_an_ack_waits_for_it() -> None:
    crowd = Crowd(10)
    crowd.pressure = Pressure(lambda: crowd.most, cast("Store", crowd), patient=False)
    crowd.outcome("O", patient=True)
    assert crowd.committed == ["O"]


async def test_a_unit_waits_for_an_outcome_no_longer_than_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "GATHER", 0.0)
    crowd = Crowd(300)
    crowd.outcome("O", patient=True)
    crowd.wait("ack")
    crowd.unit("A")
    while not crowd.committed:  # noqa: ASYNC110 - a timer of this loop ends it
        await asyncio.sleep(0)
    assert crowd.committed == ["O", "A"]
