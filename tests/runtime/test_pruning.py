"""Which messages an engine removes by itself, by what its files say."""

from __future__ import annotations

from engine.runtime import pruning
from engine.store.audit import Act, FindAudit

from .conftest import WHO, Bench, Scripted, siu, steps, to

DAY = 86400.0


def drop(envelope, context):
    from engine.transforms.base import Verdict

    return Verdict.DROP


async def test_what_is_old_enough_goes_and_the_rest_stays(bench: Bench, monkeypatch, logged):
    monkeypatch.setattr(pruning, "LOT", 2)
    async with bench.running(to(Scripted()), retention={"delivered": 30 * DAY}) as supervisor:
        for number in range(5):
            await bench.source.send(siu(f"M{number}"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
        bench.clock.at += 31 * DAY
        await bench.source.send(siu("M9"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 6)
        assert await supervisor.prune(WHO, dry_run=True) == {("bench", "delivered"): 5}
        assert len(bench.messages()) == 6
        assert await supervisor.prune(WHO, dry_run=False) == {("bench", "delivered"): 5}
        assert [row.control_id for row in bench.messages()] == ["M9"]
        assert len(bench.store.audit_rows(FindAudit(act=Act.PRUNED))) == 1
    told = [line for line in logged if line["event"] == "messages.pruned"]
    assert [(line["channel"], line["kept_as"], line["number"]) for line in told] == [("bench", "delivered", 5)]


async def test_without_a_word_everything_is_kept(bench: Bench):
    async with bench.running(to(Scripted()), transform=steps(drop)) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: bench.messages()[0].state == "filtered")
        bench.clock.at += 10_000 * DAY
        assert await supervisor.prune(WHO, dry_run=False) == {}
        assert len(bench.messages()) == 1


async def test_what_the_channel_says_wins_over_the_site(bench: Bench):
    async with bench.running(to(Scripted()), transform=steps(drop), retention={"filtered": None}) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: bench.messages()[0].state == "filtered")
        bench.clock.at += 10 * DAY
        settings = supervisor.plan.settings
        retention = settings.retention.model_copy(update={"filtered": DAY})
        object.__setattr__(supervisor.plan, "settings", settings.model_copy(update={"retention": retention}))
        assert await supervisor.prune(WHO, dry_run=True) == {}
        object.__setattr__(supervisor.plan.channels["bench"], "retention", {})
        assert await supervisor.prune(WHO, dry_run=True) == {("bench", "filtered"): 1}


async def test_the_engine_does_it_every_hour(bench: Bench):
    async with bench.running(to(Scripted()), transform=steps(drop), retention={"filtered": DAY}) as supervisor:
        await bench.source.send(siu("M0"))
        await bench.until(lambda: bench.messages()[0].state == "filtered")
        bench.clock.at += 2 * DAY
        await supervisor.housekeeping.hourly()
        assert bench.messages() == []
