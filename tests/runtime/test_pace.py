"""How fast a destination is sent to: its rate, its delay, its rest while the partner is away."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.runtime.pace import SILENCE, Pace


def begins(pace: Pace, until: float, took: float = 0.0, late: float = 0.0) -> list[float]:
    """When sends begin, if there is always one to send and timers are ``late``."""
    now, found = 0.0, []
    while now < until:
        if wait := pace.wait(now):
            now += wait + late
            continue
        pace.begun(now)
        found.append(now)
        now += took
        pace.ended(now)
    return found


def test_a_rate_spreads_sends_evenly() -> None:
    assert begins(Pace(0.1, 0.0, [1.0]), 0.95) == pytest.approx([n / 10 for n in range(10)])


def test_late_timers_do_not_add_up() -> None:
    found = begins(Pace(0.1, 0.0, [1.0]), 10.0, late=0.004)
    assert len(found) == pytest.approx(100, abs=1)
    assert min(b - a for a, b in pairwise(found)) > 0.09


def test_after_silence_nothing_is_made_up_for() -> None:
    pace = Pace(1.0, 0.0, [1.0])
    pace.begun(0.0)
    assert pace.wait(100.0) == 0
    pace.begun(100.0)
    assert pace.wait(100.5) == pytest.approx(0.5)


def test_what_waited_for_one_long_commit_leaves_one_by_one_and_others_begin_behind_it() -> None:
    pace = Pace(1.0, 0.0, [1.0])
    for now in (100.0, 101.0, 102.0, 103.0):
        assert pace.wait(now) == 0
        pace.begun(now)
    left = [110.0 + pace.leaves(110.0) for _ in range(4)]
    assert left == pytest.approx([110.0, 110.5, 111.5, 112.5])
    now = 110.0 + pace.wait(110.0)
    assert now == pytest.approx(113.5)
    pace.begun(now)
    assert pace.leaves(now) == 0


@pytest.mark.parametrize("took", [0.001, 0.04, 0.3])
def test_commits_that_take_about_the_same_slow_nothing_down(took: float) -> None:
    pace, now = Pace(0.1, 0.0, [1.0]), 50.0
    committed: list[float] = []
    left: list[float] = []
    while len(left) < 100:
        begins = now + pace.wait(now)
        if committed and committed[0] <= begins:
            now = committed.pop(0)
            left.append(now + pace.leaves(now))
        else:
            now = begins
            pace.begun(now)
            committed.append(now + took)
    assert left[-1] - left[0] == pytest.approx(9.9, abs=0.1)
    assert all(b - a > 0.04 for a, b in pairwise(left))


def test_without_a_rate_nothing_waits_to_leave() -> None:
    assert [Pace(0.0, 1.0, [1.0]).leaves(now) for now in (5.0, 5.0)] == [0, 0]


def test_a_delay_is_silence_after_an_answer() -> None:
    assert begins(Pace(0.0, 2.0, [1.0]), 12.0, took=0.5) == pytest.approx([0.0, 2.5, 5.0, 7.5, 10.0])


def test_a_partner_that_is_away_is_tried_with_growing_delays_until_it_answers() -> None:
    pace = Pace(0.0, 0.0, [1.0, 5.0, 60.0])
    rests = []
    now = 0.0
    for _ in range(4):
        pace.away(now)
        pace.away(now + 0.1)  # another connection that was under way says the same
        rests.append(pace.wait(now))
        now += rests[-1]
    assert rests == [1.0, 5.0, 60.0, 60.0]
    pace.answered()
    pace.away(now)
    assert pace.wait(now) == 1.0


def test_messages_without_an_answer_do_not_stop_the_others_until_nobody_gets_one() -> None:
    pace = Pace(0.0, 0.0, [1.0])
    for _ in range(SILENCE - 1):
        pace.silent(0.0)
    assert pace.wait(0.0) == 0
    pace.answered()
    for _ in range(SILENCE):
        assert pace.wait(0.0) == 0
        pace.silent(0.0)
    assert pace.wait(0.0) == 1.0
