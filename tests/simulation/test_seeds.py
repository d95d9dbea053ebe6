"""The engine in thousands of worlds; and the same seed is the same world, wherever it is run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulation.choose import ACTS, MODES, choose
from simulation.run import Simulation, simulate
from simulation.workload import Writing
from simulation.world import World

ROOT = Path(__file__).parents[2]
#: Seeds per test, so that parallel runs share them; 2,000 in all.
SEEDS = 50
FIRSTS = range(1, 2001, SEEDS)


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_doubled_unmarked_or_out_of_order(first: int) -> None:
    for seed in range(first, first + SEEDS):
        outcome = simulate(seed)
        assert not outcome.violations, f"python -m simulation --seed {seed} --story"


def test_a_seed_is_the_same_world_twice_and_in_another_process() -> None:
    seeds = range(1, 41)
    script = "from simulation.run import simulate; print([simulate(seed).trace for seed in range(1, 41)])"
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    traces = [simulate(seed).trace for seed in seeds]
    assert traces == [simulate(seed).trace for seed in seeds]
    assert elsewhere.stdout.strip() == repr(traces)
    assert len(set(traces)) == len(traces)


def test_the_seeds_of_the_suite_meet_everything_a_world_can_do_to_an_engine() -> None:
    works = [choose(World(seed).random("workload")) for seed in range(1, 2001)]
    deaths = {
        (death.how, death.step is not None, death.operation is not None) for work in works for death in work.deaths
    }
    assert {how for how, *_ in deaths} == {"power", "kill", "stop"}
    assert len(deaths) == 9
    troubles = [trouble for work in works for *_, trouble in work.troubles]
    assert any(trouble.full for trouble in troubles)
    for name in ("write_error", "read_error", "sync_error"):
        assert any(getattr(trouble, name) for trouble in troubles)
    assert {
        mood
        for work in works
        for channel in work.channels
        for to in channel.destinations
        for mood, _ in to.temper.moods
    }
    channels = [channel for work in works for channel in work.channels]
    assert {channel.ack for channel in channels} == {"received", "routed", "delivered"}
    assert {channel.straight for channel in channels} == {True, False}
    for name in ("duplicates", "acks", "keep"):
        assert {getattr(channel, name) is None or getattr(channel, name) is False for channel in channels} == {
            True,
            False,
        }
    assert {act.what for work in works for act in work.acts} == set(ACTS)
    assert any(act.patience is not None for work in works for act in work.acts)
    assert {seconds > 0 for work in works for _, seconds in work.jumps} == {True, False}
    apart = [work.writing for work in works if work.writing is not None]
    assert 500 < len(apart) < 1000
    for name in ("dies", "slow", "not_started", "hangs"):
        assert {getattr(writing, name) > 0 for writing in apart} == {True, False}
    outlets = [to for work in works for to in work.outlets]
    assert {to.rate is None for to in outlets} == {to.delay > 0 for to in outlets} == {True, False}
    messages = [message for work in works for feed in work.feeds for message in feed.messages]
    assert {message.modes for message in messages} == {*MODES, ("", "")}
    assert any(message.prior for message in messages)
    assert sum(work.messages for work in works) > 20_000


def test_nothing_hangs_any_more_when_all_is_calm() -> None:
    in_the_storm = in_all = 0

    def hanging(simulation: Simulation) -> None:
        simulation.work.writing = Writing(hangs=0.3)
        simulation.world.at(simulation.work.storm, count, simulation)

    def count(simulation: Simulation) -> None:
        nonlocal in_the_storm
        in_the_storm += simulation.world.counts["writing process hangs"]

    for seed in range(1, 13):
        outcome = simulate(seed, hanging)
        assert not outcome.violations
        in_all += outcome.counts["writing process hangs"]
    assert in_all == in_the_storm > 0


def test_a_send_may_be_late_by_a_slow_commit_and_the_next_be_in_time() -> None:
    def slow(simulation: Simulation) -> None:
        work = simulation.work
        work.writing, work.troubles = Writing(slow=0.3), []
        for number, channel in enumerate(work.channels):
            held = [replace(to, rate=10.0, connections=3, on_unanswered="hold") for to in channel.destinations]
            work.channels[number] = replace(channel, destinations=tuple(held))

    for seed in range(1, 13):
        assert not simulate(seed, slow).violations


def test_the_command_runs_seeds_and_counts() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "simulation", "--seeds", "3", "--from", "7"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.startswith("3 seeds from 7, 0 failed: ")
