"""An act goes on when whoever asked for it hangs up."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from engine.errors import StoreError
from engine.runtime.unbroken import unbroken
from engine.store.sqlite import SqliteStore

from .conftest import WHO, Bench, Scripted, siu, to


async def hang_up(act: object) -> None:
    """Ask for it, and be gone in the next moment."""
    asked = asyncio.ensure_future(act)
    await asyncio.sleep(0)
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked


async def test_a_channel_is_stopped_and_starts_again_whoever_waits(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr)) as supervisor:
        await hang_up(supervisor.stop_channel("bench", WHO))
        await bench.until(lambda: supervisor.channels()[0].state == "stopped")
        await hang_up(supervisor.start_channel("bench", WHO))
        await bench.until(lambda: supervisor.channels()[0].state == "running")
        await bench.source.send(siu("M1"))
        await bench.until(lambda: emr.ids == ["M1"])


async def test_what_is_sent_again_is_sent_whoever_waits(bench: Bench) -> None:
    emr = Scripted()
    async with bench.running(to(emr)) as supervisor:
        await bench.source.send(siu("M1"))
        await bench.until(lambda: bench.deliveries("delivered"))
        await hang_up(supervisor.resend_delivery(bench.deliveries()[0].delivery_id, WHO))
        await bench.until(lambda: emr.ids == ["M1", "M1"])


async def test_how_it_ended_is_told_to_who_waits_and_logged_for_who_does_not(capsys: pytest.CaptureFixture) -> None:
    gate = asyncio.Event()

    @unbroken
    async def act() -> None:
        await gate.wait()
        raise StoreError("no")

    await hang_up(act())
    gate.set()
    with pytest.raises(StoreError):
        await act()
    assert "act.failed" in capsys.readouterr().out


async def test_a_channel_that_is_stopped_while_the_store_cannot_be_read_is_stopped_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next one would find its lanes at work, and what they send would go twice."""
    emr = Scripted()
    emr.gate.clear()
    async with bench.running(to(emr)) as supervisor:
        await bench.source.send(siu("M1"))
        await bench.until(lambda: emr.under_way == 1)

        def unreadable(*_: object) -> None:
            raise StoreError("cannot read")

        ending = asyncio.ensure_future(supervisor._channels["bench"].end(2.0, ["emr"]))
        monkeypatch.setattr(bench.store, "queued", unreadable)
        emr.gate.set()
        await ending
        assert supervisor.channels()[0].state == "stopped"
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("bench: ")]
    assert len(emr.sent) == 1


async def test_nobody_starts_a_channel_of_an_engine_that_stops(bench: Bench) -> None:
    async with bench.running(to(Scripted())) as supervisor:
        stopping = asyncio.ensure_future(supervisor.stop())
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="stopping"):
            await supervisor.start_channel("bench", WHO)
        await stopping
        assert supervisor.channels()[0].state == "stopped"


async def test_an_engine_starts_although_what_waits_cannot_be_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr, real, asked = Scripted(), SqliteStore.open_counts, []

    def counts(store: SqliteStore) -> object:
        asked.append(True)
        if len(asked) > 2:  # the store's own look, and that of the channel
            raise StoreError("cannot read")
        return real(store)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "open_counts", counts)
        async with bench.running(to(emr)) as supervisor:
            assert supervisor.ready
            await bench.source.send(siu("M1"))
            await bench.until(lambda: emr.ids == ["M1"])
    assert len(asked) == 3
