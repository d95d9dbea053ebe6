"""A worker that is cancelled at any await of a send leaves nothing behind that is ``sending`` with nobody at it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from engine.config.plan import DestinationPlan, JoinPlan
from engine.destinations.base import Outgoing, Response
from engine.hl7.header import header_of
from engine.runtime.deliver import Lanes
from engine.runtime.joining import JoiningLanes

from .conftest import Bench, Scripted, by, siu, to

#: More waits than a worker has that sends what there is.
MOST = 12


class Waiting(Scripted):
    """Its answer takes a turn of the loop."""

    async def send(self, outgoing: Outgoing) -> Response:
        answer = await super().send(outgoing)
        await asyncio.sleep(0)
        return answer


class CancelledAt:
    """Awaits ``work``; where it waits for the so-manieth time, the task is cancelled."""

    def __init__(self, work: Coroutine[Any, Any, None], number: int, told: bool, times: int) -> None:
        """``told``: not before what it waits for has come, but before it goes on with that. ``times``: at so many
        waits in a row.
        """
        self.work, self.numbers, self.told = work, range(number, number + times), told
        self.waits = 0

    def __await__(self) -> Generator[Any, None, None]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        inner, error = self.work.__await__(), None
        while True:
            try:
                waited = next(inner) if error is None else inner.throw(error)
            except StopIteration:
                return
            self.waits += 1
            if self.waits in self.numbers:
                if self.told and waited is not None:
                    waited.add_done_callback(lambda _: task.cancel())
                else:
                    loop.call_soon(task.cancel)
            error = None
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 - whatever it is, it is for the work
                error = thrown


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("on_unanswered", ["repeat", "hold", "unknown"])
@pytest.mark.parametrize("joined", [False, True])
async def test_cancelled_anywhere_nothing_is_left_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: bool, on_unanswered: Any, told: bool, times: int
) -> None:
    kind = JoiningLanes if joined else Lanes
    real, ended, reached = kind.work, asyncio.Event(), 0

    def work(lanes: Lanes) -> Coroutine[Any, Any, None]:
        async def cancelled() -> None:
            nonlocal reached
            cancelling = CancelledAt(real(lanes), number, told, times)  # type: ignore[arg-type]
            try:
                await cancelling
            finally:
                reached = max(reached, cancelling.waits)
                ended.set()

        return cancelled()

    monkeypatch.setattr(kind, "work", work)
    for number in range(1, MOST):
        ended.clear()
        reached = 0
        bench, emr = Bench(tmp_path / str(number)), Waiting()
        batch = JoinPlan(2, 0.01, False, "errors") if joined else None
        await _run(bench, to(emr, on_unanswered=on_unanswered, order=by("PID-3.1"), batch=batch), ended)
        if reached < number:
            break
    assert 2 <= reached < number


async def _run(bench: Bench, plan: DestinationPlan, ended: asyncio.Event) -> None:
    """Two messages, until the worker was cancelled or has sent both; what the store has of them then."""
    async with bench.running(plan) as supervisor:
        await asyncio.gather(*(bench.source.send(siu(f"M{each}", f"P{each}")) for each in range(2)))
        await bench.until(lambda: ended.is_set() or len(bench.deliveries("delivered")) == 2)
        await supervisor.stop(0.5)
        await bench.until(lambda: not bench.deliveries("sending"), 5.0)
        assert isinstance(plan.to, Scripted)
        arrived, rows = _sent(plan.to), bench.deliveries()
    assert len(rows) == 2
    for row in rows:
        if row.control_id not in arrived:
            assert row.state == "queued", "not a byte had left"
        elif row.state == "queued":
            assert row.may_be_duplicated
        else:
            assert row.state in ("delivered", "held", "unknown")


def _sent(emr: Scripted) -> set[str]:
    """MSH-10 of all that left."""
    found = {name for outgoing in emr.sent for name in outgoing.members}
    for outgoing in emr.sent:
        header = header_of(outgoing.body)
        found.add(header.control_id if header is not None else "")
    return found
