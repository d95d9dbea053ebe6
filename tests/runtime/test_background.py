"""Work beside the traffic: one task at a time, ended in order, and a word when it dies."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from engine.runtime.background import Background


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
