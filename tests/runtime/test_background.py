"""Work beside the traffic: one task at a time, ended in order, and a word when it dies."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from engine.runtime.background import SHARE, Background, give_way
from engine.runtime.pruning import SHARE as OF_PRUNING


async def test_one_task_at_a_time_until_it_is_ended() -> None:
    begun, forever = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        await forever.wait()

    background = Background("test", work)
    background.begin()
    background.begin()
    await asyncio.sleep(0)
    await background.end()
    await background.end()
    assert begun == 1


async def test_a_work_that_dies_is_told_by_type_and_place_only_and_may_begin_again() -> None:
    died = asyncio.Event()

    async def work() -> None:
        try:
            raise LookupError("DOE^JANE")
        finally:
            died.set()

    background = Background("test", work)
    with capture_logs() as logged:
        background.begin()
        await died.wait()
        await background.end()
        background.begin()
        await background.end()
    (line, *_) = logged
    assert (line["event"], line["work"], line["error"]) == ("background.died", "test", "LookupError")
    assert line["at"].startswith("test_background.py:")
    assert "DOE" not in str(logged)


@pytest.mark.parametrize("share", [SHARE, OF_PRUNING])
async def test_others_are_left_many_times_what_a_unit_took(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    now = asyncio.get_running_loop().time()
    await give_way(now - 0.1, share)
    await give_way(now + 3600.0, share)
    assert rests[0] >= 0.1 * share
    assert rests[1] > 0, "they are left a little even where a unit took no time"


@pytest.mark.parametrize("share", [SHARE, OF_PRUNING])
async def test_a_unit_that_hung_keeps_no_other_from_coming(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await give_way(asyncio.get_running_loop().time() - 100.0, share)
    assert rests[0] <= 5.0
