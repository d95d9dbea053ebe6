"""A simulation that finds nothing proves nothing: engines broken on purpose are caught."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest

from engine.destinations import mllp as mllp_destination
from engine.runtime import lane_keys
from engine.store import queries
from engine.store.base import Accept, Settle
from engine.store.group_commit import GroupCommit
from engine.store.sqlite import SqliteStore
from simulation.disk import Trouble
from simulation.run import Simulation, simulate
from simulation.workload import Death

#: Seeds within which each must be caught.
WITHIN = 400

Break = Callable[[pytest.MonkeyPatch], None]


def told_early(kind: type[Any]) -> Break:
    """Whoever waits for a commit of this kind of operation is told at once that it is done."""

    def break_it(patch: pytest.MonkeyPatch) -> None:
        real = SqliteStore.submit

        def submit(self: SqliteStore, *operations: Any) -> asyncio.Future[None]:
            future = real(self, *operations)
            if not any(isinstance(operation, kind) for operation in operations):
                return future
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            early = asyncio.get_running_loop().create_future()
            early.set_result(None)
            return early

        patch.setattr(SqliteStore, "submit", submit)

    return break_it


def overtaking(patch: pytest.MonkeyPatch) -> None:
    """Every message has a lane of its own, whatever its key is."""
    keys = itertools.count()
    patch.setattr(lane_keys, "key_of", lambda order, body, hashed: hashed(f"lane {next(keys)}"))


def any_answer(patch: pytest.MonkeyPatch) -> None:
    """An answer counts whatever message it is about."""

    async def answer(link: Any, control_id: str) -> Any:
        raw = await link.next_frame()
        return mllp_destination.read_ack(raw), raw

    patch.setattr(mllp_destination, "_answer", answer)


def no_cut(patch: pytest.MonkeyPatch) -> None:
    """What an fsync failed on is told to be lost although the log may keep it."""
    patch.setattr(GroupCommit, "_cut", lambda self: True)


def forgets_the_interrupted(patch: pytest.MonkeyPatch) -> None:
    """What was being sent when the engine died stays as it was."""
    patch.setattr(queries, "RECOVER_INTERRUPTED", "UPDATE delivery SET state = state WHERE ? < 0")


BROKEN: dict[str, Break] = {
    "acknowledges before the commit": told_early(Accept),
    "goes on before an outcome is committed": told_early(Settle),
    "lets a later message overtake": overtaking,
    "takes an answer for another message": any_answer,
    "does not recover what was interrupted": forgets_the_interrupted,
}


def caught(change: Callable[[Simulation], None] | None = None) -> list[str]:
    """What the first seed that fails says."""
    for seed in range(1, WITHIN + 1):
        if violations := simulate(seed, change).violations:
            return violations
    return []


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.timeout(600)
def test_a_broken_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name](monkeypatch)
    assert caught()


@pytest.mark.timeout(600)
def test_a_disk_whose_fsync_does_nothing_is_caught() -> None:
    def lie(simulation: Simulation) -> None:
        simulation.disk.lying = True

    assert caught(lie)


def failing_fsyncs(simulation: Simulation) -> None:
    """A world in which fsyncs fail all the time, and the power goes soon after they did."""
    simulation.work.troubles = [(0.0, simulation.work.storm, Trouble(sync_error=0.2))]
    soon = (0.01, 0.02, 0.05, 0.1, 0.3, 0.01, 0.02, 0.05)
    simulation.engine.will_die([Death("power", 0.0, after_failure=delay) for delay in soon])


@pytest.mark.timeout(600)
def test_an_engine_that_calls_lost_what_a_failed_fsync_may_have_kept_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    no_cut(monkeypatch)
    assert caught(failing_fsyncs)


def restarts_between(simulation: Simulation) -> None:
    """The same, with a restart of the process alone before the power goes."""
    failing_fsyncs(simulation)
    ends: list[tuple[Literal["kill", "power"], float]] = [("kill", 0.01), ("power", 0.05)]
    simulation.engine.will_die([Death(how, 0.0, after_failure=delay) for how, delay in ends * 6])


@pytest.mark.timeout(600)
def test_an_engine_that_builds_on_what_only_the_cache_has_is_caught() -> None:
    def trusting(simulation: Simulation) -> None:
        restarts_between(simulation)
        simulation.machine.write_anew = lambda path: None

    assert any("is gone" in violation for violation in caught(trusting))


@pytest.mark.timeout(600)
def test_the_engine_lives_where_fsyncs_fail_and_the_power_goes_after_them() -> None:
    outcomes = [simulate(seed, world) for seed in range(1, 26) for world in (failing_fsyncs, restarts_between)]
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    assert sum(outcome.ends.get("power", 0) for outcome in outcomes) > 40
    assert sum(outcome.counts["fsync error"] for outcome in outcomes) > 40
