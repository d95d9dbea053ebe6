"""Pauses and rates of a destination: what waits, waits, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from engine.config.plan import JoinPlan, Order, ReplyPlan
from engine.destinations.base import Outgoing, Response
from engine.promise import Promise
from engine.runtime.pace import Pace
from engine.runtime.status import DestinationStatus
from engine.runtime.supervisor import Supervisor
from engine.store.base import Operation, Sending
from engine.store.sqlite import SqliteStore
from engine.transforms.base import Chain

from .conftest import WHO, Bench, Scripted, siu, to


def status(supervisor: Supervisor) -> DestinationStatus:
    return supervisor.channels()[0].destinations[0]


async def test_a_paused_destination_gets_nothing_across_a_restart_and_then_everything_in_order(bench: Bench) -> None:
    emr, other = Scripted(), Scripted()
    async with bench.running(to(emr), to(other, "other")) as supervisor:
        await supervisor.pause_destination("bench", "emr", WHO)
        for number in range(3):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
        assert (emr.sent, len(other.sent)) == ([], 3), "the other destination is not paused"
        assert (status(supervisor).paused_since, status(supervisor).queued) == (bench.clock.at, 3)
    async with bench.running(to(emr), to(other, "other")) as supervisor:
        await bench.source.send(siu("M3"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 4)
        assert emr.sent == []
        await supervisor.pause_destination("bench", "emr", WHO)
        await supervisor.resume_destination("bench", "emr", WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 8)
        assert emr.ids == ["M0", "M1", "M2", "M3"]
        assert status(supervisor).paused_since is None


async def test_a_send_under_way_ends_and_is_recorded_while_the_destination_is_paused(bench: Bench) -> None:
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)) as supervisor:
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: emr.under_way == 1)
        await supervisor.pause_destination("bench", "emr", WHO)
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        assert emr.ids == ["M0"]
        await supervisor.stop_channel("bench", WHO)
        await supervisor.resume_destination("bench", "emr", WHO)
        await supervisor.start_channel("bench", WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 2)


async def test_only_a_destination_that_has_lanes_can_be_paused(bench: Bench) -> None:
    async with bench.running(to(Scripted())) as supervisor:
        with pytest.raises(ValueError, match="has no destination nobody"):
            await supervisor.pause_destination("bench", "nobody", WHO)
    reply = ReplyPlan("emr", 200, Chain(()), (), {})
    async with bench.running(to(Scripted()), reply=reply) as supervisor:
        with pytest.raises(ValueError, match="a caller waits"):
            await supervisor.pause_destination("bench", "emr", WHO)


class Timed(Scripted):
    """It notes when each send begins."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def send(self, outgoing: Outgoing) -> Response:
        self.times.append(asyncio.get_running_loop().time())
        return await super().send(outgoing)


async def test_a_rate_holds_for_all_connections_together(bench: Bench) -> None:
    emr, unordered = Timed(), Order("none")
    async with bench.running(to(emr, order=unordered, connections=4, rate=50.0), order=unordered):
        for number in range(6):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
    # Timers of the loop are never early by more than its resolution; they may be late.
    assert emr.times[-1] - emr.times[0] >= 5 / 50 - 0.02


class Slow:
    """Commits of what is about to leave wait until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.is_slow, real = True, SqliteStore.submit

        def submit(store: SqliteStore, *operations: Operation) -> Promise[None]:
            if not self.is_slow or not isinstance(operations[0], Sending):
                return real(store, *operations)
            promise: Promise[None] = Promise()

            def go() -> None:
                real(store, *operations).add_done_callback(lambda done: promise.end(done.exception()))

            self.waiting.append(go)
            return promise

        monkeypatch.setattr(SqliteStore, "submit", submit)

    def let_go(self) -> None:
        """All together; others are as quick as ever."""
        self.is_slow = False
        for go in self.waiting:
            go()


async def test_what_waited_for_one_long_commit_leaves_at_the_rate(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr, unordered, slow = Timed(), Order("none"), Slow(monkeypatch)
    outlet = to(emr, order=unordered, connections=4, rate=50.0, on_unanswered="hold")
    async with bench.running(outlet, order=unordered):
        for number in range(5):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(slow.waiting) == 4)
        assert not emr.times
        began = asyncio.get_running_loop().time()
        slow.let_go()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
    # One may be late by half an interval, and the next one be on time.
    assert all(at - began >= (number - 0.5) / 50 - 0.002 for number, at in enumerate(emr.times))


async def test_what_waits_to_leave_goes_in_its_turn_after_a_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    emr, unordered, slow = Timed(), Order("none"), Slow(monkeypatch)
    outlet = to(emr, order=unordered, connections=2, rate=0.05, on_unanswered="hold")
    monkeypatch.setattr(Pace, "wait", lambda _pace, _now: 0.0)  # both begin at once
    async with bench.running(outlet, order=unordered):
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(slow.waiting) == 2)
        slow.let_go()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1 and len(bench.deliveries("sending")) == 1)
        await bench.supervisor.stop(5.0)
        (left,) = bench.deliveries("queued")
        assert (left.attempts, left.may_be_duplicated, len(emr.times)) == (0, False, 1)


@pytest.mark.parametrize("batch", [None, JoinPlan(count=1)], ids=["one by one", "batches"])
async def test_what_waits_to_leave_stays_when_its_destination_is_paused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, batch: JoinPlan | None
) -> None:
    emr, unordered, slow = Timed(), Order("none"), Slow(monkeypatch)
    outlet = to(emr, order=unordered, connections=2, rate=4.0, on_unanswered="hold", batch=batch)
    monkeypatch.setattr(Pace, "wait", lambda _pace, _now: 0.0)  # both begin at once
    async with bench.running(outlet, order=unordered) as supervisor:
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(slow.waiting) == 2)
        slow.let_go()
        await bench.until(lambda: len(emr.times) == 1)
        await supervisor.pause_destination("bench", "emr", WHO)
        await bench.until(lambda: len(bench.deliveries("queued")) == 1)
        (left,) = bench.deliveries("queued")
        assert (left.attempts, left.may_be_duplicated, len(emr.times)) == (0, False, 1)
        await supervisor.resume_destination("bench", "emr", WHO)
        await bench.until(lambda: len(emr.times) == 2)


async def test_a_pause_holds_for_a_channel_that_is_being_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, emr = asyncio.Event(), Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)) as supervisor:
        for number in range(2):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: emr.under_way == 1 and len(bench.deliveries()) == 2)
        monkeypatch.setattr(bench.source, "stop", gate.wait)
        stopping = asyncio.ensure_future(supervisor.stop_channel("bench", WHO))
        await bench.until(lambda: supervisor._channels["bench"].running is None)
        await supervisor.pause_destination("bench", "emr", WHO)
        emr.gate.set()
        await bench.until(lambda: bench.deliveries("delivered"))
        gate.set()
        await stopping
    assert emr.ids == ["M0"]
