"""``sends_ahead``: how many sends of a lane may run ahead of the commits of their outcomes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from engine.config.plan import Retry
from engine.errors import DoesNotFit, Evidence, Rejected, StoreError, Unavailable
from engine.runtime.deliver import UNCOMMITTED
from engine.store.base import Settle

from .conftest import WHO, Bench, Scripted, by, siu, to


class Withheld:
    """A store whose disk is slow with outcomes: they are committed when the test says so."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._commit = bench.store.commit
        self._waiting: list[partial[None]] = []
        self.open = False
        monkeypatch.setattr(bench.store, "commit", self._withhold)

    def _withhold(self, operations: Sequence[Any], told: Callable[[StoreError | None], object]) -> None:
        if self.open or not any(isinstance(operation, Settle) for operation in operations):
            self._commit(operations, told)
        else:
            self._waiting.append(partial(self._commit, operations, told))

    def commit(self, which: int = 0) -> None:
        """Commit one of those that have come."""
        self._waiting.pop(which)()

    def refuse(self, which: int) -> None:
        """The store does not take one of those that have come."""
        _, told = self._waiting.pop(which).args
        self._commit((), lambda _: told(DoesNotFit("may not become")))

    def release(self) -> None:
        """Commit what has come, and whatever comes."""
        self.open = True
        for commit in self._waiting:
            commit()


@pytest.mark.parametrize(("ahead", "sent"), [(1, 1), (3, 3), (64, 6)])
async def test_so_many_leave_before_an_outcome_is_committed_and_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ahead: int, sent: int
) -> None:
    emr, names = Scripted(), [f"M{number}" for number in range(6)]
    async with bench.running(to(emr, sends_ahead=ahead)):
        disk = Withheld(bench, monkeypatch)
        for name in names:
            await bench.source.send(siu(name))
        await bench.until(lambda: len(emr.sent) == sent)
        assert not bench.deliveries("delivered")
        disk.release()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
        assert not any(row.may_be_duplicated for row in bench.deliveries())
    assert emr.ids == names


async def test_the_next_leaves_as_soon_as_fewer_than_so_many_are_not_committed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr, names = Scripted(), [f"M{number}" for number in range(6)]
    async with bench.running(to(emr, sends_ahead=3)):
        disk = Withheld(bench, monkeypatch)
        for name in names:
            await bench.source.send(siu(name))
        for committed in range(1, 4):
            await bench.until(lambda: len(emr.sent) == 2 + committed)  # noqa: B023 - read before the next turn
            disk.commit()
            await bench.until(lambda: len(bench.deliveries("delivered")) == committed)  # noqa: B023
        await bench.until(lambda: len(emr.sent) == 6)
        disk.release()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
    assert emr.ids == names


async def test_nothing_passes_one_whose_outcome_the_store_refuses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = Scripted()
    async with bench.running(to(emr, sends_ahead=2)) as supervisor:
        disk = Withheld(bench, monkeypatch)
        for number in range(3):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(emr.sent) == 2)
        disk.refuse(1)
        await bench.until(lambda: supervisor.channels()[0].destinations[0].outcomes_refused_since_start == 1)
        disk.commit()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert emr.ids == ["M0", "M1"], "whether the second went, the store does not know: a person says so"


@pytest.mark.parametrize(("connections", "sent"), [(1, 1), (2, 2 * UNCOMMITTED)])
async def test_lanes_of_many_keys_send_no_more_than_so_many_ahead_of_their_commits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, connections: int, sent: int
) -> None:
    emr, order, many = Scripted(), by("PID-3.1"), 2 * UNCOMMITTED + 5
    async with bench.running(to(emr, connections=connections, order=order), order=order):
        disk = Withheld(bench, monkeypatch)
        for number in range(many):
            await bench.source.send(siu(f"M{number}", f"P{number}"))
        await bench.until(lambda: len(emr.sent) == sent)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(emr.sent) == sent
        disk.release()
        await bench.until(lambda: len(bench.deliveries("delivered")) == many)


async def test_each_key_has_so_many_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    emr, order = Scripted(), by("PID-3.1")
    async with bench.running(to(emr, sends_ahead=2, connections=2, order=order), order=order):
        disk = Withheld(bench, monkeypatch)
        for number, patient in enumerate("AAABBB"):
            await bench.source.send(siu(f"M{number}", patient))
        await bench.until(lambda: sorted(emr.ids) == ["M0", "M1", "M3", "M4"])
        disk.release()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
    assert [name for name in emr.ids if name in ("M0", "M1", "M2")] == ["M0", "M1", "M2"]
    assert [name for name in emr.ids if name in ("M3", "M4", "M5")] == ["M3", "M4", "M5"]


async def test_outcomes_of_a_lane_are_committed_in_its_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    emr, committed = Scripted(), list[int]()
    emr.gate.clear()
    async with bench.running(to(emr, sends_ahead=3)):
        commit = bench.store.commit

        def note(operations: Sequence[Any], told: Callable[[StoreError | None], object]) -> None:
            committed.extend(operation.delivery_id for operation in operations if isinstance(operation, Settle))
            commit(operations, told)

        monkeypatch.setattr(bench.store, "commit", note)
        for number in range(9):
            await bench.source.send(siu(f"M{number}"))
        emr.gate.set()
        await bench.until(lambda: len(bench.deliveries("delivered")) == 9)
    assert committed == sorted(committed), "else a crash between them brings an earlier one behind a later one"


async def test_nothing_passes_one_that_was_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    no = Rejected(Evidence("AR"))
    emr = Scripted([no])
    async with bench.running(to(emr, sends_ahead=8)) as supervisor:
        for number in range(3):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("held")) == 1)
        assert emr.ids == ["M0"]
        await supervisor.resend_delivery(bench.deliveries("held")[0].delivery_id, WHO)
        await bench.until(lambda: len(bench.deliveries("delivered")) == 3)
    assert emr.ids == ["M0", "M0", "M1", "M2"]


async def test_after_a_crash_so_many_of_a_lane_are_marked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before, alive = Scripted(), Scripted()
    after_crash = Bench(bench.folder / "crashed", bench.clock)
    async with bench.running(to(before, sends_ahead=3)):
        disk = Withheld(bench, monkeypatch)
        for number in range(5):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(before.sent) == 3)
        shutil.copytree(bench.folder / "data", after_crash.folder / "data")  # what a kill would leave
        disk.release()
    async with after_crash.running(to(alive, sends_ahead=3)):
        await after_crash.until(lambda: len(after_crash.deliveries("delivered")) == 5)
        marks = {row.control_id: row.may_be_duplicated for row in after_crash.deliveries()}
    assert alive.ids == ["M0", "M1", "M2", "M3", "M4"]
    assert marks == {"M0": True, "M1": True, "M2": True, "M3": False, "M4": False}


async def test_after_a_crash_they_are_marked_whatever_attempts_the_first_of_them_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, alive = Scripted(), Scripted([Unavailable("timeout")] * 4)
    after_crash = Bench(bench.folder / "crashed", bench.clock)
    async with bench.running(to(before, sends_ahead=2)):
        disk = Withheld(bench, monkeypatch)
        for number in range(4):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(before.sent) == 2)
        shutil.copytree(bench.folder / "data", after_crash.folder / "data")
        disk.release()
    async with after_crash.running(to(alive, sends_ahead=2, retry=Retry(backoff=(0.0,)))):
        await after_crash.until(lambda: len(after_crash.deliveries("delivered")) == 4)
        marks = {row.control_id: row.may_be_duplicated for row in after_crash.deliveries()}
    assert alive.ids == ["M0"] * 5 + ["M1", "M2", "M3"]
    assert marks == {"M0": True, "M1": True, "M2": False, "M3": False}


async def test_an_outcome_that_is_refused_goes_back_to_its_place_and_waits_for_a_person(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = Scripted()
    refused: list[Settle] = []

    def refuse(operations: Sequence[Any], told: Callable[[StoreError | None], object]) -> None:
        if not refused and isinstance(operations[0], Settle):
            refused.append(operations[0])
            commit((), lambda _: told(DoesNotFit("may not become")))
        else:
            commit(operations, told)

    async with bench.running(to(emr, sends_ahead=2)) as supervisor:
        commit = bench.store.commit
        monkeypatch.setattr(bench.store, "commit", refuse)
        for number in range(4):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: supervisor.channels()[0].destinations[0].outcomes_refused_since_start == 1)
        await supervisor.discard_delivery(refused[0].delivery_id, WHO)
        await bench.until(lambda: not bench.deliveries("queued"))
    assert emr.ids == ["M0", "M1", "M2", "M3"]
